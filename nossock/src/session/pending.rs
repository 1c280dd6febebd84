use std::time::{Duration, Instant};

use bytes::Bytes;

use super::reject::{Outcome, Reject, Short};
use crate::wire::Body;

/// Requests of ours that wait for an answer.
///
/// A slab: a slot is taken by a request and freed by whatever ends it first, an answer, its deadline, its caller
/// going away, or the connection. The slot's number and how often it was taken make the id, so an answer that comes
/// late finds another id there and is dropped. `W` is what the owner wants back to wake whoever waits.
#[derive(Debug)]
pub struct Pending<W> {
    slots: Vec<Slot<W>>,
    free: Vec<u16>,
    /// Requests whose time has not begun to run; see [`Due::After`].
    unstamped: Vec<RequestId>,
    /// No deadline is earlier than this. Answers do not touch it, so a timer set to it fires about once per
    /// timeout however many requests come and go.
    earliest: Option<Instant>,
}

#[derive(Debug)]
struct Slot<W> {
    /// Of whoever has it or had it last.
    id: RequestId,
    state: State,
    due: Due,
    waker: Option<W>,
    /// The value of a short answer, in place: most are, and then nothing large is moved.
    short: Short,
    /// Boxed: rare, and a slot is looked at as a whole.
    answer: Option<Box<Answer>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Waiting,
    /// The answer is in `short`.
    Short,
    /// The answer is in `answer`.
    Done,
}

/// An answer as it is taken out of its slot.
pub(crate) enum Taken {
    /// Its value is in the place that was given for it.
    Short,
    /// Boxed: what is moved about is small then.
    Other(Box<Answer>),
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
            Outcome::Json(bytes) => Ok(Body::Json(bytes)),
            Outcome::Raw(bytes) => Ok(Body::Raw(bytes)),
            Outcome::Rejected(reject) => Err(reject),
        })
    }
}

/// Names a request of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(u64);

impl RequestId {
    /// Before the first request in a slot. Few slots are used much and all digits are read, so the number of such a one
    /// is short: how often it was taken above, and below the slot, in 7 bits and a zero or in 16 bits and a one.
    const fn before(index: u16) -> Self {
        Self(if index < 128 { (index as u64) << 1 } else { (index as u64) << 1 | 1 })
    }

    /// Of the next request in this slot.
    const fn next(self) -> Self {
        let taken = if self.0 & 1 == 0 { 1 << 8 } else { 1 << 17 };
        Self(self.0.wrapping_add(taken))
    }

    #[inline]
    const fn index(self) -> u16 {
        if self.0 & 1 == 0 { (self.0 >> 1 & 0x7f) as u16 } else { (self.0 >> 1 & 0xffff) as u16 }
    }

    /// The id on the wire: hexadecimal, at most 16 letters.
    #[must_use]
    #[inline]
    pub fn text(self) -> IdText {
        let Self(number) = self;
        if number >> 32 == 0 {
            let skipped = (number.leading_zeros() / 4 - 8).min(7);
            let digits = u128::from(hex(number) << (8 * skipped)) << 64;
            return IdText { digits: digits.to_be_bytes(), len: 8 - u8::try_from(skipped).unwrap_or(7) };
        }
        let digits = u128::from(hex(number >> 32)) << 64 | u128::from(hex(number & 0xffff_ffff));
        let skipped = (number.leading_zeros() / 4).min(7);
        let len = 16 - u8::try_from(skipped).unwrap_or(7);
        IdText { digits: (digits << (8 * skipped)).to_be_bytes(), len }
    }

    /// The id at the end of a frame's name, after a colon, if it is of the kind that is made here.
    #[inline]
    pub(crate) fn ending(name: &[u8]) -> Option<Self> {
        let (mut number, mut shift, mut wrong) = (0_u64, 0, 0);
        for byte in name.iter().rev() {
            if *byte == b':' {
                let ours = shift > 0 && wrong & 0xf0 == 0;
                return ours.then_some(Self(number));
            }
            if shift == 64 {
                return None;
            }
            let digit = HEX.get(usize::from(*byte)).copied().unwrap_or(NO_DIGIT);
            wrong |= digit;
            number |= u64::from(digit) << shift;
            shift += 4;
        }
        None
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut name = vec![b':'];
        name.extend_from_slice(text);
        if text.contains(&b':') { None } else { Self::ending(&name) }
    }
}

/// The eight digits of 32 bits, as the bytes of a number.
#[inline]
const fn hex(mut bits: u64) -> u64 {
    bits = (bits | bits << 16) & 0x0000_ffff_0000_ffff;
    bits = (bits | bits << 8) & 0x00ff_00ff_00ff_00ff;
    bits = (bits | bits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((bits + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    bits + 0x3030_3030_3030_3030 + letters * (b'a' - b'0' - 10) as u64
}

/// The value of each digit.
#[allow(clippy::indexing_slicing, reason = "it is made while compiling")]
const HEX: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut digit = 0_u8;
    while digit < 16 {
        table[b"0123456789abcdef"[digit as usize] as usize] = digit;
        digit += 1;
    }
    table
};

/// A bit that no digit has.
const NO_DIGIT: u8 = 0x80;

/// The text of a [`RequestId`].
#[derive(Debug, Clone, Copy)]
pub struct IdText {
    digits: [u8; 16],
    len: u8,
}

impl IdText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let digits = self.digits.get(..usize::from(self.len));
        digits.and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default()
    }

    /// The digits, and how many of these they are.
    pub(crate) const fn digits(&self) -> (&[u8; 16], u8) {
        (&self.digits, self.len)
    }
}

