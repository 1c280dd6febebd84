//! How a connection ends whose client has ended its own access.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Driver, LAST_WORDS, Phase};
use crate::daemon::connection::EndReason;
use crate::machine::daemon::RequestKey;

impl Driver {
    /// Ends what the client may do, but for the answer to the call by which it has ended it.
    pub(super) fn revoked(&mut self, by: Option<RequestKey>) {
        let open = matches!(self.phase, Phase::Open | Phase::Draining { .. });
        let Some((last, task)) = by.filter(|_| open).and_then(|key| Some((key, self.running.remove(&key)?)))
        else {
            if !matches!(self.phase, Phase::Answering { last, .. } if by == Some(last)) {
                self.close(EndReason::Revoked);
            }
            return;
        };
        self.connection.with(|core| core.is_closing = true); // nothing is sent any more but the answer
        self.stop_calls();
        self.running.insert(last, task);
        self.phase = Phase::Answering { last, until: self.last_words() };
    }

    /// Until when the last words have to be said.
    pub(super) fn last_words(&self) -> Instant {
        let until = self.now + LAST_WORDS;
        self.shared.drain_end.get().map_or(until, |end| until.min(*end))
    }

    /// Stops all calls that wait.
    pub(super) fn stop_calls(&mut self) {
        for (_, task) in self.running.drain() {
            task.abort();
            self.shared.totals.calls_running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
