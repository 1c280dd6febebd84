//! What is to be sent, in order.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::machine::{AT_REST, Outgoing};
use crate::proto::json::Writer;
use crate::proto::{Leg, Method, Packet, Payload};

/// Messages on their way to the carrier. Calls and their answers are short and many: their JSON stands side by side in one buffer, so that
/// none needs memory of its own, and a carrier takes many of them at once.
#[derive(Debug)]
pub(in crate::machine) struct Queue {
    items: VecDeque<Item>,
    /// [`Texts`], as many as the items say.
    texts: Vec<u8>,
    /// How much of `texts` has been taken.
    taken: usize,
    /// Messages in all items.
    messages: usize,
}

#[derive(Debug)]
enum Item {
    /// Short ones, one behind the other: so many bytes of `texts`.
    Short {
        leg: Leg,
        bytes: usize,
    },
    Whole(Outgoing),
}

/// Short texts, one behind the other, each behind its length in four bytes, the lowest first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Texts<'a>(pub(crate) &'a [u8]);

/// Bytes before each of them.
const LENGTH: usize = 4;

impl<'a> Iterator for Texts<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<LENGTH>()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.0 = rest;
        Some(text)
    }
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

/// Short ones that a carrier is given at once at most, in bytes; the last one comes on top.
const AT_ONCE: usize = 16 * 1024;

impl Default for Queue {
    fn default() -> Self {
        Self { items: VecDeque::with_capacity(AT_REST), texts: Vec::new(), taken: 0, messages: 0 }
    }
}

impl Queue {
    pub(super) fn push(&mut self, message: Outgoing) {
        self.items.push_back(Item::Whole(message));
        self.messages += 1;
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
        let mut writer = Writer::operation_in(std::mem::take(&mut self.texts), operation, about);
        let blob = write(&mut writer);
        self.texts = writer.finish_in();
        if let Some(blob) = blob {
            let json = self.texts.get(from + LENGTH..).map(Bytes::copy_from_slice).unwrap_or_default();
            self.texts.truncate(from);
            let payload = Payload { json, blob: Some(blob) };
            return self.push(Outgoing::Packet(Packet::new(Method::Cs, leg, payload)));
        }
        self.end(leg, from);
    }

    /// Adds a packet of CS in clear, less than [`LARGE`], whose JSON `write` appends.
    #[inline]
    pub(in crate::machine) fn append(&mut self, leg: Leg, write: impl FnOnce(&mut Vec<u8>)) {
        let from = self.begin();
        write(&mut self.texts);
        self.end(leg, from);
    }

    /// Begins a short one; gives where that is.
    #[inline]
    fn begin(&mut self) -> usize {
        if self.items.is_empty() {
            self.texts.clear();
            self.texts.shrink_to(KEEP);
            self.taken = 0;
        } else if self.taken >= KEEP && self.taken * 2 >= self.texts.len() {
            // Under load a queue may never be empty: what has been taken must not stay for ever.
            self.texts.drain(..self.taken);
            self.taken = 0;
        }
        let from = self.texts.len();
        self.texts.extend_from_slice(&[0; LENGTH]);
        from
    }

    /// Ends the one that was begun there.
    #[inline(always)]
    fn end(&mut self, leg: Leg, from: usize) {
        let length = self.texts.len() - from;
        let bytes = u32::try_from(length - LENGTH).expect("short ones are short");
        if let Some(place) = self.texts.get_mut(from..from + LENGTH) {
            place.copy_from_slice(&bytes.to_le_bytes());
        }
        self.messages += 1;
        match self.items.back_mut() {
            Some(Item::Short { leg: before, bytes }) if *before == leg && *bytes < AT_ONCE => {
                *bytes += length;
            }
            _ => self.items.push_back(Item::Short { leg, bytes: length }),
        }
    }

