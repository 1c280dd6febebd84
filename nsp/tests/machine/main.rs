//! Both sides of a connection against each other, with time as a number.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod activities;
mod anything;
mod limits;
mod pair;
mod questions;
mod securing;
