//! Helpers of the stories that run over the public API.
//!
//! | you want | you call |
//! |---|---|
//! | the original package of npm, as a peer | [`with_original`], then [`Original::start`] |
//! | a server of ours whose messages the story reads | [`Ours::listen`] |
//! | a network that delays, cuts and corrupts | [`Proxy::start`] |
//! | an NSP daemon and clients that count what arrives | [`Ledger::serve`], [`Ledger::converse`] |
//! | a program of these tests as a process, and its memory | [`Process::start`] |
//! | certificates that both sides accept | [`Certificates::new`] |
//! | a program on a terminal, and somebody who types | [`terminal()`] |
//! | the commands of a page, typed | [`page::Typist`] |
//!
//! Whatever waits does so for [`PATIENCE`] at most. What goes wrong in here fails the story, by a panic.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod certificates;
mod ledger;
mod node;
mod ours;
pub mod page;
mod process;
mod proxy;
mod terminal;

use std::time::Duration;

pub use certificates::{Certificates, PASSPHRASE, PemFiles};
pub use ledger::{Caller, Figures, Ledger, Marks, Patience};
pub use node::{Node, Original, with_original};
pub use ours::{Ours, Received};
pub use process::Process;
pub use proxy::{Chance, Fault, Plan, Proxy};
use sha2::{Digest, Sha256};
pub use terminal::{Await, has_terminal, terminal};

/// How long a story waits for one thing to happen: far longer than it takes, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something, and fails the story with its name when it does not happen.
///
/// # Cancel safety
/// That of what it waits for.
pub async fn in_time<T>(what: &str, something: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, something).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {PATIENCE:?}"),
    }
}

/// Bytes that differ from their neighbours, the same as `sendBytes` of `original.js` makes.
#[must_use]
pub fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| i.wrapping_mul(31).wrapping_add(i >> 8).to_le_bytes()).map(|[low, ..]| low).collect()
}

/// The SHA-256 of bytes, in lower-case hexadecimal digits.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A frame written out by hand, as the wire has it: kind, name, length, body.
#[must_use]
pub fn frame(kind: u8, name: &str, body: &[u8]) -> Vec<u8> {
    let name_len = u8::try_from(name.len()).unwrap();
    let body_len = u32::try_from(body.len()).unwrap();
    [&[kind, name_len][..], name.as_bytes(), &body_len.to_be_bytes(), body].concat()
}
