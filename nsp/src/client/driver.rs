use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_core::future::BoxFuture;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use nossock::Seldom;
use tokio::time::timeout;

use super::core::{Core, Job};
use super::credentials::Told;
use super::error::DownReason;
use super::shared::{Shared, now};
use super::state::ClientState;
use super::trust::{Offered, TrustError};
use crate::carrier::alarm::Alarm;
use crate::carrier::{self, Carrier, CarrierEnd};
use crate::machine::client::QuestionKey;
use crate::machine::{self, Incoming, SpError};
use crate::proto::au::Question;
use crate::proto::{Leg, Method};
use crate::secret::Proof;

/// Turns after which other tasks get theirs; tokio's own budget is spent sooner, memory has none.
const TURNS: usize = 64;

/// Messages that are handled in one turn.
const BATCH: usize = 64;

/// Bytes in them; the last one comes on top. Sixty-four of the largest would be as many megabytes, for whoever sends them.
const BATCH_BYTES: usize = 256 * 1024;

/// Bytes that the carrier is given at most, on top of one message.
const MOST_QUEUED: usize = 256 * 1024;

/// Messages that may wait to be sent before nothing more is received. Callers are limited elsewhere, so these are what the daemon makes
/// us say, acknowledgements of its events: they must not pile up. That calls wait is no reason not to receive: their daemon may wait
/// for us to read before it reads on.
const MOST_BACKLOG: usize = 1024;

/// Runs one connection: receives, decides, sends, all in one task.
///
/// ```text
///   asleep ──── call: poke ───▶ turn ◀──┐
///     ▲                          │      │ something came, went, or was due
///     └──── nothing to do ───────┴──────┘
/// ```
///
/// Whoever begins a call puts its packet into the machine under the lock, and wakes the driver only if that sleeps. The driver looks
/// under the same lock before it goes to sleep, so nothing is left lying.
pub(super) struct Driver {
    shared: Arc<Shared>,
    carrier: Box<dyn Carrier>,
    /// Whose key it is that the daemon may send.
    host: String,
    alarm: Alarm,
    received: Vec<Incoming>,
    jobs: Vec<Job>,
    judging: Option<BoxFuture<'static, Result<(), TrustError>>>,
    answering: FuturesUnordered<BoxFuture<'static, (QuestionKey, Option<Proof>)>>,
    /// Nothing can be written any more; the peer's last words may tell why.
    write_failed: Option<CarrierEnd>,
    yielded: bool,
    backlog: usize,
}

/// What is handled in one turn.
#[derive(Debug, Default)]
struct Batch {
    messages: usize,
    bytes: usize,
}

impl Batch {
    const fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    const fn is_full(&self) -> bool {
        self.messages >= BATCH || self.bytes >= BATCH_BYTES
    }
}

