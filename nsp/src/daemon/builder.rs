//! A daemon, from its parts to its end.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::task::JoinSet;

use super::connection::{Command, now};
use super::custom::{CustomCall, CustomHandler, erase};
use super::discovery;
use super::emit::Emitter;
use super::fail::Fail;
use super::limits::Limits;
use super::listen::{Door, Listen};
use super::proof::revoke;
use super::service::{Ready, Service};
use super::shared::{Shared, Times};
use super::view::DaemonHandle;
use crate::authority::{Anonymous, Authority, Revoked};
use crate::carrier::{Address, AddressError, ListenError};
use crate::proto::{CustomMethod, Method, Methods, Payload, Rule};

/// A daemon that is to be; from [`Daemon::builder`].
#[must_use = "a daemon does nothing until it is bound"]
pub struct DaemonBuilder {
    authority: Arc<dyn Authority>,
    services: Vec<Ready>,
    custom: HashMap<CustomMethod, CustomHandler>,
    methods: Methods,
    listens: Vec<Listen>,
    limits: Limits,
    times: Times,
    has_discovery: bool,
}

/// A daemon that listens already, and serves when it is told to.
#[derive(Debug)]
#[must_use = "a daemon serves only when it is told to"]
pub struct Daemon {
    pub(super) shared: Arc<Shared>,
    doors: Vec<Door>,
}

/// What became of the connections that were open when a daemon stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Drained {
    /// Those that ended within [`Limits::grace`]: what ran has ended, what was queued was sent, and the client was told.
    pub drained: usize,
    /// Those that did not, and were cut.
    pub aborted: usize,
}

/// Why a daemon cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// An address cannot be understood.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// An address cannot be listened at.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Everybody on the way could read along, and nobody said that they may.
    #[error("{address} goes beyond this machine in clear: use TLS, or SP with a key, or say `plaintext`")]
    Unprotected {
        /// The address.
        address: Address,
    },
    /// A manifest says that only superusers may call a function, and it was not registered as such.
    #[error("the manifest of `{}` says that `{}` is secure, and it is not", .service.escape_debug(), .function.escape_debug())]
    NotSecure {
        /// The service.
        service: String,
        /// The function.
        function: String,
    },
    /// Two services have one name.
    #[error("there are two services `{}`", .name.escape_debug())]
    DuplicateService {
        /// The name.
        name: String,
    },
    /// A service needs another one that is not there.
    #[error("the service `{}` needs `{}`, which is not there", .service.escape_debug(), .needs.escape_debug())]
    MissingDependency {
        /// Who needs it.
        service: String,
        /// What it needs.
        needs: String,
    },
}

impl Daemon {
    /// Begins to say what a daemon is.
    pub fn builder() -> DaemonBuilder {
        DaemonBuilder {
            authority: Arc::new(Anonymous),
            services: Vec::new(),
            custom: HashMap::new(),
            methods: Methods::default(),
            listens: Vec::new(),
            limits: Limits::default(),
            times: Times {
                first_entity: Duration::from_secs(30),
                request: Duration::from_secs(240),
                question: Duration::from_secs(180),
                heartbeat: Duration::from_secs(60),
            },
            has_discovery: true,
        }
    }

    /// Where it listens, with the real ports, in the order in which it was told to.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        self.doors.iter().map(|door| door.listener.address().clone()).collect()
    }

    /// Looks at it, and is served by it, from elsewhere.
    #[must_use]
    pub fn handle(&self) -> DaemonHandle {
        DaemonHandle::new(Arc::clone(&self.shared))
    }

    /// Serves until `shutdown` is ready. Then it accepts nobody any more, gives what runs [`Limits::grace`] to end, tells each client that its
    /// entities are closed and that the daemon goes away, and cuts who is left.
    ///
    /// # Cancel safety
    /// Dropping it stops accepting; connections that are there go on without it.
    pub async fn serve_until<F: Future<Output = ()>>(self, shutdown: F) -> Drained {
        let Self { shared, doors } = self;
        let mut porters = JoinSet::new();
        for door in doors {
            tracing::info!(address = %door.listener.address(), "listening");
            porters.spawn(door.open(Arc::clone(&shared)));
        }
        shutdown.await;
        porters.shutdown().await; // who was still at the door has nothing to lose
        drain(&shared).await
    }

    /// Serves for ever.
    ///
    /// # Cancel safety
    /// As [`serve_until`](Self::serve_until).
    pub async fn serve(self) {
        self.serve_until(std::future::pending()).await;
    }
}

impl DaemonBuilder {
    /// Asks this one who somebody is and what they may. Without it nobody can prove anything, and everybody may what needs no proof.
    pub fn authority(self, authority: impl Authority) -> Self {
        self.shared_authority(Arc::new(authority))
    }

    /// As [`authority`](Self::authority), for one that is used elsewhere as well.
    pub fn shared_authority(mut self, authority: Arc<dyn Authority>) -> Self {
        self.authority = authority;
        self
    }

