#![doc = include_str!("../README.md")]

pub mod proto;

mod secret;
#[cfg(test)]
mod testing;

pub use secret::{DaemonKey, Password, Proof, Token};
