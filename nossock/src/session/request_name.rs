/// A frame name that belongs to a request or to its answer: `req:<name>:<id>`, `resp:<name>:<id>`.
///
/// Names may hold colons, so the id is what follows the last one. Ids that we make are of `[A-Za-z0-9_]`, which
/// is what the npm package matches; ids that we accept may hold `-` too, which is what it makes.
///
/// ```
/// use nossock::session::RequestName;
///
/// let name = RequestName::parse("req:sum:of:a-1").unwrap();
/// assert_eq!(name, RequestName::Request { name: "sum:of", id: "a-1" });
/// assert_eq!(RequestName::parse("required:a:b"), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the wire has these two")]
pub enum RequestName<'a> {
    /// `req:<name>:<id>`
    Request {
        /// What is asked for.
        name: &'a str,
        /// The asker's id, to be repeated.
        id: &'a str,
    },
    /// `resp:<name>:<id>`
    Answer {
        /// What was asked for.
        name: &'a str,
        /// The id of the request.
        id: &'a str,
    },
}

impl<'a> RequestName<'a> {
    /// Takes a frame name apart; `None` is an ordinary message.
    #[must_use]
    pub fn parse(frame: &'a str) -> Option<Self> {
        let (rest, request) = match frame.strip_prefix("req:") {
            Some(rest) => (rest, true),
            None => (frame.strip_prefix("resp:")?, false),
        };
        let (name, id) = rest.rsplit_once(':')?;
        if name.is_empty() || !Self::is_id(id.as_bytes()) {
            return None;
        }
        Some(if request { Self::Request { name, id } } else { Self::Answer { name, id } })
    }

    /// Whether this may be an id.
    #[inline]
    pub(crate) fn is_id(id: &[u8]) -> bool {
        // All are looked at, in any case: nearly always all are good, and to ask once costs less.
        let wrong =
            id.iter().fold(0, |wrong, byte| wrong | NOT_IN_ID.get(usize::from(*byte)).copied().unwrap_or(1));
        !id.is_empty() && wrong == 0
    }
}

/// One for each byte that ids do not have. A table: every request is looked at.
#[allow(clippy::indexing_slicing, reason = "it is made while compiling")]
static NOT_IN_ID: [u8; 256] = {
    let mut table = [1; 256];
    let mut byte = 0_u8;
    while byte.is_ascii() {
        table[byte as usize] = !(byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') as u8;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_npm_package_would_not_match_is_a_message() {
        for frame in ["req:a", "req::1", "req:a:", "req:a:b c", "resp:x:é", "hello", "req", ""] {
            assert_eq!(RequestName::parse(frame), None, "{frame}");
        }
        assert_eq!(RequestName::parse("resp:a:_9"), Some(RequestName::Answer { name: "a", id: "_9" }));
    }
}
