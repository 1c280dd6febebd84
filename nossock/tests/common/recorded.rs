//! The recordings of `vectors/`.
#![allow(dead_code, reason = "each test file uses what it needs")]
#![allow(clippy::unwrap_used, reason = "a recording that cannot be read is a broken test")]

use serde::Deserialize;

/// The whole of `npm-0.0.10.json`.
#[derive(Deserialize)]
pub(crate) struct Recording {
    pub(crate) conversations: Vec<Conversation>,
    pub(crate) faults: Vec<Fault>,
}

#[derive(Deserialize)]
pub(crate) struct Conversation {
    pub(crate) about: String,
    client: Side,
    server: Side,
}

#[derive(Deserialize)]
struct Side {
    bytes: String,
    frames: Vec<Said>,
}

#[derive(Deserialize)]
pub(crate) struct Fault {
    pub(crate) about: String,
    bytes: String,
}

/// What a caller of the package said.
#[derive(Deserialize, Clone, Debug)]
pub(crate) struct Said {
    pub(crate) name: String,
    kind: String,
    body_text: Option<String>,
    body_hex: Option<String>,
}

/// One direction of a conversation.
pub(crate) struct Direction {
    pub(crate) about: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) said: Vec<Said>,
}

pub(crate) fn npm() -> Recording {
    serde_json::from_str(include_str!("../vectors/npm-0.0.10.json")).unwrap()
}

impl Recording {
    pub(crate) fn directions(&self) -> Vec<Direction> {
        let sides = |talk: &Conversation| {
            [("client", &talk.client), ("server", &talk.server)].map(|(who, side)| Direction {
                about: format!("{}, {who}", talk.about),
                bytes: unhex(&side.bytes),
                said: side.frames.clone(),
            })
        };
        self.conversations.iter().flat_map(sides).collect()
    }
}

impl Fault {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        unhex(&self.bytes)
    }
}

impl Said {
    pub(crate) fn is_raw(&self) -> bool {
        self.kind == "raw"
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        match (&self.body_text, &self.body_hex) {
            (Some(text), None) if !self.is_raw() => text.clone().into_bytes(),
            (None, Some(hex)) if self.is_raw() => unhex(hex),
            _ => panic!("{self:?} has to have the one body that its kind needs"),
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