    #[inline]
    pub(in crate::machine) fn next(&mut self) -> Option<Next<'_>> {
        if let Some(Item::Short { leg, bytes }) = self.items.front_mut() {
            let json = Texts(self.texts.get(self.taken..).unwrap_or_default()).next().unwrap_or_default();
            let length = LENGTH + json.len();
            let leg = *leg;
            *bytes = bytes.saturating_sub(length);
            if *bytes == 0 {
                self.items.pop_front();
            }
            self.taken += length;
            self.messages -= 1;
            return Some(Next::Short { leg, json });
        }
        self.messages = self.messages.saturating_sub(1);
        match self.items.pop_front()? {
            Item::Whole(message) => Some(Next::Whole(message)),
            Item::Short { .. } => None,
        }
    }

    /// The short ones that come next, if such do: all that can be given to a carrier at once.
    #[inline]
    pub(in crate::machine) fn next_texts(&mut self) -> Option<(Leg, Texts<'_>)> {
        let Some(Item::Short { leg, bytes }) = self.items.front() else { return None };
        let (leg, from) = (*leg, self.taken);
        self.taken += bytes;
        self.items.pop_front();
        let texts = Texts(self.texts.get(from..self.taken).unwrap_or_default());
        self.messages -= texts.count();
        Some((leg, texts))
    }

    pub(in crate::machine) const fn len(&self) -> usize {
        self.messages
    }

    /// Gives back the memory of an empty one.
    pub(super) fn shrink(&mut self) {
        self.items.shrink_to(AT_REST);
        if self.items.is_empty() {
            self.texts = Vec::new();
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
    fn queue_that_is_never_empty_keeps_no_more_than_waits_in_it() {
        let mut queue = Queue::default();
        write(&mut queue, 1000, None);
        for _ in 0..10_000 {
            write(&mut queue, 1000, None);
            assert!(queue.next().is_some());
        }
        assert_eq!(queue.len(), 1);
        assert!(queue.texts.capacity() <= 8 * KEEP, "{}", queue.texts.capacity());
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
        assert_eq!((queue.texts.capacity(), queue.items.capacity()), (0, AT_REST));
    }

    #[test]
    fn short_ones_in_a_row_are_given_at_once_and_in_order() {
        let mut queue = Queue::default();
        let row = |queue: &mut Queue, leg, row: std::ops::Range<usize>| {
            row.for_each(|number| {
                queue.append(leg, |out| out.extend_from_slice(number.to_string().as_bytes()));
            });
        };
        row(&mut queue, Leg::Request, 0..30);
        row(&mut queue, Leg::Answer, 30..40);
        queue.push(Outgoing::Heartbeat);
        row(&mut queue, Leg::Answer, 40..5000);
        let (mut seen, mut rows) = (0, 0);
        while queue.len() > 0 {
            assert_eq!(queue.len(), 5001 - seen - usize::from(seen >= 40 && rows > 2));
            // One is taken by itself here and there.
            if rows % 2 == 0 && !matches!(queue.items.front(), Some(Item::Whole(_))) {
                let Some(Next::Short { leg, json }) = queue.next() else { panic!("{seen}") };
                assert_eq!(
                    (leg, json),
                    (if seen < 30 { Leg::Request } else { Leg::Answer }, seen.to_string().as_bytes())
                );
                seen += 1;
            }
            match queue.next_texts() {
                Some((leg, texts)) => {
                    assert_eq!(leg, if seen < 30 { Leg::Request } else { Leg::Answer });
                    assert!(texts.0.len() <= AT_ONCE + LARGE);
                    for text in texts {
                        assert_eq!(text, seen.to_string().as_bytes());
                        seen += 1;
                    }
                }
                None => assert!(seen == 40 && matches!(queue.next(), Some(Next::Whole(Outgoing::Heartbeat)))),
            }
            rows += 1;
        }
        assert!(seen == 5000 && rows > 4 && queue.next().is_none() && queue.next_texts().is_none());
        assert_eq!(queue.len(), 0);
    }
}
