use std::time::{Duration, Instant};

use bytes::Bytes;

use super::pending::{Answer, Due, Pending, Reply, RequestId, after, earlier};
use super::reject::{Outcome, read_reply, success};
use super::{CloseReason, Control, Hello, Outbox, TimedOut};
use crate::Config;
use crate::wire::{Frame, Head, Kind, name_len};

/// One conversation, seen from one side.
#[derive(Debug)]
pub struct Session<W> {
    phase: Phase,
    reason: Option<CloseReason>,
    /// When the phase ends at the latest, once closing has begun.
    until: Option<Instant>,
    /// Queued, and not taken by the driver.
    outbox: Outbox,
    /// Taken by the driver, and not written.
    writing: usize,
    /// Bytes ever queued, and of those, bytes that have left every buffer of this process.
    queued: u64,
    flushed: u64,
    pending: Pending<W>,
    said_hello: bool,
    peer: Option<Hello>,
    heard: Instant,
    pinged: Option<Instant>,
    /// Control frames of the peer since then, less the requests that it sent meanwhile.
    controls: u32,
    controls_since: Instant,
    stats: Stats,
}

/// How far the conversation has come; see the [module](crate::session) for the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums, reason = "a driver has to know them all")]
pub enum Phase {
    /// Everything goes.
    Open,
    /// What runs ends; nothing begins.
    Draining,
    /// What is queued leaves.
    Flushing,
    /// The peer's last bytes are read.
    Lingering,
    /// It is over.
    Closed,
}

/// The time over which control frames are counted.
const CONTROLS_TIME: Duration = Duration::from_secs(10);

/// What a connection has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Answers nobody waited for: late, doubled or invented.
    pub stray_answers: u64,
    /// Control frames that this version does not know.
    pub unknown_controls: u64,
    /// Messages that were refused: over the limit, with a name that is no text, or come too late.
    pub refused: u64,
    /// Messages nobody handled.
    pub unhandled: u64,
    /// Messages whose handler failed or could not read them.
    pub failed: u64,
}

/// A body to be queued.
#[derive(Debug)]
pub(crate) enum Payload<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
}

impl Payload<'_> {
    pub(crate) const fn len(&self) -> usize {
        match self {
            Self::Borrowed(bytes) => bytes.len(),
            Self::Owned(bytes) => bytes.len(),
        }
    }
}

impl<W> Session<W> {
    /// A conversation that begins now; the side that connects says hello, unless it is configured not to.
    #[must_use]
    pub fn new(config: &Config, connects: bool, now: Instant) -> Self {
        let mut session = Self {
            phase: Phase::Open,
            reason: None,
            until: None,
            outbox: Outbox::default(),
            writing: 0,
            queued: 0,
            flushed: 0,
            pending: Pending::default(),
            said_hello: false,
            peer: None,
            heard: now,
            pinged: None,
            controls: 0,
            controls_since: now,
            stats: Stats::default(),
        };
        if connects && config.hello {
            session.say_hello(config);
        }
        session
    }

    fn say_hello(&mut self, config: &Config) {
        self.said_hello = true;
        self.control(&Control::Hello(Hello::new(&config.limits)));
    }

    /// How far it has come.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Why it ends, as soon as it does.
    #[must_use]
    pub const fn reason(&self) -> Option<&CloseReason> {
        self.reason.as_ref()
    }

    /// What the peer said of itself, if it ever did.
    #[must_use]
    pub const fn peer(&self) -> Option<&Hello> {
        self.peer.as_ref()
    }

    /// What was counted.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    pub(crate) const fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// Requests of ours.
    pub const fn pending(&mut self) -> &mut Pending<W> {
        &mut self.pending
    }

