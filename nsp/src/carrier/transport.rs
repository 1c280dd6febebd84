use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, BytesMut};
use nossock::Peer;
use nossock::session::Outbox;
use nossock::transport::tls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use super::alarm::Alarm;
use super::{CarrierEnd, Limits, Meter, buffers};

/// What carries bytes: a stream of tokio's.
pub(super) trait Io: AsyncRead + AsyncWrite + fmt::Debug + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + fmt::Debug + Unpin + Send + 'static> Io for T {}

/// Pieces of one vectored write.
const PIECES: usize = 16;

/// A stream of bytes, with the buffers and the limits of time that every carrier on one needs.
///
/// ```text
///           ┌── poll_flush fails ──▶ (the driver drops it)
///   open ───┤
///           └── poll_close ──▶ flushing ──▶ shut ──▶ lingering: what still comes is thrown away, until the peer ends too
/// ```
pub(super) struct Transport<T> {
    io: T,
    pub(super) peer: Peer,
    pub(super) is_confidential: bool,
    /// Those of all connections of a listener: they are not small.
    pub(super) limits: Arc<Limits>,
    meter: Option<Meter>,
    /// What has been read and not been taken. It belongs to the thread while it is empty.
    pub(super) input: BytesMut,
    output: Outbox,
    /// The transport may hold written bytes back, as TLS does.
    unflushed: bool,
    ended: bool,
    message_since: Option<Instant>,
    write_since: Option<Instant>,
    reading: Alarm,
    writing: Alarm,
    /// Until when closing may take, once it has begun, and whether our direction is shut.
    close_by: Option<Instant>,
    shut: bool,
}

/// How much to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Bytes of room to make when there is little.
    pub(super) wanted: usize,
    /// Bytes to read at most, when it matters.
    pub(super) most: Option<usize>,
}

impl Room {
    /// For a message that needs `needed` bytes in all, of which `here` have come.
    ///
    /// Memory at most doubles with what has arrived, so that nobody reserves it by a number in a header. A large message is read
    /// to its end and `beyond` bytes further, the header of the next: so a stream of them costs one read each and little is moved.
    pub(super) fn for_message(needed: usize, here: usize, beyond: usize, step: usize) -> Self {
        /// From this many bytes on a message is read by itself.
        const LARGE: usize = 32 * 1024;
        let missing = needed.saturating_sub(here);
        let most = (needed >= LARGE).then_some(missing + beyond);
        Self { wanted: most.unwrap_or_else(|| missing.max(step)).min(here.max(step)), most }
    }
}

impl<T> Transport<T> {
    pub(super) fn new(io: T, peer: Peer, is_confidential: bool, limits: impl Into<Arc<Limits>>) -> Self {
        Self {
            io,
            peer,
            is_confidential,
            limits: limits.into(),
            meter: None,
            input: BytesMut::new(),
            output: Outbox::default(),
            unflushed: false,
            ended: false,
            message_since: None,
            write_since: None,
            reading: Alarm::default(),
            writing: Alarm::default(),
            close_by: None,
            shut: false,
        }
    }

    /// Has its bytes counted, if there is somebody who wants that.
    pub(super) fn metered(self, meter: Option<Meter>) -> Self {
        Self { meter, ..self }
    }

    /// Where to append what is to be sent.
    pub(super) fn output(&mut self) -> &mut Outbox {
        buffers::take_output(self.output.small());
        &mut self.output
    }

    /// What has been read, and where to append what is to be sent.
    #[inline]
    pub(super) const fn halves(&mut self) -> (&BytesMut, &mut Outbox) {
        (&self.input, &mut self.output)
    }

    /// Bytes that have not left.
    pub(super) const fn queued(&self) -> usize {
        self.output.len()
    }

    /// Bytes of memory that its buffers hold.
    #[cfg(test)]
    pub(super) fn held(&mut self) -> usize {
        self.input.capacity() + self.output.small().capacity()
    }

    /// The message that was arriving is whole.
    pub(super) fn message_is_whole(&mut self) {
        self.message_since = None;
        if let Some(meter) = &self.meter {
            meter.set_arriving(0, 0);
        }
    }

    /// The message that is arriving is not read for a while.
    pub(super) const fn hold(&mut self) {
        self.message_since = None;
    }

    fn make_room(&mut self, room: Room) {
        buffers::take_input(&mut self.input);
        // The whole of a large message, if the memory is there already: then it is not moved while it grows.
        if !room.most.is_some_and(|whole| self.input.try_reclaim(whole)) {
            self.input.reserve(room.wanted);
        }
    }
}

