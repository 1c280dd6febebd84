//! What the handles of a socket and its driver have in common.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::answers::Answers;
use super::memory;
use super::message::{Message, RecvError};
use super::peer::Peer;
use crate::Config;
use crate::session::{CloseReason, Outbox, Payload, Phase, Reject, RejectCode, RequestId, Session, after};
use crate::transport::WriteEnd;
use crate::wire::Kind;

/// One connection, shared by the driver that owns its transport and by every [`Socket`](crate::Socket).
///
/// There is one lock, held for a few dozen instructions at a time and never across an await, a call into a user's
/// code or a wake-up: what is to be woken is collected and woken after the lock is released.
pub(crate) struct Shared {
    core: Mutex<Core>,
    /// Sockets that users hold. When the last one goes, the connection closes.
    handles: AtomicUsize,
    /// So many answers wait to be written that no more requests are handled. Written under the lock, and read
    /// without it after each request.
    pub(crate) answers_held: AtomicBool,
    /// Something is queued that the driver has not taken. Written under the lock; see [`has_queued`](Self::has_queued).
    queued: AtomicBool,
    pub(crate) config: Arc<Config>,
    pub(crate) peer: Peer,
    /// Messages go to `recv` and not to a router.
    pub(crate) by_hand: bool,
    /// The end of the stream to write to while the driver sleeps, where there is such a thing.
    write_end: Option<Arc<WriteEnd>>,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) session: Session<Waker>,
    /// How to wake the driver, while it sleeps.
    pub(crate) driver: Option<Waker>,
    /// The driver is running or about to: whoever queues something need not wake it. The driver resets this
    /// under the lock, when it has seen that nothing is queued; so no wake-up is lost.
    pub(crate) awake: bool,
    waiters: Vec<Waiter>,
    next_ticket: u64,
    pub(crate) inbox: Inbox,
    /// Room that was promised to permits and not used yet, in bytes.
    pub(crate) promised: usize,
    /// Bytes of answers that wait to be written, or fewer.
    pub(crate) answers: usize,
    /// Requests received by hand that may still be answered.
    pub(crate) owed: usize,
    /// Requests of the peer that it no longer waits for, and whose handlers are on their way out.
    pub(crate) cancelled: Vec<Box<str>>,
}

/// Messages for `recv`.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) queue: VecDeque<Result<Message, RecvError>>,
    pub(crate) bytes: usize,
    /// Somebody receives, or has.
    pub(crate) used: bool,
    /// `recv` has told somebody that no more will come.
    pub(crate) end_seen: bool,
}

impl Inbox {
    pub(crate) fn push(&mut self, item: Result<Message, RecvError>) {
        self.bytes += Self::cost(&item);
        self.queue.push_back(item);
    }

    pub(crate) fn pop(&mut self) -> Option<Result<Message, RecvError>> {
        self.used = true;
        let item = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(Self::cost(&item));
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        Some(item)
    }

    /// Whether somebody may still receive what has come, and answer it.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.end_seen && (self.used || !self.queue.is_empty())
    }

    /// Bytes that an item counts; one that was refused holds a name at most.
    fn cost(item: &Result<Message, RecvError>) -> usize {
        item.as_ref().map_or(320, Message::cost)
    }
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    on: On,
    waker: Option<Waker>,
}

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// Room in the queue of what goes out, or for one more request.
    Room,
    /// That what was queued has left.
    Flush,
    /// A message, or the end.
    Receive,
    /// That the conversation ends.
    Close,
}

/// Wakers to be woken when the lock is released. The first needs no allocation, and mostly there are no others.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    first: Option<Waker>,
    others: Vec<Waker>,
}

impl Wakes {
    fn wake(self) {
        wake(self.first.into_iter().chain(self.others));
    }
}

impl Extend<Waker> for Wakes {
    #[inline]
    fn extend<I: IntoIterator<Item = Waker>>(&mut self, wakers: I) {
        for waker in wakers {
            if self.first.is_none() {
                self.first = Some(waker);
            } else {
                self.others.push(waker);
            }
        }
    }
}