    /// Whether messages are still taken.
    pub(crate) fn may_send(&self) -> Result<(), CloseReason> {
        if self.phase <= Phase::Draining {
            return Ok(());
        }
        Err(self.reason.clone().unwrap_or(CloseReason::Local))
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub const fn queue_len(&self) -> usize {
        self.outbox.len() + self.writing
    }

    /// Bytes ever queued and bytes of those that have left this process.
    #[must_use]
    pub const fn progress(&self) -> (u64, u64) {
        (self.queued, self.flushed)
    }

    /// The largest body that both sides accept.
    #[must_use]
    pub fn max_body(&self, ours: u32) -> u32 {
        self.peer.as_ref().map_or(ours, |peer| ours.min(peer.max_body))
    }

    /// Queues a frame. The caller has looked at the lengths.
    pub(crate) fn frame(&mut self, kind: Kind, name_len: u8, name: &[&str], body: Payload<'_>) {
        let before = self.outbox.len();
        let body_len = u32::try_from(body.len()).expect("the caller has compared it with a limit of 32 bits");
        Head::write(self.outbox.small(), kind, name_len, name, body_len);
        self.append(body);
        self.queued += (self.outbox.len() - before) as u64;
    }

    /// Queues a message, or the frame of a request or of an answer. The caller has looked at the limits.
    ///
    /// # Errors
    /// With the reason, when messages are no longer taken.
    ///
    /// # Panics
    /// When the body has 4 GiB or more, which the wire cannot express.
    pub fn send(&mut self, frame: Frame) -> Result<(), CloseReason> {
        self.may_send()?;
        let Frame { name, body } = frame;
        let name_len = name_len(&name).expect("a Name has at most 255 bytes");
        self.frame(body.kind(), name_len, &[&name], Payload::Owned(body.into_bytes()));
        Ok(())
    }

    /// Queues a frame that is encoded already.
    #[inline]
    pub(crate) fn whole(&mut self, frame: Payload<'_>) {
        self.queued += frame.len() as u64;
        self.append(frame);
    }

    /// Queues a request. The caller has looked at the lengths.
    #[inline]
    pub(crate) fn request_frame(&mut self, kind: Kind, name: &str, id: RequestId, body: Payload<'_>) {
        let before = self.outbox.len();
        let body_len = u32::try_from(body.len()).expect("the caller has compared it with a limit of 32 bits");
        let id = id.text();
        let (digits, len) = id.digits();
        Head::write_request(self.outbox.small(), kind, name, digits, len, body_len);
        self.append(body);
        self.queued += (self.outbox.len() - before) as u64;
    }

    #[inline(always)]
    fn append(&mut self, body: Payload<'_>) {
        match body {
            Payload::Owned(bytes) if bytes.len() >= Outbox::LARGE => self.outbox.push(bytes),
            Payload::Owned(bytes) => self.outbox.small().extend_from_slice(&bytes),
            Payload::Borrowed(bytes) => self.outbox.small().extend_from_slice(bytes),
        }
    }

    /// Queues whole frames before everything that waits, and takes an empty buffer for them.
    pub(crate) fn queue_first(&mut self, frames: &mut Vec<u8>) {
        self.queued += frames.len() as u64;
        self.outbox.push_first(frames);
    }

    fn control(&mut self, control: &Control<'_>) {
        let before = self.outbox.len();
        control.write(self.outbox.small());
        self.queued += (self.outbox.len() - before) as u64;
    }

    /// Gives what is queued, and takes an empty box for what comes; `false` when nothing is queued.
    pub fn take(&mut self, empty: &mut Outbox) -> bool {
        if self.outbox.is_empty() || self.phase == Phase::Closed {
            return false;
        }
        std::mem::swap(&mut self.outbox, empty);
        self.writing += empty.len();
        true
    }

    /// What is queued.
    pub(crate) const fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Bytes of small frames that wait while the driver has nothing to write: so it only wants its turn.
    #[inline]
    pub(crate) const fn unwritten_small(&mut self) -> usize {
        if self.writing > 0 { 0 } else { self.outbox.small().len() }
    }

    /// Notes that `n` of the taken bytes were written.
    pub fn wrote(&mut self, n: usize) {
        self.writing = self.writing.saturating_sub(n);
    }

    /// Notes that `n` bytes were written past the queue, which is empty.
    pub(crate) const fn wrote_at_once(&mut self, n: usize) {
        self.queued += n as u64;
        self.flushed += n as u64;
    }

    /// Notes that all that was written has left this process.
    pub fn flushed(&mut self) {
        self.flushed = self.queued - self.queue_len() as u64;
    }

    /// Notes that bytes came.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.pinged = None;
    }

    /// Handles the body of a control frame. Gives the id of a request that the peer no longer waits for.
    pub fn control_received(&mut self, body: &[u8], config: &Config, now: Instant) -> Option<String> {
        if self.is_flooded(config.limits.controls, now) {
            let reason = CloseReason::Flooded { limit: config.limits.controls };
            self.begin_close(reason, after(now, config.limits.close_grace));
            return None;
        }
        match Control::parse(body) {
            Some(Control::Hello(hello)) => {
                if !self.said_hello {
                    self.say_hello(config);
                }
                self.peer = Some(hello);
            }
            Some(Control::Ping(number)) => self.control(&Control::Pong(number)),
            Some(Control::Pong(_)) => {} // that it came is what counts, and `heard` has noted it
            Some(Control::Cancel(id)) => return Some(id.into_owned()),
            Some(Control::Close(close)) => {
                let reason = CloseReason::PeerSaid { code: close.code, message: close.message };
                self.begin_close(reason, after(now, config.limits.close_grace));
            }
            None => self.stats.unknown_controls += 1,
        }
        None
    }

    /// Counts a control frame; says whether it was one too many.
    fn is_flooded(&mut self, limit: u32, now: Instant) -> bool {
        if now.saturating_duration_since(self.controls_since) >= CONTROLS_TIME {
            (self.controls, self.controls_since) = (0, now);
        }
        self.controls = self.controls.saturating_add(1);
        self.controls > limit
    }

    /// Notes that the peer has sent so many requests: each pays for the control frame that may follow it, as a rule its
    /// cancel.
    pub fn asked_by_peer(&mut self, requests: u32) {
        self.controls = self.controls.saturating_sub(requests);
    }

