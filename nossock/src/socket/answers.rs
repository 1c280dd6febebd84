//! Answers that are made where the request was read: by handlers that end without waiting.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::memory;
use super::message::{AnswerError, Responder};
use super::shared::Shared;
use crate::session::Outbox;
use crate::wire::{Head, Kind};

/// What stands before name and id.
const ANSWER: &[u8; 5] = b"resp:";

/// The answers of one turn of the driver, in its own buffer: no lock is taken for them, and no way back is kept.
///
/// They are queued before anything that others have queued since the driver last took what was there. Where the order
/// of the two could be seen, because something is queued already, an answer goes there as well.
#[derive(Debug)]
pub(crate) struct Answers {
    bytes: Vec<u8>,
    /// Of those, bytes of whole frames. A value that panics while it is written leaves more.
    whole: usize,
    /// Requests that were answered, here or by a responder.
    made: u64,
    /// Requests of the peer that the session does not know of yet.
    unnoted: u32,
    /// The largest body that both sides accept.
    pub(crate) limit: u32,
}

impl Answers {
    pub(crate) const fn new(limit: u32) -> Self {
        Self { bytes: Vec::new(), whole: 0, made: 0, unnoted: 0, limit }
    }

    /// Bytes that wait to be queued.
    pub(crate) const fn len(&self) -> usize {
        self.whole
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.whole == 0
    }

    /// How many requests were answered so far.
    pub(crate) const fn made(&self) -> u64 {
        self.made
    }

    /// Counts a request of the peer that is not started here, or not yet.
    pub(crate) const fn count(&mut self) {
        self.unnoted = self.unnoted.saturating_add(1);
    }

    /// How many requests of the peer came since this was last asked.
    pub(crate) const fn take_unnoted(&mut self) -> u32 {
        std::mem::replace(&mut self.unnoted, 0)
    }

    /// The buffer, to be emptied or exchanged for an empty one.
    pub(crate) const fn take(&mut self) -> &mut Vec<u8> {
        self.whole = 0;
        &mut self.bytes
    }

    /// Writes the head of an answer; gives where its body begins. `None` when the name is too long: `resp:` is longer
    /// than `req:`.
    #[inline]
    fn begin(&mut self, kind: Kind, tag: &[u8]) -> Option<usize> {
        let name_len = u8::try_from(tag.len() + ANSWER.len()).ok()?;
        if self.bytes.capacity() == 0 {
            memory::take_output(&mut self.bytes);
        }
        let [r, e, s, p, colon] = *ANSWER;
        self.bytes.extend_from_slice(&[kind.byte(), name_len, r, e, s, p, colon]); // one copy instead of two
        self.bytes.extend_from_slice(tag);
        self.bytes.extend_from_slice(&[0; 4]);
        Some(self.bytes.len())
    }

    /// Completes an answer whose body is there, unless that is too large.
    #[inline]
    fn complete(&mut self, body_at: usize) -> bool {
        let Ok(body_len) = u32::try_from(self.bytes.len() - body_at) else { return false };
        if body_len > self.limit {
            return false;
        }
        Head::complete(&mut self.bytes, body_at, body_len);
        self.whole = self.bytes.len();
        self.made += 1;
        self.count();
        true
    }

    /// Forgets what a panic left unfinished.
    pub(crate) fn recover(&mut self) {
        self.bytes.truncate(self.whole);
    }
}

/// A request while its handler is started.
#[doc(hidden)]
#[derive(Debug)]
pub struct Asked<'a> {
    /// `<name>:<id>`, as the request has it.
    pub(crate) tag: &'a [u8],
    pub(crate) answers: &'a mut Answers,
    pub(crate) shared: &'a Arc<Shared>,
}

impl Asked<'_> {
    /// The same once more, for as long as the other is not used.
    pub(crate) const fn again(&mut self) -> Asked<'_> {
        Asked { tag: self.tag, answers: self.answers, shared: self.shared }
    }

    /// Tidies up after a handler that panicked: forgets what it left unfinished, and tells an asker who knows nothing
    /// yet, because no more answers were made than `made`.
    pub(crate) fn recover(self, made: u64) {
        self.answers.recover();
        if self.answers.made() == made {
            drop(self.later()); // says that the handler ended without an answer
        }
    }

    /// The way to answer later, from wherever.
    pub(crate) fn later(self) -> Responder {
        self.answers.made += 1;
        self.answers.count();
        let (name, id) = split(self.tag);
        Responder::new(self.shared, name, id)
    }

    #[inline]
    pub(crate) fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<(), AnswerError> {
        if self.shared.has_queued() {
            return self.later().answer(value);
        }
        let Some(body_at) = self.answers.begin(Kind::Json, self.tag) else {
            return self.later().answer(value);
        };
        let out = &mut self.answers.bytes;
        out.extend_from_slice(b"[null,");
        let written = serde_json::to_writer(&mut *out, value);
        out.push(b']');
        // Or the value has itself sent something while it was written.
        if written.is_err() || self.shared.has_queued() || !self.answers.complete(body_at) {
            self.answers.recover();
            return self.later().answer(value); // which also knows how to tell what is wrong
        }
        Ok(())
    }

    pub(crate) fn raw(self, body: Bytes) -> Result<(), AnswerError> {
        if body.len() >= Outbox::LARGE || self.shared.has_queued() {
            return self.later().answer_raw(body);
        }
        let Some(body_at) = self.answers.begin(Kind::Raw, self.tag) else {
            return self.later().answer_raw(body);
        };
        self.answers.bytes.extend_from_slice(&body);
        if !self.answers.complete(body_at) {
            self.answers.recover();
            return self.later().answer_raw(body);
        }
        Ok(())
    }
}

/// `<name>:<id>` in two.
fn split(tag: &[u8]) -> (&str, &str) {
    let tag = std::str::from_utf8(tag).unwrap_or_default();
    tag.rsplit_once(':').unwrap_or_default()
}
