use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::close::CloseCode;
use crate::wire::{Head, Kind};

/// The largest body of a control frame, in bytes: a close with a long message, and room to grow.
pub const MAX_CONTROL: u32 = 4096;

/// The version of the control frames that this crate speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// What sessions tell each other: a frame of kind `c` with an empty name and a JSON body of one key.
///
/// ```text
/// 63 00 0000000a 7b2270696e67223a377d20   →   {"ping":7}
/// ```
///
/// A side that has not seen the other's [`Hello`] sends none but its own; the npm package takes such a frame for
/// a buffer under the empty name and ignores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Control<'a> {
    /// What the sender speaks and accepts.
    Hello(Hello),
    /// To be answered with the same number.
    Ping(u64),
    /// The answer to a ping.
    Pong(u64),
    /// The request with this id is no longer waited for.
    Cancel(#[serde(borrow)] Cow<'a, str>),
    /// The sender is about to end the conversation.
    Close(Close),
}

/// What a side says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub version: u32,
    /// The largest body the sender accepts, in bytes.
    pub max_body: u32,
    /// How many requests the sender handles at once.
    pub max_in_flight: u32,
}

impl Hello {
    /// What a side with these limits says.
    #[must_use]
    pub fn new(limits: &crate::Limits) -> Self {
        Self {
            version: PROTOCOL_VERSION,
            max_body: limits.max_body,
            max_in_flight: u32::try_from(limits.requests_in).unwrap_or(u32::MAX),
        }
    }
}

/// Why the sender ends the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs, reason = "the wire has these two")]
pub struct Close {
    /// For programs.
    pub code: CloseCode,
    /// For people.
    #[serde(default)]
    pub message: String,
}

impl<'a> Control<'a> {
    /// Reads the body of a control frame; `None` is one that this version does not know.
    #[must_use]
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// Appends the whole frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        let body = serde_json::to_vec(self).expect("a control frame is plain JSON");
        let len = u32::try_from(body.len()).expect("a control frame is small");
        Head::write(out, Kind::Control, 0, &[], len);
        out.extend_from_slice(&body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_one_key_each() {
        let mut out = Vec::new();
        Control::Ping(7).write(&mut out);
        assert_eq!(out, b"c\x00\x00\x00\x00\x0a{\"ping\":7}");
        for (json, control) in [
            (r#"{"pong":7}"#, Control::Pong(7)),
            (r#"{"cancel":"1a"}"#, Control::Cancel("1a".into())),
            (
                r#"{"close":{"code":"going_away","message":"restart"}}"#,
                Control::Close(Close { code: CloseCode::GoingAway, message: "restart".into() }),
            ),
            (
                r#"{"hello":{"version":1,"max_body":5,"max_in_flight":2,"later":true}}"#,
                Control::Hello(Hello { version: 1, max_body: 5, max_in_flight: 2 }),
            ),
        ] {
            assert_eq!(Control::parse(json.as_bytes()), Some(control));
        }
        assert_eq!(Control::parse(br#"{"credit":3}"#), None);
        assert_eq!(Control::parse(b"\xff"), None);
    }
}
