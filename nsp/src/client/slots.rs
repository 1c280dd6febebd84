use std::task::{Poll, Waker};

use bytes::Bytes;

use super::outcome::{Outcome, Short};
use crate::machine::client::{CallError, CallKey};
use crate::machine::numbered::NumberMap;

/// Where the answers to calls will be, from their beginning until whoever waits takes them.
///
/// The keys of calls are those of a slab, and so is this: a call's place here is the one that it has there. Only a place may be taken there again while an
/// answer still lies here; then, and for keys that are of no slab, there is a map.
#[derive(Debug, Default)]
pub(super) struct Slots {
    places: Vec<Slot>,
    elsewhere: NumberMap<CallKey, Slot>,
    /// Places that are not free.
    taken: usize,
}

#[derive(Debug)]
struct Slot {
    /// Of whoever has it or had it last.
    call: CallKey,
    state: State,
    waker: Option<Waker>,
    /// The answer, if it is short: most are, and then nothing large is moved.
    short: Short,
    /// Boxed: rare, and a slot is looked at as a whole.
    other: Option<Box<Result<Outcome, CallError>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Waiting,
    /// The answer is in `short`.
    Short,
    /// The answer is in `other`.
    Other,
}

/// An answer as it is taken out of its slot.
#[derive(Debug)]
pub(super) enum Taken {
    /// It is in the place that was given for it.
    Short,
    Other(Box<Result<Outcome, CallError>>),
}

/// Places that are kept while nothing waits: enough for what a task or two have under way.
const KEEP: usize = 4;

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.taken + self.elsewhere.len()
    }

    /// A call has begun.
    #[inline(always)]
    pub(super) fn begin(&mut self, call: CallKey, waker: Option<Waker>) {
        let (index, places) = (call.place(), self.places.len());
        match index.and_then(|index| self.places.get_mut(index)) {
            Some(slot) if slot.state == State::Free => {
                (slot.call, slot.state, slot.waker) = (call, State::Waiting, waker);
            }
            None if index == Some(places) => {
                if places == 0 {
                    self.places.reserve_exact(1); // most have one call at a time
                }
                self.places.push(Slot::new(call, waker));
            }
            _ => {
                self.elsewhere.insert(call, Slot::new(call, waker));
                return;
            }
        }
        self.taken += 1;
    }

    /// What a function has returned: the text of one value, or nothing; gives whom to wake.
    #[inline(always)]
    pub(super) fn returned(&mut self, call: CallKey, text: Option<&[u8]>) -> Option<Waker> {
        let slot = self.waiting(call)?;
        if slot.short.set(text) {
            slot.state = State::Short;
            return slot.waker.take();
        }
        let text = text.map(Bytes::copy_from_slice).unwrap_or_default();
        self.finish(call, Ok(Outcome::Unread(text)))
    }

    /// What came of a call; gives whom to wake.
    pub(super) fn finish(&mut self, call: CallKey, result: Result<Outcome, CallError>) -> Option<Waker> {
        let slot = self.waiting(call)?;
        (slot.state, slot.other) = (State::Other, Some(Box::new(result)));
        slot.waker.take()
    }

    /// Takes what came of a call, with a place for what is short; wakes later if nothing has come.
    #[inline]
    pub(super) fn poll(&mut self, call: CallKey, waker: &Waker, short: &mut Short) -> Poll<Taken> {
        let place = call.place().and_then(|index| self.places.get_mut(index));
        if let Some(slot) = place.filter(|slot| slot.call == call && slot.state == State::Short) {
            *short = slot.short;
            slot.state = State::Free;
            self.taken -= 1;
            return Poll::Ready(Taken::Short);
        }
        self.poll_other(call, waker, short)
    }

    fn poll_other(&mut self, call: CallKey, waker: &Waker, short: &mut Short) -> Poll<Taken> {
        let Some(slot) = self.slot(call) else {
            return Poll::Ready(Taken::Other(Box::new(Err(CallError::Disconnected))));
        };
        let taken = match slot.state {
            State::Short => {
                *short = slot.short;
                Taken::Short
            }
            State::Other => {
                Taken::Other(slot.other.take().unwrap_or_else(|| Box::new(Err(CallError::Disconnected))))
            }
            State::Waiting | State::Free => {
                if !slot.waker.as_ref().is_some_and(|waiting| waiting.will_wake(waker)) {
                    slot.waker = Some(waker.clone());
                }
                return Poll::Pending;
            }
        };
        self.free(call);
        Poll::Ready(taken)
    }

    /// Nobody waits for a call any more; says whether it was still to be answered.
    pub(super) fn give_up(&mut self, call: CallKey) -> bool {
        let Some(slot) = self.slot(call) else { return false };
        let waited = slot.state == State::Waiting;
        (slot.waker, slot.other) = (None, None);
        self.free(call);
        waited
    }

    /// Gives back the memory of many, once there are none.
    pub(super) fn shrink(&mut self) {
        if self.taken == 0 && self.places.len() > KEEP {
            self.places = Vec::new();
        }
        if self.elsewhere.is_empty() && self.elsewhere.capacity() > 0 {
            self.elsewhere = NumberMap::default();
        }
    }

    #[inline]
    fn slot(&mut self, call: CallKey) -> Option<&mut Slot> {
        let place = call.place().and_then(|index| self.places.get_mut(index));
        match place.filter(|slot| slot.call == call && slot.state != State::Free) {
            Some(slot) => Some(slot),
            None => self.elsewhere.get_mut(&call),
        }
    }

    #[inline]
    fn waiting(&mut self, call: CallKey) -> Option<&mut Slot> {
        self.slot(call).filter(|slot| slot.state == State::Waiting)
    }

    /// The slot of a call, from which everything has been taken, is not its own any more.
    fn free(&mut self, call: CallKey) {
        let place = call.place().and_then(|index| self.places.get_mut(index));
        match place.filter(|slot| slot.call == call && slot.state != State::Free) {
            Some(slot) => {
                slot.state = State::Free;
                self.taken -= 1;
            }
            None => drop(self.elsewhere.remove(&call)),
        }
    }
}

