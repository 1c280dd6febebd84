//! Requests for tokens, which carry no id: one is out at a time, and answers belong to them in order.

use std::collections::VecDeque;
use std::time::Instant;

use super::CallKey;
use crate::proto::{Packet, gt};

/// The requests of one client, oldest first.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    requests: VecDeque<TokenRequest>,
}

#[derive(Debug)]
struct TokenRequest {
    call: CallKey,
    request: gt::Request,
    stage: Stage,
    until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Queued,
    Sent,
    /// It was sent and nobody waits any more; it stays, for its answer may still come.
    GivenUp,
}

impl Tokens {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn push(&mut self, call: CallKey, request: gt::Request, until: Instant) {
        self.requests.push_back(TokenRequest { call, request, stage: Stage::Queued, until });
    }

    /// The packet that may go out now, if one may.
    pub(super) fn send_next(&mut self) -> Option<Packet> {
        if self.requests.iter().any(|request| request.stage == Stage::Sent) {
            return None;
        }
        let next = self.requests.iter_mut().find(|request| request.stage == Stage::Queued)?;
        next.stage = Stage::Sent;
        Some(next.request.encode())
    }

    /// Nobody waits for this one any more. Its deadline comes back if it had not ended before.
    pub(super) fn give_up(&mut self, call: CallKey) -> Option<Instant> {
        let at = self.requests.iter().position(|request| request.call == call)?;
        let request = self.requests.get_mut(at)?;
        let until = request.until;
        match request.stage {
            Stage::Queued => {
                self.requests.remove(at);
            }
            Stage::Sent => request.stage = Stage::GivenUp,
            Stage::GivenUp => return None,
        }
        Some(until)
    }

    /// Whose answer this is: `None` when nobody's, `Some(None)` when somebody's who does not wait any more.
    pub(super) fn answered(&mut self, answer: &gt::Answer) -> Option<Option<(CallKey, Instant)>> {
        let is_for = |request: &TokenRequest| {
            let same_user = answer.user.as_ref().is_none_or(|user| *user == request.request.user);
            request.stage != Stage::Queued && same_user
        };
        let at = self.requests.iter().position(is_for)?;
        // Answers come in order, so what was asked before this one is not answered any more.
        let answered = self.requests.drain(..=at).next_back()?;
        Some((answered.stage == Stage::Sent).then_some((answered.call, answered.until)))
    }

    /// Those for which somebody still waits, all taken out.
    pub(super) fn drain(&mut self) -> Vec<CallKey> {
        self.requests
            .drain(..)
            .filter(|request| request.stage != Stage::GivenUp)
            .map(|request| request.call)
            .collect()
    }
}
