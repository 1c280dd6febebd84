//! The daemon, as its clients and its services meet it, over carriers in memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod functions;
#[allow(dead_code, reason = "each story uses its own part of it")]
mod wire;
