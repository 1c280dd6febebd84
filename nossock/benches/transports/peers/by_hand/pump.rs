//! A connection: one task that reads, decodes, answers and writes.
//!
//! A wake-up costs one `recv` into the thread's buffer, a pass over all whole frames in it, and one `send` of all
//! answers. A connection at rest holds no buffer: what is left of a frame or of an answer moves into a `Vec` of
//! its own until the rest of it can move. A large frame is read into a buffer of its own size, which the thread keeps
//! for the next.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Stream;

use super::frame;

/// What is done with the frames of a connection.
pub(crate) trait Handler {
    /// Takes the whole frames that begin `input`, appends answers to `out`, and returns how many bytes it took.
    fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> io::Result<usize>;

    /// Appends to `out` what there is to send beside answers. `out` may be exchanged while it is empty.
    fn queued(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) {
        let _ = (cx, out);
    }

    /// Whether the connection is to be let go, once what is in `out` has left.
    fn finished(&self) -> bool {
        false
    }
}

/// The thread's buffer for what arrives, in bytes: several batches of 64 requests, and a few bodies of 64 KiB.
const INPUT: usize = 256 * 1024;

/// A frame of more bytes than this is read into a buffer of its own.
const LARGE: usize = 32 * 1024;

/// Answers are sent when there is nothing left to read, or at this many bytes.
const FLUSH: usize = 64 * 1024;

/// What is read past a large frame, in bytes: enough for the header of the next, so that it costs no `recv`.
const SLACK: usize = 320;

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        input: vec![0; INPUT],
        out: Vec::with_capacity(2 * FLUSH),
        spare: Vec::new(),
    });
}

struct Buffers {
    input: Vec<u8>,
    out: Vec<u8>,
    /// The buffer of the last large frame.
    spare: Vec<u8>,
}

/// A connection and its handler.
#[derive(Debug)]
pub(crate) struct Pump<H> {
    pub(crate) stream: Stream,
    pub(crate) handler: H,
    /// The beginning of a frame.
    partial: Vec<u8>,
    /// The end of what was to be sent, and how much of it has left.
    unsent: Vec<u8>,
    left: usize,
    /// Whether the stream may hold bytes that it took but did not send.
    flush: bool,
    large: Option<Box<Large>>,
}

/// A large frame while it arrives.
#[derive(Debug)]
struct Large {
    buffer: Vec<u8>,
    filled: usize,
    length: usize,
}

impl<H: Handler> Pump<H> {
    pub(crate) fn new(stream: Stream, handler: H) -> Self {
        Self { stream, handler, partial: Vec::new(), unsent: Vec::new(), left: 0, flush: false, large: None }
    }

    /// Sends `first` before anything else.
    pub(crate) fn begin_with(mut self, first: Vec<u8>) -> Self {
        self.unsent = first;
        self
    }

    /// Runs until the handler is finished or the other side has gone.
    ///
    /// # Errors
    /// What the stream or the handler fails with.
    pub(crate) async fn run(&mut self) -> io::Result<()> {
        poll_fn(|cx| BUFFERS.with_borrow_mut(|buffers| self.poll(cx, buffers))).await
    }

