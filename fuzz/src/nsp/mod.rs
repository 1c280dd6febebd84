//! What the fuzz targets of `nsp` do with their bytes.
//!
//! Each module has one function `run`, which panics when a claim does not hold. The fuzzer calls it, and so does
//! `nsp/tests/corpus.rs` with the seeds, on a stable toolchain.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a target fails by panicking")]
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "nobody builds upon this; tests include a part of it"
)]

pub mod carrier;
pub mod chunks;
pub mod client;
pub mod daemon;
pub mod filter;
pub mod manifest;
pub mod packet;
pub mod secure;
pub mod text;
mod typed;

/// What a target does with its bytes.
pub type Run = fn(&[u8]);

/// Every target by its name, which is also the name of its folder of seeds.
pub const TARGETS: [(&str, Run); 9] = [
    ("nsp_address", carrier::run),
    ("nsp_chunks", chunks::run),
    ("nsp_client", client::run),
    ("nsp_daemon", daemon::run),
    ("nsp_filter", filter::run),
    ("nsp_manifest", manifest::run),
    ("nsp_packet", packet::run),
    ("nsp_secure", secure::run),
    ("nsp_text", text::run),
];
