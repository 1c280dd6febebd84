//! Client, shell and daemon of the NoService Protocol.
#![allow(dead_code, reason = "the commands that use the rest are being built")]
mod daemon;
mod script;
fn main() {}
