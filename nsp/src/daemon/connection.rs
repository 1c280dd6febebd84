//! One connection, as everybody but its driver sees it: a place to leave messages for it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Waker;
use std::time::Instant;

use nossock::{Peer, Seldom};
use tokio::sync::{Notify, oneshot};

use super::outbox::{Made, Outbox, Overflow};
use super::service::Runtime;
use super::shared::Shared;
use crate::authority::Origin;
use crate::carrier::{Carrier, CarrierEnd, CarrierKind};
use crate::machine::daemon::{Offence, PushError, QuestionKey, RequestKey};
use crate::machine::{self, entities::ConnectionId};
use crate::proto::{EntityId, Failure, au::Question, ca};
use crate::secret::Proof;
use crate::secure::Strength;

/// Why a connection has ended, or is about to.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// The peer, or the way to it, has ended it.
    #[error(transparent)]
    Carrier(#[from] CarrierEnd),
    /// The client has done something that it must not.
    #[error(transparent)]
    Offence(#[from] Offence),
    /// The client did not take what was sent to it, and the service did not want to do without.
    #[error("{waiting} messages waited to be taken")]
    TooSlow {
        /// How many, when the next one had no room.
        waiting: usize,
    },
    /// The client took nothing of what was written.
    #[error("nothing was taken for {} s", .after.as_secs())]
    WriteStall {
        /// The limit.
        after: std::time::Duration,
    },
    /// What its user has proved is void.
    #[error("the access of the user was revoked")]
    Revoked,
    /// Somebody here has ended it.
    #[error("{0}")]
    Kicked(String),
    /// The daemon stops.
    #[error("the daemon stops")]
    Stopped,
    /// A fault of this daemon.
    #[error("internal error")]
    Internal,
}

/// How safe secrets are on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WeakUse {
    /// Over a key that can be guessed, no password is asked for, and no privileged function can be called.
    #[default]
    NoSecrets,
    /// Everything goes over it, as with the original daemon.
    Everything,
}

/// A connection. The driver owns the carrier; everybody else finds what they need in here.
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) peer: Peer,
    pub(crate) kind: CarrierKind,
    pub(crate) is_confidential: bool,
    pub(crate) weak_use: WeakUse,
    /// The service of this daemon that is at the other end.
    pub(crate) service: Option<Arc<Runtime>>,
    pub(crate) since: Instant,
    daemon: Weak<Shared>,
    /// Whoever waits for room in the outbox.
    room: Notify,
    core: Mutex<Core>,
}

/// What is behind the lock. It is held shortly, and never while somebody else's code runs.
pub(crate) struct Core {
    pub(crate) machine: machine::Daemon,
    pub(crate) outbox: Outbox,
    /// Who waits for which answer of the client; the machine limits how many.
    pub(crate) questions: Vec<(QuestionKey, oneshot::Sender<Option<Proof>>)>,
    pub(crate) commands: Vec<Command>,
    /// The driver has ended, or is about to: nothing more is sent.
    pub(crate) is_closing: bool,
    /// Most bytes of one push.
    largest_push: usize,
    /// Some have been told that there is no room.
    pub(crate) is_awaited: bool,
    driver: Driving,
}

/// Whether the driver has to be woken. While it runs it looks at everything before it sleeps, so it does not.
enum Driving {
    Running,
    Sleeping {
        waker: Waker,
        /// The carrier takes nothing now, and will wake the driver by itself.
        blocked: bool,
    },
}

/// What a driver is to do for somebody else.
#[derive(Debug)]
pub(crate) enum Command {
    /// Tell the client that an entity is closed, and do what follows from that.
    CloseEntity {
        entity: EntityId,
        /// Once this call has ended, if it runs.
        after: Option<RequestKey>,
    },
    /// Say what is queued, and end.
    Close(EndReason),
    /// End, because what the client has proved is void. A call of its own that has made it so is answered before.
    Revoked { by: Option<RequestKey> },
    /// Take nothing new, finish what runs, and end.
    Drain { until: Instant },
    /// A service has looked at an entity.
    Verified { key: RequestKey, entity: EntityId, result: Result<(), Box<Failure>> },
    /// A call that waited has ended.
    Finished(RequestKey),
    /// A service has taken the data of an entity that it was given.
    DataTaken(EntityId),
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It will leave.
    Sent,
    /// It will leave, and others in its place will not.
    SentInsteadOf(usize),
    /// It was dropped.
    Dropped,
    /// There is no room for it now.
    Full,
    /// Nobody is there.
    Gone,
}

