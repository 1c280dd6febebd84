//! What tools see of a daemon that runs, and what they can do to it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nossock::transport::tls::{Identity, TlsSetupError};

use super::connection::{Command, EndReason, now};
use super::driver::{Driver, Terms};
use super::entity::{Entity, User};
use super::manifest::Manifest;
use super::seats::Seat;
use super::service::Runtime;
use super::shared::{Closed, Shared, Stats, Totals};
use crate::carrier::{Carrier, CarrierKind, memory};
use crate::machine::Filter;
use crate::machine::entities::ConnectionId;
use crate::proto::EntityId;
use crate::secure::Strength;

/// A daemon that runs, for who wants to look at it, or to be served by it. Cheap to clone.
#[derive(Clone)]
pub struct DaemonHandle {
    shared: Arc<Shared>,
}

/// A connection that is there.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectionView {
    /// Its number.
    pub id: ConnectionId,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// By what.
    pub carrier: CarrierKind,
    /// Whether it is under TLS, or does not leave this machine.
    pub is_confidential: bool,
    /// What the key of SP is worth, if there is one.
    pub strength: Option<Strength>,
    /// How long it has been there.
    pub age: Duration,
    /// Its entities.
    pub entities: Vec<EntityId>,
    /// Data and events that wait to leave.
    pub waiting: usize,
}

/// An entity that is there.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EntityView {
    /// What it is called.
    pub id: EntityId,
    /// Its connection.
    pub connection: ConnectionId,
    /// Its service.
    pub service: String,
    /// The user for whom it says it speaks.
    pub claimed_owner: Option<String>,
    /// The user that it has proved to be.
    pub proved_user: Option<User>,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// Its groups.
    pub groups: Vec<String>,
}

impl DaemonHandle {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Connects from inside this process: what comes back is a client's end of a new connection.
    ///
    /// It can be called before the daemon serves, and counts against no limit of connections, for nobody from outside can make any. What it asks
    /// for is judged as anything else is: it is nobody until it proves to be a user. A service that calls another one does so as itself, by
    /// [`Emitter::connect_local`](super::Emitter::connect_local).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn connect_local(&self) -> Box<dyn Carrier> {
        self.shared.connect_local(None)
    }

    /// Serves a connection that somebody else has accepted, by a carrier of the user's own, without SP. `false` if its address has too many
    /// already, or the daemon stops.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn accept(&self, carrier: impl Carrier) -> bool {
        self.shared.accept(Box::new(carrier), Terms::default())
    }

    /// Presents another certificate from the next handshake on, at every listener that has TLS. Connections that are open stay as they are.
    ///
    /// # Errors
    /// When the certificate cannot be used; listeners that have not been changed by then stay as they are.
    pub fn reload_tls(&self, identity: &Identity) -> Result<(), TlsSetupError> {
        self.shared.tls.iter().try_for_each(|tls| tls.reload(identity.clone()))
    }

    /// What it has done, and does.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// What its services say about themselves, by their names.
    #[must_use]
    pub fn services(&self) -> Vec<&Manifest> {
        let mut services: Vec<_> = self.shared.services.values().map(|service| &service.manifest).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        services
    }

    /// The connections that are there.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionView> {
        let mut connections: Vec<_> = {
            let registry = self.shared.registry();
            let view = |connection: &Arc<super::connection::Connection>| ConnectionView {
                id: connection.id,
                address: connection.origin().address,
                carrier: connection.kind,
                is_confidential: connection.is_confidential,
                strength: connection.strength(),
                age: now().saturating_duration_since(connection.since),
                entities: registry.entities.of_connection(connection.id),
                waiting: connection.lock().outbox.pushes(),
            };
            registry.connections.values().map(view).collect()
        };
        connections.sort_by_key(|connection| connection.id);
        connections
    }

    /// The entities that a filter lets through, of all services.
    #[must_use]
    pub fn entities(&self, filter: &Filter) -> Vec<EntityView> {
        let registry = self.shared.registry();
        let view = |record: &crate::machine::entities::Record| EntityView {
            id: record.id.clone(),
            connection: record.connection,
            service: record.service.clone(),
            claimed_owner: record.owner.clone(),
            proved_user: registry.entities.proved_user(&record.id).map(User::new),
            address: record.address,
            groups: registry.entities.groups_of(&record.id).map(str::to_owned).collect(),
        };
        registry.entities.select(filter).into_iter().map(view).collect()
    }

    /// One entity.
    #[must_use]
    pub fn entity(&self, id: &EntityId) -> Option<Entity> {
        self.shared.registry().handles.get(id).cloned()
    }

    /// The connections that have ended last, and why; the latest at the end.
    #[must_use]
    pub fn closed(&self) -> Vec<Closed> {
        self.shared.closed().iter().cloned().collect()
    }

    /// Ends a connection, with a reason for its client to read. `false` if it is gone already.
    pub fn kick(&self, connection: ConnectionId, reason: impl Into<String>) -> bool {
        let found = self.shared.registry().connections.get(&connection).cloned();
        let Some(connection) = found else { return false };
        connection.command(Command::Close(EndReason::Kicked(reason.into())));
        true
    }
}

impl fmt::Debug for DaemonHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shared, f)
    }
}

impl Shared {
    /// A client's end of a new connection inside this process, at which this service is.
    pub(super) fn connect_local(self: &Arc<Self>, service: Option<Arc<Runtime>>) -> Box<dyn Carrier> {
        let (theirs, ours) = memory(); // a daemon that stops drops ours, and theirs is at its end
        self.accept(Box::new(ours), Terms { service, ..Terms::default() });
        Box::new(theirs)
    }

    fn accept(self: &Arc<Self>, carrier: Box<dyn Carrier>, terms: Terms) -> bool {
        if self.is_draining() {
            return false;
        }
        let address = carrier.peer().address.map(|address| address.ip());
        let Some(seat) = Seat::take(self, address, None) else { return false };
        self.serve(carrier, terms, seat);
        true
    }

    /// Runs a connection in a task of its own.
    pub(crate) fn serve(self: &Arc<Self>, carrier: Box<dyn Carrier>, terms: Terms, seat: Seat) {
        let driver = Box::new(Driver::new(carrier, terms, Arc::clone(self), seat));
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            if !driver.run().await {
                Totals::add(&shared.totals.cut);
            }
        });
    }
}
