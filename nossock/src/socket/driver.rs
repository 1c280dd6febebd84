//! The one task of a connection.

mod dispatch;
mod sleep;
mod start;

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Sleep;
use tokio_util::io::poll_read_buf;

use self::sleep::When;
use super::answers::Answers;
use super::handler::HandlerFuture;
use super::memory;
use super::message::Message;
use super::shared::{On, Shared, now};
use super::slot::FutureSlot;
use crate::router::{Route, Routes};
use crate::session::{CloseReason, Outbox, Phase, after};
use crate::wire::{Decoder, Name};

/// Owns the transport of one connection: reads, decodes, runs handlers in place, writes.
///
/// ```text
///  readable ─► read once ─► decode all ─► answers ─► wake the asker
///                               │         messages, requests ─► poll the handler here
///                               │                                 │ done: its answer is queued
///  writable ◄─ write all ◄──────┴──────── queue ◄─────────────────┘ waits: ordered ones are kept here,
///                                           ▲                               requests get a task
///                                           └── sends from elsewhere
/// ```
pub(crate) struct Driver<T> {
    io: T,
    shared: Arc<Shared>,
    routes: Option<Arc<Routes>>,
    decoder: Decoder,
    input: BytesMut,
    output: Outbox,
    /// Answers that were made in this turn.
    answers: Answers,
    /// Where handlers are started; the memory is used again by the next one.
    slot: FutureSlot,
    /// The handler of a new connection, until it is started.
    greeting: Option<Arc<Route>>,
    /// The handler of a message, when it waits. Messages after it wait in `messages`.
    ordered: Option<(Name, HandlerFuture)>,
    messages: VecDeque<Message>,
    /// Requests that came while as many as allowed were handled.
    requests: VecDeque<Message>,
    backlog_bytes: usize,
    running: Option<Box<Running>>,
    /// The route of the message before: the next one is likely to be the same.
    last: Option<Arc<Route>>,
    timer: Option<Pin<Box<Sleep>>>,
    armed: Option<Instant>,
    /// Since when a frame has been incomplete, and a write has not gone on.
    frame_since: Option<Instant>,
    write_since: Option<Instant>,
    /// Whole frames may be left in `input`, because handling was held back.
    undecoded: bool,
    /// Nothing was read because too much waited.
    held: bool,
    /// Whom the answers of one read wake; empty between reads.
    wakes: Vec<Waker>,
    /// No more is decoded: the peer ended its stream, or sent what cannot be frames.
    deaf: bool,
    input_ended: bool,
    /// The time of those who run at a close is up: what waits for them is not begun any more.
    late: bool,
    unflushed: bool,
    yielded: bool,
    /// It is being polled; who is dropped like that has panicked.
    polled: bool,
    done: bool,
}

/// Requests whose handlers wait, each in a task of its own.
#[derive(Default)]
struct Running {
    tasks: JoinSet<()>,
    requests: Vec<Work>,
}

/// The handler of one request.
struct Work {
    name: Name,
    id: Box<str>,
    task: AbortHandle,
}

/// Reads after which what they made to be said is written, even while more input is at hand.
const READS_PER_WRITE: u32 = 4;

/// Turns after which other tasks get theirs; tokio's own budget is spent sooner, a foreign transport has none.
const TURNS: u32 = 64;

/// What the output may keep between two writes, in bytes.
const KEEP: usize = 512 * 1024;

/// As much output as is left for others to add to, in bytes, when they are about to.
const SMALL_OUTPUT: usize = 16 * 1024;

/// Pieces of one vectored write.
const PIECES: usize = 16;

impl<T> Driver<T> {
    pub(crate) fn new(io: T, shared: Arc<Shared>, routes: Option<Arc<Routes>>) -> Self {
        let decoder = Decoder::new(&shared.config.limits);
        let answers = Answers::new(shared.config.limits.max_body);
        let greeting = routes.as_ref().and_then(|routes| routes.on_connect.clone());
        Self {
            io,
            shared,
            routes,
            decoder,
            input: BytesMut::new(),
            output: Outbox::default(),
            answers,
            slot: FutureSlot::default(),
            greeting,
            ordered: None,
            messages: VecDeque::new(),
            requests: VecDeque::new(),
            backlog_bytes: 0,
            running: None,
            last: None,
            timer: None,
            armed: None,
            frame_since: None,
            write_since: None,
            undecoded: false,
            held: false,
            wakes: Vec::new(),
            deaf: false,
            input_ended: false,
            late: false,
            unflushed: false,
            yielded: false,
            polled: false,
            done: false,
        }
    }

