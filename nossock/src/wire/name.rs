use std::fmt;

use bytes::Bytes;

/// The name of a message: UTF-8 of at most [`Name::MAX_LEN`] bytes.
///
/// A name that came from the wire is a slice of the buffer it arrived in; cloning one copies nothing.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Bytes);

impl Name {
    /// The longest name, in bytes: its length is one byte on the wire.
    pub const MAX_LEN: usize = 255;

    /// Makes a name of a text.
    ///
    /// # Errors
    /// When the text has more than 255 bytes.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check(text)?;
        Ok(Self(Bytes::copy_from_slice(text.as_bytes())))
    }

    /// Takes a slice of a receive buffer, of at most 255 bytes, as a name.
    pub(crate) fn from_wire(bytes: Bytes) -> Result<Self, NameError> {
        let text = std::str::from_utf8(&bytes).map_err(|_| NameError::NotUtf8)?;
        check(text)?;
        Ok(Self(bytes))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Both constructors looked; looking again costs less than a second copy of the text would.
        std::str::from_utf8(&self.0).expect("a Name is UTF-8")
    }
}

/// The length of a name as the wire writes it.
pub(crate) fn check(text: &str) -> Result<u8, NameError> {
    u8::try_from(text.len()).map_err(|_| NameError::TooLong { len: text.len() })
}

/// Why a text cannot be the name of a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The caller's text is too long for the one byte that counts it.
    #[error("the name is {len} bytes long, the wire allows 255")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The caller's text is too long for a request, whose frame name holds an id too.
    #[error("the name of the request is {len} bytes long, {limit} fit beside its id")]
    TooLongForRequest {
        /// Its length in bytes.
        len: usize,
        /// What fits, in bytes.
        limit: usize,
    },
    /// The caller's request has no name: to the peer it would be a message, which nobody answers.
    #[error("a request needs a name")]
    EmptyRequest,
    /// The peer sent bytes that are no text.
    #[error("the name is not UTF-8")]
    NotUtf8,
}

impl TryFrom<&str> for Name {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl std::ops::Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Escapes what a terminal would obey: a peer chose the name.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().escape_debug().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_bytes_and_not_letters() {
        assert!(Name::new(&"é".repeat(127)).is_ok());
        assert_eq!(Name::new(&"é".repeat(128)), Err(NameError::TooLong { len: 256 }));
        assert_eq!(Name::new("").unwrap(), "");
    }

    #[test]
    fn display_escapes_what_a_terminal_would_obey() {
        assert_eq!(Name::new("a\u{1b}[2Jb").unwrap().to_string(), "a\\u{1b}[2Jb");
    }
}