    fn poll(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> Poll<io::Result<()>> {
        let Buffers { input, out, spare } = buffers;
        out.clear();
        let mut filled = self.partial.len();
        if filled > 0 {
            input[..filled].copy_from_slice(&self.partial);
            self.partial = Vec::new();
        }
        let ended = loop {
            // Whoever does not take answers gets no more of them. Two that do so to each other would wait forever, but
            // what a client here has in flight fits the sockets.
            if self.owes() && self.poll_unsent(cx)?.is_pending() {
                break false;
            }
            if self.handler.finished() {
                break true;
            }
            if let Some(large) = &mut self.large {
                match read(
                    &mut self.stream,
                    cx,
                    &mut large.buffer[..large.length + SLACK],
                    &mut large.filled,
                )? {
                    Poll::Pending => break false,
                    Poll::Ready(0) => break true,
                    Poll::Ready(_) => {}
                }
                if large.filled >= large.length {
                    self.handler.take(&large.buffer[..large.length], out)?;
                    filled = self.next_large(input, spare);
                }
            } else {
                match read(&mut self.stream, cx, input, &mut filled)? {
                    Poll::Pending => break false,
                    Poll::Ready(0) => break true,
                    Poll::Ready(_) => {}
                }
            }
            if filled > 0 {
                let taken = self.handler.take(&input[..filled], out)?;
                if taken > 0 {
                    input.copy_within(taken..filled, 0);
                    filled -= taken;
                }
                if let Some(length) = frame::length(&input[..filled]).filter(|length| *length > LARGE) {
                    self.large =
                        Some(Box::new(Large::begin(&input[..filled], length, std::mem::take(spare))));
                    filled = 0;
                }
            }
            if out.len() >= FLUSH {
                self.send(cx, out)?;
            }
        };
        if !self.owes() {
            self.handler.queued(cx, out);
            self.send(cx, out)?;
        } else if !out.is_empty() {
            self.unsent.extend_from_slice(out);
        }
        if filled > 0 {
            self.partial = input[..filled].to_vec();
        }
        if ended && !self.owes() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn owes(&self) -> bool {
        self.flush || !self.unsent.is_empty()
    }

    /// Sends what was left over.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        while self.left < self.unsent.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.unsent[self.left..])? {
                Poll::Ready(sent) => self.left += sent,
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
        self.unsent = Vec::new();
        self.left = 0;
        self.flush = Pin::new(&mut self.stream).poll_flush(cx)?.is_pending();
        Ok(if self.flush { Poll::Pending } else { Poll::Ready(()) })
    }

    /// Sends `out`, and keeps what does not go.
    fn send(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        let mut sent = 0;
        while sent < out.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &out[sent..])? {
                Poll::Ready(more) => sent += more,
                Poll::Pending => {
                    self.unsent = out[sent..].to_vec();
                    break;
                }
            }
        }
        if sent > 0 && self.unsent.is_empty() {
            self.flush = Pin::new(&mut self.stream).poll_flush(cx)?.is_pending();
        }
        out.clear();
        Ok(())
    }

    /// After a large frame: makes ready for the next in the same buffer, or gives the buffer back. Returns how many bytes
    /// it put into `input`.
    fn next_large(&mut self, input: &mut [u8], spare: &mut Vec<u8>) -> usize {
        let Some(large) = &mut self.large else { return 0 };
        let rest = large.length..large.filled;
        match frame::length(&large.buffer[rest.clone()]) {
            Some(length) if length > LARGE => {
                large.filled = rest.len();
                large.buffer.copy_within(rest, 0);
                large.resize(length);
                0
            }
            _ => {
                let filled = rest.len();
                input[..filled].copy_from_slice(&large.buffer[rest]);
                *spare = std::mem::take(&mut large.buffer);
                self.large = None;
                filled
            }
        }
    }
}

impl Large {
    fn begin(front: &[u8], length: usize, buffer: Vec<u8>) -> Self {
        let mut large = Self { buffer, filled: front.len(), length };
        large.resize(length);
        large.buffer[..front.len()].copy_from_slice(front);
        large
    }

    /// Zeroes what is new only.
    fn resize(&mut self, length: usize) {
        self.length = length;
        if self.buffer.len() < length + SLACK {
            self.buffer.resize(length + SLACK, 0);
        }
    }
}

/// Reads behind `filled`, and returns how many bytes came: none at the end of the stream.
#[inline]
fn read(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
    filled: &mut usize,
) -> io::Result<Poll<usize>> {
    let mut into = ReadBuf::new(&mut buffer[*filled..]);
    match Pin::new(stream).poll_read(cx, &mut into)? {
        Poll::Pending => Ok(Poll::Pending),
        Poll::Ready(()) => {
            let came = into.filled().len();
            *filled += came;
            Ok(Poll::Ready(came))
        }
    }
}
