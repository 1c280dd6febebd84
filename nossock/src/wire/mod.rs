//! Bytes to frames and back; pure.
//!
//! This module knows the layout of a frame and nothing of sockets, clocks or conversations.
//!
//! ```text
//!  0        1        2              2+n            6+n
//!  +--------+--------+--- ... ---+----------------+--- ... ---+
//!  | kind   | n      | name (n)  | body length BE | body      |
//!  | j|b|c  | u8     | UTF-8     | u32            |           |
//!  +--------+--------+--- ... ---+----------------+--- ... ---+
//! ```
//!
//! `6a 05 68656c6c6f 00000007 22776f726c6422` is the JSON message `hello` with the body `"world"`:
//!
//! ```
//! use nossock::wire::{Body, Frame};
//!
//! let frame = Frame::json("hello", &"world")?;
//! assert_eq!(&frame.encode()[..], b"j\x05hello\x00\x00\x00\x07\"world\"");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The layout is that of the npm package `nossock` 0.0.10; kind `c`, for control frames, is ours, and a peer
//! that does not know it takes such a frame for a raw message under the empty name.

mod decoder;
mod error;
mod frame;
mod head;
mod name;

pub use decoder::{Decoder, Next, Unfinished};
pub use error::{Lookalike, WireError};
pub use frame::{Body, Frame, FrameError, FrameRef};
pub use head::{Head, Kind};
pub(crate) use name::check as name_len;
pub use name::{Name, NameError};
