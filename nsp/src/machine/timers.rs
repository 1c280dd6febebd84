//! Deadlines, in order.

use std::collections::BTreeSet;
use std::time::Instant;

/// What is due when. Whoever sets a deadline keeps its time, and takes it out by both.
#[derive(Debug)]
pub(super) struct Timers<K> {
    due: BTreeSet<(Instant, K)>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { due: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    pub(super) fn set(&mut self, at: Instant, key: K) {
        self.due.insert((at, key));
    }

    pub(super) fn clear(&mut self, at: Instant, key: K) {
        self.due.remove(&(at, key));
    }

    /// Gives back memory that an empty set still has.
    pub(super) fn shrink(&mut self) {
        if self.due.is_empty() {
            self.due = BTreeSet::new();
        }
    }

    /// The time of the next one.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes out one that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<K> {
        let &(at, key) = self.due.first()?;
        if at > now {
            return None;
        }
        self.due.pop_first();
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::epoch;

    #[test]
    fn due_ones_come_in_order_and_once() {
        let start = epoch();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::default();
        timers.set(at(3), 'c');
        timers.set(at(1), 'a');
        timers.set(at(2), 'b');
        timers.clear(at(2), 'b');
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.pop(start), None);
        assert_eq!(timers.pop(at(3)), Some('a'));
        assert_eq!(timers.pop(at(3)), Some('c'));
        assert_eq!(timers.pop(at(3)), None);
        assert_eq!(timers.next(), None);
    }
}