impl Slot {
    fn new(call: CallKey, waker: Option<Waker>) -> Self {
        Self { call, state: State::Waiting, waker, short: Short::default(), other: None }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;
    use crate::machine::client::Reply;
    use crate::proto::{Data, RawJson};

    struct Nobody;

    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }

    /// The key of a call that has taken a place for the `times`th time.
    const fn call(place: u64, times: u64) -> CallKey {
        CallKey(times << 16 | place)
    }

    /// Takes an answer, if there is one.
    fn take(slots: &mut Slots, call: CallKey, waker: &Waker) -> Option<Result<Outcome, CallError>> {
        let mut short = Short::default();
        match slots.poll(call, waker, &mut short) {
            Poll::Ready(Taken::Short) => Some(Ok(short.into())),
            Poll::Ready(Taken::Other(result)) => Some(*result),
            Poll::Pending => None,
        }
    }

    #[test]
    fn each_finds_its_own_answer_whoever_had_the_place_before() {
        let waker = Waker::from(Arc::new(Nobody));
        let mut slots = Slots::default();
        let token = CallKey(1 << 63 | 1);
        // Places are taken again while what was answered there has not been taken, and some are not reached in order.
        let calls = [call(0, 1), call(1, 1), call(0, 2), call(1, 2), call(0, 3), call(7, 1), token];
        let text = |call: CallKey, at: usize| format!("{}{}", call.0, "0".repeat(30 * (at % 3)));
        for (at, key) in calls.iter().enumerate() {
            slots.begin(*key, None);
            assert_eq!(slots.len(), at + 1);
            assert!(take(&mut slots, *key, &waker).is_none());
            let woken = if at % 2 == 0 {
                slots.returned(*key, Some(text(*key, at).as_bytes()))
            } else {
                let data = RawJson::new(text(*key, at)).unwrap().into();
                slots.finish(*key, Ok(Outcome::Reply(Reply { meta: None, data })))
            };
            assert!(woken.is_some_and(|woken| woken.will_wake(&waker)));
            assert!(slots.finish(*key, Err(CallError::Timeout)).is_none());
            assert!(slots.returned(*key, None).is_none());
        }
        for (at, key) in calls.iter().enumerate().rev() {
            let reply = take(&mut slots, *key, &waker).unwrap().unwrap().into_reply().unwrap();
            assert_eq!(reply.data, Data::from(RawJson::new(text(*key, at)).unwrap()));
            assert!(matches!(take(&mut slots, *key, &waker), Some(Err(CallError::Disconnected))));
        }
        assert_eq!(slots.len(), 0);
    }

    #[test]
    fn what_was_given_up_is_gone_and_its_place_is_free() {
        let mut slots = Slots::default();
        for times in 1..10 {
            slots.begin(call(0, times), None);
            assert!(slots.give_up(call(0, times)) && !slots.give_up(call(0, times)));
            assert!(slots.returned(call(0, times), None).is_none());
        }
        slots.begin(call(0, 10), None);
        slots.finish(call(0, 10), Err(CallError::Timeout));
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
