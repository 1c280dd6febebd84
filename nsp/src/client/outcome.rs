use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::error::CallError;
use crate::machine::client::Reply;
use crate::proto::{Data, RawJson};
use crate::secret::Token;

/// What a call brought, when it is not [`Short`].
#[derive(Debug)]
pub(super) enum Outcome {
    /// The text of the value that a function has returned, of which nobody has looked whether it is JSON.
    Unread(Bytes),
    Reply(Reply),
    Token(Option<Token>),
}

impl Outcome {
    /// Reads what was returned as an `R`.
    pub(super) fn to<R: DeserializeOwned>(self) -> Result<R, CallError> {
        match self {
            Self::Unread(text) => serde_json::from_slice(&text).map_err(CallError::Answer),
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
            Self::Unread(text) => {
                let data = RawJson::new(text).map_err(CallError::Answer)?.into();
                Ok(Reply { meta: None, data })
            }
            Self::Reply(reply) => Ok(reply),
            Self::Token(_) => Err(CallError::Closed),
        }
    }
}

/// The text of a short value, or of none: kept in place, which costs less than memory of its own. Nobody has looked whether it is JSON: who
/// reads it as a type finds that out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Short {
    length: u8,
    bytes: [u8; Self::MOST],
}

impl Short {
    const MOST: usize = 63;

    /// Takes a text, if it is short.
    #[inline]
    pub(super) fn set(&mut self, text: Option<&[u8]>) -> bool {
        let text = text.unwrap_or_default();
        let (Some(place), Ok(length)) = (self.bytes.get_mut(..text.len()), u8::try_from(text.len())) else {
            return false;
        };
        place.copy_from_slice(text);
        self.length = length;
        true
    }

    /// Reads it as an `R`; nothing is `null`.
    #[inline]
    pub(super) fn to<R: DeserializeOwned>(&self) -> Result<R, CallError> {
        let text = match self.text() {
            [] => b"null",
            text => text,
        };
        serde_json::from_slice(text).map_err(CallError::Answer)
    }

    fn text(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl Default for Short {
    fn default() -> Self {
        Self { length: 0, bytes: [0; Self::MOST] }
    }
}

impl From<Short> for Outcome {
    fn from(short: Short) -> Self {
        match short.text() {
            [] => Self::Reply(Reply { meta: None, data: Data::None }),
            text => Self::Unread(Bytes::copy_from_slice(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_text_comes_out_as_it_went_in() {
        for length in [2, 3, Short::MOST - 1, Short::MOST] {
            let text = format!("\"{}\"", "x".repeat(length - 2));
            let mut short = Short::default();
            assert!(short.set(Some(text.as_bytes())));
            assert_eq!(short.to::<String>().unwrap().len(), length - 2);
            let Data::Json(json) = Outcome::from(short).into_reply().unwrap().data else {
                panic!("{length}")
            };
            assert_eq!(json.as_str(), text);
        }
        assert!(!Short::default().set(Some(&[b'1'; Short::MOST + 1])));
        let mut nothing = Short::default();
        assert!(nothing.set(None) && nothing.to::<Option<u8>>().unwrap().is_none());
        assert_eq!(Outcome::from(nothing).into_reply().unwrap(), Reply::default());
    }

    #[test]
    fn text_that_is_no_json_is_handed_to_nobody() {
        for text in [&b"{]}"[..], b"{\"a\"}", b"\"\xff\""] {
            let mut short = Short::default();
            assert!(short.set(Some(text)));
            assert!(matches!(short.to::<serde_json::Value>(), Err(CallError::Answer(_))));
            for outcome in [
                |text| Outcome::Unread(Bytes::from_static(text)),
                |text| {
                    let mut short = Short::default();
                    short.set(Some(text));
                    short.into()
                },
            ] {
                assert!(matches!(outcome(text).into_reply(), Err(CallError::Answer(_))), "{text:?}");
                assert!(matches!(outcome(text).to::<serde_json::Value>(), Err(CallError::Answer(_))));
            }
        }
    }
}
