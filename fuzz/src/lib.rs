//! What the fuzz targets do with their bytes: a folder a crate, a module a target.
#![allow(missing_docs, unreachable_pub, reason = "nobody builds upon this")]

pub mod auth;
pub mod nossock;
pub mod nsp;
