//! The client as its users meet it, against a daemon that does what tests need, over every carrier.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

mod answers;
mod calls;
mod coming_back;
mod frames;
mod opening;
mod original;
mod peer;
mod securing;
mod streams;