impl<T: Io> Transport<T> {
    /// Reads once; 0 is the end of the peer's stream.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, room: Room) -> Poll<Result<usize, CarrierEnd>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let enough = room.most.unwrap_or(self.limits.read_step / 4);
        if self.input.capacity() - self.input.len() < enough {
            self.make_room(room);
        }
        let most = room.most.unwrap_or(self.limits.read_step).max(1);
        match poll_read_buf(Pin::new(&mut self.io), cx, &mut (&mut self.input).limit(most)) {
            Poll::Pending => {
                if self.input.is_empty() {
                    buffers::give_back_input(&mut self.input);
                }
                Poll::Pending
            }
            Poll::Ready(Ok(read)) => {
                self.ended = read == 0;
                if let Some(meter) = &self.meter {
                    meter.count_received(read);
                }
                Poll::Ready(Ok(read))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(failed(error))),
        }
    }

    /// Waits for the rest of a message of which `unfinished` bytes are known, and for `due`, which is something else.
    ///
    /// Ready when `due` has come. To be called when there was nothing to read.
    ///
    /// # Errors
    /// When the message takes too long.
    pub(super) fn poll_wait(
        &mut self,
        cx: &mut Context<'_>,
        unfinished: Option<u64>,
        due: Option<Instant>,
    ) -> Poll<Result<(), CarrierEnd>> {
        if let Some(meter) = &self.meter {
            meter.set_arriving(self.input.len(), unfinished.unwrap_or(0));
        }
        let expiry = match unfinished {
            Some(bytes) => {
                let since = *self.message_since.get_or_insert_with(Instant::now);
                Some((since + self.limits.time_for(bytes), self.limits.time_for(bytes)))
            }
            None => {
                self.message_since = None;
                None
            }
        };
        let first = [expiry.map(|(at, _)| at), due].into_iter().flatten().min();
        ready!(self.reading.poll(cx, first));
        if let Some((at, after)) = expiry
            && at <= Instant::now()
        {
            return Poll::Ready(Err(CarrierEnd::TimedOut { what: "receiving a message", after }));
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is queued.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierEnd>> {
        while !self.output.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let used = self.output.chunks(&mut pieces);
            let io = Pin::new(&mut self.io);
            let written = match pieces.get(..used).unwrap_or_default() {
                [piece] => io.poll_write(cx, piece),
                pieces => io.poll_write_vectored(cx, pieces),
            };
            match written {
                Poll::Pending => return self.poll_stalled(cx),
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
                }
                Poll::Ready(Ok(written)) => {
                    self.output.advance(written);
                    if let Some(meter) = &self.meter {
                        meter.count_sent(written);
                    }
                    self.unflushed = true;
                    self.write_since = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(failed(error))),
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Pending => return self.poll_stalled(cx),
                Poll::Ready(result) => result.map_err(failed)?,
            }
            self.unflushed = false;
            buffers::give_back_output(self.output.take_buffer());
        }
        self.write_since = None;
        let _ = self.writing.poll(cx, None);
        Poll::Ready(Ok(()))
    }

    /// The peer takes nothing now.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierEnd>> {
        let after = self.limits.write_stall;
        let since = *self.write_since.get_or_insert_with(Instant::now);
        ready!(self.writing.poll(cx, Some(since + after)));
        Poll::Ready(Err(CarrierEnd::TimedOut { what: "sending to a peer that does not read", after }))
    }

    /// Writes what is queued, shuts our direction, and takes what still comes: unread bytes would make the system reset the
    /// connection, and tear up our last ones on their way.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let by = *self.close_by.get_or_insert_with(|| Instant::now() + self.limits.close_grace);
        if self.reading.poll(cx, Some(by)).is_ready() || self.poll_last(cx).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn poll_last(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierEnd>> {
        if !self.shut {
            ready!(self.poll_flush(cx))?;
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.shut = true;
        }
        while !self.ended {
            self.input.clear();
            let room = Room { wanted: self.limits.read_step, most: None };
            ready!(self.poll_read(cx, room))?;
        }
        Poll::Ready(Ok(()))
    }
}

/// What a failure of the transport means.
fn failed(error: io::Error) -> CarrierEnd {
    match tls::explain(&error) {
        Some(explained) => io::Error::new(error.kind(), explained).into(),
        None => error.into(),
    }
}

impl<T> fmt::Debug for Transport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("peer", &self.peer.to_string())
            .field("input_bytes", &self.input.len())
            .field("output_bytes", &self.output.len())
            .finish_non_exhaustive()
    }
}
