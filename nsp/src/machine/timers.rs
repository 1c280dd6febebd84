//! Deadlines, in order.

use std::collections::VecDeque;
use std::time::Instant;

/// What is due when. Whoever sets a deadline keeps its time, and takes it out by both.
///
/// What is due at the same time comes in the order of the keys. Nearly all deadlines of a connection are set with the same delay, so each comes behind all others, and is taken out long before it is due. So this is a
/// queue: one that comes earlier is moved to its place, and one that is taken out leaves a gap, which is closed when it comes to the front, or
/// when there are more gaps than deadlines.
#[derive(Debug)]
pub(super) struct Timers<K> {
    due: VecDeque<(Instant, Option<K>)>,
    gaps: usize,
}

/// Gaps that are let be, however few deadlines there are.
const GAPS: usize = 32;

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { due: VecDeque::new(), gaps: 0 }
    }
}

impl<K: Ord + Copy> Timers<K> {
    pub(super) fn set(&mut self, at: Instant, key: K) {
        match self.due.back() {
            Some(last) if *last > (at, Some(key)) => {
                let from = self.due.partition_point(|(other, _)| *other < at);
                let of_then = self.due.iter().skip(from).take_while(|(other, _)| *other == at);
                // Gaps stand anywhere among them.
                let before = of_then.take_while(|(_, other)| other.is_none_or(|other| other < key)).count();
                self.due.insert(from + before, (at, Some(key)));
            }
            _ => self.due.push_back((at, Some(key))),
        }
    }

    pub(super) fn clear(&mut self, at: Instant, key: K) {
        let from = self.due.partition_point(|(other, _)| *other < at);
        let of_then = self.due.iter_mut().skip(from).take_while(|(other, _)| *other == at);
        for (_, place) in of_then {
            if *place == Some(key) {
                *place = None;
                self.gaps += 1;
                break;
            }
        }
        self.close_gaps();
    }

    /// Gives back memory that an empty set still has.
    pub(super) fn shrink(&mut self) {
        self.due.retain(|(_, key)| key.is_some());
        self.gaps = 0;
        self.due.shrink_to_fit();
    }

    /// The time of the next one.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.front().map(|(at, _)| *at)
    }

    /// Takes out one that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<K> {
        let &(at, key) = self.due.front()?;
        if at > now {
            return None;
        }
        self.due.pop_front();
        self.close_gaps();
        key
    }

    /// Neither the front nor the back is ever a gap.
    fn close_gaps(&mut self) {
        while matches!(self.due.back(), Some((_, None))) {
            self.due.pop_back();
            self.gaps -= 1;
        }
        while matches!(self.due.front(), Some((_, None))) {
            self.due.pop_front();
            self.gaps -= 1;
        }
        if self.gaps > GAPS && self.gaps > self.due.len() / 2 {
            self.due.retain(|(_, key)| key.is_some());
            self.gaps = 0;
        }
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

    #[test]
    fn those_of_the_same_time_come_in_the_order_of_their_keys() {
        let at = epoch();
        let mut timers = Timers::default();
        for key in [5, 7, 1, 6, 3] {
            timers.set(at, key);
        }
        timers.clear(at, 6);
        timers.clear(at, 7);
        timers.set(at, 4);
        timers.set(at + Duration::from_secs(1), 0);
        timers.set(at, 8);
        let due: Vec<_> = std::iter::from_fn(|| timers.pop(at)).collect();
        assert_eq!(due, [1, 3, 4, 5, 8]);
    }

    #[test]
    fn one_of_several_at_the_same_time_is_taken_out() {
        let at = epoch();
        let mut timers = Timers::default();
        for key in 0..4 {
            timers.set(at, key);
        }
        timers.clear(at, 2);
        timers.clear(at, 2);
        timers.clear(at, 9);
        let left: Vec<_> = std::iter::from_fn(|| timers.pop(at)).collect();
        assert_eq!(left, [0, 1, 3]);
    }

    #[test]
    fn gaps_behind_a_long_one_do_not_pile_up() {
        let start = epoch();
        let mut timers = Timers::default();
        timers.set(start, 0);
        for key in 1..100_000 {
            let at = start + Duration::from_millis(key);
            timers.set(at, key);
            timers.clear(at, key);
            assert!(timers.due.len() <= GAPS + 2);
        }
        assert_eq!(timers.next(), Some(start));
        timers.clear(start, 0);
        assert_eq!((timers.next(), timers.due.len()), (None, 0));
    }
}