/// What came of a turn.
enum Turn {
    Again,
    Asleep,
    /// The owner closes, and everything is with the carrier.
    Done,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, carrier: Box<dyn Carrier>, host: String) -> Self {
        Self {
            shared,
            carrier,
            host,
            alarm: Alarm::default(),
            received: Vec::new(),
            jobs: Vec::new(),
            judging: None,
            answering: FuturesUnordered::new(),
            write_failed: None,
            yielded: false,
            backlog: 0,
        }
    }

    /// The carrier, for its farewell.
    pub(super) fn into_carrier(self) -> Box<dyn Carrier> {
        self.carrier
    }

    /// Wakes up; says whether to let other tasks go first: calls that were answered a moment ago are about to be followed by others, and then all
    /// leave in one write.
    fn wake_up(&mut self) -> bool {
        let mut core = self.shared.lock();
        core.awake = true;
        core.time = None;
        let about_to_send = core.machine.as_ref().is_some_and(|machine| machine.backlog() > 0);
        self.yielded = !self.yielded && about_to_send && core.slots.len() > 1;
        self.yielded
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<Turn, DownReason> {
        let mut busy = self.poll_jobs(cx)?;
        let held = self.backlog > MOST_BACKLOG && self.write_failed.is_none();
        let (more, end) = if held {
            self.carrier.hold();
            (false, None)
        } else {
            self.receive(cx)?
        };
        busy |= more;
        let closing = self.exchange()?;
        // Nobody wakes us for what was not even looked at.
        busy |= held && self.backlog <= MOST_BACKLOG;
        busy |= !self.jobs.is_empty();
        self.begin_jobs();
        let mut left = true;
        if self.carrier.queued() > 0 && self.write_failed.is_none() {
            match self.carrier.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => self.write_failed = Some(error),
                Poll::Pending => left = false,
            }
        }
        if let Some(end) = end.or_else(|| self.write_failed.take_if(|_| !busy)) {
            return Err(DownReason::Ended(end));
        }
        match busy {
            true => Ok(Turn::Again),
            // What has not left yet has the time that closing has; what waits behind it in a full carrier does not leave any more.
            false if closing && (self.backlog == 0 || !left) => Ok(Turn::Done),
            false => self.sleep(cx, left),
        }
    }

    /// Takes what has arrived; says whether there may be more, and gives the end, if that has come.
    ///
    /// Answers to calls are handled where they stand in the carrier's buffer, and whatever came before them first; the rest, up to the next of
    /// them, is handled with [`exchange`](Self::exchange).
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<(bool, Option<CarrierEnd>), DownReason> {
        let mut batch = Batch::default();
        let end = loop {
            if batch.is_full() {
                return Ok((true, None));
            }
            if self.carrier.poll_arrived(cx).is_pending() {
                break None;
            }
            let is_answer = self.carrier.lend().is_some_and(|lent| lent.leg == Leg::Answer);
            if is_answer && self.take_lent(&mut batch)? {
                continue;
            }
            match self.carrier.poll_receive(cx) {
                Poll::Ready(Ok(incoming)) => {
                    batch.add(incoming.len());
                    self.received.push(incoming);
                }
                Poll::Ready(Err(end)) => break Some(end),
                Poll::Pending => break None,
            }
        };
        Ok((false, end))
    }

    /// Handles what was received, and then the answers that follow it; says whether there were any that could be taken like this.
    fn take_lent(&mut self, batch: &mut Batch) -> Result<bool, DownReason> {
        let Self { shared, received, jobs, carrier, .. } = self;
        shared.with(|core, wakes| {
            take_received(core, received, jobs, wakes)?;
            let before = batch.messages;
            carrier.lend_each(&mut |leg, json| {
                let taken = !batch.is_full() && leg == Leg::Answer && core.take_answer(json, wakes);
                if taken {
                    batch.add(json.len());
                }
                taken
            });
            Ok(batch.messages > before)
        })
    }

    /// Gives the conversation what has arrived, and the carrier what it has to say; says whether the owner closes.
    fn exchange(&mut self) -> Result<bool, DownReason> {
        let Self { shared, received, jobs, carrier, backlog, .. } = self;
        let (closing, came_up) = shared.with(|core, wakes| {
            take_received(core, received, jobs, wakes)?;
            core.largest_send = carrier.largest_send();
            core.time = None;
            let came_up = core.come_up(wakes);
            *backlog = 0;
            let Some(machine) = &mut core.machine else { return Ok((core.closing, came_up)) };
            say(machine, &mut **carrier);
            *backlog = machine.backlog();
            Ok::<_, DownReason>((core.closing, came_up))
        })?;
        if came_up {
            shared.state.send_replace(ClientState::Up);
        }
        Ok(closing)
    }

    /// Begins what the daemon's questions make necessary.
    fn begin_jobs(&mut self) {
        let credentials = &self.shared.settings.credentials;
        for job in self.jobs.drain(..) {
            match job {
                Job::Judge => {
                    let core = self.shared.lock();
                    let key = core.machine.as_ref().and_then(crate::machine::Client::offered_key);
                    let Some(fingerprint) = key.map(crate::secure::PublicKey::fingerprint) else { continue };
                    let trust = self.shared.settings.trust.clone();
                    let offered = Offered::rsa(&self.host, &*self.carrier, fingerprint);
                    self.judging = Some(Box::pin(async move { trust.judge(offered).await }));
                }
                Job::Answer { key, question, user } => {
                    let credentials = Arc::clone(credentials);
                    // After that it is declined: a prompt that stayed would be one more for each question of the daemon.
                    let within = self.shared.settings.machine.question_timeout;
                    self.answering.push(Box::pin(async move {
                        let user = user.as_deref();
                        let answer = async {
                            match question {
                                Question::Token => credentials.token(user).await.map(Proof::from),
                                Question::Password => credentials.password(user).await.map(Proof::from),
                            }
                        };
                        (key, timeout(within, answer).await.unwrap_or_default())
                    }));
                }
                Job::Notice { notice, open } => {
                    let service = open.as_ref().map(|open| open.service.as_str());
                    let owner = open.as_ref().and_then(|open| open.owner.as_deref());
                    credentials.notice(Told { notice, service, owner });
                }
            }
        }
    }

    /// Looks whether somebody has judged or answered.
    fn poll_jobs(&mut self, cx: &mut Context<'_>) -> Result<bool, DownReason> {
        let mut busy = false;
        if let Some(judging) = &mut self.judging
            && let Poll::Ready(verdict) = judging.as_mut().poll(cx)
        {
            self.judging = None;
            busy = true;
            verdict?;
            let mut core = self.shared.lock();
            core.machine.as_mut().map_or(Ok(()), |machine| machine.judge(true))?;
        }
        while let Poll::Ready(Some((key, answer))) = self.answering.poll_next_unpin(cx) {
            busy = true;
            if let Some(machine) = &mut self.shared.lock().machine {
                machine.answer(key, answer);
            }
        }
        Ok(busy)
    }

    /// Goes to sleep, unless something has come up meanwhile or is due.
    fn sleep(&mut self, cx: &mut Context<'_>, left: bool) -> Result<Turn, DownReason> {
        let due = {
            let mut wakes = Vec::new();
            let mut core = self.shared.lock();
            let Some(machine) = &core.machine else { return Ok(Turn::Done) };
            if (machine.backlog() > 0 && self.carrier.queued() < MOST_QUEUED) || core.closing {
                return Ok(Turn::Again);
            }
            let due = machine.poll_timeout();
            core.sleep(cx.waker(), left, &mut wakes);
            drop(core);
            wakes.into_iter().for_each(Waker::wake);
            due
        };
        if self.alarm.poll(cx, due.map(Into::into)).is_pending() {
            return Ok(Turn::Asleep);
        }
        self.shared.with(|core, wakes| {
            core.awake = true;
            core.machine.as_mut().map_or(Ok(()), |machine| machine.handle_timeout(now()))?;
            core.take_events(&mut self.jobs, wakes);
            Ok::<_, DownReason>(())
        })?;
        Ok(Turn::Again)
    }
}

