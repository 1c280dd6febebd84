//! What is to be sent, in order.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::machine::{AT_REST, Outgoing};
use crate::proto::json::Writer;
use crate::proto::{Leg, Method, Packet, Payload};

/// Messages on their way to the carrier. Calls and their answers are short and many: their JSON stands side by side in one buffer, so that
/// none needs memory of its own.
#[derive(Debug)]
pub(in crate::machine) struct Queue {
    items: VecDeque<Item>,
    text: Vec<u8>,
    /// How much of `text` has been taken.
    taken: usize,
}

#[derive(Debug)]
enum Item {
    Short { leg: Leg, length: usize },
    Whole(Outgoing),
}

/// What is to be sent next.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// A packet of CS in clear, with nothing but JSON.
    Short {
        leg: Leg,
        json: &'a [u8],
    },
    Whole(Outgoing),
}

/// From this many bytes on JSON has memory of its own, in which it stays until it is written to the socket.
pub(super) const LARGE: usize = 8 * 1024;

/// What an empty queue keeps, in bytes: enough for what one task has to say in one turn.
const KEEP: usize = 16 * 1024;

impl Default for Queue {
    fn default() -> Self {
        Self { items: VecDeque::with_capacity(AT_REST), text: Vec::new(), taken: 0 }
    }
}

impl Queue {
    pub(super) fn push(&mut self, message: Outgoing) {
        self.items.push_back(Item::Whole(message));
    }

    /// Adds a packet of CS in clear: `{"m":operation,"d":{…}}` with what `write` writes there, and the blob that it gives.
    #[inline]
    pub(super) fn write(
        &mut self,
        leg: Leg,
        operation: &str,
        about: usize,
        write: impl FnOnce(&mut Writer) -> Option<Bytes>,
    ) {
        if about >= LARGE {
            return self.push(Outgoing::Packet(packet(leg, operation, about, write)));
        }
        let from = self.begin();
        let mut writer = Writer::operation_in(std::mem::take(&mut self.text), operation, about);
        let blob = write(&mut writer);
        self.text = writer.finish_in();
        if let Some(blob) = blob {
            let json = self.text.get(from..).map(Bytes::copy_from_slice).unwrap_or_default();
            self.text.truncate(from);
            let payload = Payload { json, blob: Some(blob) };
            return self.push(Outgoing::Packet(Packet::new(Method::Cs, leg, payload)));
        }
        self.items.push_back(Item::Short { leg, length: self.text.len() - from });
    }

    /// Adds a packet of CS in clear, less than [`LARGE`], whose JSON `write` appends.
    #[inline]
    pub(in crate::machine) fn append(&mut self, leg: Leg, write: impl FnOnce(&mut Vec<u8>)) {
        let from = self.begin();
        write(&mut self.text);
        self.items.push_back(Item::Short { leg, length: self.text.len() - from });
    }

    /// Where the next one begins.
    #[inline]
    fn begin(&mut self) -> usize {
        if self.items.is_empty() {
            self.text.clear();
            self.text.shrink_to(KEEP);
            self.taken = 0;
        }
        self.text.len()
    }

    #[inline]
    pub(in crate::machine) fn next(&mut self) -> Option<Next<'_>> {
        match self.items.pop_front()? {
            Item::Whole(message) => Some(Next::Whole(message)),
            Item::Short { leg, length } => {
                let from = self.taken;
                self.taken += length;
                let json = self.text.get(from..self.taken).unwrap_or_default();
                Some(Next::Short { leg, json })
            }
        }
    }

    pub(in crate::machine) fn len(&self) -> usize {
        self.items.len()
    }

    /// Gives back the memory of an empty one.
    pub(super) fn shrink(&mut self) {
        self.items.shrink_to(AT_REST);
        if self.items.is_empty() {
            self.text = Vec::new();
            self.taken = 0;
        }
    }
}

impl Extend<Outgoing> for Queue {
    fn extend<I: IntoIterator<Item = Outgoing>>(&mut self, messages: I) {
        messages.into_iter().for_each(|message| self.push(message));
    }
}

impl From<Next<'_>> for Outgoing {
    fn from(next: Next<'_>) -> Self {
        match next {
            Next::Short { leg, json } => {
                Self::Packet(Packet::new(Method::Cs, leg, Bytes::copy_from_slice(json)))
            }
            Next::Whole(message) => message,
        }
    }
}

/// A packet of CS that stands alone.
pub(super) fn packet(
    leg: Leg,
    operation: &str,
    about: usize,
    write: impl FnOnce(&mut Writer) -> Option<Bytes>,
) -> Packet {
    let mut writer = Writer::operation(operation, about);
    let blob = write(&mut writer);
    Packet::new(Method::Cs, leg, Payload { json: writer.finish(), blob })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(queue: &mut Queue, about: usize, blob: Option<&'static str>) {
        queue.write(Leg::Request, "SF", about, |writer| {
            writer.text("n", &"x".repeat(about));
            blob.map(|blob| Bytes::from_static(blob.as_bytes()))
        });
    }

    #[test]
    fn short_and_large_ones_leave_in_order_and_as_they_are() {
        let mut queue = Queue::default();
        for round in 0..3 {
            write(&mut queue, 1, None);
            write(&mut queue, LARGE, None);
            queue.push(Outgoing::Heartbeat);
            write(&mut queue, 2, Some("blob"));
            write(&mut queue, 3, None);
            assert_eq!(queue.len(), 5);
            let mut lengths = Vec::new();
            while let Some(next) = queue.next() {
                assert_eq!(matches!(next, Next::Short { .. }), [0, 4].contains(&lengths.len()), "{round}");
                lengths.push(match Outgoing::from(next) {
                    Outgoing::Packet(packet) => packet.payload.len(),
                    _ => 0,
                });
            }
            const AROUND: usize = r#"{"m":"SF","d":{"n":""}}"#.len();
            assert_eq!(lengths, [AROUND + 1, AROUND + LARGE, 0, AROUND + 2 + 4, AROUND + 3]);
        }
        queue.shrink();
        assert_eq!((queue.text.capacity(), queue.items.capacity()), (0, AT_REST));
    }
}
