//! What the fuzz targets of `nsp-auth` do with their bytes; `nsp-auth/tests/corpus.rs` runs them with the seeds. The target `auth_psk` is
//! in the crate itself, `psk::hostile`, since what it reads is nobody else's.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a target fails by panicking")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "nobody builds upon this")]

pub mod policy;
