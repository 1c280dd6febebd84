//! Values to bytes, before the connection's lock is taken.
//!
//! A value is written into a buffer of the thread and copied from there, or handed over whole when it is large:
//! so no code of a user runs under the lock, a value that panics half-way leaves no half frame behind, its size
//! is known before room is looked for, and a large value does not keep the driver from its work.

use std::cell::Cell;

use bytes::Bytes;
use serde::Serialize;

use crate::session::{Outbox, Payload};
use crate::wire::{Head, Kind};

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What the buffer of a thread may keep, in bytes.
const KEEP: usize = 64 * 1024;

/// A body, encoded.
#[derive(Debug)]
pub(crate) enum Encoded<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
}

impl Encoded<'_> {
    pub(crate) const fn len(&self) -> usize {
        match self {
            Self::Borrowed(bytes) => bytes.len(),
            Self::Owned(bytes) => bytes.len(),
        }
    }

    /// The body for somebody who has to wait.
    pub(crate) fn take_bytes(&mut self) -> Bytes {
        match self {
            Self::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Self::Owned(bytes) => std::mem::take(bytes),
        }
    }

    /// What is queued of it. A body that is copied stays, to be dropped when the lock is released: it may have an owner,
    /// whose code runs then.
    pub(crate) fn payload(&mut self) -> Payload<'_> {
        match self {
            Self::Borrowed(bytes) => Payload::Borrowed(bytes),
            Self::Owned(bytes) if bytes.len() >= Outbox::LARGE => Payload::Owned(std::mem::take(bytes)),
            Self::Owned(bytes) => Payload::Borrowed(bytes),
        }
    }
}

/// Writes a value as JSON and gives it to `use_it`.
pub(crate) fn json<T: Serialize + ?Sized, R>(
    value: &T,
    use_it: impl FnOnce(Encoded<'_>) -> R,
) -> serde_json::Result<R> {
    with(|out| serde_json::to_writer(out, value), |body, ()| use_it(body))
}

/// Writes a whole message; gives it with the length of its body, which may be more than a frame can hold.
pub(crate) fn message<T: Serialize + ?Sized, R>(
    name: &str,
    name_len: u8,
    value: &T,
    use_it: impl FnOnce(Encoded<'_>, usize) -> R,
) -> serde_json::Result<R> {
    let write = |out: &mut Vec<u8>| {
        let body_at = Head::begin(out, Kind::Json, name_len, name);
        serde_json::to_writer(&mut *out, value)?;
        let body_len = out.len() - body_at;
        Head::complete(out, body_at, u32::try_from(body_len).unwrap_or(u32::MAX));
        Ok(body_len)
    };
    with(write, use_it)
}

/// Writes `[null,value]`.
pub(crate) fn json_reply<T: Serialize + ?Sized, R>(
    value: &T,
    use_it: impl FnOnce(Encoded<'_>) -> R,
) -> serde_json::Result<R> {
    let write = |out: &mut Vec<u8>| {
        out.extend_from_slice(b"[null,");
        serde_json::to_writer(&mut *out, value)?;
        out.push(b']');
        Ok(())
    };
    with(write, |body, ()| use_it(body))
}

#[inline]
fn with<W, R>(
    write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<W>,
    use_it: impl FnOnce(Encoded<'_>, W) -> R,
) -> serde_json::Result<R> {
    // Taken out, not borrowed: a value may itself send something while it is written.
    let mut buffer = SCRATCH.take();
    buffer.clear();
    let written = write(&mut buffer)?;
    if buffer.len() >= Outbox::LARGE {
        return Ok(use_it(Encoded::Owned(buffer.into()), written));
    }
    let result = use_it(Encoded::Borrowed(&buffer), written);
    if buffer.capacity() <= KEEP {
        SCRATCH.with(|scratch| scratch.set(buffer));
    }
    Ok(result)
}
