//! What the fuzz targets of `nossock` do with their bytes.
//!
//! Each module has one function `run`, which panics when a claim does not hold. The fuzzer calls it, and so does
//! `nossock/tests/corpus.rs` with the seeds, on a stable toolchain.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a target fails by panicking")]
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "nobody builds upon this; tests include a part of it"
)]

pub mod address;
pub mod control;
pub mod decoder;
pub mod request_name;
pub mod session;

/// What a target does with its bytes.
pub type Run = fn(&[u8]);

/// Every target by its name, which is also the name of its folder of seeds.
pub const TARGETS: [(&str, Run); 5] = [
    ("address", address::run),
    ("control", control::run),
    ("decoder", decoder::run),
    ("request_name", request_name::run),
    ("session", session::run),
];