pub(crate) fn wake(wakes: impl IntoIterator<Item = Waker>) {
    wakes.into_iter().for_each(Waker::wake);
}

/// Shows whose it is, and nothing of what waits: a log is no place for what users send.
impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        config: Arc<Config>,
        peer: Peer,
        connects: bool,
        by_hand: bool,
        write_end: Option<Arc<WriteEnd>>,
        now: Instant,
    ) -> Arc<Self> {
        let core = Core {
            session: Session::new(&config, connects, now),
            driver: None,
            awake: true,
            waiters: Vec::new(),
            next_ticket: 0,
            inbox: Inbox::default(),
            promised: 0,
            answers: 0,
            owed: 0,
            cancelled: Vec::new(),
        };
        Arc::new(Self {
            core: Mutex::new(core),
            handles: AtomicUsize::new(0),
            answers_held: AtomicBool::new(false),
            queued: AtomicBool::new(false),
            config,
            peer,
            by_hand,
            write_end,
        })
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        // No code of a user runs under the lock, but for clones of wakers, and ours leaves it consistent at every step.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `act` under the lock, then wakes whom it names.
    #[inline]
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Core, &mut Wakes) -> R) -> R {
        let mut wakes = Wakes::default();
        let result = act(&mut self.lock(), &mut wakes);
        if wakes.first.is_some() {
            wakes.wake();
        } else {
            std::mem::forget(wakes); // empty, which dropping it would find out again, at some length
        }
        result
    }

    /// Queues a frame; the buffer comes from the thread.
    #[inline]
    pub(crate) fn frame(&self, core: &mut Core, kind: Kind, name_len: u8, name: &[&str], body: Payload<'_>) {
        self.queued.store(true, Ordering::Relaxed);
        core.lend_buffer();
        core.session.frame(kind, name_len, name, body);
    }

    /// Queues a request; the buffer comes from the thread.
    #[inline]
    pub(crate) fn request(&self, core: &mut Core, kind: Kind, name: &str, id: RequestId, body: Payload<'_>) {
        self.queued.store(true, Ordering::Relaxed);
        core.lend_buffer();
        core.session.request_frame(kind, name, id, body);
    }

    /// Queues a frame that is encoded already.
    #[inline]
    pub(crate) fn whole(&self, core: &mut Core, frame: Payload<'_>) {
        self.queued.store(true, Ordering::Relaxed);
        core.lend_buffer();
        core.session.whole(frame);
    }

    /// Queues a frame that is encoded already behind other small ones, fewer than `turn` bytes, if nothing at all speaks
    /// against it; says whether it did. The driver has been woken for the others, and nobody else is to be.
    #[inline]
    pub(crate) fn append(&self, frame: &[u8], body_len: usize, turn: usize) -> bool {
        let mut core = self.lock();
        let limits = &self.config.limits;
        // Control frames alone are nothing that somebody sent, and do not say yet that something is queued.
        let good = self.has_queued()
            && (1..turn).contains(&core.session.unwritten_small())
            && core.awake
            && core.waiters.is_empty()
            && core.session.phase() <= Phase::Draining
            && core.has_room(limits.send_queue)
            && body_len <= core.session.max_body(limits.max_body) as usize;
        if good {
            core.session.whole(Payload::Borrowed(frame));
        }
        good
    }

    /// Sends a frame that is encoded already and goes to many: writes it at once if the driver sleeps and nothing
    /// waits, and queues what does not go.
    ///
    /// So one task serves many sockets with one system call each, and wakes no other. It is made under the lock, which
    /// keeps the driver asleep meanwhile: it neither waits nor is for large bodies.
    pub(crate) fn whole_at_once(&self, core: &mut Core, wakes: &mut Wakes, frame: &Bytes) {
        let mut written = 0;
        if let Some(end) = &self.write_end
            && !core.awake
            && core.session.queue_len() == 0
            && frame.len() < Outbox::LARGE
        {
            written = end.write_now(frame);
            core.session.wrote_at_once(written);
        }
        if written < frame.len() {
            self.whole(core, Payload::Owned(frame.slice(written..)));
            core.wake_driver(wakes);
        }
    }

    /// Whether a message is queued that has to leave before what is said now. Read without the lock: whoever sent it
    /// and then let the reader go on has made it known by that.
    pub(crate) fn has_queued(&self) -> bool {
        self.queued.load(Ordering::Relaxed)
    }

    /// Gives what is queued to the driver: what its handlers answered, then what others sent.
    pub(crate) fn take(&self, core: &mut Core, answers: &mut Answers, output: &mut Outbox) -> bool {
        if !answers.is_empty() {
            self.count_answer(core, answers.len());
            core.session.asked_by_peer(answers.take_unnoted());
            core.session.queue_first(answers.take());
        }
        if !output.is_empty() {
            return false;
        }
        self.queued.store(false, Ordering::Relaxed);
        core.session.take(output)
    }

    /// Counts an answer of so many bytes among those that wait.
    pub(crate) fn count_answer(&self, core: &mut Core, bytes: usize) {
        core.answers += bytes;
        if core.answers >= self.config.limits.send_queue {
            self.answers_held.store(true, Ordering::Relaxed);
        }
    }

    /// Notes that `n` bytes were written; lets in who waits for room once half of it is free.
    pub(crate) fn wrote(&self, core: &mut Core, wakes: &mut Wakes, n: usize) {
        core.session.wrote(n);
        let queued = core.session.queue_len();
        let limit = self.config.limits.send_queue;
        core.answers = core.answers.min(queued);
        if core.answers < limit {
            self.answers_held.store(false, Ordering::Relaxed);
        }
        if queued <= limit / 2 {
            core.wake(On::Room, wakes);
        }
    }

    /// Begins to close, for everyone; what runs may take `grace` to end.
    pub(crate) fn close(&self, reason: CloseReason, grace: Duration) {
        let until = after(now(), grace);
        self.with(|core, wakes| {
            if core.session.begin_close(reason, until) {
                core.wake(On::Close, wakes);
                core.wake(On::Room, wakes);
                core.wake_driver(wakes);
            }
        });
    }

    pub(crate) fn add_handle(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a handle away; the last one closes the connection.
    pub(crate) fn drop_handle(&self) {
        if self.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close(CloseReason::Local, self.config.limits.close_grace);
            self.refuse_inbox();
            // It may have been closing already, and only have waited for somebody to receive.
            self.with(Core::wake_driver);
        }
    }

    /// Nobody will receive what has come: whoever asked is told. It would stay for ever otherwise, as the way to answer a
    /// request holds the connection, and that the request.
    pub(crate) fn refuse_inbox(&self) {
        let left = {
            let mut core = self.lock();
            core.inbox.bytes = 0;
            std::mem::take(&mut core.inbox.queue)
        };
        for responder in left.into_iter().flatten().filter_map(|message| message.responder) {
            responder.reject(&Reject::of(RejectCode::Busy, "this side is closing"));
        }
    }

    pub(crate) fn has_handles(&self) -> bool {
        self.handles.load(Ordering::Acquire) > 0
    }

    /// Waits until `check`, run under the lock, gives something.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing and leaves no trace.
    pub(crate) const fn wait<R, F>(&self, on: On, check: F) -> Wait<'_, F>
    where
        F: FnMut(&mut Core, &mut Wakes, Turn) -> Option<R> + Unpin,
    {
        Wait { shared: self, on, ticket: None, check }
    }
}

