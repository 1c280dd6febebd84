//! What all connections of a daemon share.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime};

use nossock::transport::tls::ServerTls;
use tokio_util::task::TaskTracker;

use super::connection::{Connection, EndReason};
use super::custom::CustomHandler;
use super::emit::Reached;
use super::entity::Entity;
use super::limits::Limits;
use super::seats::Seats;
use super::service::Runtime;
use crate::authority::Authority;
use crate::carrier::CarrierKind;
use crate::machine::entities::{ConnectionId, Entities};
use crate::proto::{CustomMethod, EntityId, Methods};

/// A daemon, as its connections see it.
pub(crate) struct Shared {
    /// The certificates of its listeners.
    pub(crate) tls: Vec<ServerTls>,
    pub(crate) authority: Arc<dyn Authority>,
    pub(crate) services: HashMap<Box<str>, Arc<Runtime>>,
    pub(crate) custom: HashMap<CustomMethod, CustomHandler>,
    pub(crate) methods: Methods,
    pub(crate) limits: Limits,
    pub(crate) times: Times,
    pub(crate) totals: Totals,
    pub(crate) seats: Seats,
    /// Every task of every connection, so that a daemon that stops can wait for all of them.
    pub(crate) tasks: TaskTracker,
    pub(crate) draining: AtomicBool,
    /// When everything has to be over, once the daemon stops.
    pub(crate) drain_end: OnceLock<Instant>,
    last_connection: AtomicU64,
    registry: RwLock<Registry>,
    closed: Mutex<VecDeque<Closed>>,
    /// Keeps the authority calling back, until it is dropped.
    pub(crate) revocation: Mutex<Option<Box<dyn Send + Sync>>>,
}

/// How long things may take that a peer takes part in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) first_entity: Duration,
    pub(crate) request: Duration,
    pub(crate) question: Duration,
    pub(crate) heartbeat: Duration,
}

/// Who is there.
#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) entities: Entities,
    pub(crate) handles: HashMap<EntityId, Entity>,
    pub(crate) connections: HashMap<ConnectionId, Arc<Connection>>,
}

impl Registry {
    /// Those who have proved to be a user, of whatever service.
    pub(crate) fn proved_by(&self, user: &str) -> Vec<Entity> {
        let addresses = self.entities.of_user_anywhere(user);
        addresses.iter().filter_map(|address| self.handles.get(&address.entity).cloned()).collect()
    }
}

/// A connection that has ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Closed {
    /// Which it was.
    pub id: ConnectionId,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// By what.
    pub carrier: CarrierKind,
    /// Why it has ended.
    pub reason: EndReason,
    /// When it has ended.
    pub at: SystemTime,
    /// How long it had been there.
    pub lasted: Duration,
}

/// How many connections that have ended are remembered.
const CLOSED: usize = 64;

impl Shared {
    pub(crate) fn new(
        tls: Vec<ServerTls>,
        authority: Arc<dyn Authority>,
        services: HashMap<Box<str>, Arc<Runtime>>,
        custom: HashMap<CustomMethod, CustomHandler>,
        methods: Methods,
        limits: Limits,
        times: Times,
    ) -> Self {
        Self {
            tls,
            authority,
            services,
            custom,
            methods,
            seats: Seats::new(&limits),
            limits,
            times,
            totals: Totals::default(),
            tasks: TaskTracker::new(),
            draining: AtomicBool::new(false),
            drain_end: OnceLock::new(),
            last_connection: AtomicU64::new(0),
            registry: RwLock::default(),
            closed: Mutex::default(),
            revocation: Mutex::new(None),
        }
    }

    pub(crate) fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn registry_mut(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.last_connection.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn note_closed(&self, closed: Closed) {
        let mut list = self.closed();
        if list.len() >= CLOSED {
            list.pop_front();
        }
        list.push_back(closed);
    }

    pub(crate) fn closed(&self) -> MutexGuard<'_, VecDeque<Closed>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Daemon").field("services", &self.services.keys()).finish_non_exhaustive()
    }
}

macro_rules! totals {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters that only grow.
        #[derive(Debug, Default)]
        pub(crate) struct Totals {
            $(pub(crate) $name: AtomicU64,)*
            pub(crate) calls_running: AtomicUsize,
        }

        /// What a daemon has done, and does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
        #[non_exhaustive]
        pub struct Stats {
            /// Connections that are there.
            pub connections: usize,
            /// Entities that are there.
            pub entities: usize,
            /// Calls that functions are working on, and wait.
            pub calls_running: usize,
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Shared {
            /// The counters as they are.
            pub(crate) fn stats(&self) -> Stats {
                let registry = self.registry();
                Stats {
                    connections: registry.connections.len(),
                    entities: registry.entities.len(),
                    calls_running: self.totals.calls_running.load(Ordering::Relaxed),
                    $($name: self.totals.$name.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

totals! {
    /// Connections that were let in.
    accepted,
    /// Connections that were not: too many at once, too many of one address, or a failed handshake.
    refused,
    /// Entities that were created.
    created,
    /// Functions that were called.
    calls,
    /// Calls that did not give what was asked for.
    failed,
    /// Data that entities have sent.
    data,
    /// Data and events that were sent to entities.
    pushed,
    /// Data and events that were dropped, because somebody was too slow.
    dropped,
    /// Messages of clients that made no sense.
    ignored,
    /// Connections that ended with something lost: a call that ran, or what was queued.
    cut,
}

impl Totals {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn pushed(&self, reached: &Reached) {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        self.pushed.fetch_add(count(reached.sent), Ordering::Relaxed);
        self.dropped.fetch_add(count(reached.dropped + reached.replaced), Ordering::Relaxed);
    }
}
