//! Stories over the public API: one program, so that SQLite is linked once.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

mod bad_input;
mod clocks;
mod common;
mod daemon;
mod durability;
mod failing;
mod import;
mod layers;
mod login;
mod no_user;
mod policies;
mod races;
mod stores;
mod users;
