use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use nossock::Seldom;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};

use super::error::{DownReason, OpenError};
use super::inbox::{Happening, Inbox};
use super::outcome::Outcome;
use super::shared::now;
use super::slots::Slots;
use super::state::{ActivityEnd, ActivityState};
use crate::machine::client::{self as machine, ActivityKey, CallKey, Declined, Event, Open, QuestionKey};
use crate::machine::numbered::NumberMap;
use crate::machine::{Incoming, SpError};
use crate::proto::au::{Notice, Question};
use crate::proto::{EntityId, Leg, Method, Packet};

/// A daemon may ask as often as it likes.
static DECLINED: Seldom = Seldom::new();

/// Under one lock, which is never held across an await.
#[derive(Debug, Default)]
pub(super) struct Core {
    /// The conversation of the connection; after its end until the next, that one.
    pub(super) machine: Option<machine::Client>,
    /// Whether calls can be made now.
    pub(super) up: bool,
    /// What the connection takes at most, in bytes.
    pub(super) largest_send: usize,
    /// Whom to wake when there is something to send. While the driver is awake it will look by itself.
    pub(super) driver: Option<Waker>,
    pub(super) awake: bool,
    /// When the first call began since the driver last looked.
    pub(super) time: Option<Instant>,
    /// Everything that was to be sent has left this process.
    pub(super) clean: bool,
    pub(super) flushers: Vec<Waker>,
    /// Those who wait for a send that was given up to be acknowledged all the same.
    pub(super) senders: Vec<Waker>,
    pub(super) closing: bool,
    /// Those who wait for a connection without having an activity.
    pub(super) waiting: usize,
    pub(super) activities: NumberMap<u64, Activity>,
    pub(super) keys: NumberMap<ActivityKey, u64>,
    pub(super) last_activity: u64,
    pub(super) slots: Slots,
    /// Permits that nobody holds and that are not with the semaphore: to take one here and to give it back costs nothing.
    pub(super) spare_permits: usize,
    /// Those who wait for a permit. As long as there are any, all permits go by way of the semaphore, which gives each his turn.
    pub(super) queueing: usize,
    pub(super) packets: Option<mpsc::Sender<Packet>>,
    pub(super) ignored: u64,
}

/// One activity, over all the connections in which it is opened.
#[derive(Debug)]
pub(super) struct Activity {
    pub(super) open: Arc<Open>,
    /// Whether it is to be opened, now and whenever there is a connection.
    pub(super) wanted: bool,
    pub(super) key: Option<ActivityKey>,
    /// Whether the machine has it open.
    pub(super) is_open: bool,
    pub(super) was_open: bool,
    pub(super) inbox: Inbox,
    pub(super) state: watch::Sender<ActivityState>,
}

/// What the driver has to do about an event.
#[derive(Debug)]
pub(super) enum Job {
    Judge,
    Answer { key: QuestionKey, question: Question, user: Option<String> },
    Notice { notice: Notice, open: Option<Arc<Open>> },
}

impl Core {
    /// Something is to be sent: gives the driver to wake, unless it is awake.
    #[inline]
    #[must_use]
    pub(super) fn poke(&mut self) -> Option<Waker> {
        self.clean = false;
        if std::mem::replace(&mut self.awake, true) { None } else { self.driver.take() }
    }

    /// The time, for what begins now: read once for all that begins before the driver looks.
    #[inline]
    pub(super) fn time(&mut self) -> Instant {
        *self.time.get_or_insert_with(now)
    }

    /// Takes the permit for a call, if there is one and nobody waits for it.
    #[inline]
    pub(super) fn take_permit(&mut self, permits: &Semaphore) -> bool {
        if let Some(left) = self.spare_permits.checked_sub(1) {
            self.spare_permits = left;
            return true;
        }
        permits.try_acquire().map(SemaphorePermit::forget).is_ok()
    }

    /// The permit of a call that is over; says whether to add it to the semaphore, where somebody waits.
    #[inline]
    #[must_use]
    pub(super) const fn give_back_permit(&mut self) -> bool {
        if self.queueing > 0 {
            return true;
        }
        self.spare_permits += 1;
        false
    }

    /// The driver goes to sleep; `left` says that everything has left.
    pub(super) fn sleep(&mut self, waker: &Waker, left: bool, wakes: &mut Vec<Waker>) {
        self.awake = false;
        self.time = None;
        if !self.driver.as_ref().is_some_and(|driver| driver.will_wake(waker)) {
            self.driver = Some(waker.clone());
        }
        self.clean = left;
        self.slots.shrink();
        if left {
            wakes.append(&mut self.flushers);
        }
    }

    /// Whether everything has left; wakes later if not.
    pub(super) fn poll_clean(&mut self, waker: &Waker) -> bool {
        if self.clean || !self.up {
            return true;
        }
        if !self.flushers.iter().any(|flusher| flusher.will_wake(waker)) {
            self.flushers.push(waker.clone());
        }
        false
    }

