//! The one task of a connection.
//!
//! ```text
//!  carrier ─▶ receive ─▶ machine ─▶ events ─▶ poll the handler here
//!     ▲                     ▲                   │ done: its result goes to the machine
//!     │ flush, once         │                   │ waits: a task of its own, which gives it to the machine itself
//!     └────── outbox ◀──────┴───────────────────┘
//!                ▲
//!                └── data and events from elsewhere; the driver is woken only if it sleeps
//! ```
//!
//! Most calls need none of this, and are [served](self::serve) between the carrier's two buffers.
//!
//! ```text
//!  Open ── drain ──▶ Draining ── nothing runs, or too late ──▶ Closing ── all is said, or too late ──▶ ended
//!    │── revoked by a call of its own ──▶ Answering ── done ───▶▲
//!    │──────────────────── close, offence ──────────────────────┘
//!    └── the carrier has ended ─────────────────────────────────────────────────────────────────────▶ ended
//! ```

mod commands;
mod dispatch;
mod finish;
mod revoked;
mod serve;

use std::future::{Future as _, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use nossock::slot::{self, FutureSlot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Sleep;

use self::dispatch::Member;
use self::finish::{panicked, unsent};
use self::serve::Latest;
use super::connection::{Connection, EndReason, WeakUse, now};
use super::handler::CallSlot;
use super::seats::Seat;
use super::service::Runtime;
use super::shared::{Closed, Shared, Totals};
use crate::carrier::{self, Carrier, Farewell};
use crate::machine::daemon::{Config, Event, RequestKey};
use crate::machine::entities::ConnectionId;
use crate::machine::numbered::{NameMap, NumberMap};
use crate::machine::{self, Incoming, Next, SpPolicy};
use crate::proto::text::Dialect;
use crate::proto::{EntityId, ca};
use crate::secure::SystemRandom;

/// Owns the carrier of one connection.
pub(crate) struct Driver {
    carrier: Box<dyn Carrier>,
    connection: Arc<Connection>,
    shared: Arc<Shared>,
    seat: Seat,
    members: NameMap<EntityId, Member>,
    /// Calls that wait, each in a task of its own.
    running: NumberMap<RequestKey, AbortHandle>,
    /// Entities that are closed when a call has ended.
    leaving: Vec<(RequestKey, EntityId)>,
    /// Packets of custom methods that are worked on.
    customs: Option<JoinSet<()>>,
    /// Services that are working on data.
    data_running: usize,
    /// Bytes of data that wait for a service.
    data_bytes: usize,
    slot: CallSlot,
    /// The same for calls that are served the short way.
    place: FutureSlot,
    /// The entity that was served the short way last.
    latest: Option<Box<Latest>>,
    /// Whether something waits in the outbox.
    is_filled: Arc<AtomicBool>,
    timer: Option<Pin<Box<Sleep>>>,
    armed: Option<Instant>,
    now: Instant,
    message_limit: usize,
    /// How much the carrier has passed over that was no packet, as far as it is counted.
    passed_over: u64,
    /// Entities have come or gone, or time has passed: after that a connection may be idle for long, and gives its memory back. Between calls it
    /// keeps it, because they would have to ask for it again.
    may_be_idle: bool,
    /// Since when nothing of what is queued has left, and how much it was.
    stalled: Option<(Instant, usize)>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Open,
    Draining {
        until: Instant,
    },
    /// The client has ended its own access: nothing more is read, and only this call is still answered.
    Answering {
        last: RequestKey,
        until: Instant,
    },
    Closing {
        reason: EndReason,
        farewell: Farewell,
        until: Instant,
        clean: bool,
    },
}

/// Messages that are received in one turn. Then what they made to be said is written, and other tasks get theirs.
const MESSAGES_PER_TURN: usize = 64;

/// Bytes that the carrier is given at most, on top of one message: what is here can still be dropped, what is there cannot.
const CARRIER_QUEUE: usize = 64 * 1024;

/// How many times as much data may wait while the client is asked something, whose answer comes behind it.
const WHILE_ASKED: usize = 8;

/// How long the last words may take when somebody is cut off.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What is known of a connection before it says anything: what its listener has agreed upon, mostly.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    pub(crate) sp: SpPolicy,
    pub(crate) weak_use: WeakUse,
    /// What clients of NSP 0.4 speak, if there may be some.
    pub(crate) text: Option<Dialect>,
    /// The service of this daemon that has made it. No listener knows one.
    pub(crate) service: Option<Arc<Runtime>>,
}

/// Gives the carrier a message.
#[inline]
fn send(carrier: &mut dyn Carrier, connection: ConnectionId, next: Next<'_>) {
    if let Err(error) = carrier::send(carrier, next) {
        unsent(connection, &error);
    }
}

impl Driver {
    pub(crate) fn new(mut carrier: Box<dyn Carrier>, terms: Terms, shared: Arc<Shared>, seat: Seat) -> Self {
        let config = Config {
            methods: shared.methods.clone(),
            sp: terms.sp,
            text: terms.text,
            heartbeat: carrier.kind().has_heartbeat().then_some(shared.times.heartbeat),
            first_entity: shared.times.first_entity,
            request_timeout: shared.times.request,
            question_timeout: shared.times.question,
            limits: shared.limits.connection,
        };
        let now = now();
        let machine = machine::Daemon::new(config, Box::new(SystemRandom), now);
        let message_limit = machine.message_limit();
        carrier.limit_message(message_limit);
        let id = shared.next_connection();
        let connection =
            Arc::new(Connection::new(id, &*carrier, terms.weak_use, terms.service, machine, &shared));
        let is_filled = connection.lock().outbox.is_filled();
        shared.registry_mut().connections.insert(id, Arc::clone(&connection));
        Totals::add(&shared.totals.accepted);
        tracing::debug!(connection = id.0, peer = %connection.peer, carrier = ?connection.kind, "connected");
        Self {
            carrier,
            connection,
            shared,
            seat,
            members: NameMap::default(),
            running: NumberMap::default(),
            leaving: Vec::new(),
            customs: None,
            data_running: 0,
            data_bytes: 0,
            slot: CallSlot::default(),
            place: FutureSlot::new(),
            latest: None,
            is_filled,
            timer: None,
            armed: None,
            now,
            message_limit,
            passed_over: 0,
            may_be_idle: false,
            stalled: None,
            phase: Phase::Open,
        }
    }

    /// Runs the connection to its end; says whether it ended with nothing lost.
    ///
    /// Boxed: an async function would keep room for it twice, before and while it runs.
    pub(crate) async fn run(mut self: Box<Self>) -> bool {
        let (reason, clean) = poll_fn(|cx| {
            // Handlers are caught where they run; what is left is a fault of ours, of a carrier, or of the authority. Whatever it is, the
            // entities must not be left behind.
            catch_unwind(AssertUnwindSafe(|| self.poll(cx))).unwrap_or_else(|panic| {
                let _ = panicked(&*panic).tell("", "");
                Poll::Ready((EndReason::Internal, false))
            })
        })
        .await;
        let clean = clean && self.running.is_empty() && self.data_running == 0;
        self.end(reason);
        clean
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(EndReason, bool)> {
        self.connection.begin_turn();
        let mut budget = MESSAGES_PER_TURN;
        loop {
            self.now = now();
            if let Err(reason) = self.turn(cx, &mut budget) {
                return Poll::Ready(match &self.phase {
                    // That the peer cannot be told any more is not why it was to go.
                    Phase::Closing { reason, .. } => (reason.clone(), false),
                    _ => (reason, true), // what is lost by it, `run` looks at
                });
            }
            if let Poll::Ready(end) = self.poll_phase(cx) {
                return Poll::Ready(end);
            }
            if budget == 0 {
                cx.waker().wake_by_ref(); // there may be more, after the others had their turn
                return Poll::Pending;
            }
            let can_send = self.carrier.queued() < CARRIER_QUEUE;
            if !self.arm(cx) || !self.connection.end_turn(cx.waker(), can_send, self.may_be_idle) {
                continue;
            }
            if std::mem::take(&mut self.may_be_idle) {
                self.running.shrink_to_fit();
            }
            // An idle connection holds no memory for calls.
            self.slot.0 = None;
            slot::give_back(std::mem::take(&mut self.place));
            return Poll::Pending;
        }
    }

    /// Does what can be done now.
    fn turn(&mut self, cx: &mut Context<'_>, budget: &mut usize) -> Result<(), EndReason> {
        loop {
            for command in self.connection.with(|core| std::mem::take(&mut core.commands)) {
                self.obey(command, cx);
            }
            self.handle_timeout(cx);
            let is_all_read = self.receive_all(cx, budget)?;
            if !is_all_read && *budget > 0 && self.is_held_back() {
                self.carrier.hold();
            }
            self.count_passed_over(cx);
            self.write(cx)?;
            // Only a carrier that was read to its end wakes us. Where reading was held back, and is not any more, it has to go on.
            if is_all_read || *budget == 0 || !self.listens() || self.is_held_back() {
                return Ok(());
            }
        }
    }

    pub(super) const fn listens(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Draining { .. })
    }

    /// Whether so much waits already that nothing more is read: answers that the peer does not take, or data for its services. While the
    /// client is asked something, its answer has to get through behind the data.
    pub(super) fn is_held_back(&self) -> bool {
        let limits = &self.shared.limits;
        let core = self.connection.lock();
        core.outbox.answer_bytes() + self.carrier.queued() > limits.answers
            || self.data_bytes > limits.data_queue * if core.questions.is_empty() { 1 } else { WHILE_ASKED }
    }

    pub(super) fn receive(&mut self, incoming: Incoming, cx: &mut Context<'_>) {
        let now = self.now;
        let (received, event, is_last) = self.connection.with(|core| {
            let received = core.machine.receive(incoming, now);
            (received, core.machine.poll_event(), !core.machine.has_events())
        });
        // A call is the only event of its message, and what it leads to makes no others; so nearly always one look is enough.
        let is_all = is_last && matches!(event, Some(Event::Call { .. } | Event::CallBlob { .. }));
        if let Some(event) = event {
            self.handle(event, cx);
        }
        if !is_all {
            self.handle_events(cx);
        }
        if let Err(offence) = received {
            self.close(offence.into());
        }
    }

    /// What the carrier passes over by itself is a fault of the peer's like any other.
    fn count_passed_over(&mut self, cx: &mut Context<'_>) {
        while self.passed_over < self.carrier.skipped() && self.listens() {
            self.passed_over += 1;
            let counted = self.connection.with(|core| core.machine.passed_over());
            self.handle_events(cx);
            if let Err(offence) = counted {
                self.close(offence.into());
            }
        }
    }

    fn handle_events(&mut self, cx: &mut Context<'_>) {
        loop {
            let (event, limit) = {
                let mut core = self.connection.lock();
                (core.machine.poll_event(), core.machine.message_limit())
            };
            if limit != self.message_limit {
                self.message_limit = limit;
                self.carrier.limit_message(limit);
            }
            let Some(event) = event else { return };
            self.handle(event, cx);
        }
    }

    fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        let now = self.now;
        let is_due = self.connection.lock().machine.poll_timeout().is_some_and(|at| at <= now);
        if is_due {
            self.may_be_idle = true;
            let handled = self.connection.with(|core| core.machine.handle_timeout(now));
            self.handle_events(cx);
            if let Err(offence) = handled {
                self.close(offence.into());
            }
        }
        let stall = self.shared.limits.write_stall;
        if self.stalled.is_some_and(|(since, _)| since + stall <= now) {
            self.close(EndReason::WriteStall { after: stall });
        }
    }

    /// Gives the carrier what waits, and writes until nothing is left or it takes no more.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), EndReason> {
        // The carrier may have written while it received.
        if let Some((since, before)) = &mut self.stalled
            && self.carrier.queued() < *before
        {
            *since = self.now;
        }
        loop {
            let (is_awaited, is_empty) = {
                let mut core = self.connection.lock();
                while self.carrier.queued() < CARRIER_QUEUE {
                    let Some(message) = core.outbox.pop() else { break };
                    send(&mut *self.carrier, self.connection.id, Next::Whole(message));
                }
                (std::mem::take(&mut core.is_awaited), core.outbox.is_empty())
            };
            if is_awaited {
                self.connection.made_room();
            }
            let given = self.carrier.queued();
            match self.carrier.poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.stalled = None;
                    if is_empty {
                        return Ok(());
                    }
                }
                Poll::Ready(Err(end)) => return Err(end.into()),
                Poll::Pending => {
                    // Against what it was given just now: there may always be more to give than has left.
                    let queued = self.carrier.queued();
                    let since = self.stalled.filter(|_| queued >= given).map(|(since, _)| since);
                    self.stalled = Some((since.unwrap_or(self.now), queued));
                    return Ok(());
                }
            }
        }
    }

    /// Goes from one phase to the next, as far as that is possible now.
    fn poll_phase(&mut self, cx: &mut Context<'_>) -> Poll<(EndReason, bool)> {
        let over = match self.phase {
            Phase::Draining { until } if self.is_idle() || until <= self.now => Some(EndReason::Stopped),
            Phase::Answering { last, until } if !self.running.contains_key(&last) || until <= self.now => {
                Some(EndReason::Revoked)
            }
            _ => None,
        };
        if let Some(reason) = over {
            self.close(reason);
            // What was said because of it is written first.
            if self.write(cx).is_err() {
                return Poll::Ready((EndReason::Stopped, false));
            }
        }
        let Phase::Closing { reason, farewell, until, clean } = &self.phase else { return Poll::Pending };
        let is_said = self.connection.lock().outbox.is_empty();
        if is_said && self.carrier.poll_close(cx, farewell).is_ready() {
            return Poll::Ready((reason.clone(), *clean));
        }
        if *until <= self.now { Poll::Ready((reason.clone(), false)) } else { Poll::Pending }
    }

    /// Whether nothing runs that would be lost.
    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.data_running == 0
    }

    /// Begins to end the connection: what is queued is said, the client is told which entities are closed, and why, and nothing more is read.
    fn close(&mut self, reason: EndReason) {
        if matches!(self.phase, Phase::Closing { .. }) {
            return;
        }
        tracing::debug!(connection = self.connection.id.0, %reason, "closing");
        let clean = self.is_idle();
        let farewell = match &reason {
            EndReason::Stopped => Farewell::GoingAway,
            EndReason::Carrier(_) => Farewell::Normal,
            reason => Farewell::Refused(reason.to_string()),
        };
        let entities: Vec<_> = self.members.keys().cloned().collect();
        self.connection.with(|core| {
            core.is_closing = true;
            if matches!(reason, EndReason::TooSlow { .. } | EndReason::WriteStall { .. }) {
                core.outbox.clear(); // it would not be read in time, and the reason after it neither
            }
            for entity in entities {
                let _ = core.machine.push(&ca::Request::Close { entity });
            }
        });
        self.phase = Phase::Closing { reason, farewell, until: self.last_words(), clean };
        self.stop_calls();
    }

    /// Sets the timer; `false` if something is due already.
    fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        let machine = self.connection.lock().machine.poll_timeout();
        let stall = self.stalled.map(|(since, _)| since + self.shared.limits.write_stall);
        let phase = match self.phase {
            Phase::Open => None,
            Phase::Draining { until } | Phase::Answering { until, .. } | Phase::Closing { until, .. } => {
                Some(until)
            }
        };
        let machine = machine.filter(|_| self.listens());
        let stall = stall.filter(|_| self.listens());
        let Some(next) = [machine, stall, phase].into_iter().flatten().min() else {
            self.timer = None;
            self.armed = None;
            return true;
        };
        // One that is set too early only looks again; most deadlines are moved on before they come.
        if self.armed.is_none_or(|armed| armed > next || armed <= self.now) {
            let at = tokio::time::Instant::from_std(next);
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(at),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(at))),
            }
            self.armed = Some(next);
        }
        let Some(timer) = &mut self.timer else { return true };
        if timer.as_mut().poll(cx).is_ready() {
            self.armed = None;
            self.timer = None;
            return false;
        }
        true
    }

    /// The connection is over: whoever waits for something of it is told, and its services say goodbye.
    fn end(&mut self, reason: EndReason) {
        let id = self.connection.id;
        self.connection.with(|core| {
            core.is_closing = true;
            core.outbox.clear();
            core.machine.disconnect();
        });
        self.connection.made_room(); // those who wait for room learn that nobody is there
        self.stop_calls();
        self.connection.lock().questions.clear();
        let members: Vec<_> = self.members.keys().cloned().collect();
        for entity in members {
            self.take_leave(&entity);
        }
        self.shared.registry_mut().connections.remove(&id);
        let lasted = now().saturating_duration_since(self.connection.since);
        tracing::debug!(connection = id.0, peer = %self.connection.peer, %reason, ?lasted, "disconnected");
        self.shared.note_closed(Closed {
            id,
            address: self.connection.origin().address,
            carrier: self.connection.kind,
            reason,
            at: SystemTime::now(),
            lasted,
        });
    }
}
