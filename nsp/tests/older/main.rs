//! NSP 0.4, the text before NSP 0.5: its clients with our daemon, its daemon with our client, and ours with ours.
//!
//! What the others say here is what the original daemon 0.5.8 and its clients say, word for word.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[allow(dead_code, reason = "each story uses its own part of it")]
#[path = "../daemon/book.rs"]
mod book;
mod ours;
mod peer;
mod their_client;
mod their_daemon;