    /// Whether an activity may send, or has to find out otherwise why not; wakes later if not.
    pub(super) fn poll_send(&mut self, id: u64, waker: &Waker) -> bool {
        let key = self.activities.get(&id).and_then(|activity| activity.key);
        let (Some(key), Some(machine)) = (key, &mut self.machine) else { return true };
        if machine.has_room_to_send(key) {
            return true;
        }
        if !self.senders.iter().any(|sender| sender.will_wake(waker)) {
            self.senders.push(waker.clone());
        }
        false
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.waiting > 0 || self.activities.values().any(|activity| activity.wanted)
    }

    /// Nobody waits for a call any more.
    pub(super) fn give_up(&mut self, call: CallKey, wakes: &mut Vec<Waker>) {
        if let (true, Some(machine)) = (self.slots.give_up(call), &mut self.machine) {
            machine.give_up(call);
            if machine.backlog() > 0 {
                wakes.extend(self.poke());
            }
        }
    }

    /// A connection begins.
    pub(super) fn connect(&mut self, machine: machine::Client, largest_send: usize) {
        self.machine = Some(match &self.machine {
            Some(earlier) => machine.numbered_after(earlier),
            None => machine,
        });
        self.largest_send = largest_send;
        self.awake = true;
        self.clean = false;
    }

    /// Calls can be made from now on, if the conversation has got that far.
    pub(super) fn come_up(&mut self, wakes: &mut Vec<Waker>) -> bool {
        if self.up || !self.machine.as_ref().is_some_and(machine::Client::is_settled) {
            return false;
        }
        self.up = true;
        let mut wanted: Vec<_> =
            self.activities.iter().filter(|(_, activity)| activity.wanted).map(|(id, _)| *id).collect();
        wanted.sort_unstable();
        let now = now();
        for id in wanted {
            self.open(id, now, wakes);
        }
        true
    }

    pub(super) fn open(&mut self, id: u64, now: Instant, wakes: &mut Vec<Waker>) {
        let (Some(activity), Some(machine)) = (self.activities.get_mut(&id), &mut self.machine) else {
            return;
        };
        match machine.open(Open::clone(&activity.open), now) {
            Ok(key) => {
                activity.key = Some(key);
                self.keys.insert(key, id);
                wakes.extend(self.poke());
            }
            Err(error) => activity.end(ActivityEnd::NotOpened(error.into()), wakes),
        }
    }

    /// Takes what has arrived.
    pub(super) fn receive(
        &mut self,
        incoming: Incoming,
        now: Instant,
        jobs: &mut Vec<Job>,
        wakes: &mut Vec<Waker>,
    ) -> Result<(), SpError> {
        // Not every carrier lends, and none lends what it has not read.
        if let Incoming::Packet(Packet { method: Method::Cs, leg: Leg::Answer, payload }) = &incoming
            && payload.blob.is_none()
            && self.take_answer(&payload.json, wakes)
        {
            return Ok(());
        }
        let Some(machine) = &mut self.machine else { return Ok(()) };
        let result = machine.receive(incoming, now);
        self.take_events(jobs, wakes);
        result
    }

    /// Takes the answer to a call if that is all it is, out of a packet of CS in clear; otherwise nothing has happened.
    ///
    /// Nothing is left of what came before it: whoever is told, is told in order.
    #[inline(always)]
    pub(super) fn take_answer(&mut self, json: &[u8], wakes: &mut Vec<Waker>) -> bool {
        let returned = self.machine.as_mut().and_then(|machine| machine.take_returned(json));
        let Some((call, text)) = returned else { return false };
        wakes.extend(self.slots.returned(call, text));
        true
    }

