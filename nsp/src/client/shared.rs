use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc, watch};

use super::activity::Handle;
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
    /// As many as may are under way.
    Full,
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
            wakes.extend(core.poke());
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
                wakes.extend(core.poke());
            }
        });
    }

    /// Whether the daemon has been asked for the activity, so that there is a deadline already.
    pub(super) fn is_asked(&self, id: u64) -> bool {
        self.lock().activities.get(&id).is_some_and(|activity| activity.key.is_some())
    }

    /// Begins a call of `size` bytes, if the activity is open. When `call` fails it is asked once more, with what the activity is called now.
    ///
    /// With the waker of the task that polls it takes a permit, and the answer finds whom to wake; so the lock need not be taken again to say so.
    #[inline]
    pub(super) fn begin(
        &self,
        handle: &Handle,
        size: usize,
        waker: Option<&Waker>,
        mut call: impl FnMut(&mut machine::Client, ActivityKey, Instant) -> Result<CallKey, RequestError>,
    ) -> Begun {
        let mut guard = self.lock();
        let core = &mut *guard;
        let now = core.time();
        if waker.is_some() && !core.take_permit(&self.permits) {
            return Begun::Full;
        }
        let begun = match (&mut core.machine, handle.key()) {
            (Some(machine), Some(key)) if core.up && size + AROUND <= core.largest_send => {
                call(machine, key, now)
            }
            _ => Err(RequestError::NotOpen),
        };
        let begun = match begun {
            Ok(call) => Begun::Call(call),
            Err(_) => begin_anew(core, handle, size, |machine, key| call(machine, key, now)),
        };
        if let Begun::Call(call) = begun {
            core.slots.begin(call, waker.cloned());
            let driver = core.poke();
            drop(guard);
            driver.into_iter().for_each(Waker::wake);
            return begun;
        }
        let is_next = waker.is_some() && core.give_back_permit();
        drop(guard);
        if is_next {
            self.permits.add_permits(1);
        }
        begun
    }

    /// Nobody waits for a call any more.
    pub(super) fn give_up(&self, call: CallKey, permitted: bool) {
        let is_next = self.with(|core, wakes| {
            core.give_up(call, wakes);
            permitted && core.give_back_permit()
        });
        if is_next {
            self.permits.add_permits(1);
        }
    }

    /// Waits for the permit for a call; `None` when there will be no more calls.
    ///
    /// # Cancel safety
    /// Dropping it gives up the turn.
    pub(super) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        struct Queueing<'a>(&'a Shared);

        impl Drop for Queueing<'_> {
            fn drop(&mut self) {
                self.0.lock().queueing -= 1;
            }
        }

        let spare = {
            let mut core = self.lock();
            core.queueing += 1;
            std::mem::take(&mut core.spare_permits)
        };
        let _queueing = Queueing(self);
        self.permits.add_permits(spare);
        self.permits.acquire().await.ok()
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
                wakes.extend(core.poke());
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
            wakes.extend(core.poke());
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

/// Begins a call of an activity that may have been opened since its handle was used last, or may not be open.
#[cold]
fn begin_anew(
    core: &mut Core,
    handle: &Handle,
    size: usize,
    call: impl FnOnce(&mut machine::Client, ActivityKey) -> Result<CallKey, RequestError>,
) -> Begun {
    let failed = |error| Begun::Failed(Box::new(error));
    let Some(activity) = core.activities.get(&handle.id()) else { return failed(CallError::Closed) };
    let (Some(key), true, Some(machine)) = (activity.key, activity.is_open, &mut core.machine) else {
        return Begun::NotYet(Box::new(activity.state.subscribe()));
    };
    if size + AROUND > core.largest_send {
        let limit = core.largest_send.saturating_sub(AROUND);
        return failed(EncodeError::TooLarge { size, limit }.into());
    }
    handle.set_key(key);
    match call(machine, key) {
        Ok(call) => Begun::Call(call),
        Err(error) => failed(error.into()),
    }
}

/// The time as the runtime has it: a test may have stopped it.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
