//! Frames that come one after the other for one handler.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::answers::{Answers, Asked};
use super::extract::Incoming;
use super::shared::Shared;
use crate::router::Route;
use crate::wire::Decoder;

/// The frames that come next, as long as they are for one route.
///
/// A handler is given all of them in one call: what depends on its type is found out once then, and not for each.
pub(crate) struct Batch<'a> {
    route: &'a Route,
    decoder: &'a Decoder,
    input: &'a [u8],
    answers: &'a mut Answers,
    shared: &'a Arc<Shared>,
    /// Bytes of the frames that were given, and of the last one what follows `req:` in its name.
    taken: usize,
    tag: &'a [u8],
    /// How many answers had been made before that.
    made: u64,
    held: bool,
}

impl<'a> Batch<'a> {
    pub(crate) const fn new(
        route: &'a Route,
        decoder: &'a Decoder,
        input: &'a [u8],
        answers: &'a mut Answers,
        shared: &'a Arc<Shared>,
    ) -> Self {
        Self { route, decoder, input, answers, shared, taken: 0, tag: &[], made: 0, held: false }
    }

    /// The next message, if it is there as a whole and for this route.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<Incoming<'a>> {
        let (head, frame) = self.decoder.peek(self.input.get(self.taken..)?)?;
        self.tag = self.route.matches(frame.get(2..head.body_at() - 4)?)?;
        self.taken += frame.len();
        self.made = self.answers.made();
        Some(Incoming::new(&self.route.name, head.kind(), frame, head.body_at(), self.shared))
    }

    /// Whoever asked last.
    #[inline(always)]
    pub(crate) const fn asked(&mut self) -> Asked<'_> {
        Asked { tag: self.tag, answers: self.answers, shared: self.shared }
    }

    /// Whether so many answers wait that no more requests are handled. A few bytes may ask for a large answer: to be
    /// looked at after each.
    #[inline(always)]
    pub(crate) fn is_held_back(&mut self) -> bool {
        self.held = self.answers.len() >= self.shared.config.limits.send_queue
            || self.shared.answers_held.load(Ordering::Relaxed);
        self.held
    }

    /// Tidies up after a handler that panicked, and tells an asker who knows nothing yet.
    pub(crate) fn recover(&mut self) {
        let made = self.made;
        if self.route.is_request {
            self.asked().recover(made);
        }
    }

    /// How many bytes were taken, what follows `req:` in the last name, and whether handling is held back.
    pub(crate) const fn end(self) -> (usize, &'a [u8], bool) {
        (self.taken, self.tag, self.held)
    }
}