impl Connection {
    pub(crate) fn new(
        id: ConnectionId,
        carrier: &dyn Carrier,
        weak_use: WeakUse,
        service: Option<Arc<Runtime>>,
        machine: machine::Daemon,
        daemon: &Arc<Shared>,
    ) -> Self {
        let limits = &daemon.limits;
        Self {
            id,
            peer: carrier.peer().clone(),
            kind: carrier.kind(),
            is_confidential: carrier.is_confidential(),
            weak_use,
            service,
            since: now(),
            daemon: Arc::downgrade(daemon),
            room: Notify::new(),
            core: Mutex::new(Core {
                machine,
                outbox: Outbox::new(limits.push_queue, limits.push_queue_bytes),
                questions: Vec::new(),
                commands: Vec::new(),
                is_closing: false,
                largest_push: limits.largest_body(),
                is_awaited: false,
                driver: Driving::Running,
            }),
        }
    }

    /// The daemon, as long as it lives.
    pub(crate) fn daemon(&self) -> Option<Arc<Shared>> {
        self.daemon.upgrade()
    }

    pub(crate) const fn weak_daemon(&self) -> &Weak<Shared> {
        &self.daemon
    }

    /// From where it comes.
    pub(crate) fn origin(&self) -> Origin {
        Origin { address: self.peer.address.map(|address| address.ip().to_canonical()) }
    }

    pub(crate) fn strength(&self) -> Option<Strength> {
        self.lock().machine.strength()
    }

    /// Whether a secret may be asked for over this connection: somebody else may read along.
    pub(crate) fn is_safe_for(&self, secret: Secret) -> bool {
        if self.is_confidential
            || self.peer.address.is_none_or(|address| address.ip().to_canonical().is_loopback())
        {
            return true;
        }
        match self.strength() {
            Some(Strength::Strong) => true,
            Some(Strength::Weak) => self.weak_use == WeakUse::Everything || secret == Secret::Token,
            None => false,
        }
    }

