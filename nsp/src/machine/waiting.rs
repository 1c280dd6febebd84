//! What waits for an answer, each until its deadline.

use std::collections::VecDeque;
use std::time::Instant;

use super::AT_REST;

/// A slab. A place is taken by what waits and freed by whatever ends it first; its number and how often it was taken make the
/// key, so whoever comes late with a key finds another one there.
///
/// Nearly everything is answered long before its deadline. So deadlines are in no order here: no one is earlier than a time that is known,
/// and when that comes all are looked at. Answers do not touch it, and a timer that is set to it fires about once for each span that
/// deadlines are away, however much comes and goes.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    places: Vec<Place<T>>,
    /// The one that was freed first is taken first: whoever looks an answer up by its place has time to do so.
    free: VecDeque<u16>,
    /// No place has been taken more often than this when it is made.
    taken: u64,
    /// How many have begun.
    begun: u64,
    earliest: Option<Instant>,
}

#[derive(Debug)]
struct Place<T> {
    /// Of what is there, or was there last.
    key: u64,
    /// What waits, until when, and how many had begun before.
    held: Option<(Instant, u64, T)>,
}

/// A place's number is in the low 16 bits of a key.
const TAKEN_ONCE: u64 = 1 << 16;

/// No key of a slab has this bit: it is set in the keys of what waits elsewhere, where both go by the same name.
pub(super) const ELSEWHERE: u64 = 1 << 63;

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        let places = Vec::with_capacity(AT_REST);
        Self { places, free: VecDeque::new(), taken: 0, begun: 0, earliest: None }
    }
}

impl<T> Waiting<T> {
    /// An empty one whose keys are none of an earlier one's.
    pub(super) fn after(earlier: &Self) -> Self {
        Self { taken: earlier.most_taken(), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a place; `None` when 65,536 are taken.
    #[inline]
    pub(super) fn begin(&mut self, until: Instant, value: T) -> Option<u64> {
        let index = match self.free.pop_front() {
            Some(index) => index,
            None => {
                let index = u16::try_from(self.places.len()).ok()?;
                self.places.push(Place { key: self.taken | u64::from(index), held: None });
                index
            }
        };
        let place = self.places.get_mut(usize::from(index))?;
        place.key += TAKEN_ONCE;
        place.held = Some((until, self.begun, value));
        self.begun += 1;
        self.earliest = Some(self.earliest.map_or(until, |earliest| earliest.min(until)));
        Some(place.key)
    }

    /// A key that nobody else gets, for what may have to wait: then it is [held](Self::hold) under it before the next one asks for anything here.
    #[inline]
    pub(super) fn reserve(&mut self) -> Option<u64> {
        let index = match self.free.front() {
            Some(index) => *index,
            None => {
                let index = u16::try_from(self.places.len()).ok()?;
                self.places.push(Place { key: self.taken | u64::from(index), held: None });
                self.free.push_back(index);
                index
            }
        };
        let place = self.places.get_mut(usize::from(index))?;
        place.key += TAKEN_ONCE;
        Some(place.key)
    }

    /// Takes the place for which a key was reserved last; says whether it still is the last.
    pub(super) fn hold(&mut self, key: u64, until: Instant, value: T) -> bool {
        let Some(place) = self.places.get_mut(index(key)) else { return false };
        let is_last = self.free.front().is_some_and(|free| usize::from(*free) == index(key));
        if place.key != key || !is_last {
            return false;
        }
        self.free.pop_front();
        place.held = Some((until, self.begun, value));
        self.begun += 1;
        self.earliest = Some(self.earliest.map_or(until, |earliest| earliest.min(until)));
        true
    }

    #[inline]
    pub(super) fn get(&self, key: u64) -> Option<&T> {
        let place = self.places.get(index(key)).filter(|place| place.key == key)?;
        place.held.as_ref().map(|(_, _, value)| value)
    }

    /// Takes out what waits under a key.
    #[inline]
    pub(super) fn remove(&mut self, key: u64) -> Option<T> {
        let place = self.places.get_mut(index(key)).filter(|place| place.key == key)?;
        let (_, _, value) = place.held.take()?;
        self.free.push_back((key & 0xffff) as u16);
        if self.is_empty() {
            self.earliest = None;
        }
        Some(value)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|place| place.held.as_ref().map(|(_, _, value)| value))
    }

    /// Takes out all of a kind.
    pub(super) fn remove_all(&mut self, of: impl Fn(&T) -> bool) -> Vec<(u64, T)> {
        let held = |place: &Place<T>| place.held.as_ref().is_some_and(|(_, _, value)| of(value));
        let keys: Vec<_> = self.places.iter().filter(|place| held(place)).map(|place| place.key).collect();
        keys.into_iter().filter_map(|key| self.remove(key).map(|value| (key, value))).collect()
    }

    /// A time before which nothing is due.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.earliest
    }

