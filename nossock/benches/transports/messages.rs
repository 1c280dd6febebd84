//! What is said in the rows that carry JSON: the same typed structs for every peer.
//!
//! The numbers have a fixed count of digits, so that a message has one size however long a run lasts: an [`Ask`] is
//! 32 bytes of JSON, an [`Answer`] about 28, a [`Note`] exactly 64. There is no text inside: a `String` would
//! measure the allocator.

use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// A request: please add.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Ask {
    pub(crate) seq: u32,
    pub(crate) x: i32,
    pub(crate) y: i32,
}

impl Ask {
    /// The request with the number `n`.
    pub(crate) fn number(n: u64) -> Self {
        let seq = sequence(n);
        Self { seq, x: 100 + (seq % 900).cast_signed(), y: -10 - (seq % 89).cast_signed() }
    }

    /// What a server answers.
    pub(crate) fn answer(&self) -> Answer {
        Answer { seq: self.seq, sum: self.x.wrapping_add(self.y) }
    }

    /// Holds an answer against this request.
    ///
    /// # Errors
    /// `InvalidData` if the answer is not the one to this request.
    pub(crate) fn check(&self, answer: Answer) -> io::Result<()> {
        if answer.seq == self.seq && answer.sum == self.x + self.y {
            return Ok(());
        }
        Err(invalid(&format!("{self:?} was answered {answer:?}")))
    }
}

/// The answer to an [`Ask`].
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Answer {
    pub(crate) seq: u32,
    pub(crate) sum: i32,
}

/// A message that wants no answer: 64 bytes of JSON.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Note {
    pub(crate) seq: u32,
    pub(crate) sensor: u32,
    pub(crate) millidegrees: i32,
    pub(crate) valid: bool,
}

impl Note {
    /// The message with the number `n`.
    pub(crate) fn number(n: u64) -> Self {
        let seq = sequence(n);
        Self {
            seq,
            sensor: 1000 + seq % 9000,
            millidegrees: 10_000 + (seq % 90_000).cast_signed(),
            valid: true,
        }
    }

    /// What this message adds to a [`Tally`], so that nobody can count it without having read it.
    pub(crate) fn weight(&self) -> i64 {
        if self.valid { i64::from(self.millidegrees) + i64::from(self.sensor) } else { 0 }
    }
}

/// What one side has sent or the other received since the last tally.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) weight: i64,
}

impl Tally {
    /// Adds one message.
    pub(crate) fn add(&mut self, weight: i64) {
        self.count += 1;
        self.weight = self.weight.wrapping_add(weight);
    }

    /// Holds what the server received against what was sent, and returns the number of messages.
    ///
    /// # Errors
    /// `InvalidData` if they differ.
    pub(crate) fn check(&self, received: Self) -> io::Result<u64> {
        if *self == received {
            return Ok(self.count);
        }
        Err(invalid(&format!("sent {self:?}, the server received {received:?}")))
    }
}

/// What a server has received on all its connections since the last tally.
///
/// Whoever handles messages by functions that any connection may run counts like this, so every peer here does.
#[derive(Debug, Default)]
pub(crate) struct Received {
    count: AtomicU64,
    weight: AtomicI64,
}

impl Received {
    /// Adds one message.
    pub(crate) fn add(&self, weight: i64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.weight.fetch_add(weight, Ordering::Relaxed);
    }

    /// Begins anew.
    pub(crate) fn take(&self) -> Tally {
        Tally { count: self.count.swap(0, Ordering::Relaxed), weight: self.weight.swap(0, Ordering::Relaxed) }
    }
}

/// Each byte of a raw body.
const FILL: u8 = 0xa5;

/// A raw body of `size` bytes.
pub(crate) fn blob(size: usize) -> Vec<u8> {
    vec![FILL; size]
}

/// What a raw body adds to a [`Tally`]: its size in bytes, after a look at both ends.
///
/// # Errors
/// `InvalidData` if an end is not what [`blob`] makes.
pub(crate) fn weigh_blob(body: &[u8]) -> io::Result<i64> {
    if body.first() != Some(&FILL) || body.last() != Some(&FILL) {
        return Err(invalid("a raw body arrived altered"));
    }
    Ok(body.len() as i64)
}

/// An error of the data itself.
pub(crate) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Always eight digits.
fn sequence(n: u64) -> u32 {
    10_000_000 + (n % 90_000_000) as u32
}
