//! The daemon, as its clients and its services meet it, over carriers in memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod bad_input;
mod book;
mod emits;
mod entities;
mod functions;
mod life;
mod own_end;
mod proofs;
#[allow(dead_code, reason = "each story uses its own part of it")]
mod raw;
mod rows;
mod services;
mod short_way;
mod slow;
mod sockets;
#[path = "../../src/testing.rs"]
mod testing;
#[allow(dead_code, reason = "each story uses its own part of it")]
mod wire;
