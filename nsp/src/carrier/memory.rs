//! A pair of carriers in one process: what one sends, the other receives.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use nossock::Peer;

use super::{Carrier, CarrierEnd, CarrierKind, Farewell};
use crate::machine::{Incoming, Outgoing};
use crate::proto::EncodeError;

/// Bytes that may wait in one direction; one message on top of it is let in.
const ROOM: usize = 256 * 1024;

/// Makes a pair of connected carriers.
#[must_use]
pub fn memory() -> (Memory, Memory) {
    let (one, other) = (Arc::<Mutex<Lane>>::default(), Arc::<Mutex<Lane>>::default());
    let end = |read: &Arc<Mutex<Lane>>, write: &Arc<Mutex<Lane>>| Memory {
        read: Arc::clone(read),
        write: Arc::clone(write),
        queue: VecDeque::new(),
        queued: 0,
        peer: Peer::default(),
    };
    (end(&one, &other), end(&other, &one))
}

/// One end of a [pair](memory()).
#[derive(Debug)]
pub struct Memory {
    read: Arc<Mutex<Lane>>,
    write: Arc<Mutex<Lane>>,
    queue: VecDeque<Outgoing>,
    queued: usize,
    peer: Peer,
}

/// One direction.
#[derive(Debug, Default)]
struct Lane {
    messages: VecDeque<Outgoing>,
    bytes: usize,
    /// Why nothing more comes, once that is so.
    end: Option<CarrierEnd>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Lane {
    fn close(&mut self, end: CarrierEnd) {
        self.end.get_or_insert(end);
        let wakers = [self.reader.take(), self.writer.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

fn lock(lane: &Mutex<Lane>) -> MutexGuard<'_, Lane> {
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a message counts for. The least of them counts for something, so that one that waits is seen to wait.
fn size(message: &Outgoing) -> usize {
    match message {
        Outgoing::Packet(packet) => 4 + packet.payload.len(),
        Outgoing::Sealed(bytes) | Outgoing::Text(bytes) => bytes.len(),
        Outgoing::Heartbeat => 2,
    }
}

impl Carrier for Memory {
    fn kind(&self) -> CarrierKind {
        CarrierKind::Memory
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn is_confidential(&self) -> bool {
        true
    }

    /// Both ends are of one process, which knows what it sends to itself.
    fn limit_message(&mut self, _: usize) {}

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, CarrierEnd>> {
        let mut lane = lock(&self.read);
        loop {
            let Some(message) = lane.messages.pop_front() else {
                if let Some(end) = &lane.end {
                    return Poll::Ready(Err(end.clone()));
                }
                lane.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            lane.bytes -= size(&message);
            if lane.bytes < ROOM
                && let Some(writer) = lane.writer.take()
            {
                writer.wake();
            }
            match message {
                Outgoing::Packet(packet) => return Poll::Ready(Ok(Incoming::Packet(packet))),
                Outgoing::Sealed(bytes) => return Poll::Ready(Ok(Incoming::Sealed(bytes))),
                Outgoing::Text(bytes) => return Poll::Ready(Ok(Incoming::Message(bytes))),
                Outgoing::Heartbeat => {}
            }
        }
    }

    fn start_send(&mut self, message: Outgoing) -> Result<(), EncodeError> {
        self.queued += size(&message);
        self.queue.push_back(message);
        Ok(())
    }

    fn queued(&self) -> usize {
        self.queued
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierEnd>> {
        let mut lane = lock(&self.write);
        while let Some(message) = self.queue.pop_front() {
            if let Some(end) = &lane.end {
                return Poll::Ready(Err(end.clone()));
            }
            if lane.bytes >= ROOM {
                self.queue.push_front(message);
                lane.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let bytes = size(&message);
            self.queued -= bytes;
            lane.bytes += bytes;
            lane.messages.push_back(message);
            if let Some(reader) = lane.reader.take() {
                reader.wake();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, reason: &Farewell) -> Poll<()> {
        if self.poll_flush(cx).is_pending() {
            return Poll::Pending;
        }
        lock(&self.write).close(match reason {
            Farewell::Normal => CarrierEnd::Peer,
            Farewell::GoingAway => CarrierEnd::PeerSaid("going away".into()),
            Farewell::Refused(why) => CarrierEnd::PeerSaid(why.clone()),
        });
        Poll::Ready(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        lock(&self.write).close(CarrierEnd::Peer);
        lock(&self.read).close(CarrierEnd::Peer);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;

    use super::*;
    use crate::proto::{Leg, Method, Packet};

    fn packet(bytes: usize) -> Outgoing {
        Outgoing::Packet(Packet::new(Method::Cs, Leg::Request, Bytes::from(vec![b' '; bytes])))
    }

    #[tokio::test]
    async fn what_one_sends_the_other_receives_in_order_and_then_the_end() {
        let (mut one, mut other) = memory();
        for bytes in 0..3 {
            one.start_send(packet(bytes)).unwrap();
        }
        poll_fn(|cx| one.poll_flush(cx)).await.unwrap();
        poll_fn(|cx| one.poll_close(cx, &Farewell::Refused("no".into()))).await;
        for bytes in 0..3 {
            let Ok(Incoming::Packet(packet)) = poll_fn(|cx| other.poll_receive(cx)).await else { panic!() };
            assert_eq!(packet.payload.json.len(), bytes);
        }
        let end = poll_fn(|cx| other.poll_receive(cx)).await.unwrap_err();
        assert_eq!(end.to_string(), "closed by the peer: no");
    }

    #[tokio::test]
    async fn message_that_says_nothing_is_queued_all_the_same() {
        let (mut one, mut other) = memory();
        one.start_send(packet(0)).unwrap();
        assert_ne!(one.queued(), 0);
        poll_fn(|cx| one.poll_flush(cx)).await.unwrap();
        assert_eq!(one.queued(), 0);
        poll_fn(|cx| other.poll_receive(cx)).await.unwrap();
    }

    #[tokio::test]
    async fn who_is_not_read_waits() {
        let (mut one, mut other) = memory();
        for _ in 0..3 {
            one.start_send(packet(ROOM)).unwrap();
        }
        let flushing = tokio::spawn(async move {
            poll_fn(|cx| one.poll_flush(cx)).await.unwrap();
            one.queued()
        });
        for _ in 0..3 {
            poll_fn(|cx| other.poll_receive(cx)).await.unwrap();
        }
        assert_eq!(flushing.await.unwrap(), 0);
    }

    #[tokio::test]
    async fn dropped_end_is_noticed_by_both_ways() {
        let (one, mut other) = memory();
        drop(one);
        assert!(matches!(poll_fn(|cx| other.poll_receive(cx)).await, Err(CarrierEnd::Peer)));
        other.start_send(packet(1)).unwrap();
        assert!(poll_fn(|cx| other.poll_flush(cx)).await.is_err());
    }
}
