use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::error::CallError;
use crate::machine::client::Reply;
use crate::proto::{Data, RawJson};
use crate::secret::Token;

/// What a call brought.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The value that a function has returned, as it stood in its answer.
    Unread(Unread),
    Reply(Reply),
    Token(Option<Token>),
}

impl Outcome {
    /// Reads what was returned as an `R`.
    #[inline]
    pub(super) fn to<R: DeserializeOwned>(self) -> Result<R, CallError> {
        match self {
            Self::Unread(unread) => serde_json::from_slice(unread.text()).map_err(CallError::Answer),
            Self::Reply(Reply { data, .. }) => {
                let json = data.into_json().map_err(|blob| CallError::Blob(blob.len()))?;
                json.to().map_err(CallError::Answer)
            }
            Self::Token(_) => Err(CallError::Closed),
        }
    }

    /// What was returned, to be read by somebody else.
    pub(super) fn into_reply(self) -> Result<Reply, CallError> {
        match self {
            Self::Unread(unread) => Ok(Reply { meta: None, data: unread.check()? }),
            Self::Reply(reply) => Ok(reply),
            Self::Token(_) => Err(CallError::Closed),
        }
    }
}

/// The text of one value, of which nobody has looked whether it is JSON: who reads it as a type finds that out anyway.
#[derive(Debug)]
pub(super) enum Unread {
    /// There was none.
    Nothing,
    /// A short one is kept in place: that costs less than memory of its own.
    Short {
        length: u8,
        bytes: [u8; Self::SHORT],
    },
    Long(Bytes),
}

impl Unread {
    /// As much as leaves an [`Outcome`] as large as it is because of others.
    const SHORT: usize = 62;

    #[inline]
    pub(super) fn of(text: Option<&[u8]>) -> Self {
        let Some(text) = text else { return Self::Nothing };
        let mut bytes = [0; Self::SHORT];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(text);
                Self::Short { length, bytes }
            }
            _ => Self::Long(Bytes::copy_from_slice(text)),
        }
    }

    /// The text; `null` in the place of nothing.
    #[inline]
    fn text(&self) -> &[u8] {
        match self {
            Self::Nothing => b"null",
            Self::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(text) => text,
        }
    }

    fn check(self) -> Result<Data, CallError> {
        let text = match self {
            Self::Nothing => return Ok(Data::None),
            Self::Short { .. } => Bytes::copy_from_slice(self.text()),
            Self::Long(text) => text,
        };
        RawJson::new(text).map(Data::Json).map_err(CallError::Answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_out_as_it_went_in_however_long_it_is() {
        for length in [2, 3, Unread::SHORT - 1, Unread::SHORT, Unread::SHORT + 1, 300, 5000] {
            let text = format!("\"{}\"", "x".repeat(length - 2));
            let unread = || Outcome::Unread(Unread::of(Some(text.as_bytes())));
            assert_eq!(unread().to::<String>().unwrap().len(), length - 2);
            let Data::Json(json) = unread().into_reply().unwrap().data else { panic!("{length}") };
            assert_eq!(json.as_str(), text);
        }
        assert!(Outcome::Unread(Unread::of(None)).to::<Option<u8>>().unwrap().is_none());
        assert_eq!(Outcome::Unread(Unread::of(None)).into_reply().unwrap(), Reply::default());
        assert_eq!(size_of::<Outcome>(), size_of::<Reply>());
    }

    #[test]
    fn text_that_is_no_json_is_handed_to_nobody() {
        for text in [&b"{]}"[..], b"{\"a\"}", b"\"\xff\"", &b"\"\xff\"".repeat(30)] {
            let unread = || Outcome::Unread(Unread::of(Some(text)));
            assert!(matches!(unread().into_reply(), Err(CallError::Answer(_))), "{text:?}");
            assert!(matches!(unread().to::<serde_json::Value>(), Err(CallError::Answer(_))));
        }
    }
}