    /// Bytes of memory that it reads into.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.input.capacity()
    }

    fn limits(&self) -> &crate::Limits {
        &self.shared.config.limits
    }

    /// Whether so much waits already that nothing more is read: messages for handlers or for `recv`, or answers
    /// that the peer does not take.
    #[inline]
    fn is_held_back(&self) -> bool {
        if self.backlog_bytes >= self.limits().receive_queue {
            return true;
        }
        if self.shared.by_hand {
            return self.shared.lock().is_held_back(self.limits(), true);
        }
        self.answers_held() && self.shared.lock().holds_answers_back()
    }

    /// Whether so many answers wait that no more requests are handled.
    fn answers_held(&self) -> bool {
        self.answers.len() >= self.limits().send_queue || self.shared.answers_held.load(Ordering::Relaxed)
    }

    /// Nothing more is to be understood from the peer, for this reason.
    fn peer_ended(&mut self, reason: CloseReason) {
        self.deaf = true;
        let until = after(now(), self.limits().close_grace);
        self.shared.with(|core, wakes| {
            core.session.begin_close(reason, until);
            wakes.extend(core.session.pending().close());
            for on in [On::Close, On::Receive, On::Room] {
                core.wake(on, wakes);
            }
        });
    }

    /// Whether everything that runs or waits to be handled has ended.
    fn is_idle(&self) -> bool {
        let running = self.running.as_ref().is_some_and(|running| !running.requests.is_empty());
        self.ordered.is_none() && self.messages.is_empty() && self.requests.is_empty() && !running
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    /// Reads once and handles what is then whole. Pending also when nothing is to be read now.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        if self.deaf {
            return self.poll_discard(cx);
        }
        self.held = self.is_held_back();
        if self.held {
            self.frame_since = None; // it is us who make it wait
            return Poll::Pending;
        }
        if self.undecoded {
            return Poll::Ready(self.decode(cx));
        }
        let most = self.decoder.most(&self.input);
        let enough = most.unwrap_or(self.limits().read_step / 4);
        if self.input.capacity() - self.input.len() < enough {
            self.make_room();
        }
        let mut input = (&mut self.input).limit(most.unwrap_or(self.shared.config.limits.read_step).max(1));
        match poll_read_buf(Pin::new(&mut self.io), cx, &mut input) {
            Poll::Pending => {
                memory::give_back(&mut self.input);
                Poll::Pending
            }
            Poll::Ready(Ok(0)) => {
                self.input_ended = true;
                let cut = self.decoder.unfinished(&self.input);
                self.frame_since = None;
                self.peer_ended(cut.map_or(CloseReason::Peer, CloseReason::Truncated));
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(_)) => Poll::Ready(self.decode(cx)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(transport_failed(error))),
        }
    }

    fn make_room(&mut self) {
        memory::take(&mut self.input);
        // The whole of a large frame, if the memory is there already: then only its beginning is moved, and not half of
        // it when the memory behind it ends.
        let whole = self.decoder.most(&self.input);
        if !whole.is_some_and(|whole| self.input.try_reclaim(whole)) {
            self.input.reserve(self.decoder.room(&self.input));
        }
    }

    /// Reads what the peer still sends and throws it away: unread bytes would make the system reset the
    /// connection, and tear up our last ones on their way.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        if self.input_ended {
            return Poll::Pending;
        }
        memory::take(&mut self.input);
        self.input.clear();
        self.input.reserve(self.limits().read_step);
        let read = poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input);
        self.input.clear();
        memory::give_back(&mut self.input);
        read.map(|read| {
            self.input_ended = read.map_err(transport_failed)? == 0;
            Ok(())
        })
    }

    /// Writes until nothing is queued or the transport takes no more; gives the phase that the session is in then.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Result<Phase, CloseReason> {
        if self.output.is_empty() || !self.answers.is_empty() {
            let mut core = self.shared.lock();
            let nothing = !self.shared.take(&mut core, &mut self.answers, &mut self.output);
            if nothing && self.output.is_empty() && !self.unflushed {
                return Ok(core.session.phase());
            }
        }
        loop {
            let mut written = 0;
            let progress = self.poll_write(cx, &mut written);
            if written > 0 {
                self.unflushed = true;
                self.write_since = None;
            }
            let flushed = match progress {
                Poll::Ready(result) => {
                    result?;
                    self.output.clear(KEEP);
                    Pin::new(&mut self.io).poll_flush(cx).map_err(transport_failed)?.is_ready()
                }
                Poll::Pending => false,
            };
            // Of what it could not take as a whole, too, a part may have left.
            let left = flushed
                || (written > 0
                    && Pin::new(&mut self.io).poll_flush(cx).map_err(transport_failed)?.is_ready());
            if flushed {
                self.unflushed = false;
                self.write_since = None;
            } else {
                self.write_since.get_or_insert_with(now);
            }
            let (more, phase) = self.shared.with(|core, wakes| {
                self.shared.wrote(core, wakes, written);
                if left {
                    core.session.flushed();
                    core.wake(On::Flush, wakes);
                }
                let more = flushed && self.shared.take(core, &mut self.answers, &mut self.output);
                (more, core.session.phase())
            });
            if !more {
                return Ok(phase);
            }
        }
    }

    /// Writes what was taken; counts what has left.
    fn poll_write(&mut self, cx: &mut Context<'_>, written: &mut usize) -> Poll<Result<(), CloseReason>> {
        while !self.output.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let used = self.output.chunks(&mut pieces);
            let pieces = pieces.get(..used).unwrap_or_default();
            let io = Pin::new(&mut self.io);
            let n = ready!(match pieces {
                [piece] => io.poll_write(cx, piece),
                pieces => io.poll_write_vectored(cx, pieces),
            });
            match n.map_err(transport_failed)? {
                0 => return Poll::Ready(Err(transport_failed(io::ErrorKind::WriteZero.into()))),
                n => {
                    self.output.advance(n);
                    *written += n;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Goes from one phase of closing to the next, as far as that is possible now.
    fn poll_close(&mut self, cx: &mut Context<'_>, phase: Phase) -> Result<(), CloseReason> {
        match phase {
            Phase::Open | Phase::Lingering | Phase::Closed => Ok(()),
            Phase::Draining => {
                if self.is_idle() {
                    let has_handles = self.shared.has_handles();
                    if !has_handles {
                        self.shared.refuse_inbox(); // what came after the last one was dropped
                    }
                    self.shared.with(|core, wakes| {
                        let reason = core.session.reason();
                        let by_peer = !reason.is_some_and(CloseReason::is_ours);
                        // Whoever says that it closes reads no answers.
                        let reads = !matches!(reason, Some(CloseReason::PeerSaid { .. }));
                        let awaited = has_handles && core.inbox.is_awaited();
                        if self.shared.by_hand && by_peer && (awaited || (reads && core.owed > 0)) {
                            return; // somebody may still receive what has come, and answer
                        }
                        core.session.begin_flush();
                        wakes.extend(core.session.pending().close());
                        core.wake(On::Receive, wakes);
                        core.wake(On::Room, wakes);
                    });
                }
                Ok(())
            }
            Phase::Flushing => {
                if self.unflushed || !self.output.is_empty() || self.shared.lock().session.queue_len() > 0 {
                    return Ok(());
                }
                self.deaf = true;
                match Pin::new(&mut self.io).poll_shutdown(cx) {
                    Poll::Pending => Ok(()),
                    Poll::Ready(Err(error)) => Err(transport_failed(error)),
                    Poll::Ready(Ok(())) => {
                        self.shared.lock().session.begin_linger();
                        Ok(())
                    }
                }
            }
        }
    }

    /// Does what can be done now.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        for _ in 0..TURNS {
            self.poll_handlers(cx);
            let mut reads = 0;
            let more = loop {
                match self.poll_input(cx) {
                    Poll::Pending => break false,
                    Poll::Ready(Err(reason)) if reason.is_decoded() => self.peer_ended(reason),
                    Poll::Ready(Err(reason)) => return Poll::Ready(Err(reason)),
                    Poll::Ready(Ok(())) => reads += 1,
                }
                if reads >= READS_PER_WRITE {
                    break true;
                }
            };
            // Most that wake up find a message, and nothing to say: they look once and sleep.
            let silent = !more && !self.unflushed && self.output.is_empty() && self.answers.is_empty();
            if silent && self.poll_sleep(cx, When::Open)?.is_pending() {
                return Poll::Pending;
            }
            let before = self.poll_output(cx)?;
            if before != Phase::Open {
                self.poll_close(cx, before)?;
                let phase = self.shared.lock().session.phase();
                if phase == Phase::Closed || (phase == Phase::Lingering && self.input_ended) {
                    return Poll::Ready(Ok(()));
                }
                if phase != before {
                    continue;
                }
            }
            if !more && self.poll_sleep(cx, When::Always)?.is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Driver<T> {
    /// Whether everything that ran had ended by then.
    type Output = bool;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let this = self.get_mut();
        if this.wake_up() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.polled = true;
        let turn = this.turn(cx);
        this.polled = false;
        match turn {
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => {
                let idle = this.is_idle();
                this.finish(result.err().unwrap_or(CloseReason::Local));
                Poll::Ready(idle)
            }
        }
    }
}

impl<T> Driver<T> {
    fn finish(&mut self, reason: CloseReason) {
        self.done = true;
        self.running = None; // aborts what still runs
        let unsent = self.shared.with(|core, wakes| {
            core.end(reason, wakes);
            std::mem::take(core.session.outbox())
        });
        drop(unsent); // bodies may have owners, whose code runs now
        if !self.shared.has_handles() {
            self.shared.refuse_inbox(); // what came after the last one was dropped
        }
        let reason = self.shared.lock().session.reason().cloned();
        if let Some(reason) = reason {
            tracing::debug!(peer = %self.shared.peer, %reason, "connection closed");
        }
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        if !self.done {
            // Handlers are caught: it can only be the transport, or somebody's waker.
            let reason = if self.polled {
                "the task of the connection panicked"
            } else {
                "the runtime of the connection stopped"
            };
            self.finish(CloseReason::Aborted(reason));
        }
    }
}

fn transport_failed(error: io::Error) -> CloseReason {
    #[cfg(feature = "tls")]
    if let Some(error) = crate::transport::tls::explain(&error) {
        return CloseReason::Tls(Arc::new(error));
    }
    CloseReason::Io(Arc::new(error))
}