/// The time, as tests may have set it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Whether somebody came earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    First,
    Behind,
}

impl Core {
    /// Takes somebody out of the line; gives the waker, to be dropped without the lock.
    fn leave(&mut self, ticket: u64) -> Option<Waker> {
        let at = self.waiters.iter().position(|waiter| waiter.ticket == ticket)?;
        self.waiters.remove(at).waker
    }

    /// Names those who wait for `on`, to be woken. They keep their place in the line until they have got what
    /// they wait for.
    #[inline]
    pub(crate) fn wake(&mut self, on: On, wakes: &mut Wakes) {
        if !self.waiters.is_empty() {
            self.wake_some(on, wakes);
        }
    }

    fn wake_some(&mut self, on: On, wakes: &mut Wakes) {
        wakes.extend(self.waiters.iter_mut().filter(|waiter| waiter.on == on).filter_map(|w| w.waker.take()));
    }

    #[inline]
    pub(crate) fn wake_driver(&mut self, wakes: &mut Wakes) {
        if !self.awake {
            self.awake = true;
            wakes.extend(self.driver.take());
        }
    }

    #[inline]
    fn lend_buffer(&mut self) {
        let buffer = self.session.outbox().small();
        if buffer.capacity() == 0 {
            memory::take_output(buffer);
        }
    }

