use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use tokio::sync::{Notify, Semaphore, mpsc, watch};

use super::connector::Settings;
use super::core::{Activity, Core};
use super::error::CallError;
use super::inbox::Inbox;
use super::state::{ActivityEnd, ActivityState, ClientState};
use crate::machine::client::{self as machine, ActivityKey, CallKey, Open, RequestError};
use crate::proto::{EncodeError, Packet};

/// What a packet has beside its JSON and blob at most, under SP, in bytes.
const AROUND: usize = 512;

/// What all handles of a client and its task have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    core: Mutex<Core>,
    pub(super) state: watch::Sender<ClientState>,
    /// One for each call under way, so that calls queue up here, in order and inside their deadlines.
    pub(super) permits: Semaphore,
    /// Somebody needs a connection, or nobody needs the client any more.
    pub(super) demand: Notify,
}

/// How beginning a call went. What is rare is boxed, so that it is given back in registers.
#[derive(Debug)]
pub(super) enum Begun {
    Call(CallKey),
    /// The activity is not open now; here is when it will be.
    NotYet(Box<watch::Receiver<ActivityState>>),
    Failed(Box<CallError>),
}

impl Shared {
    pub(super) fn new(settings: Settings, state: ClientState) -> Self {
        Self {
            permits: Semaphore::new(settings.machine.limits.calls.clamp(1, Semaphore::MAX_PERMITS)),
            settings,
            core: Mutex::default(),
            state: watch::Sender::new(state),
            demand: Notify::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        // Nothing in there is left half done by a panic: each step under the lock is one of the machine's or a plain assignment.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acts under the lock, and wakes whom that concerns after it.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Core, &mut Vec<Waker>) -> R) -> R {
        let mut wakes = Vec::new();
        let result = act(&mut self.lock(), &mut wakes);
        wakes.into_iter().for_each(Waker::wake);
        result
    }

    /// A new activity, which nobody wants to have opened yet.
    pub(super) fn new_activity(&self) -> u64 {
        let mut core = self.lock();
        core.last_activity += 1;
        let id = core.last_activity;
        core.activities.insert(id, Activity::new());
        id
    }

    /// From now on the activity is to be open. Gives how it is.
    pub(super) fn want(&self, id: u64, open: Open) -> Option<watch::Receiver<ActivityState>> {
        let state = self.with(|core, wakes| {
            let activity = core.activities.get_mut(&id)?;
            activity.open = Arc::new(open);
            activity.wanted = true;
            let state = activity.state.subscribe();
            if core.up {
                core.open(id, now(), wakes);
            }
            Some(state)
        });
        self.demand.notify_one();
        state
    }

    /// The activity is over for its owner.
    pub(super) fn forget(&self, id: u64) {
        self.with(|core, wakes| {
            let Some(mut activity) = core.activities.remove(&id) else { return };
            activity.inbox.end(wakes);
            activity.state.send_replace(ActivityState::Closed(ActivityEnd::Local));
            let Some(key) = activity.key else { return };
            core.keys.remove(&key);
            if let Some(machine) = &mut core.machine {
                machine.close(key);
            }
            core.take_answers(wakes);
            core.poke(wakes);
        });
    }

    /// Closes an activity that others may still hold.
    pub(super) fn close_activity(&self, id: u64) {
        self.with(|core, wakes| {
            let Some(activity) = core.activities.get_mut(&id) else { return };
            activity.wanted = false;
            let key = activity.key.take();
            activity.end(ActivityEnd::Local, wakes);
            if let (Some(key), Some(machine)) = (key, &mut core.machine) {
                core.keys.remove(&key);
                machine.close(key);
                core.take_answers(wakes);
                core.poke(wakes);
            }
        });
    }

    /// Whether the daemon has been asked for the activity, so that there is a deadline already.
    pub(super) fn is_asked(&self, id: u64) -> bool {
        self.lock().activities.get(&id).is_some_and(|activity| activity.key.is_some())
    }

    /// Begins a call of `size` bytes, if the activity is open; otherwise `call` is not even asked.
    ///
    /// With the waker of the task that polls the answer finds whom to wake, and the lock need not be taken again to say so.
    #[inline]
    pub(super) fn begin(
        &self,
        id: u64,
        size: usize,
        waker: Option<&Waker>,
        call: impl FnOnce(&mut machine::Client, ActivityKey, Instant) -> Result<CallKey, RequestError>,
    ) -> Begun {
        let failed = |error| Begun::Failed(Box::new(error));
        let now = now();
        self.with(|core, wakes| {
            let Some(activity) = core.activities.get(&id) else { return failed(CallError::Closed) };
            let (Some(key), true, Some(machine)) = (activity.key, activity.is_open, &mut core.machine) else {
                return Begun::NotYet(Box::new(activity.state.subscribe()));
            };
            if size + AROUND > core.largest_send {
                let limit = core.largest_send.saturating_sub(AROUND);
                return failed(EncodeError::TooLarge { size, limit }.into());
            }
            match call(machine, key, now) {
                Ok(call) => {
                    core.slots.begin(call, waker.cloned());
                    core.poke(wakes);
                    Begun::Call(call)
                }
                Err(error) => failed(error.into()),
            }
        })
    }

    /// Does something to the conversation, if there is a connection that can take it.
    pub(super) fn ask<R>(
        &self,
        act: impl FnOnce(&mut machine::Client, Instant) -> Result<R, RequestError>,
        slot: impl FnOnce(&R) -> Option<CallKey>,
    ) -> Option<Result<R, CallError>> {
        self.with(|core, wakes| {
            let machine = core.machine.as_mut().filter(|_| core.up)?;
            let result = act(machine, now());
            if let Ok(result) = &result {
                if let Some(call) = slot(result) {
                    core.slots.begin(call, None);
                }
                core.poke(wakes);
            }
            Some(result.map_err(CallError::from))
        })
    }

    /// Acts on the stream part of an activity.
    pub(super) fn inbox<R>(&self, id: u64, act: impl FnOnce(&mut Inbox) -> R) -> Option<R> {
        self.lock().activities.get_mut(&id).map(|activity| act(&mut activity.inbox))
    }

    pub(super) fn activity_state(&self, id: u64) -> watch::Receiver<ActivityState> {
        match self.lock().activities.get(&id) {
            Some(activity) => activity.state.subscribe(),
            None => watch::Sender::new(ActivityState::Closed(ActivityEnd::Local)).subscribe(),
        }
    }

    /// Nobody holds the client any more, or its owner closes it.
    pub(super) fn shut_down(&self) {
        self.with(|core, wakes| {
            core.closing = true;
            core.poke(wakes);
        });
        self.demand.notify_one();
    }

    /// Where packets of methods of the user's own go.
    pub(super) fn set_packets(&self, packets: mpsc::Sender<Packet>) {
        self.lock().packets = Some(packets);
    }

    /// How many messages of the daemon were not acted upon.
    pub(super) fn ignored(&self) -> u64 {
        self.lock().ignored
    }
}

/// The time as the runtime has it: a test may have stopped it.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
