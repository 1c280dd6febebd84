//! Every recorded conversation against our own two sides: ours says what the recorded side said, but for random ids and for what
//! `nsp::manual::compatibility` lists.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod client;
mod daemon;
mod ids;
mod service;
mod sockets;

#[path = "../../src/testing.rs"]
mod testing;
