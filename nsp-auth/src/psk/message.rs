//! The four frames.

use nossock::wire::{Body, Frame};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::PskError;
use super::hex::Bytes32;
use super::label::Label;

/// The version that this crate speaks.
pub(super) const VERSION: u32 = 1;

/// The most keys that a client may offer: those of one peer, and those of anyone.
pub(super) const MAX_OFFERED: usize = 2 * super::keys::MAX_KEYS;

/// A frame of the introduction: JSON, named, with no field that is not covered by the proofs.
pub(super) trait PskFrame: Serialize + DeserializeOwned {
    const NAME: &'static str;

    fn write(&self) -> Frame {
        Frame::json(Self::NAME, self).expect("plain structs of text, under a short name")
    }

    fn read(frame: &Frame) -> Result<Self, PskError> {
        let unexpected = || PskError::Unexpected { expected: Self::NAME };
        match &frame.body {
            Body::Json(body) if frame.name == Self::NAME => {
                serde_json::from_slice(body).map_err(|_| unexpected())
            }
            _ => Err(unexpected()),
        }
    }
}

/// Who somebody is, and the number that makes this conversation one of its kind.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Offer {
    #[serde(rename = "psk")]
    pub(super) version: u32,
    pub(super) name: Label,
    pub(super) nonce: Bytes32,
}

/// As [`Offer`], from the server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Challenge {
    #[serde(rename = "psk")]
    pub(super) version: u32,
    pub(super) name: Label,
    pub(super) nonce: Bytes32,
}

/// The client has these keys.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proof {
    pub(super) keys: Vec<Proved>,
}

/// The server has this one of them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Accept(pub(super) Proved);

/// A key, and the proof that one has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proved {
    pub(super) id: Label,
    pub(super) mac: Bytes32,
}

impl PskFrame for Offer {
    const NAME: &'static str = "psk:offer";
}

impl PskFrame for Challenge {
    const NAME: &'static str = "psk:challenge";
}

impl PskFrame for Proof {
    const NAME: &'static str = "psk:proof";
}

impl PskFrame for Accept {
    const NAME: &'static str = "psk:accept";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_frames_are_within_what_is_read() {
        let id = Label::new(&"x".repeat(64)).unwrap();
        let keys = std::iter::repeat_with(|| Proved { id: id.clone(), mac: Bytes32([0; 32]) });
        let proof = Proof { keys: keys.take(MAX_OFFERED).collect() };
        assert!(proof.write().encode().len() < nossock::Exchange::MAX_FRAME);
        let offer = Offer { version: VERSION, name: id, nonce: Bytes32([0; 32]) };
        assert!(offer.write().encode().len() < nossock::Exchange::MAX_FRAME);
    }

    #[test]
    fn frame_that_is_not_exactly_the_one_is_refused() {
        let nonce = "00".repeat(32);
        let good = format!(r#"{{"psk":1,"name":"a","nonce":"{nonce}"}}"#);
        let read = |name, body: &str| {
            Offer::read(&Frame { body: Body::Json(body.to_owned().into()), ..Frame::raw(name, "").unwrap() })
        };
        assert!(read("psk:offer", &good).is_ok());
        assert!(read("psk:challenge", &good).is_err());
        assert!(Offer::read(&Frame::raw("psk:offer", good.clone()).unwrap()).is_err(), "a raw frame");
        for (from, to) in [
            (r#""psk":1"#, r#""psk":-1"#),
            (r#""psk":1,"#, ""),
            (r#""psk":1"#, r#""psk":1,"psk":1"#),
            (r#""psk":1"#, r#""psk":1,"more":1"#),
            (r#""a""#, r#""""#),
            (r#""a""#, r#""a b""#),
            (r#""a""#, "1"),
            ("0000\"", "00\""),
            ("0000\"", "00zz\""),
            ("}", ""),
            ("{", "[{"),
        ] {
            assert!(read("psk:offer", &good.replace(from, to)).is_err(), "{from} {to}");
        }
        for cut in 0..good.len() {
            assert!(read("psk:offer", &good[..cut]).is_err(), "{cut}");
        }
    }
}
