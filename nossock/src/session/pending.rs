use std::time::{Duration, Instant};

use bytes::Bytes;

use super::reject::{Outcome, Reject};
use crate::wire::Body;

/// Requests of ours that wait for an answer.
///
/// A slab: a slot is taken by a request and freed by whatever ends it first, an answer, its deadline, its caller
/// going away, or the connection. The slot's number and a counter make the id, so an answer that comes late finds
/// another counter there and is dropped. `W` is what the owner wants back to wake whoever waits.
#[derive(Debug)]
pub struct Pending<W> {
    slots: Vec<Slot<W>>,
    free: Vec<u16>,
    sequence: u64,
    /// Requests whose time has not begun to run; see [`Due::After`].
    unstamped: Vec<RequestId>,
    /// No deadline is earlier than this. Answers do not touch it, so a timer set to it fires about once per
    /// timeout however many requests come and go.
    earliest: Option<Instant>,
}

#[derive(Debug)]
struct Slot<W> {
    sequence: u64,
    state: State<W>,
}

#[derive(Debug)]
enum State<W> {
    Free,
    Waiting { due: Due, waker: Option<W> },
    Done(Answer),
}

/// When a request has to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a time is absolute or relative")]
pub enum Due {
    /// At this time.
    At(Instant),
    /// So long after the next [`stamp`](Pending::stamp). Whoever asks need not read the clock then; the driver, which
    /// is woken to write the request, reads it once for all of them.
    After(Duration),
}

/// What a request ended with.
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer {
    /// The peer's reply, with its value or error.
    Reply(Reply),
    /// Its deadline passed.
    TimedOut,
    /// The connection ended; the session knows why.
    Closed,
}

/// A reply as it came.
#[derive(Debug)]
pub struct Reply(pub(crate) serde_json::Result<Outcome>);

impl Reply {
    /// The value, or the error that the peer's handler chose.
    ///
    /// # Errors
    /// When it is no `[error, value]`.
    pub fn read(self) -> serde_json::Result<Result<Body, Reject>> {
        Ok(match self.0? {
            Outcome::Short(short) => Ok(Body::Json(Bytes::copy_from_slice(short.as_slice()))),
            Outcome::Json(bytes) => Ok(Body::Json(bytes)),
            Outcome::Raw(bytes) => Ok(Body::Raw(bytes)),
            Outcome::Rejected(reject) => Err(reject),
        })
    }
}

/// Names a request of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    sequence: u64,
    index: u16,
}

impl RequestId {
    /// The id on the wire: hexadecimal, at most 16 letters.
    #[must_use]
    pub fn text(self) -> IdText {
        let mut number = (self.sequence << 16) | u64::from(self.index);
        let mut text = IdText { digits: [b'0'; 16], start: 16 };
        for (at, digit) in text.digits.iter_mut().enumerate().rev() {
            *digit = *b"0123456789abcdef".get((number & 15) as usize).expect("four bits name one of sixteen");
            number >>= 4;
            text.start = at;
            if number == 0 {
                break;
            }
        }
        text
    }

    fn parse(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > 16 {
            return None;
        }
        let mut number = 0_u64;
        for byte in text {
            number = number << 4 | u64::from(char::from(*byte).to_digit(16)?);
        }
        Some(Self { sequence: number >> 16, index: u16::try_from(number & 0xffff).ok()? })
    }
}

/// The text of a [`RequestId`].
#[derive(Debug, Clone, Copy)]
pub struct IdText {
    digits: [u8; 16],
    start: usize,
}

impl IdText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.digits.get(self.start..).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default()
    }
}

impl<W> Default for Pending<W> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), sequence: 0, unstamped: Vec::new(), earliest: None }
    }
}

