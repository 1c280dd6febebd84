use std::task::Waker;

use super::outcome::Outcome;
use crate::machine::client::{CallError, CallKey};
use crate::machine::numbered::NumberMap;

/// Where the answers to calls will be, from their beginning until whoever waits takes them.
///
/// The keys of calls are those of a slab, and so is this: a call's place here is the one that it has there. Only a place may be taken there again while an
/// answer still lies here; then, and for keys that are of no slab, there is a map.
#[derive(Debug, Default)]
pub(super) struct Slots {
    places: Vec<Place>,
    elsewhere: NumberMap<CallKey, Slot>,
    /// Places that are not free.
    taken: usize,
}

#[derive(Debug)]
struct Place {
    /// Of whoever has it or had it last.
    call: CallKey,
    slot: Slot,
}

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Free,
    Waiting(Option<Waker>),
    Done(Result<Outcome, CallError>),
}

/// Places that are kept while nothing waits: enough for what a task or two have under way.
const KEEP: usize = 4;

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.taken + self.elsewhere.len()
    }

    /// A call has begun.
    #[inline]
    pub(super) fn begin(&mut self, call: CallKey, waker: Option<Waker>) {
        let slot = Slot::Waiting(waker);
        match call.place() {
            Some(index) if index < self.places.len() => match self.places.get_mut(index) {
                Some(place) if place.slot.is_free() => {
                    *place = Place { call, slot };
                    self.taken += 1;
                }
                _ => drop(self.elsewhere.insert(call, slot)),
            },
            Some(index) if index == self.places.len() => {
                if index == 0 {
                    self.places.reserve_exact(1); // most have one call at a time
                }
                self.places.push(Place { call, slot });
                self.taken += 1;
            }
            _ => drop(self.elsewhere.insert(call, slot)),
        }
    }

    /// What came of a call; gives whom to wake.
    #[inline]
    pub(super) fn finish(&mut self, call: CallKey, result: Result<Outcome, CallError>) -> Option<Waker> {
        let slot = match self.place(call) {
            Some(place) => &mut place.slot,
            None => self.elsewhere.get_mut(&call)?,
        };
        let Slot::Waiting(waker) = slot else { return None };
        let waker = waker.take();
        *slot = Slot::Done(result);
        waker
    }

    /// Takes what came of a call; wakes later if nothing has.
    #[inline]
    pub(super) fn poll(&mut self, call: CallKey, waker: &Waker) -> Option<Result<Outcome, CallError>> {
        let slot = match self.place(call) {
            Some(place) => &mut place.slot,
            None => match self.elsewhere.get_mut(&call) {
                Some(slot) => slot,
                None => return Some(Err(CallError::Disconnected)),
            },
        };
        if let Slot::Waiting(waiting) = slot {
            if !waiting.as_ref().is_some_and(|waiting| waiting.will_wake(waker)) {
                *waiting = Some(waker.clone());
            }
            return None;
        }
        match self.remove(call) {
            Slot::Done(result) => Some(result),
            _ => None,
        }
    }

    /// Nobody waits for a call any more; says whether it was still to be answered.
    pub(super) fn give_up(&mut self, call: CallKey) -> bool {
        matches!(self.remove(call), Slot::Waiting(_))
    }

    /// Gives back the memory of many, once there are none.
    pub(super) fn shrink(&mut self) {
        if self.taken == 0 && self.places.len() > KEEP {
            self.places = Vec::new();
        }
        if self.elsewhere.is_empty() {
            self.elsewhere = NumberMap::default();
        }
    }

    #[inline]
    fn place(&mut self, call: CallKey) -> Option<&mut Place> {
        let place = self.places.get_mut(call.place()?)?;
        (place.call == call && !place.slot.is_free()).then_some(place)
    }

    #[inline]
    fn remove(&mut self, call: CallKey) -> Slot {
        match self.place(call) {
            Some(place) => {
                let slot = std::mem::take(&mut place.slot);
                self.taken -= 1;
                slot
            }
            None => self.elsewhere.remove(&call).unwrap_or_default(),
        }
    }
}

impl Slot {
    const fn is_free(&self) -> bool {
        matches!(self, Self::Free)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::machine::client::Reply;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The key of a call that has taken a place for the `times`th time.
    const fn call(place: u64, times: u64) -> CallKey {
        CallKey(times << 16 | place)
    }

    fn answer(call: CallKey) -> Result<Outcome, CallError> {
        let meta = Some(crate::proto::RawJson::of(&call.0).unwrap());
        Ok(Outcome::Reply(Reply { meta, ..Reply::default() }))
    }

    fn is_answer(found: Option<Result<Outcome, CallError>>, call: CallKey) -> bool {
        let expected = answer(call).and_then(|outcome| outcome.into_reply().map_err(|_| CallError::Closed));
        matches!(found, Some(Ok(Outcome::Reply(reply))) if Ok(&reply) == expected.as_ref())
    }

    #[test]
    fn each_finds_its_own_answer_whoever_had_the_place_before() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut slots = Slots::default();
        let token = CallKey(1 << 63 | 1);
        // The places are taken again while what was answered there has not been taken, and some are not reached in order.
        let calls = [call(0, 1), call(1, 1), call(0, 2), call(1, 2), call(0, 3), call(7, 1), token];
        for (at, key) in calls.iter().enumerate() {
            slots.begin(*key, None);
            assert_eq!(slots.len(), at + 1);
            assert!(slots.poll(*key, &waker).is_none());
            assert!(slots.finish(*key, answer(*key)).is_some_and(|woken| woken.will_wake(&waker)));
            assert!(slots.finish(*key, Err(CallError::Timeout)).is_none());
        }
        for key in calls.iter().rev() {
            assert!(is_answer(slots.poll(*key, &waker), *key));
            assert!(matches!(slots.poll(*key, &waker), Some(Err(CallError::Disconnected))));
        }
        assert_eq!(slots.len(), 0);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_was_given_up_is_gone_and_its_place_is_free() {
        let mut slots = Slots::default();
        for times in 1..10 {
            slots.begin(call(0, times), None);
            assert!(slots.give_up(call(0, times)) && !slots.give_up(call(0, times)));
            assert!(slots.finish(call(0, times), answer(call(0, times))).is_none());
        }
        slots.begin(call(0, 10), None);
        slots.finish(call(0, 10), answer(call(0, 10)));
        assert!(!slots.give_up(call(0, 10)));
        assert_eq!((slots.len(), slots.places.len(), slots.elsewhere.len()), (0, 1, 0));
    }

    #[test]
    fn memory_of_many_is_given_back() {
        let mut slots = Slots::default();
        slots.begin(call(0, 1), None);
        assert_eq!(slots.places.capacity(), 1);
        for place in 1..1000 {
            slots.begin(call(place, 1), None);
        }
        slots.shrink();
        assert_eq!(slots.len(), 1000);
        for place in 0..1000 {
            assert!(slots.give_up(call(place, 1)));
        }
        slots.shrink();
        assert_eq!((slots.places.capacity(), slots.elsewhere.capacity()), (0, 0));
    }
}
