//! Client, shell and daemon of the NoService Protocol.
#![allow(dead_code, reason = "the commands that use the rest are being built")]
mod client;
mod daemon;
mod place;
mod script;
mod secret;
fn main() {}
