//! What the unit tests share: the recorded conversations of `tests/vectors`, and a time to begin with.
#![allow(dead_code, reason = "each crate of tests uses its own part of it")]

use std::sync::LazyLock;
use std::time::Instant;

use bytes::Bytes;
use serde::Deserialize;

use nsp::proto::{Method, Methods, Packet};

/// The time at which every test begins. Which it is does not matter; that it is one for all does.
pub(crate) fn epoch() -> Instant {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    *EPOCH
}

/// One recorded conversation.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Name of the file without its ending.
    pub(crate) name: String,
    pub(crate) secure: bool,
    pub(crate) carrier: String,
    pub(crate) rsa_private_pem: Option<String>,
    pub(crate) rsa_public_pem: Option<String>,
    pub(crate) aes_key: Option<String>,
    pub(crate) messages: Vec<Message>,
}

/// One step of it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) from_client: bool,
    /// `A` or `B` where there are two connections.
    pub(crate) connection: Option<String>,
    pub(crate) wire: Option<Bytes>,
    pub(crate) plain: Option<Bytes>,
    pub(crate) note: String,
}

/// All of them.
pub(crate) fn flows() -> Vec<Flow> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
    let mut flows: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .map(|path| read(&path))
        .collect();
    flows.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(flows.len(), 25);
    flows
}

/// One of them.
pub(crate) fn flow(name: &str) -> Flow {
    flows().into_iter().find(|flow| flow.name == name).unwrap_or_else(|| panic!("no recording {name}"))
}

/// Whether a step is there to show what is not a message at all.
pub(crate) fn is_malformed(flow: &Flow, message: &Message) -> bool {
    let notes = [
        "empty message",
        "one byte",
        "two bytes",
        "heartbeat sent by the client",
        "unknown method",
        "unknown session",
        "CS without the inner length",
        "CS with an inner length beyond the end",
        "message in clear on an encrypted connection",
        "unknown method as first message",
    ];
    let suspect = ["malformed", "encrypted-garbage", "handshake-trigger-fails"];
    suspect.iter().any(|name| flow.name.starts_with(name)) && notes.contains(&&*message.note)
}

/// The packets of one method whose JSON can be read.
pub(crate) fn packets(flow: &Flow, method: Method) -> impl Iterator<Item = Packet> + '_ {
    let unreadable = ["bad JSON", "unknown CS operation", "CS without d"];
    flow.messages
        .iter()
        .filter(move |message| !is_malformed(flow, message) && !unreadable.contains(&&*message.note))
        .filter_map(|message| message.plain.clone())
        .filter(|plain| plain != "HB" && plain != "GTrs")
        .map(|plain| Packet::decode(plain, &Methods::default()).unwrap())
        .filter(move |packet| packet.method == method)
}

fn read(path: &std::path::Path) -> Flow {
    #[derive(Deserialize)]
    struct File {
        secure: bool,
        carrier: String,
        rsa_private_pem: Option<String>,
        rsa_public_pem: Option<String>,
        aes_key: Option<String>,
        messages: Vec<Step>,
    }
    #[derive(Deserialize)]
    struct Step {
        dir: String,
        conn: Option<String>,
        wire_hex: Option<String>,
        plain_hex: Option<String>,
        #[serde(default)]
        note: String,
    }
    let file: File = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let messages = file.messages.into_iter().map(|step| Message {
        from_client: step.dir == "c2s",
        connection: step.conn,
        wire: step.wire_hex.as_deref().map(unhex),
        plain: step.plain_hex.as_deref().map(unhex),
        note: step.note,
    });
    Flow {
        name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
        secure: file.secure,
        carrier: file.carrier,
        rsa_private_pem: file.rsa_private_pem,
        rsa_public_pem: file.rsa_public_pem,
        aes_key: file.aes_key,
        messages: messages.collect(),
    }
}

fn unhex(text: &str) -> Bytes {
    assert!(text.len().is_multiple_of(2));
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// So many texts, each one of `whole` with one to three bytes of it changed, added or taken away; the same in every run.
pub(crate) fn spoilt(whole: &[&[u8]], count: usize) -> impl Iterator<Item = Bytes> {
    const SIGNS: &[u8] = b"{}[]\",:\\ 0e-.tnx\x1f\xff_";
    let mut state = 1_u64;
    let mut below = move |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % n
    };
    let whole: Vec<_> = whole.iter().map(|text| text.to_vec()).collect();
    (0..count).map(move |n| {
        let mut text = whole[n % whole.len()].clone();
        for _ in 0..=below(3) {
            let (at, sign) = (below(text.len()), SIGNS[below(SIGNS.len())]);
            match below(3) {
                0 => text[at] = sign,
                1 => text.insert(at, sign),
                _ => drop(text.remove(at)),
            }
        }
        text.into()
    })
}
