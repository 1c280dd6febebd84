//! Who calls: one activity of one client, as its service sees it.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::Serialize;
use tokio::sync::Semaphore;

use super::call::Current;
use super::connection::{Command, Connection, now};
use super::emit::{Audience, EmitError, Emitter, Reached, To};
use super::extract::Caller;
use super::proof::Remembered;
use super::service::Runtime;
use super::shared::Shared;
use crate::carrier::CarrierKind;
use crate::machine::entities::{ConnectionId, Record};
use crate::proto::cs::{Create, Mode};
use crate::proto::{EntityId, RawJson};

/// One activity of a client.
///
/// Its id has 128 random bits and belongs to the connection that created it: nobody else can use it, close it, or answer for it. A handle
/// stays what it is when the entity is gone; then it reaches nobody.
///
/// Who it is has two answers, of two types: [`claimed_owner`](Self::claimed_owner), which is what it says, and
/// [`proved_user`](Self::proved_user), which is what it has shown.
#[derive(Clone)]
pub struct Entity(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) id: EntityId,
    pub(crate) connection: Arc<Connection>,
    pub(crate) service: Arc<Runtime>,
    pub(crate) mode: Mode,
    pub(crate) owner: Option<Box<str>>,
    pub(crate) trusted_daemon: bool,
    /// What it has proved.
    pub(crate) proof: Mutex<Option<Arc<Remembered>>>,
    /// Whoever asks the client for a token: the others wait, and find it here.
    pub(crate) turn: Semaphore,
    /// The groups that it was in when it went.
    left: OnceLock<Vec<String>>,
}

/// The user for whom an entity says it speaks. Nothing of that is proved, so it can be compared and shown, and is taken for a [`User`] nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimedOwner<'a>(&'a str);

impl<'a> ClaimedOwner<'a> {
    /// The name, for who knows what it is worth.
    #[must_use]
    pub const fn unproved(self) -> &'a str {
        self.0
    }
}

/// A user, whose token or password was seen.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct User(Arc<str>);

impl User {
    pub(crate) fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for User {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The name, as it is shared.
impl From<User> for Arc<str> {
    fn from(user: User) -> Self {
        user.0
    }
}

impl AsRef<str> for User {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.escape_debug(), f)
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why an entity did not join a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// It is not there any more.
    #[error("the entity is gone")]
    Gone,
    /// It is in as many as it may be.
    #[error("the entity is in {limit} groups already")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

/// What it is.
impl Entity {
    pub(crate) fn new(
        id: EntityId,
        create: &Create,
        connection: &Arc<Connection>,
        service: &Arc<Runtime>,
        trusted_daemon: bool,
    ) -> Self {
        Self(Arc::new(Inner {
            id,
            connection: Arc::clone(connection),
            service: Arc::clone(service),
            mode: create.mode,
            owner: create.owner.as_deref().map(Into::into),
            trusted_daemon,
            proof: Mutex::new(None),
            turn: Semaphore::const_new(1),
            left: OnceLock::new(),
        }))
    }

    /// What it is called.
    #[must_use]
    pub fn id(&self) -> &EntityId {
        &self.0.id
    }

    /// Its service.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.0.service.name
    }

    /// On whose behalf it acts.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.0.mode
    }

    /// The user for whom it says it speaks.
    #[must_use]
    pub fn claimed_owner(&self) -> Option<ClaimedOwner<'_>> {
        self.0.owner.as_deref().map(ClaimedOwner)
    }

    /// The user that it has proved to be, as far as that still holds. It asks nobody: see [`prove`](Self::prove).
    #[must_use]
    pub fn proved_user(&self) -> Option<User> {
        let remembered = self.remembered()?;
        let daemon = self.0.connection.daemon()?;
        remembered.holds(daemon.authority.epoch(), now()).then(|| remembered.user.clone())
    }

    /// Whether it speaks for a daemon that is trusted: it came from a trusted address and had the key.
    #[must_use]
    pub fn is_trusted_daemon(&self) -> bool {
        self.0.mode == Mode::Daemon && self.0.trusted_daemon
    }

    /// The service of this daemon that calls, if one does so for itself: over a connection [of its own](Emitter::connect_local), and for no
    /// [owner](Self::claimed_owner). The daemon has made that connection, so nothing of it is a claim.
    ///
    /// What a service opens for a user is that user's, who has to prove it as everybody.
    #[must_use]
    pub fn calling_service(&self) -> Option<&str> {
        let service = self.0.connection.service.as_ref()?;
        self.0.owner.as_ref().is_none_or(|owner| owner.is_empty()).then_some(&*service.name)
    }

    /// The address that it really comes from.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.0.connection.origin().address
    }

    /// By what it is connected.
    #[must_use]
    pub fn carrier(&self) -> CarrierKind {
        self.0.connection.kind
    }

    /// The connection that it belongs to.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.0.connection.id
    }

    /// From where it comes, as far as the connection knows.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller::of(&self.0.connection)
    }

    /// What is known about it, as the original shows it: id, mode, service, address, owner, groups.
    #[must_use]
    pub fn metadata(&self) -> Option<RawJson> {
        self.0.connection.daemon()?.registry().entities.metadata(&self.0.id)
    }

    /// The way to all entities of its service.
    #[must_use]
    pub fn emitter(&self) -> Emitter {
        Emitter::new(&self.0.service, self.0.connection.weak_daemon())
    }

    pub(crate) fn remembered(&self) -> Option<Arc<Remembered>> {
        self.0.proof.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn remember(&self, proof: Option<Arc<Remembered>>) {
        *self.0.proof.lock().unwrap_or_else(PoisonError::into_inner) = proof;
    }

    pub(crate) fn daemon(&self) -> Option<Arc<Shared>> {
        self.0.connection.daemon()
    }

    pub(crate) fn record(&self, create: &Create) -> Record {
        let connection = &self.0.connection;
        Record {
            id: self.0.id.clone(),
            connection: connection.id,
            mode: self.0.mode,
            service: self.0.service.name.to_string(),
            owner: self.0.owner.as_deref().map(str::to_owned),
            owner_domain: create.owner_domain.clone(),
            address: connection.origin().address,
            carrier: original_name(connection.kind, connection.is_confidential),
            description: create.description.as_ref().map(RawJson::detached),
            trusted_daemon: self.0.trusted_daemon,
        }
    }

    /// It is gone: what it was in is kept for those who say goodbye.
    pub(crate) fn took_leave(&self, groups: Vec<String>) {
        let _ = self.0.left.set(groups);
    }
}

