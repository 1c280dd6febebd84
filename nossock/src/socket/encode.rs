//! Values to bytes, before the connection's lock is taken.
//!
//! A value is written into a buffer of the thread and copied from there, or handed over whole when it is large:
//! so no code of a user runs under the lock, a value that panics half-way leaves no half frame behind, its size
//! is known before room is looked for, and a large value does not keep the driver from its work.

use std::cell::RefCell;

use bytes::Bytes;
use serde::Serialize;

use crate::session::{Outbox, Payload};

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Self::Owned(bytes) => bytes,
        }
    }
}

impl<'a> From<Encoded<'a>> for Payload<'a> {
    fn from(encoded: Encoded<'a>) -> Self {
        match encoded {
            Encoded::Borrowed(bytes) => Payload::Borrowed(bytes),
            Encoded::Owned(bytes) => Payload::Owned(bytes),
        }
    }
}

/// Writes a value as JSON and gives it to `use_it`.
pub(crate) fn json<T: Serialize + ?Sized, R>(
    value: &T,
    use_it: impl FnOnce(Encoded<'_>) -> R,
) -> serde_json::Result<R> {
    with(|out| serde_json::to_writer(out, value), use_it)
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
    with(write, use_it)
}

fn with<R>(
    write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>,
    use_it: impl FnOnce(Encoded<'_>) -> R,
) -> serde_json::Result<R> {
    // Taken out, not borrowed: a value may itself send something while it is written.
    let mut buffer = SCRATCH.take();
    buffer.clear();
    write(&mut buffer)?;
    if buffer.len() >= Outbox::LARGE {
        return Ok(use_it(Encoded::Owned(buffer.into())));
    }
    let result = use_it(Encoded::Borrowed(&buffer));
    if buffer.capacity() <= KEEP {
        SCRATCH.set(buffer);
    }
    Ok(result)
}