impl<W> Pending<W> {
    /// Requests that hold a slot.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether no request holds a slot.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a slot; `None` when 65,536 are taken.
    pub fn insert(&mut self, due: Due, waker: Option<W>) -> Option<RequestId> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u16::try_from(self.slots.len()).ok()?;
                self.slots.push(Slot { sequence: 0, state: State::Free });
                index
            }
        };
        self.sequence = (self.sequence + 1) & 0xffff_ffff_ffff;
        let slot = self.slots.get_mut(usize::from(index))?;
        *slot = Slot { sequence: self.sequence, state: State::Waiting { due, waker } };
        let id = RequestId { sequence: self.sequence, index };
        match due {
            Due::At(deadline) => self.earliest = earlier(self.earliest, deadline),
            Due::After(_) => self.unstamped.push(id),
        }
        Some(id)
    }

    /// Whether the time of some request has not begun to run.
    #[must_use]
    pub const fn wants_stamp(&self) -> bool {
        !self.unstamped.is_empty()
    }

    /// Lets the time of every request run from now on.
    pub fn stamp(&mut self, now: Instant) {
        while let Some(id) = self.unstamped.pop() {
            let Some(slot) = self.slot(id) else { continue };
            let State::Waiting { due: due @ Due::After(_), .. } = &mut slot.state else { continue };
            let Due::After(time) = *due else { continue };
            let deadline = now + time;
            *due = Due::At(deadline);
            self.earliest = earlier(self.earliest, deadline);
        }
    }

    fn slot(&mut self, id: RequestId) -> Option<&mut Slot<W>> {
        self.slots.get_mut(usize::from(id.index)).filter(|slot| slot.sequence == id.sequence)
    }

    /// Whether an answer with this id is waited for.
    pub fn waits(&mut self, id: &[u8]) -> Option<RequestId> {
        let id = RequestId::parse(id)?;
        let slot = self.slot(id)?;
        matches!(slot.state, State::Waiting { .. }).then_some(id)
    }

    /// Ends a request; gives whom to wake.
    pub fn finish(&mut self, id: RequestId, answer: Answer) -> Option<W> {
        let slot = self.slot(id)?;
        match std::mem::replace(&mut slot.state, State::Done(answer)) {
            State::Waiting { waker, .. } => waker,
            other => {
                slot.state = other;
                None
            }
        }
    }

    /// Takes the answer of a request that has one, and frees its slot; notes the waker of one that has none.
    pub fn poll(&mut self, id: RequestId, waker: impl FnOnce(Option<W>) -> W) -> Option<Answer> {
        let slot = self.slot(id)?;
        match std::mem::replace(&mut slot.state, State::Free) {
            State::Waiting { due, waker: old } => {
                slot.state = State::Waiting { due, waker: Some(waker(old)) };
                None
            }
            State::Done(answer) => {
                self.release(id);
                Some(answer)
            }
            State::Free => None,
        }
    }

    /// Frees the slot of a request whose caller went away; says whether the peer may still be working on it.
    pub fn abandon(&mut self, id: RequestId) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        let waited = matches!(slot.state, State::Waiting { .. });
        if !matches!(slot.state, State::Free) {
            self.release(id);
        }
        waited
    }

    fn release(&mut self, id: RequestId) {
        if let Some(slot) = self.slot(id) {
            *slot = Slot { sequence: 0, state: State::Free };
            self.free.push(id.index);
        }
    }

    /// When to call [`expire`](Self::expire) next, at the earliest.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    /// Ends the requests whose time is over; gives whom to wake.
    pub fn expire(&mut self, now: Instant) -> Vec<W> {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return Vec::new();
        }
        self.earliest = None;
        let mut wakers = Vec::new();
        for slot in &mut self.slots {
            match &mut slot.state {
                State::Waiting { due: Due::At(deadline), waker } if *deadline <= now => {
                    wakers.extend(waker.take());
                    slot.state = State::Done(Answer::TimedOut);
                }
                State::Waiting { due: Due::At(deadline), .. } => {
                    self.earliest = earlier(self.earliest, *deadline);
                }
                State::Free | State::Waiting { .. } | State::Done(_) => {}
            }
        }
        wakers
    }

    /// Ends all requests because the connection ended; gives whom to wake.
    pub fn close(&mut self) -> Vec<W> {
        self.earliest = None;
        let mut wakers = Vec::new();
        for slot in &mut self.slots {
            if let State::Waiting { waker, .. } = &mut slot.state {
                wakers.extend(waker.take());
                slot.state = State::Done(Answer::Closed);
            }
        }
        wakers
    }
}