/// What is done with it.
impl Entity {
    /// Puts it into a group of its service.
    ///
    /// # Errors
    /// When it is gone, or in too many groups.
    pub fn join(&self, group: &str) -> Result<(), JoinError> {
        let daemon = self.daemon().ok_or(JoinError::Gone)?;
        let mut registry = daemon.registry_mut();
        if registry.entities.join(&self.0.id, group) {
            return Ok(());
        }
        let limit = crate::machine::Entities::MOST_GROUPS;
        let gone = registry.entities.get(&self.0.id).is_none();
        Err(if gone { JoinError::Gone } else { JoinError::TooMany { limit } })
    }

    /// Takes it out of a group.
    pub fn leave(&self, group: &str) {
        if let Some(daemon) = self.daemon() {
            daemon.registry_mut().entities.leave(&self.0.id, group);
        }
    }

    /// Takes it out of all groups.
    pub fn clear_groups(&self) {
        if let Some(daemon) = self.daemon() {
            daemon.registry_mut().entities.clear_groups(&self.0.id);
        }
    }

    /// The groups that it is in; of one that is gone, those that it was in.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        if let Some(left) = self.0.left.get() {
            return left.clone();
        }
        let Some(daemon) = self.daemon() else { return Vec::new() };
        let registry = daemon.registry();
        registry.entities.groups_of(&self.0.id).map(str::to_owned).collect()
    }

    /// Sends it an event.
    ///
    /// # Errors
    /// When the data cannot be JSON.
    ///
    /// # Cancel safety
    /// Dropping it does not take back what is queued.
    pub fn emit<T: Serialize + ?Sized>(
        &self,
        event: &str,
        data: &T,
    ) -> impl Future<Output = Result<Reached, EmitError>> + Send + use<T> {
        self.audience().emit(event, data)
    }

    /// Sends it data.
    ///
    /// # Errors
    /// When the data cannot be JSON.
    ///
    /// # Cancel safety
    /// As [`emit`](Self::emit).
    pub fn send<T: Serialize + ?Sized>(
        &self,
        data: &T,
    ) -> impl Future<Output = Result<Reached, EmitError>> + Send + use<T> {
        self.audience().send(data)
    }

    /// It alone as an audience: for blobs, or another [rule](Audience::overflow) than the service's.
    pub fn audience(&self) -> Audience {
        Audience::new(&self.0.service, self.0.connection.weak_daemon(), To::Entity(self.clone()))
    }

    /// Ends it: the client is told that it is closed, what runs for it is stopped, and its service says goodbye. A function that closes who has
    /// called it is answered before.
    pub fn close(&self) {
        let ours = Current::get().filter(|current| current.connection == self.connection());
        let after = ours.map(|current| current.key);
        self.0.connection.command(Command::CloseEntity { entity: self.0.id.clone(), after });
    }
}

impl PartialEq for Entity {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Entity {}

impl std::hash::Hash for Entity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl fmt::Debug for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entity")
            .field("id", &self.0.id)
            .field("service", &self.0.service.name)
            .field("claimed_owner", &self.0.owner)
            .finish_non_exhaustive()
    }
}

/// What the original calls a carrier; those that it does not have by the scheme of their addresses.
const fn original_name(kind: CarrierKind, is_confidential: bool) -> &'static str {
    match (kind, is_confidential) {
        (CarrierKind::Chunks, _) => "TCP/IP",
        (CarrierKind::WebSocket, false) => "WebSocket",
        (CarrierKind::WebSocket, true) => "WebSocketSecure",
        (CarrierKind::Memory, _) => "Local",
        (CarrierKind::Frames, false) => "nsp",
        (CarrierKind::Frames, true) => "nsps",
    }
}