    /// Handles what the conversation has to tell.
    pub(super) fn take_events(&mut self, jobs: &mut Vec<Job>, wakes: &mut Vec<Waker>) {
        wakes.append(&mut self.senders); // whatever has happened may have made room
        while let Some(event) = self.machine.as_mut().and_then(machine::Client::poll_event) {
            match event {
                Event::KeyOffered => jobs.push(Job::Judge),
                Event::Opened { activity, entity } => self.opened(activity, entity, wakes),
                Event::NotOpened { activity, error } => {
                    self.ended(activity, ActivityEnd::NotOpened(error.into()), wakes);
                }
                Event::Closed { activity } => self.ended(activity, ActivityEnd::Service, wakes),
                Event::Answered { call, result } => {
                    wakes.extend(self.slots.finish(call, result.map(Outcome::Reply)));
                }
                Event::Token { call, result } => {
                    wakes.extend(self.slots.finish(call, result.map(Outcome::Token)));
                }
                Event::Data { activity, data } => self.happened(activity, Happening::Data(data), wakes),
                Event::Event { activity, event, data } => {
                    self.happened(activity, Happening::Event { event, data }, wakes);
                }
                Event::BlobEvent { activity, event, meta, data } => {
                    self.happened(activity, Happening::BlobEvent { event, meta, data }, wakes);
                }
                Event::Question { key, question, user } => jobs.push(Job::Answer { key, question, user }),
                Event::QuestionDeclined { question, reason: Declined::WouldLeak } => {
                    if let Some(times) = DECLINED.times(now()) {
                        tracing::warn!(
                            ?question,
                            times,
                            "declined to answer over a connection that is not secured"
                        );
                    }
                }
                Event::QuestionDeclined { question, reason } => {
                    if let Some(times) = DECLINED.times(now()) {
                        tracing::warn!(?question, ?reason, times, "declined to answer");
                    }
                }
                Event::QuestionExpired { .. } => {
                    tracing::info!("nobody answered the daemon's question in time");
                }
                Event::Notice { notice, activity } => {
                    let id = activity.and_then(|key| self.keys.get(&key));
                    let open = id.and_then(|id| self.activities.get(id)).map(|it| Arc::clone(&it.open));
                    jobs.push(Job::Notice { notice, open });
                }
                Event::Custom(packet) => {
                    let taken = self.packets.as_ref().is_some_and(|packets| packets.try_send(packet).is_ok());
                    self.ignored += u64::from(!taken);
                }
                Event::Ignored(ignored) => {
                    self.ignored += 1;
                    tracing::debug!(%ignored, "message ignored");
                }
                Event::Secured => tracing::debug!("connection secured"),
            }
        }
    }

    /// As [`take_events`](Self::take_events), where only answers can have come.
    pub(super) fn take_answers(&mut self, wakes: &mut Vec<Waker>) {
        let mut jobs = Vec::new();
        self.take_events(&mut jobs, wakes);
        debug_assert!(jobs.is_empty(), "questions come from the daemon, and the driver has taken those");
    }

    fn of_key(&mut self, key: ActivityKey) -> Option<&mut Activity> {
        self.activities.get_mut(self.keys.get(&key)?)
    }

    fn opened(&mut self, key: ActivityKey, entity: EntityId, wakes: &mut Vec<Waker>) {
        let Some(activity) = self.of_key(key) else { return };
        activity.is_open = true;
        if std::mem::replace(&mut activity.was_open, true) {
            activity.inbox.push(Happening::Reopened, wakes);
        }
        activity.state.send_replace(ActivityState::Open { entity });
    }

    fn ended(&mut self, key: ActivityKey, end: ActivityEnd, wakes: &mut Vec<Waker>) {
        let Some(id) = self.keys.remove(&key) else { return };
        if let Some(activity) = self.activities.get_mut(&id) {
            activity.end(end, wakes);
        }
    }

    fn happened(&mut self, key: ActivityKey, happening: Happening, wakes: &mut Vec<Waker>) {
        if let Some(activity) = self.of_key(key) {
            activity.inbox.push(happening, wakes);
        }
    }

    /// The connection has ended. Calls under way fail; activities wait for the next connection if there is to be one.
    pub(super) fn disconnect(&mut self, again: bool, reason: Option<&DownReason>, wakes: &mut Vec<Waker>) {
        self.up = false;
        self.awake = true;
        wakes.append(&mut self.flushers);
        self.keys.clear();
        for activity in self.activities.values_mut() {
            activity.key = None;
            activity.is_open = false;
            if again {
                // One that was being opened for the first time still is.
                activity.state.send_if_modified(|state| {
                    let lost = matches!(state, ActivityState::Open { .. });
                    if lost {
                        *state = ActivityState::Reopening;
                    }
                    lost
                });
            } else {
                let end = match activity.was_open {
                    true => ActivityEnd::Disconnected(reason.cloned()),
                    false => ActivityEnd::NotOpened(OpenError::NotConnected(reason.cloned())),
                };
                activity.end(end, wakes);
            }
        }
        if let Some(machine) = &mut self.machine {
            machine.disconnect();
        }
        // The keys are gone, so what the machine says about activities finds nobody; what is left are answers.
        self.take_answers(wakes);
        if !again {
            self.packets = None;
        }
    }
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            open: Arc::new(Open::default()),
            wanted: false,
            key: None,
            is_open: false,
            was_open: false,
            inbox: Inbox::default(),
            state: watch::Sender::new(ActivityState::Opening),
        }
    }

    pub(super) fn end(&mut self, end: ActivityEnd, wakes: &mut Vec<Waker>) {
        self.wanted = false;
        self.key = None;
        self.is_open = false;
        self.inbox.end(wakes);
        self.state.send_if_modified(|state| {
            let lives = !matches!(state, ActivityState::Closed(_));
            if lives {
                *state = ActivityState::Closed(end);
            }
            lives
        });
    }
}
