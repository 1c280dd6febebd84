#![doc = include_str!("../README.md")]

pub mod proto;
pub mod secure;

mod secret;
#[cfg(test)]
mod testing;

pub use secret::{DaemonKey, Password, Proof, Token};
