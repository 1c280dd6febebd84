//! The program `nsp`, run as its users run it, against a daemon that is the same program.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod bad_input;
mod blobs;
mod calls;
mod daemon;
mod durability;
mod every_command;
mod policy;
mod shell;
mod support;
mod terminal;
mod trust;
mod users;