    /// Starts a request: takes a slot. `None` when as many are under way as either side allows.
    pub fn request(&mut self, due: Due, waker: Option<W>, limit: usize) -> Option<RequestId> {
        let theirs = self.peer.as_ref().map_or(usize::MAX, |peer| peer.max_in_flight.max(1) as usize);
        if self.pending.len() >= limit.min(theirs) {
            return None;
        }
        self.pending.insert(due, waker)
    }

    /// Handles an answer that is short and waited for, as nearly all are; gives whom to wake.
    #[inline]
    pub(crate) fn answered_shortly(&mut self, name: &[u8], kind: Kind, body: &[u8]) -> Option<Option<W>> {
        let value = if kind == Kind::Json { success(body)? } else { return None };
        self.pending.finish_short(RequestId::ending(name)?, value)
    }

    /// Handles an answer; gives whom to wake.
    pub fn answered(&mut self, id: RequestId, kind: Kind, body: Bytes) -> Option<W> {
        let outcome = if kind == Kind::Raw { Ok(Outcome::Raw(body)) } else { read_reply(body) };
        self.pending.finish(id, Answer::Reply(Reply(outcome)))
    }

    /// Handles an answer that was not let in; gives whom to wake.
    pub fn refused(&mut self, id: RequestId, reject: super::Reject) -> Option<W> {
        self.pending.finish(id, Answer::Reply(Reply(Ok(Outcome::Rejected(reject)))))
    }

    /// Whether something is queued that the driver has not taken.
    pub(crate) const fn has_output(&self) -> bool {
        !self.outbox.is_empty() && !matches!(self.phase, Phase::Closed)
    }

    /// Frees a request whose caller went away, and tells a peer that understands it.
    pub fn cancel(&mut self, id: RequestId) -> bool {
        let waited = self.pending.abandon(id);
        if waited && self.may_cancel() {
            self.control(&Control::Cancel(id.text().as_str().into()));
            return true;
        }
        false
    }

    /// Whether the peer understands a cancel, and one may still be sent.
    fn may_cancel(&self) -> bool {
        self.peer.is_some() && self.phase <= Phase::Draining
    }

    /// Begins to close; the first reason stays. Gives whether anything changed.
    pub fn begin_close(&mut self, reason: CloseReason, until: Instant) -> bool {
        if self.phase != Phase::Open {
            return false;
        }
        self.phase = Phase::Draining;
        self.reason.get_or_insert(reason);
        self.until = Some(until);
        true
    }

    /// Ends draining: says farewell to a peer that understands it, and takes nothing more.
    pub fn begin_flush(&mut self) {
        if self.phase != Phase::Draining {
            return;
        }
        self.phase = Phase::Flushing;
        let told = matches!(self.reason, Some(CloseReason::Peer | CloseReason::PeerSaid { .. }));
        if let (Some(reason), Some(_), false) = (&self.reason, &self.peer, told) {
            let farewell = Control::Close(reason.farewell());
            self.control(&farewell);
        }
    }

    /// Our end of the stream is shut.
    pub fn begin_linger(&mut self) {
        if self.phase == Phase::Flushing {
            self.phase = Phase::Lingering;
        }
    }

    /// It is over. What is queued stays, to be dropped by the driver, and is not taken any more.
    pub fn end(&mut self, reason: CloseReason) {
        self.phase = Phase::Closed;
        self.until = None;
        self.reason.get_or_insert(reason);
    }

    /// When to call [`timed_out`](Self::timed_out), as far as the conversation itself knows.
    #[must_use]
    pub fn next_timeout(&self, config: &Config) -> Option<Instant> {
        let ping = match (self.phase, &self.peer, self.pinged) {
            (Phase::Open, Some(_), Some(pinged)) => Some(after(pinged, config.limits.ping_wait)),
            (Phase::Open, Some(_), None) => Some(after(self.heard, config.limits.ping_after)),
            _ => None,
        };
        earlier(self.pending.next_deadline(), earlier(ping, self.until))
    }

    /// Does what is due; gives whom to wake. A peer that understands it is told of requests that are no longer waited for.
    pub fn timed_out(&mut self, config: &Config, now: Instant) -> Vec<W> {
        if self.until.is_some_and(|until| until <= now) {
            match self.phase {
                Phase::Draining => {
                    self.until = Some(after(now, config.limits.close_grace));
                    self.begin_flush();
                }
                Phase::Flushing | Phase::Lingering => self.end(CloseReason::Local),
                Phase::Open | Phase::Closed => {}
            }
        }
        if self.phase == Phase::Open && self.peer.is_some() {
            match self.pinged {
                Some(pinged) if after(pinged, config.limits.ping_wait) <= now => {
                    self.end(CloseReason::TimedOut(TimedOut::Ping));
                }
                None if after(self.heard, config.limits.ping_after) <= now => {
                    self.pinged = Some(now);
                    self.control(&Control::Ping(self.queued));
                }
                _ => {}
            }
        }
        let mut late = Vec::new();
        let wakers = self.pending.expire(now, |id| late.push(id));
        if self.may_cancel() {
            for id in late {
                self.control(&Control::Cancel(id.text().as_str().into()));
            }
        }
        wakers
    }
}
