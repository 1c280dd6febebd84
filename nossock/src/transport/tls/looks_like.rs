//! What a peer speaks that does not speak TLS, guessed from its first bytes.

use std::fmt;

/// What the first bytes of a peer that does not speak TLS look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LooksLike {
    /// A request or an answer of HTTP.
    Http,
    /// Frames of this library, in the clear.
    Nossock,
    /// The greeting of an SSH server or client.
    Ssh,
    /// Nothing known here.
    Unknown,
}

/// How many bytes are looked at: a TLS record's header, so that reading them waits for nothing that the handshake would
/// not wait for.
pub(super) const FIRST_BYTES: usize = 5;

/// The content type of the record that begins a handshake.
const HANDSHAKE: u8 = 0x16;
/// The content type of a record in which a peer refuses.
const ALERT: u8 = 0x15;

impl LooksLike {
    /// Judges the first bytes of a connection, at most [`FIRST_BYTES`] of them; `None` if they may begin TLS.
    pub(super) fn not_tls(first: &[u8]) -> Option<Self> {
        const HTTP: [&[u8]; 10] = [
            b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELET", b"OPTIO", b"PATCH", b"CONNE", b"TRACE", b"PRI *",
        ];
        match first {
            [] | [HANDSHAKE | ALERT] | [HANDSHAKE | ALERT, 0x03, ..] => None,
            _ if HTTP.iter().any(|method| first.starts_with(method)) || first == b"HTTP/" => Some(Self::Http),
            _ if first.starts_with(b"SSH-") => Some(Self::Ssh),
            // A frame: its kind, the length of its name, the name; the control frame has none.
            [b'c', 0, ..] => Some(Self::Nossock),
            [b'j' | b'b', length, name @ ..] if is_name(name.iter().take((*length).into())) => {
                Some(Self::Nossock)
            }
            _ => Some(Self::Unknown),
        }
    }
}

fn is_name<'a>(mut bytes: impl Iterator<Item = &'a u8>) -> bool {
    bytes.all(|byte| *byte >= b' ' && *byte != 0x7f)
}

impl fmt::Display for LooksLike {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Http => "it looks like HTTP",
            Self::Nossock => "it looks like plain nossock, for which the address is tcp://",
            Self::Ssh => "it looks like SSH",
            Self::Unknown => "it looks like nothing known here",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_what_is_spoken() {
        for (first, expected) in [
            (&b"\x16\x03\x01\x02\x00"[..], None),
            (b"\x16", None),
            (b"\x15\x03\x03\x00\x02", None),
            (b"", None),
            (b"\x16\x05", Some(LooksLike::Unknown)),
            (b"GET /", Some(LooksLike::Http)),
            (b"HTTP/", Some(LooksLike::Http)),
            (b"PRI *", Some(LooksLike::Http)),
            (b"SSH-2", Some(LooksLike::Ssh)),
            (b"j\x05hel", Some(LooksLike::Nossock)),
            (b"b\x01x\0\0", Some(LooksLike::Nossock)),
            (b"c\x00\0\0\0", Some(LooksLike::Nossock)),
            (b"j\x05\0\0\0", Some(LooksLike::Unknown)),
            (b"c\x05hel", Some(LooksLike::Unknown)),
            (b"00000", Some(LooksLike::Unknown)),
            (b"\x80\x2e", Some(LooksLike::Unknown)),
        ] {
            assert_eq!(LooksLike::not_tls(first), expected, "{first:?}");
        }
    }
}
