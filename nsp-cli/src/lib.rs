//! What the programs `nossock` and `nsp` share. Not a library for others: it changes as they need.
#![doc(hidden)]

pub mod bench;
pub mod certificate;
pub mod exit;
pub mod exit_nsp;
pub mod files;
pub mod output;
pub mod process;
pub mod program;
pub mod progress;
pub mod text;
mod twins;

pub use twins::{with_twins, without_twins};
