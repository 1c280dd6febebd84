use super::WireError;
use super::error::Lookalike;

/// What a frame carries: its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// `j`: the body is JSON.
    Json,
    /// `b`: the body is whatever the sender chose.
    Raw,
    /// `c`: the body is a [control](crate::session::Control) of the session; the name is empty.
    Control,
}

impl Kind {
    /// The byte on the wire.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Json => b'j',
            Self::Raw => b'b',
            Self::Control => b'c',
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'j' => Some(Self::Json),
            b'b' => Some(Self::Raw),
            b'c' => Some(Self::Control),
            _ => None,
        }
    }
}

/// The fixed part of a frame: its kind and the two lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    kind: Kind,
    name_len: u8,
    body_len: u32,
}

impl Head {
    /// Bytes of a frame beside its name and body.
    pub const OVERHEAD: usize = 6;

    /// Bytes before the body, at most.
    pub const MAX_LEN: usize = Self::OVERHEAD + super::Name::MAX_LEN;

    /// Reads the head from the front of `bytes`; `None` says that more are needed.
    ///
    /// # Errors
    /// When the first byte is no kind, with what the bytes look like instead.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, WireError> {
        let Some((&byte, rest)) = bytes.split_first() else { return Ok(None) };
        let Some(kind) = Kind::from_byte(byte) else {
            return Err(WireError::UnknownKind { byte, lookalike: Lookalike::of(bytes) });
        };
        let Some((&name_len, rest)) = rest.split_first() else { return Ok(None) };
        let at = usize::from(name_len);
        let Some(&[a, b, c, d]) = rest.get(at..at + 4) else { return Ok(None) };
        Ok(Some(Self { kind, name_len, body_len: u32::from_be_bytes([a, b, c, d]) }))
    }

    /// What the frame carries.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of the body.
    #[must_use]
    pub const fn body_len(&self) -> u32 {
        self.body_len
    }

    /// Bytes of the name.
    #[must_use]
    pub const fn name_len(&self) -> u8 {
        self.name_len
    }

    /// Where the body begins, in bytes from the start of the frame.
    #[must_use]
    pub const fn body_at(&self) -> usize {
        Self::OVERHEAD + self.name_len as usize
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub const fn frame_len(&self) -> usize {
        self.body_at() + self.body_len as usize
    }

    /// Writes the head of a frame whose name is the concatenation of `name`.
    ///
    /// The caller has checked both lengths; the name arrives in parts so that `resp:` and the like need no copy.
    #[inline]
    pub(crate) fn write(out: &mut Vec<u8>, kind: Kind, name_len: u8, name: &[&str], body_len: u32) {
        out.extend_from_slice(&[kind.byte(), name_len]);
        for part in name {
            out.extend_from_slice(part.as_bytes());
        }
        out.extend_from_slice(&body_len.to_be_bytes());
    }
}

impl Head {
    /// Writes the head of a request; the caller has checked both lengths.
    #[inline]
    pub(crate) fn write_request(
        out: &mut Vec<u8>,
        kind: Kind,
        name: &str,
        id: &[u8; 16],
        id_len: u8,
        body_len: u32,
    ) {
        let name_len = 5 + name.len() + usize::from(id_len); // `req:` and a colon
        out.reserve(Self::OVERHEAD + name_len + id.len());
        let name_len = u8::try_from(name_len).expect("checked by the caller");
        out.extend_from_slice(&[kind.byte(), name_len, b'r', b'e', b'q', b':']);
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        // All digits, and then fewer: a copy of a fixed size costs less.
        let end = out.len() + usize::from(id_len);
        out.extend_from_slice(id);
        out.truncate(end);
        out.extend_from_slice(&body_len.to_be_bytes());
    }

    /// Writes the head of a frame whose body follows and is not measured yet; gives where the body begins.
    #[inline]
    pub(crate) fn begin(out: &mut Vec<u8>, kind: Kind, name_len: u8, name: &str) -> usize {
        out.extend_from_slice(&[kind.byte(), name_len]);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&[0; 4]);
        out.len()
    }

    /// Completes a frame that begins `out`, when its body is there.
    pub(crate) fn complete(out: &mut [u8], body_at: usize, body_len: u32) {
        if let Some(room) = out.get_mut(body_at - 4..body_at) {
            room.copy_from_slice(&body_len.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_is_read_only_when_it_is_whole() {
        let bytes = b"j\x05hello\x00\x00\x00\x07\"world\"";
        for cut in 0..11 {
            assert_eq!(Head::parse(&bytes[..cut]).unwrap(), None, "{cut}");
        }
        let head = Head::parse(&bytes[..11]).unwrap().unwrap();
        assert_eq!((head.kind(), head.name_len(), head.body_len()), (Kind::Json, 5, 7));
        assert_eq!((head.body_at(), head.frame_len()), (11, 18));
    }

    #[test]
    fn wrong_kind_is_refused_at_its_first_byte() {
        let error = Head::parse(b"G").unwrap_err();
        assert_eq!(error.to_string(), "the peer sent 0x47 where a frame begins: this looks like HTTP");
    }
}