    /// Whether a message may be queued now by somebody whose turn it is.
    pub(crate) fn has_room(&self, limit: usize) -> bool {
        self.session.queue_len() + self.promised < limit
    }

    /// Whether messages for `recv`, or answers that the peer does not take, are so many that nothing is read.
    pub(crate) fn is_held_back(&mut self, limits: &crate::Limits, by_hand: bool) -> bool {
        self.inbox.bytes >= limits.receive_queue
            || (self.answers >= limits.send_queue && (by_hand || self.holds_answers_back()))
    }

    /// Whether too many answers keep everything from being read, and not requests alone. Not while answers are waited
    /// for: the peer may not read either because of those that it has for us, and then nobody would read any more.
    pub(crate) fn holds_answers_back(&mut self) -> bool {
        self.session.pending().is_empty()
    }

    /// The turn of somebody who has not waited yet.
    pub(crate) fn turn(&self, on: On) -> Turn {
        if self.waiters.iter().any(|waiter| waiter.on == on) { Turn::Behind } else { Turn::First }
    }

    /// Ends the conversation and tells everybody.
    pub(crate) fn end(&mut self, reason: CloseReason, wakes: &mut Wakes) {
        if self.session.phase() != Phase::Closed {
            self.session.end(reason);
        }
        wakes.extend(self.session.pending().close());
        for on in [On::Room, On::Flush, On::Receive, On::Close] {
            self.wake(on, wakes);
        }
    }
}

/// The future of [`Shared::wait`].
#[derive(Debug)]
pub(crate) struct Wait<'a, F> {
    shared: &'a Shared,
    on: On,
    ticket: Option<u64>,
    check: F,
}

impl<R, F> Future for Wait<'_, F>
where
    F: FnMut(&mut Core, &mut Wakes, Turn) -> Option<R> + Unpin,
{
    type Output = R;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let this = self.get_mut();
        let mut wakes = Wakes::default();
        let mut other = None; // dropped without the lock: it may be the last of its task
        let mut core = this.shared.lock();
        let ahead =
            |waiter: &Waiter| waiter.on == this.on && this.ticket.is_none_or(|own| waiter.ticket < own);
        let turn = if core.waiters.iter().any(ahead) { Turn::Behind } else { Turn::First };
        let result = (this.check)(&mut core, &mut wakes, turn);
        if result.is_some() {
            if let Some(ticket) = this.ticket.take() {
                other = core.leave(ticket);
                // Whoever stood behind may have been told to wait for this one.
                core.wake(this.on, &mut wakes);
            }
        } else {
            let waker = Some(cx.waker().clone());
            let ticket = *this.ticket.get_or_insert_with(|| {
                core.next_ticket += 1;
                core.next_ticket
            });
            match core.waiters.iter_mut().find(|waiter| waiter.ticket == ticket) {
                Some(waiter) => other = std::mem::replace(&mut waiter.waker, waker),
                None => core.waiters.push(Waiter { ticket, on: this.on, waker }),
            }
        }
        drop(core);
        drop(other);
        wakes.wake();
        result.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<F> Drop for Wait<'_, F> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let on = self.on;
        let waker = self.shared.with(|core, wakes| {
            let waker = core.leave(ticket);
            core.wake(on, wakes);
            waker
        });
        drop(waker);
    }
}
