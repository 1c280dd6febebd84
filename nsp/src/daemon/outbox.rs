//! What waits to leave by one connection.
//!
//! Answers and what services send by themselves leave in the order in which they were made. The peer decides how many answers there are, and is
//! not read while too many wait; how much services send, nobody decides but they, so that part has a limit and a [rule](Overflow) for
//! what happens at it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::machine::Outgoing;

/// What happens to data and events for somebody who does not read what was sent before.
///
/// Nobody else waits because of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// Who sends waits for room, up to [`Limits::push_wait`](super::Limits::push_wait); everybody else has been served before.
    #[default]
    Wait,
    /// The oldest of what waits is dropped: for states, of which only the last counts.
    DropOldest,
    /// What is sent now is dropped: for what nobody misses.
    DropNewest,
    /// The connection is closed, and told why: whoever misses one has missed too much.
    Close,
}

/// Who has made a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// The peer has asked for it.
    Answer,
    /// A service sends it by itself.
    Push,
}

#[derive(Debug)]
struct Item {
    message: Outgoing,
    bytes: usize,
    made: Made,
}

/// Messages in the order in which they will leave.
#[derive(Debug)]
pub(crate) struct Outbox {
    items: VecDeque<Item>,
    /// For the driver, which may look without the lock whether something waits.
    is_filled: Arc<AtomicBool>,
    answer_bytes: usize,
    pushes: usize,
    push_bytes: usize,
    most_pushes: usize,
    most_push_bytes: usize,
}

/// Messages for which an empty queue keeps its memory.
const KEEP: usize = 64;

impl Outbox {
    pub(crate) fn new(most_pushes: usize, most_push_bytes: usize) -> Self {
        Self {
            items: VecDeque::new(),
            is_filled: Arc::default(),
            answer_bytes: 0,
            pushes: 0,
            push_bytes: 0,
            most_pushes,
            most_push_bytes,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What says, to who does not hold the lock, whether something waits. Whoever has put something here sees it at once.
    pub(crate) fn is_filled(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_filled)
    }

    /// Bytes of the answers.
    pub(crate) const fn answer_bytes(&self) -> usize {
        self.answer_bytes
    }

    /// How many pushes wait.
    pub(crate) const fn pushes(&self) -> usize {
        self.pushes
    }

    /// Whether a push of about this size has room. One that is larger than all the room there is has some if nothing else waits.
    pub(crate) const fn has_room(&self, bytes: usize) -> bool {
        self.pushes == 0
            || (self.pushes < self.most_pushes && self.push_bytes + bytes <= self.most_push_bytes)
    }

    pub(crate) fn push(&mut self, message: Outgoing, made: Made) {
        let bytes = bytes_of(&message);
        match made {
            Made::Answer => self.answer_bytes += bytes,
            Made::Push => {
                self.pushes += 1;
                self.push_bytes += bytes;
            }
        }
        self.items.push_back(Item { message, bytes, made });
        self.is_filled.store(true, Ordering::Release);
    }

    /// Takes the next one that is to leave.
    pub(crate) fn pop(&mut self) -> Option<Outgoing> {
        let item = self.items.pop_front()?;
        self.forget(item.bytes, item.made);
        if self.items.is_empty() && self.items.capacity() > KEEP {
            self.items = VecDeque::new();
        }
        Some(item.message)
    }

    /// Drops the oldest push.
    pub(crate) fn drop_oldest(&mut self) -> bool {
        let Some(at) = self.items.iter().position(|item| item.made == Made::Push) else { return false };
        if let Some(item) = self.items.remove(at) {
            self.forget(item.bytes, item.made);
        }
        true
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        while self.pop().is_some() {}
    }

    /// Gives memory back that an idle connection does not need.
    pub(crate) fn shrink(&mut self) {
        if self.items.is_empty() && self.items.capacity() > 0 {
            self.items = VecDeque::new();
        }
    }

    /// One has been taken out.
    fn forget(&mut self, bytes: usize, made: Made) {
        self.is_filled.store(!self.items.is_empty(), Ordering::Release);
        match made {
            Made::Answer => self.answer_bytes -= bytes,
            Made::Push => {
                self.pushes -= 1;
                self.push_bytes -= bytes;
            }
        }
    }
}

fn bytes_of(message: &Outgoing) -> usize {
    match message {
        Outgoing::Packet(packet) => packet.payload.len(),
        Outgoing::Sealed(bytes) | Outgoing::Text(bytes) => bytes.len(),
        Outgoing::Heartbeat => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn sealed(bytes: &'static str) -> Outgoing {
        Outgoing::Sealed(Bytes::from_static(bytes.as_bytes()))
    }

    #[test]
    fn order_is_kept_and_only_pushes_are_dropped() {
        let mut outbox = Outbox::new(2, 100);
        outbox.push(sealed("answer"), Made::Answer);
        outbox.push(sealed("one"), Made::Push);
        outbox.push(sealed("two"), Made::Push);
        let is_filled = outbox.is_filled();
        assert!(is_filled.load(Ordering::Acquire));
        assert!(!outbox.has_room(1));
        assert!(outbox.drop_oldest());
        assert!(outbox.has_room(1));
        assert_eq!(
            (outbox.pop(), outbox.pop(), outbox.pop()),
            (Some(sealed("answer")), Some(sealed("two")), None)
        );
        assert!(!outbox.drop_oldest());
        assert_eq!((outbox.answer_bytes(), outbox.pushes(), outbox.push_bytes), (0, 0, 0));
        assert!(!is_filled.load(Ordering::Acquire));
        outbox.push(sealed("three"), Made::Push);
        outbox.clear();
        assert!(outbox.is_empty() && outbox.pushes() == 0 && !is_filled.load(Ordering::Acquire));
    }

    #[test]
    fn bytes_are_limited_and_a_large_one_is_let_in_alone() {
        let mut outbox = Outbox::new(10, 8);
        assert!(outbox.has_room(100));
        outbox.push(sealed("0123456789"), Made::Push);
        assert!(!outbox.has_room(0));
        outbox.pop();
        outbox.push(sealed("0123"), Made::Push);
        assert!(outbox.has_room(4));
        assert!(!outbox.has_room(5));
    }
}