/// Gives the conversation what was received.
fn take_received(
    core: &mut Core,
    received: &mut Vec<Incoming>,
    jobs: &mut Vec<Job>,
    wakes: &mut Vec<Waker>,
) -> Result<(), SpError> {
    if received.is_empty() {
        return Ok(());
    }
    let now = now();
    received.drain(..).try_for_each(|incoming| core.receive(incoming, now, jobs, wakes))
}

/// Gives the carrier what is to be sent, as long as not too much is queued there.
fn say(machine: &mut machine::Client, carrier: &mut dyn Carrier) {
    while carrier.queued() < MOST_QUEUED {
        let result = if let Some((leg, texts)) = machine.next_texts() {
            carrier.start_each(Method::Cs, leg, texts.0)
        } else if let Some(next) = machine.next_outgoing() {
            carrier::send(carrier, next)
        } else {
            break;
        };
        // Sizes were looked at before; what is refused here is one answer to the daemon, and it goes without.
        if let Err(error) = result {
            static TOO_LARGE: Seldom = Seldom::new();
            if let Some(times) = TOO_LARGE.times(now()) {
                tracing::warn!(%error, times, "a message does not fit the connection");
            }
        }
    }
}

impl Future for Driver {
    /// `Ok` when the owner closes; otherwise why the connection is of no use any more.
    type Output = Result<(), DownReason>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.wake_up() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        for _ in 0..TURNS {
            match this.turn(cx) {
                Ok(Turn::Again) => {}
                Ok(Turn::Asleep) => return Poll::Pending,
                Ok(Turn::Done) => return Poll::Ready(Ok(())),
                Err(reason) => return Poll::Ready(Err(reason)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("carrier", &self.carrier).finish_non_exhaustive()
    }
}