    /// Changes something. What the machine has to say because of it is queued, and the driver is woken if there is something for it to do.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Core) -> R) -> R {
        let (result, waker) = {
            let mut core = self.lock();
            let result = act(&mut core);
            core.collect(Made::Answer);
            (result, core.wake())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    /// Leaves a command for the driver.
    pub(crate) fn command(&self, command: Command) {
        self.with(|core| core.commands.push(command));
    }

    /// Sends data or an event, or does with it what the rule says.
    pub(crate) fn push(&self, push: &ca::Request, rule: Overflow) -> Pushed {
        let (pushed, waker) = {
            let mut core = self.lock();
            (core.push(push, rule), core.wake())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        pushed
    }

    /// As [`push`](Self::push), and waits for room.
    pub(crate) async fn push_waiting(&self, push: &ca::Request) -> Pushed {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable(); // before we look: room that is made in between is not missed
            match self.push(push, Overflow::Wait) {
                Pushed::Full => room.await,
                other => return other,
            }
        }
    }

    /// Asks the client for something; `None` when it declines, or does not answer.
    ///
    /// Dropping it leaves the question with the client; its answer is then thrown away.
    pub(crate) async fn ask(&self, question: Question, user: &str) -> Result<Option<Proof>, PushError> {
        let answer = self.with(|core| {
            if core.is_closing {
                return Err(PushError::NoEntity); // nobody is there to answer, nor to say that nobody did
            }
            let key = core.machine.ask(question, user, now())?;
            let (sender, receiver) = oneshot::channel();
            core.questions.push((key, sender));
            Ok::<_, PushError>(receiver)
        });
        Ok(answer?.await.unwrap_or_default())
    }

    /// Lets those try again who wait for room.
    pub(crate) fn made_room(&self) {
        self.room.notify_waiters();
    }

    /// The driver begins to work: nobody has to wake it.
    pub(crate) fn begin_turn(&self) {
        self.lock().driver = Driving::Running;
    }

    /// The driver is about to sleep, unless there is something to do.
    pub(crate) fn end_turn(&self, waker: &Waker, can_send: bool, may_be_idle: bool) -> bool {
        let mut core = self.lock();
        core.collect(Made::Answer);
        if !core.commands.is_empty() || (can_send && !core.outbox.is_empty()) {
            return false;
        }
        core.outbox.shrink();
        if may_be_idle {
            core.machine.shrink();
            core.commands = Vec::new();
            core.questions.shrink_to_fit();
        }
        core.driver = Driving::Sleeping { waker: waker.clone(), blocked: !can_send };
        true
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, Core> {
        // What is behind it is consistent between any two statements that can panic: none can.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id.0).field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// What may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secret {
    /// It opens this daemon for some days.
    Token,
    /// It may open other things too; and a privileged function is as precious.
    Password,
}

impl Core {
    /// Queues what the machine has to say.
    pub(crate) fn collect(&mut self, made: Made) {
        while let Some(message) = self.machine.poll_outgoing() {
            self.outbox.push(message, made);
        }
    }

    fn push(&mut self, push: &ca::Request, rule: Overflow) -> Pushed {
        if self.is_closing {
            return Pushed::Gone;
        }
        let bytes = push_bytes(push);
        if bytes > self.largest_push {
            // As often as there are entities to send it to.
            static TOO_LARGE: Seldom = Seldom::new();
            if let Some(times) = TOO_LARGE.times(now()) {
                let limit = self.largest_push;
                tracing::warn!(bytes, limit, times, "an event is larger than a message may be");
            }
            return Pushed::Dropped;
        }
        let mut dropped = 0;
        while !self.outbox.has_room(bytes) {
            match rule {
                Overflow::Wait => {
                    self.is_awaited = true;
                    return Pushed::Full;
                }
                Overflow::DropNewest => return Pushed::Dropped,
                Overflow::DropOldest => {
                    self.outbox.drop_oldest();
                    dropped += 1;
                }
                Overflow::Close => {
                    let waiting = self.outbox.pushes();
                    self.is_closing = true;
                    self.commands.push(Command::Close(EndReason::TooSlow { waiting }));
                    return Pushed::Dropped;
                }
            }
        }
        match self.machine.push(push) {
            Ok(()) => self.collect(Made::Push),
            Err(PushError::NoEntity) => return Pushed::Gone,
            Err(_) => return Pushed::Dropped,
        }
        if dropped > 0 { Pushed::SentInsteadOf(dropped) } else { Pushed::Sent }
    }

    /// Who has to be woken, if there is something to do.
    fn wake(&mut self) -> Option<Waker> {
        let Driving::Sleeping { blocked, .. } = &self.driver else { return None };
        if self.commands.is_empty() && (*blocked || self.outbox.is_empty()) {
            return None;
        }
        match std::mem::replace(&mut self.driver, Driving::Running) {
            Driving::Sleeping { waker, .. } => Some(waker),
            Driving::Running => None,
        }
    }
}

/// About how much a push takes: what it says, and the words around it.
fn push_bytes(push: &ca::Request) -> usize {
    const AROUND: usize = 64;
    AROUND
        + match push {
            ca::Request::Data { data, .. } => data.len(),
            ca::Request::Event { event, data, .. } => event.len() + data.len(),
            ca::Request::BlobEvent { event, meta, data, .. } => {
                event.len() + data.len() + meta.as_ref().map_or(0, |meta| meta.as_bytes().len())
            }
            ca::Request::Close { .. } => 0,
        }
}

/// The time. Tokio's, so that tests can stop it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
