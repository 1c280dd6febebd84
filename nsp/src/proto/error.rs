//! What can be wrong with what a peer sent, and with what we were asked to send.

use std::fmt;

use super::Method;

/// Why a message cannot be understood. Who sent it is to blame, except where a variant says otherwise.
///
/// None of these holds what the peer wrote beyond a few letters of a name, so that no password ends up in a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message ends before the four letters of method and leg do.
    #[error("message of {length} bytes is shorter than the four letters of a method and a leg")]
    TooShort {
        /// Length of the message in bytes.
        length: usize,
    },
    /// Nobody registered a method of these letters.
    #[error("unknown method {0}")]
    UnknownMethod(Letters),
    /// Neither `rq` nor `rs`.
    #[error("unknown leg {0}, expected rq or rs")]
    UnknownLeg(Letters),
    /// The name of a frame is not a method and a leg.
    #[error("frame name of {length} bytes is not a method and a leg")]
    UnknownName {
        /// Length of the name in bytes.
        length: usize,
    },
    /// The other leg, or another method, than the one that the reader was asked to read. The caller is to blame.
    #[error("this is {found_method}{found_leg}, not {expected}")]
    OtherPacket {
        /// What the reader reads.
        expected: &'static str,
        /// The method that it was given.
        found_method: Method,
        /// The leg that it was given.
        found_leg: super::Leg,
    },
    /// A length inside a packed body is not one.
    #[error("{part} length of the packed body: {fault}")]
    PackedLength {
        /// Which of the two parts.
        part: Part,
        /// What is wrong with the number.
        fault: LengthError,
    },
    /// A part of a packed body is said to be longer than the message.
    #[error("packed body says its {part} part has {length} bytes, but {left} are left")]
    PackedBeyondEnd {
        /// Which of the two parts.
        part: Part,
        /// The length as sent, in bytes.
        length: u64,
        /// How many bytes the message has left, the length itself included where it is cut short.
        left: usize,
    },
    /// The payload is not the JSON object that the method is made of.
    #[error("{method} payload: {fault}")]
    Json {
        /// The method of the packet.
        method: Method,
        /// What is wrong with the text.
        fault: JsonFault,
    },
    /// The method has no such operation (`m`).
    #[error("unknown {method} operation {operation}")]
    UnknownOperation {
        /// The method of the packet.
        method: Method,
        /// The beginning of the operation's name, escaped.
        operation: Letters,
    },
    /// A key that the operation cannot do without is missing.
    #[error("{method} {operation} has no {field:?}")]
    MissingField {
        /// The method of the packet.
        method: Method,
        /// The operation, or the leg where the method has no operations.
        operation: &'static str,
        /// The missing key.
        field: &'static str,
    },
    /// A key has a value of another type or size than the operation needs.
    #[error("{field:?} of {method} {operation} is not {expected}")]
    BadField {
        /// The method of the packet.
        method: Method,
        /// The operation, or the leg where the method has no operations.
        operation: &'static str,
        /// The key.
        field: &'static str,
        /// What its value should have been.
        expected: &'static str,
    },
    /// A text message of NSP 0.4 is not the envelope `{"m","s","d"}`, or not UTF-8.
    #[error("text envelope: {0}")]
    Envelope(JsonFault),
}

/// Which part of a packed body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a packed body has two parts")]
pub enum Part {
    /// The first: JSON.
    Json,
    /// The second: bytes.
    Blob,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::Blob => "blob",
        })
    }
}

/// Why sixteen bytes are not a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LengthError {
    /// It begins with a minus. An original daemon loops for ever on one.
    #[error("negative length")]
    Negative,
    /// A byte that is not a decimal digit.
    #[error("byte {byte:#04x} at position {position} is not a decimal digit")]
    NotADigit {
        /// The byte.
        byte: u8,
        /// Where in the sixteen it stands, from 0.
        position: usize,
    },
}

/// What is wrong with a JSON text: where, and of which kind, but never what stood there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at line {line} column {column}")]
#[non_exhaustive]
pub struct JsonFault {
    /// What kind of fault.
    pub kind: JsonFaultKind,
    /// The line, from 1; 0 when there was no text.
    pub line: usize,
    /// The byte in the line, from 1.
    pub column: usize,
}

impl From<&serde_json::Error> for JsonFault {
    fn from(error: &serde_json::Error) -> Self {
        use serde_json::error::Category;
        let kind = match error.classify() {
            Category::Eof => JsonFaultKind::Truncated,
            Category::Data => JsonFaultKind::Shape,
            Category::Syntax | Category::Io => JsonFaultKind::Syntax,
        };
        Self { kind, line: error.line(), column: error.column() }
    }
}

/// The kinds of fault in a JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonFaultKind {
    /// Not JSON.
    Syntax,
    /// The beginning of a JSON text.
    Truncated,
    /// JSON, but not of the shape that is needed here.
    Shape,
}

impl fmt::Display for JsonFaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "not JSON",
            Self::Truncated => "JSON that ends too early",
            Self::Shape => "JSON of another shape",
        })
    }
}

/// A few letters of a name that a peer chose, for an error to show.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Letters {
    bytes: [u8; Self::MOST],
    length: u8,
}

impl Letters {
    /// How many are kept, in bytes: the names of NSP have two.
    pub const MOST: usize = 8;

    pub(crate) fn of(name: &[u8]) -> Self {
        let mut bytes = [0; Self::MOST];
        let mut length = 0;
        for (slot, &byte) in bytes.iter_mut().zip(name) {
            *slot = byte;
            length += 1;
        }
        Self { bytes, length }
    }
}

impl From<[u8; 2]> for Letters {
    fn from(letters: [u8; 2]) -> Self {
        Self::of(&letters)
    }
}

impl fmt::Display for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        write!(f, "\"{}\"", shown.escape_ascii())
    }
}

impl fmt::Debug for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a packet cannot be written. Whoever made the packet is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Nobody registered the method.
    #[error("unknown method {0}")]
    UnknownMethod(Method),
    /// This leg of the method has no room for a blob.
    #[error("{method}{leg} cannot carry a blob")]
    BlobNotAllowed {
        /// The method of the packet.
        method: Method,
        /// The leg of the packet.
        leg: super::Leg,
    },
    /// It is larger than may be sent.
    #[error("a message of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes: this side's, or what the peer says that it accepts.
        limit: usize,
    },
    /// NSP 0.4 has nothing that means this.
    #[error("text form of {method}{leg}: {reason}")]
    NotInDialect {
        /// The method of the packet.
        method: Method,
        /// The leg of the packet.
        leg: super::Leg,
        /// What is missing there.
        reason: &'static str,
    },
    /// It is a text of NSP 0.4, and the carrier takes packets only.
    #[error("a carrier of packets has no room for the text of NSP 0.4")]
    NoText,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_a_peer_are_escaped_and_few() {
        assert_eq!(Letters::of(b"Z\x1b").to_string(), r#""Z\x1b""#);
        assert_eq!(Letters::of(&[b'x'; 300]).to_string(), r#""xxxxxxxx""#);
    }

    #[test]
    fn faults_do_not_repeat_the_text() {
        let error = serde_json::from_str::<Vec<u8>>(r#""hunter2""#).unwrap_err();
        assert_eq!(JsonFault::from(&error).to_string(), "JSON of another shape at line 1 column 9");
    }
}
