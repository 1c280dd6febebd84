use std::task::{Context, Poll, ready};

use nossock::Peer;

use super::frames::append;
use super::transport::{Io, Room, Transport};
use super::{Carrier, CarrierEnd, CarrierKind, Farewell};
use crate::machine::{Incoming, Outgoing};
use crate::proto::chunk::{self, ChunkError};
use crate::proto::{EncodeError, HEARTBEAT, Methods};

/// Bytes of the length in front of a chunk.
const HEADER: usize = 16;

/// Packets as NoService chunks.
///
/// An original peer is deaf for ever after a header that comes in two pieces. So a chunk is queued whole, and however the queue is cut
/// into writes, it is cut behind a packet's JSON, where a blob begins, never in a header; only a peer that does not read can
/// make the system take less.
#[derive(Debug)]
pub(super) struct Chunks<T> {
    transport: Transport<T>,
    chunks: chunk::Chunks,
    methods: Methods,
    end: Option<CarrierEnd>,
}

impl<T> Chunks<T> {
    pub(super) fn new(transport: Transport<T>, methods: Methods) -> Self {
        let chunks = chunk::Chunks::new(transport.limits.message);
        Self { transport, chunks, methods, end: None }
    }

    fn fits(&self, size: usize) -> Result<(), EncodeError> {
        let limit = self.transport.limits.message;
        if size <= limit { Ok(()) } else { Err(EncodeError::TooLarge { size, limit }) }
    }
}

#[cfg(test)]
impl<T> Chunks<T> {
    pub(super) const fn transport(&mut self) -> &mut Transport<T> {
        &mut self.transport
    }
}

impl<T: Io> Chunks<T> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, CarrierEnd>> {
        loop {
            if let Some(message) = self.chunks.next(&mut self.transport.input).map_err(misread)? {
                self.transport.message_is_whole();
                return Poll::Ready(Ok(Incoming::Message(message)));
            }
            let here = self.transport.input.len();
            let needed = here + self.chunks.missing(&self.transport.input);
            let room = Room::for_message(needed, here, HEADER, self.transport.limits.read_step);
            match self.transport.poll_read(cx, room)? {
                Poll::Ready(0) => {
                    let whole = self.chunks.is_between_messages(&self.transport.input);
                    return Poll::Ready(Err(if whole { CarrierEnd::Peer } else { CarrierEnd::Truncated }));
                }
                Poll::Ready(_) => {}
                Poll::Pending => {
                    let between = self.chunks.is_between_messages(&self.transport.input);
                    let unfinished = (!between).then_some(needed as u64);
                    ready!(self.transport.poll_wait(cx, unfinished, None))?;
                }
            }
        }
    }
}

impl<T: Io> Carrier for Chunks<T> {
    fn kind(&self) -> CarrierKind {
        CarrierKind::Chunks
    }

    fn peer(&self) -> &Peer {
        &self.transport.peer
    }

    fn is_confidential(&self) -> bool {
        self.transport.is_confidential
    }

    fn limit_message(&mut self, bytes: usize) {
        self.chunks.set_limit(bytes);
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, CarrierEnd>> {
        if let Some(end) = &self.end {
            return Poll::Ready(Err(end.clone()));
        }
        let next = ready!(self.poll_next(cx));
        if let Err(end) = &next {
            self.end = Some(end.clone());
        }
        Poll::Ready(next)
    }

    fn hold(&mut self) {
        self.transport.hold();
    }

    fn start_send(&mut self, message: Outgoing) -> Result<(), EncodeError> {
        match message {
            Outgoing::Packet(packet) => {
                self.fits(packet.encoded_length(&self.methods)?)?;
                let out = self.transport.output();
                if let Some(blob) = chunk::encode_head(&packet, &self.methods, out.small())? {
                    append(out, blob.clone());
                }
            }
            Outgoing::Sealed(message) | Outgoing::Text(message) => {
                self.fits(message.len())?;
                let out = self.transport.output();
                chunk::encode_length(message.len(), out.small());
                // Copied, however large: a cut between two writes would come right behind the header otherwise.
                out.small().extend_from_slice(&message);
            }
            Outgoing::Heartbeat => chunk::encode_bytes(HEARTBEAT, self.transport.output().small()),
        }
        Ok(())
    }

    fn queued(&self) -> usize {
        self.transport.queued()
    }

    fn largest_send(&self) -> usize {
        self.transport.limits.message
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierEnd>> {
        self.transport.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, _: &Farewell) -> Poll<()> {
        self.transport.poll_close(cx)
    }
}

fn misread(error: ChunkError) -> CarrierEnd {
    match error {
        ChunkError::TooLarge { length, limit } => CarrierEnd::TooLarge { size: length, limit },
        other => CarrierEnd::Protocol(other.to_string()),
    }
}
