//! Stories over the public API: one program, so that SQLite is linked once.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

mod common;
mod login;
mod stores;