    /// The keys of what is due, the most urgent first, and of the same urgency what has begun first. Whoever asks takes them out.
    pub(super) fn due(&mut self, now: Instant) -> Vec<u64> {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return Vec::new();
        }
        let all = self
            .places
            .iter()
            .filter_map(|place| place.held.as_ref().map(|(at, begun, _)| (*at, *begun, place.key)));
        let (mut due, later): (Vec<_>, Vec<_>) = all.partition(|(at, ..)| *at <= now);
        self.earliest = later.into_iter().map(|(at, ..)| at).min();
        due.sort_unstable();
        due.into_iter().map(|(.., key)| key).collect()
    }

    /// Gives back the memory of an empty one.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() && !self.places.is_empty() {
            *self = Self::after(self);
        }
    }

    fn most_taken(&self) -> u64 {
        self.places.iter().map(|place| place.key & !0xffff).fold(self.taken, u64::max)
    }
}

/// The place that a key is of; none if what it is of waits elsewhere.
pub(super) const fn place(key: u64) -> Option<usize> {
    if key & ELSEWHERE == 0 { Some(index(key)) } else { None }
}

const fn index(key: u64) -> usize {
    (key & 0xffff) as usize
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::epoch;

    #[test]
    fn late_key_finds_nothing_in_a_place_that_was_taken_again() {
        let mut waiting = Waiting::default();
        let first = waiting.begin(epoch(), 'a').unwrap();
        assert_eq!(waiting.remove(first), Some('a'));
        let second = waiting.begin(epoch(), 'b').unwrap();
        assert_eq!(waiting.get(first), None);
        assert_eq!(waiting.remove(first), None);
        assert_eq!(waiting.get(second), Some(&'b'));
        let mut later = Waiting::after(&waiting);
        let third = later.begin(epoch(), 'c').unwrap();
        assert!(third > second && third & ELSEWHERE == 0);
        assert_eq!(waiting.remove(second), Some('b'));
        waiting.shrink();
        assert!(waiting.places.capacity() == AT_REST && waiting.begin(epoch(), 'd').unwrap() > second);
    }

    #[test]
    fn reserved_key_is_nobody_elses_whether_it_is_used_or_not() {
        let mut waiting = Waiting::default();
        let unused = waiting.reserve().unwrap();
        let held = waiting.reserve().unwrap();
        assert!(unused != held && waiting.is_empty());
        assert!(waiting.hold(held, epoch(), 'a') && !waiting.hold(held, epoch(), 'x'));
        assert_eq!((waiting.get(unused), waiting.get(held), waiting.len()), (None, Some(&'a'), 1));
        let later = waiting.reserve().unwrap();
        let begun = waiting.begin(epoch(), 'b').unwrap();
        assert!(!waiting.hold(later, epoch(), 'c')); // its place was taken meanwhile
        assert!([unused, held, begun].iter().all(|key| later != *key));
        assert_eq!((waiting.get(later), waiting.len(), waiting.next()), (None, 2, Some(epoch())));
        assert_eq!((waiting.remove(held), waiting.remove(begun)), (Some('a'), Some('b')));
    }

    #[test]
    fn what_is_due_comes_once_and_in_order_and_the_rest_later() {
        let start = epoch();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut waiting = Waiting::default();
        let keys: Vec<_> = [3, 1, 2, 9].into_iter().map(|at_| waiting.begin(at(at_), at_).unwrap()).collect();
        waiting.remove(keys[2]);
        assert_eq!(waiting.next(), Some(at(1)));
        assert!(waiting.due(start).is_empty());
        let due: Vec<_> = waiting.due(at(3)).into_iter().filter_map(|key| waiting.remove(key)).collect();
        assert_eq!(due, [1, 3]);
        assert!(waiting.due(at(3)).is_empty());
        assert_eq!(waiting.next(), Some(at(9)));
        assert_eq!(waiting.remove_all(|_| true), [(keys[3], 9)]);
        assert_eq!((waiting.next(), waiting.len()), (None, 0));
    }

    #[test]
    fn places_are_as_many_as_their_numbers() {
        let mut waiting = Waiting::default();
        for _ in 0..=u16::MAX {
            waiting.begin(epoch(), ()).unwrap();
        }
        assert_eq!(waiting.begin(epoch(), ()), None);
    }
}
