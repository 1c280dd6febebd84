#![doc = include_str!("../README.md")]

pub mod authority;
pub mod carrier;
pub mod client;
pub mod daemon;
pub mod machine;
pub mod manual;
pub mod proto;
pub mod secure;

mod secret;
// The recorded conversations are read by unit tests and by integration tests, under the same name of the crate.
#[cfg(test)]
extern crate self as nsp;
#[cfg(test)]
mod testing;

pub use client::Client;
pub use secret::{DaemonKey, Password, Proof, Token};
