use std::fmt;

/// Why the bytes of a peer cannot be frames; the connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The first byte of a frame is none of `j`, `b`, `c`.
    #[error("the peer sent 0x{byte:02x} where a frame begins{lookalike}")]
    UnknownKind {
        /// The byte that stood where the kind belongs.
        byte: u8,
        /// What the bytes look like instead.
        lookalike: Lookalike,
    },
    /// A body is larger than what is skipped for the sake of the connection.
    #[error(
        "the peer announced a body of {size} bytes for `{name}`; {limit} are accepted and {skip_limit} skipped"
    )]
    BodyTooLarge {
        /// The name of the message, escaped.
        name: String,
        /// Bytes announced.
        size: u32,
        /// Bytes accepted.
        limit: u32,
        /// Bytes that would still have been skipped.
        skip_limit: u32,
    },
    /// A control frame with a name, or with a body over [`MAX_CONTROL`](crate::session::MAX_CONTROL).
    #[error("the peer sent a control frame with a name of {name_len} and a body of {body_len} bytes")]
    BadControl {
        /// Bytes of name; zero is right.
        name_len: u8,
        /// Bytes of body.
        body_len: u32,
    },
}

/// A protocol that is recognised by its first bytes, to say so in an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lookalike {
    /// Nothing that is known here.
    Unknown,
    /// A request or an answer of HTTP, or the preface of HTTP/2.
    Http,
    /// A TLS record.
    Tls,
    /// The sixteen digits of a NoService chunk.
    NoService,
}

impl Lookalike {
    /// Looks at the first bytes of a connection, however few.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        const HTTP: [&[u8]; 9] = [
            b"GET ",
            b"POST ",
            b"PUT ",
            b"HEAD ",
            b"DELETE ",
            b"OPTIONS ",
            b"PATCH ",
            b"HTTP/",
            b"PRI * HTTP/2",
        ];
        let starts = |word: &&[u8]| {
            let n = word.len().min(bytes.len());
            n > 0 && bytes.get(..n) == word.get(..n)
        };
        match bytes {
            [0x15 | 0x16] | [0x15 | 0x16, 0x03, ..] => Self::Tls,
            [b'0'..=b'9', rest @ ..] if rest.iter().take(15).all(u8::is_ascii_digit) => Self::NoService,
            _ if HTTP.iter().any(starts) => Self::Http,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Lookalike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "",
            Self::Http => ": this looks like HTTP",
            Self::Tls => ": this looks like TLS, and the address is a plain one",
            Self::NoService => ": this looks like the NoService TCP carrier",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_protocols_are_named_from_their_first_byte_on() {
        for (bytes, what) in [
            (&b"GET / HTTP/1.1"[..], Lookalike::Http),
            (b"G", Lookalike::Http),
            (b"PRI * HTTP/2.0", Lookalike::Http),
            (b"\x16\x03\x01\x02", Lookalike::Tls),
            (b"0000000000000025GTrq", Lookalike::NoService),
            (b"hello", Lookalike::Unknown),
            (b"\x16\x07", Lookalike::Unknown),
            (b"", Lookalike::Unknown),
        ] {
            assert_eq!(Lookalike::of(bytes), what, "{bytes:?}");
        }
    }
}