impl<W> Default for Pending<W> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), unstamped: Vec::new(), earliest: None }
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
                self.slots.push(Slot {
                    id: RequestId::before(index),
                    state: State::Free,
                    due,
                    waker: None,
                    short: Short::default(),
                    answer: None,
                });
                index
            }
        };
        let slot = self.slots.get_mut(usize::from(index))?;
        let id = slot.id.next();
        (slot.id, slot.state, slot.due, slot.waker) = (id, State::Waiting, due, waker);
        match due {
            Due::At(deadline) => self.earliest = earlier(self.earliest, Some(deadline)),
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
            let Due::After(time) = slot.due else { continue };
            let deadline = after(now, time);
            slot.due = Due::At(deadline);
            self.earliest = earlier(self.earliest, Some(deadline));
        }
    }

    fn slot(&mut self, id: RequestId) -> Option<&mut Slot<W>> {
        self.slots.get_mut(usize::from(id.index())).filter(|slot| slot.id == id)
    }

    fn waiting(&mut self, id: RequestId) -> Option<&mut Slot<W>> {
        self.slot(id).filter(|slot| slot.state == State::Waiting)
    }

    /// Whether an answer with this id is waited for.
    pub fn waits(&mut self, id: &[u8]) -> Option<RequestId> {
        let id = RequestId::parse(id)?;
        self.waiting(id).map(|_| id)
    }

    /// As [`waits`](Self::waits), with the name of the answer's frame.
    pub(crate) fn waits_for(&mut self, name: &[u8]) -> Option<RequestId> {
        let id = RequestId::ending(name)?;
        self.waiting(id).map(|_| id)
    }

    /// Ends a request; gives whom to wake.
    pub fn finish(&mut self, id: RequestId, answer: Answer) -> Option<W> {
        let slot = self.waiting(id)?;
        slot.state = State::Done;
        slot.answer = Some(Box::new(answer));
        slot.waker.take()
    }

    /// Ends a request with a value that may be short, if it is and is waited for; gives whom to wake.
    #[inline]
    pub(crate) fn finish_short(&mut self, id: RequestId, value: &[u8]) -> Option<Option<W>> {
        let slot = self.waiting(id)?;
        if !slot.short.set(value) {
            return None;
        }
        slot.state = State::Short;
        Some(slot.waker.take())
    }

    /// Takes the answer of a request that has one, and frees its slot; notes the waker of one that has none.
    pub fn poll(&mut self, id: RequestId, waker: impl FnOnce(Option<W>) -> W) -> Option<Answer> {
        let mut short = Short::default();
        Some(match self.take(id, &mut short, waker)? {
            Taken::Short => Answer::Reply(Reply(Ok(Outcome::Json(Bytes::copy_from_slice(short.as_slice()))))),
            Taken::Other(answer) => *answer,
        })
    }

    /// As [`poll`](Self::poll), with a place for a short value.
    #[inline]
    pub(crate) fn take(
        &mut self,
        id: RequestId,
        short: &mut Short,
        waker: impl FnOnce(Option<W>) -> W,
    ) -> Option<Taken> {
        let slot = self.slot(id)?;
        let taken = match slot.state {
            State::Waiting => {
                slot.waker = Some(waker(slot.waker.take()));
                return None;
            }
            State::Free => return None,
            State::Short => {
                *short = slot.short;
                Taken::Short
            }
            State::Done => Taken::Other(slot.answer.take()?),
        };
        slot.state = State::Free; // and nothing else is left in it
        self.free.push(id.index());
        Some(taken)
    }

    /// Gives back the waker of a request: nobody is to be woken for it.
    pub(crate) fn forget_waker(&mut self, id: RequestId) -> Option<W> {
        self.slot(id)?.waker.take()
    }

    /// Frees the slot of a request whose caller went away; says whether the peer may still be working on it.
    pub fn abandon(&mut self, id: RequestId) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        let was = slot.state;
        if was != State::Free {
            self.release(id);
        }
        was == State::Waiting
    }

    fn release(&mut self, id: RequestId) {
        if let Some(slot) = self.slot(id) {
            slot.state = State::Free;
            (slot.waker, slot.answer) = (None, None);
            self.free.push(id.index());
        }
    }

    /// When to call [`expire`](Self::expire) next, at the earliest.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    /// Ends the requests whose time is over, and names each to `ended`; gives whom to wake.
    pub fn expire(&mut self, now: Instant, mut ended: impl FnMut(RequestId)) -> Vec<W> {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return Vec::new();
        }
        self.earliest = None;
        let mut wakers = Vec::new();
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Waiting) {
            let Due::At(deadline) = slot.due else { continue };
            if deadline <= now {
                wakers.extend(slot.waker.take());
                (slot.state, slot.answer) = (State::Done, Some(Box::new(Answer::TimedOut)));
                ended(slot.id);
            } else {
                self.earliest = earlier(self.earliest, Some(deadline));
            }
        }
        wakers
    }

    /// Ends all requests because the connection ended; gives whom to wake.
    pub fn close(&mut self) -> Vec<W> {
        self.earliest = None;
        let mut wakers = Vec::new();
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Waiting) {
            wakers.extend(slot.waker.take());
            (slot.state, slot.answer) = (State::Done, Some(Box::new(Answer::Closed)));
        }
        wakers
    }
}

/// What `Duration::MAX` comes to as a deadline: 30 years.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// So long after a time. Who means never says `Duration::MAX`, which is more than a time can be told from another.
#[inline]
pub(crate) fn after(time: Instant, wait: Duration) -> Instant {
    time.checked_add(wait).unwrap_or_else(|| time + FAR)
}

/// The earlier of two times, where there are any.
#[inline]
pub(crate) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;
