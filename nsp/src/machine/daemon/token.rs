//! Requests for tokens: they carry no id, so their answers have to leave in the order in which they came.

use std::collections::VecDeque;
use std::time::Instant;

use super::RequestKey;
use crate::proto::gt;
use crate::secret::Token;

/// The requests of one client, oldest first.
#[derive(Debug, Default)]
pub(super) struct TokenQueue {
    requests: VecDeque<Waiting>,
    /// Bytes of the names in them: each is answered with its own.
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    /// `None` when nobody works on it any more: it waits only for its turn.
    key: Option<(RequestKey, Instant)>,
    /// `None` where too many wait for their names to be kept.
    user: Option<String>,
    answer: Option<Option<Token>>,
}

impl TokenQueue {
    /// How many have not left yet.
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Bytes that they keep.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, key: RequestKey, until: Instant, user: String) {
        self.bytes += user.len();
        self.requests.push_back(Waiting { key: Some((key, until)), user: Some(user), answer: None });
    }

    /// Refuses a request in its turn.
    pub(super) fn push_refused(&mut self, user: Option<String>) {
        self.bytes += user.as_ref().map_or(0, String::len);
        self.requests.push_back(Waiting { key: None, user, answer: Some(None) });
    }

    /// Answers a request; its deadline comes back, once.
    pub(super) fn answer(&mut self, key: RequestKey, token: Option<Token>) -> Option<Instant> {
        let is_it = |waiting: &&mut Waiting| waiting.key.is_some_and(|(one, _)| one == key);
        let waiting = self.requests.iter_mut().find(is_it)?;
        let (_, until) = waiting.key.take()?;
        waiting.answer = Some(token);
        Some(until)
    }

    /// The next answer that may leave.
    pub(super) fn next_answer(&mut self) -> Option<gt::Answer> {
        self.requests.front()?.answer.as_ref()?;
        let Waiting { user, answer, .. } = self.requests.pop_front()?;
        self.bytes -= user.as_ref().map_or(0, String::len);
        Some(gt::Answer { user, token: answer.flatten() })
    }

    pub(super) fn drain(&mut self) -> Vec<RequestKey> {
        self.bytes = 0;
        self.requests.drain(..).filter_map(|waiting| waiting.key.map(|(key, _)| key)).collect()
    }
}