fn earlier(earliest: Option<Instant>, deadline: Instant) -> Option<Instant> {
    Some(earliest.map_or(deadline, |earliest| earliest.min(deadline)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reply() -> Answer {
        Answer::Reply(Reply(Ok(Outcome::Raw(bytes::Bytes::new()))))
    }

    #[test]
    fn late_reply_does_not_reach_the_next_request_in_the_slot() {
        let now = Instant::now();
        let mut pending = Pending::<u32>::default();
        let first = pending.insert(Due::At(now), None).unwrap();
        let text = first.text();
        assert!(pending.abandon(first));
        let second = pending.insert(Due::At(now), None).unwrap();
        assert_eq!(first.index, second.index);
        assert_eq!(pending.waits(text.as_str().as_bytes()), None);
        assert_eq!(pending.waits(second.text().as_str().as_bytes()), Some(second));
        pending.finish(second, reply());
        assert_eq!(
            pending.waits(second.text().as_str().as_bytes()),
            None,
            "the second answer to one request is dropped"
        );
        assert!(matches!(pending.poll(second, |_| 1), Some(Answer::Reply(_))));
        assert!(pending.is_empty());
    }

    #[test]
    fn deadline_ends_only_what_is_due() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut pending = Pending::<u32>::default();
        let early = pending.insert(Due::At(at(1)), None).unwrap();
        let late = pending.insert(Due::At(at(5)), None).unwrap();
        assert!(pending.poll(early, |_| 1).is_none());
        assert!(pending.poll(late, |_| 2).is_none());
        assert!(pending.expire(at(0)).is_empty());
        assert_eq!(pending.expire(at(1)), [1]);
        assert!(matches!(pending.poll(early, |_| 1), Some(Answer::TimedOut)));
        assert_eq!(pending.next_deadline(), Some(at(5)));
        assert_eq!(pending.close(), [2]);
        assert!(matches!(pending.poll(late, |_| 1), Some(Answer::Closed)));
        assert!(pending.is_empty());
    }

    #[test]
    fn time_of_a_request_runs_from_its_stamp() {
        let start = Instant::now();
        let mut pending = Pending::<u32>::default();
        let id = pending.insert(Due::After(Duration::from_secs(5)), Some(7)).unwrap();
        assert!(pending.wants_stamp() && pending.next_deadline().is_none());
        pending.stamp(start);
        assert_eq!(pending.next_deadline(), Some(start + Duration::from_secs(5)));
        assert_eq!(pending.expire(start + Duration::from_secs(5)), [7]);
        assert!(matches!(pending.poll(id, |_| 1), Some(Answer::TimedOut)));
    }

    #[test]
    fn ids_are_words_and_come_back() {
        let mut pending = Pending::<u32>::default();
        for _ in 0..70_000 {
            let id = pending.insert(Due::After(Duration::ZERO), None).unwrap();
            let text = id.text();
            assert!(text.as_str().bytes().all(|b| b.is_ascii_alphanumeric()));
            assert_eq!(RequestId::parse(text.as_str().as_bytes()), Some(id));
            pending.abandon(id);
            pending.stamp(Instant::now());
        }
        for odd in ["", "-1", "xyz", "fffffffffffffffff", "_"] {
            assert_eq!(pending.waits(odd.as_bytes()), None, "{odd}");
        }
    }
}
