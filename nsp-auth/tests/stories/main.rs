//! Stories over the public API: one program, so that SQLite is linked once.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

mod audit;
mod common;
mod durability;
mod import;
mod login;
mod stores;
mod users;
