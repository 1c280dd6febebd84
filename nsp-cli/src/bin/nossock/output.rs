//! How frames are printed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nossock::Peer;
use nossock::wire::{Body, Name};
use serde::Serialize;
use serde_json::value::RawValue;

use nsp_cli::exit::Failure;
use nsp_cli::output::{json, line, printable};

/// One frame, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct FrameLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<u64>,
    pub(crate) name: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) request: bool,
    pub(crate) kind: &'static str,
    pub(crate) size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body_b64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl<'a> FrameLine<'a> {
    pub(crate) fn new(name: &'a str, kind: &'static str, body: &'a [u8]) -> Self {
        let mut line = Self {
            peer: None,
            offset: None,
            name,
            request: false,
            kind,
            size: body.len(),
            body: None,
            body_b64: None,
            error: None,
        };
        if kind == "raw" {
            line.body_b64 = Some(STANDARD.encode(body));
            return line;
        }
        match serde_json::from_slice(body) {
            Ok(value) => line.body = Some(value),
            Err(error) => {
                line.error = Some(format!("the body is not JSON: {error}"));
                line.body_b64 = Some(STANDARD.encode(body));
            }
        }
        line
    }
}

/// Prints a message that came.
pub(crate) fn frame(
    as_json: bool,
    peer: &Peer,
    name: &Name,
    body: &Body,
    request: bool,
) -> Result<(), Failure> {
    let kind = if matches!(body, Body::Raw(_)) { "raw" } else { "json" };
    if as_json {
        let mut entry = FrameLine::new(name, kind, body.as_bytes());
        entry.peer = Some(peer.to_string());
        entry.request = request;
        return json(&entry);
    }
    let what = if request { " asks" } else { "" };
    let shown = match body {
        Body::Raw(bytes) => format!("<{} bytes>", bytes.len()),
        body => printable(&String::from_utf8_lossy(body.as_bytes())),
    };
    line(&format!("{peer}{what} {name} {shown}"))
}