    /// Offers a service.
    pub fn service<S: Clone + Send + Sync + 'static>(mut self, service: Service<S>) -> Self {
        self.services.push(service.ready());
        self
    }

    /// Listens at an address; any number of them.
    pub fn listen(mut self, listen: impl Into<Listen>) -> Self {
        self.listens.push(listen.into());
        self
    }

    /// With these bounds.
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Gives a client this long to do something before it has an entity; 30 s unless said otherwise.
    pub const fn first_entity_time(mut self, time: Duration) -> Self {
        self.times.first_entity = time;
        self
    }

    /// Gives services this long for one request; 240 s unless said otherwise, which is longer than a user may take to answer a question.
    pub const fn request_time(mut self, time: Duration) -> Self {
        self.times.request = time;
        self
    }

    /// Gives clients this long to answer a question; 180 s unless said otherwise, as the original.
    pub const fn question_time(mut self, time: Duration) -> Self {
        self.times.question = time;
        self
    }

    /// Speaks a method of the user's own as well. The handler is given every packet of it that a client may send; what it gives for a
    /// question is the answer.
    ///
    /// A rule about one of NSP's own methods changes nothing.
    pub fn method<H, F>(mut self, rule: Rule, handler: H) -> Self
    where
        H: Fn(CustomCall) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Option<Payload>, Fail>> + Send + 'static,
    {
        if let Method::Custom(method) = rule.method {
            self.methods = self.methods.with(rule);
            self.custom.insert(method, erase(handler));
        }
        self
    }

    /// Leaves out the [service that says which services there are](discovery::DISCOVERY).
    pub const fn without_discovery(mut self) -> Self {
        self.has_discovery = false;
        self
    }

    /// Begins to listen, and starts the services. Nobody is accepted before [`Daemon::serve_until`].
    ///
    /// # Errors
    /// When an address cannot be used, two services have one name, or one needs another that is not there.
    ///
    /// # Cancel safety
    /// Dropping it listens nowhere.
    pub async fn bind(mut self) -> Result<Daemon, BindError> {
        if self.has_discovery {
            self.services.push(discovery::service().ready());
        }
        let mut services = HashMap::new();
        let mut starts = Vec::new();
        for Ready { runtime, on_start, not_secure } in self.services {
            if let Some(function) = not_secure {
                return Err(BindError::NotSecure { service: runtime.name.to_string(), function });
            }
            starts.push((Arc::clone(&runtime), on_start));
            if let Some(same) = services.insert(runtime.name.clone(), runtime) {
                return Err(BindError::DuplicateService { name: same.name.to_string() });
            }
        }
        for service in services.values() {
            let needs = service.manifest.dependencies.services.keys();
            if let Some(needs) = needs.into_iter().find(|needs| !services.contains_key(&***needs)) {
                return Err(BindError::MissingDependency {
                    service: service.name.to_string(),
                    needs: needs.clone(),
                });
            }
        }
        let mut doors = Vec::new();
        for listen in self.listens {
            doors.push(Door::new(listen, &self.limits, &self.methods).await?);
        }
        let tls = doors.iter().filter_map(|door| door.tls.clone()).collect();
        let shared = Arc::new(Shared::new(
            tls,
            self.authority,
            services,
            self.custom,
            self.methods,
            self.limits,
            self.times,
        ));
        let weak = Arc::downgrade(&shared);
        let guard = shared.authority.on_revoked(on_revoked(&weak));
        *shared.revocation.lock().unwrap_or_else(PoisonError::into_inner) = guard;
        for (runtime, on_start) in starts {
            for start in on_start {
                start(Emitter::new(&runtime, &weak));
            }
        }
        Ok(Daemon { shared, doors })
    }

    /// [Binds](Self::bind), and [serves](Daemon::serve_until).
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    ///
    /// # Cancel safety
    /// As [`Daemon::serve_until`].
    pub async fn serve_until<F: Future<Output = ()>>(self, shutdown: F) -> Result<Drained, BindError> {
        Ok(self.bind().await?.serve_until(shutdown).await)
    }
}

/// Ends all connections in peace, as far as that goes.
async fn drain(shared: &Shared) -> Drained {
    let grace = shared.limits.grace;
    let cut = shared.totals.cut.load(Ordering::Acquire);
    // Most of the time is for what runs; the rest, for it to leave, and for goodbyes.
    let (begun, for_calls) = (now(), grace.mul_f32(0.75));
    let _ = shared.drain_end.set(begun + grace.mul_f32(0.95));
    shared.draining.store(true, Ordering::Release);
    let connections: Vec<_> = shared.registry().connections.values().cloned().collect();
    let open = connections.len();
    tracing::info!(connections = open, ?grace, "stopping");
    let until = begun + for_calls;
    for connection in connections {
        connection.command(Command::Drain { until });
    }
    shared.tasks.close();
    let left = match tokio::time::timeout(grace, shared.tasks.wait()).await {
        Ok(()) => 0,
        Err(_) => shared.registry().connections.len(),
    };
    // The count is of connections that were here when it began.
    let cut = shared.totals.cut.load(Ordering::Acquire) - cut;
    let aborted = left.saturating_add(usize::try_from(cut).unwrap_or(usize::MAX)).min(open);
    let drained = Drained { drained: open - aborted, aborted };
    tracing::info!(drained = drained.drained, aborted = drained.aborted, "stopped");
    drained
}

fn on_revoked(daemon: &Weak<Shared>) -> Arc<dyn Fn(&Revoked) + Send + Sync> {
    let daemon = Weak::clone(daemon);
    Arc::new(move |revoked| {
        if let Some(daemon) = daemon.upgrade() {
            revoke(&daemon, revoked);
        }
    })
}

impl fmt::Debug for DaemonBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DaemonBuilder").field("listens", &self.listens).finish_non_exhaustive()
    }
}
