use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::name::check;
use super::{Head, Kind, Name, NameError};

/// One named message, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the message is called.
    pub name: Name,
    /// What it carries.
    pub body: Body,
}

/// The body of a message.
///
/// JSON stays bytes until somebody asks for a type, so a bad body is the fault of one message and never of the
/// connection.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// JSON text, not looked at yet.
    Json(Bytes),
    /// Bytes as the sender had them.
    Raw(Bytes),
}

impl Frame {
    /// Makes a frame with a JSON body.
    ///
    /// # Errors
    /// When the name is too long or the value cannot be written as JSON.
    pub fn json<T: Serialize + ?Sized>(name: &str, value: &T) -> Result<Self, FrameError> {
        Ok(Self { name: Name::new(name)?, body: Body::json(value)? })
    }

    /// Makes a frame with a raw body; nothing is copied.
    ///
    /// # Errors
    /// When the name is too long.
    pub fn raw(name: &str, body: impl Into<Bytes>) -> Result<Self, NameError> {
        Ok(Self { name: Name::new(name)?, body: Body::Raw(body.into()) })
    }

    /// The frame as it travels, in one buffer.
    ///
    /// # Panics
    /// When the body has 4 GiB or more, which the wire cannot express.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let bytes = self.body.as_bytes();
        let mut out = Vec::with_capacity(Head::OVERHEAD + self.name.len() + bytes.len());
        let name_len = check(&self.name).expect("a Name has at most 255 bytes");
        let body_len = u32::try_from(bytes.len()).expect("a body is smaller than 4 GiB");
        Head::write(&mut out, self.body.kind(), name_len, &[&self.name], body_len);
        out.extend_from_slice(bytes);
        out.into()
    }

    /// Cuts the whole frame that begins `buf` out of it; name and body are slices, nothing is copied.
    ///
    /// # Errors
    /// When the name is not UTF-8; the frame is cut out all the same.
    ///
    /// # Panics
    /// When `buf` is shorter than `head` says: [`Decoder::next`](super::Decoder::next) has looked.
    pub fn split(buf: &mut BytesMut, head: &Head) -> Result<Self, NameError> {
        let whole = buf.split_to(head.frame_len()).freeze();
        let name = Name::from_wire(whole.slice(2..2 + usize::from(head.name_len())))?;
        let body = whole.slice(head.body_at()..);
        let body = if head.kind() == Kind::Json { Body::Json(body) } else { Body::Raw(body) };
        Ok(Self { name, body })
    }
}

/// Why a frame cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The caller's name does not fit.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The caller's value is not JSON: a map whose keys are no strings, say.
    #[error("the value cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

impl Body {
    /// Writes a value as JSON.
    ///
    /// # Errors
    /// When the value cannot be JSON, as a map with keys that are no strings.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Self> {
        Ok(Self::Json(serde_json::to_vec(value)?.into()))
    }

    /// Reads the body as JSON, whatever its kind was.
    ///
    /// # Errors
    /// When the bytes are not JSON or not a `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(self.as_bytes())
    }

    /// The bytes, of either kind.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        match self {
            Self::Json(bytes) | Self::Raw(bytes) => bytes,
        }
    }

    /// The bytes, of either kind, by value.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Json(bytes) | Self::Raw(bytes) => bytes,
        }
    }

    /// [`Kind::Json`] or [`Kind::Raw`].
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Json(_) => Kind::Json,
            Self::Raw(_) => Kind::Raw,
        }
    }
}

/// Sizes only: bodies do not belong into logs.
impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}({} bytes)", self.kind(), self.as_bytes().len())
    }
}

/// A whole frame at the front of a buffer, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct FrameRef<'a> {
    /// What the body is.
    pub kind: Kind,
    /// What the message is called.
    pub name: &'a str,
    /// The body's bytes.
    pub body: &'a [u8],
}

impl<'a> FrameRef<'a> {
    /// Looks at the frame that `head` was read from.
    ///
    /// # Errors
    /// When the name is not UTF-8.
    ///
    /// # Panics
    /// When `bytes` is shorter than `head` says: [`Decoder::next`](super::Decoder::next) has looked.
    pub fn new(bytes: &'a [u8], head: &Head) -> Result<Self, NameError> {
        let whole = bytes.get(..head.frame_len()).expect("the decoder found a whole frame");
        let (start, body) = whole.split_at(head.body_at());
        let name = start.get(2..2 + usize::from(head.name_len())).expect("the name lies before the body");
        let name = std::str::from_utf8(name).map_err(|_| NameError::NotUtf8)?;
        Ok(Self { kind: head.kind(), name, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_shares_the_buffer_it_came_in() {
        let mut buf = BytesMut::from(&b"b\x01x\x00\x00\x00\x03abcREST"[..]);
        let at = buf.as_ptr() as usize;
        let head = Head::parse(&buf).unwrap().unwrap();
        let frame = Frame::split(&mut buf, &head).unwrap();
        assert_eq!(frame, Frame::raw("x", &b"abc"[..]).unwrap());
        assert_eq!(frame.body.as_bytes().as_ptr() as usize, at + 7);
        assert_eq!(&buf[..], b"REST");
    }
}
