//! The id of a request, kept for its answer.

use bytes::Bytes;

use crate::proto::{RawJson, RequestId};

/// An id that does not keep the message alive in which it came, and needs no memory of its own when it is short, as nearly all are.
#[derive(Debug)]
pub(super) enum KeptId {
    Short { bytes: [u8; Self::SHORT], length: u8 },
    Long(RequestId),
}

impl KeptId {
    const SHORT: usize = 22;

    pub(super) fn new(id: &RequestId) -> Self {
        Self::short(id.as_json().as_bytes()).unwrap_or_else(|| Self::Long(id.detached()))
    }

    /// Keeps the JSON of an id.
    pub(super) fn of(text: &[u8]) -> Self {
        Self::short(text).unwrap_or_else(|| {
            let id = RequestId::new(RawJson::written(Bytes::copy_from_slice(text)));
            Self::Long(id.unwrap_or_else(RequestId::none))
        })
    }

    fn short(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::SHORT];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self::Short { bytes, length: u8::try_from(text.len()).ok()? })
    }

    /// The JSON text.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { bytes, length } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(id) => id.as_json().as_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_any_length_are_kept_as_they_are() {
        for length in 0..30 {
            let id = RequestId::text(&"x".repeat(length)).unwrap();
            let kept = KeptId::new(&id);
            assert_eq!(kept.as_bytes(), id.as_json().as_bytes());
            assert_eq!(KeptId::of(id.as_json().as_bytes()).as_bytes(), kept.as_bytes());
            assert_eq!(matches!(kept, KeptId::Short { .. }), length + 2 <= KeptId::SHORT);
        }
    }
}
