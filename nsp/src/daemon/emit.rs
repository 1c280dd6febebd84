//! What a service sends by itself: to an entity, to a user, to groups, to all.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::connection::{Connection, Pushed};
use super::entity::Entity;
use super::outbox::Overflow;
use super::service::Runtime;
use super::shared::Shared;
use super::view::DaemonHandle;
use crate::carrier::{Carrier, memory};
use crate::machine::Filter;
use crate::machine::entities::Field;
use crate::proto::{Data, EntityId, RawJson, ca};

/// A service's way to its entities. Cheap to clone, and good for keeping: it does not keep the daemon alive.
///
/// ```
/// # async fn example(chat: nsp::daemon::Emitter) -> Result<(), nsp::daemon::EmitError> {
/// let reached = chat.to_groups(["room 7"]).emit("message", &"hello").await?;
/// println!("{} heard it, {} did not", reached.sent, reached.missed());
/// chat.to_user("ann").send(&"your turn").await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Emitter {
    service: Arc<Runtime>,
    daemon: Weak<Shared>,
}

impl Emitter {
    pub(crate) fn new(service: &Arc<Runtime>, daemon: &Weak<Shared>) -> Self {
        Self { service: Arc::clone(service), daemon: Weak::clone(daemon) }
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service.name
    }

    /// All entities of the service.
    pub fn to_all(&self) -> Audience {
        self.to(To::All)
    }

    /// One entity.
    pub fn to_entity(&self, entity: &Entity) -> Audience {
        self.to(To::Entity(entity.clone()))
    }

    /// Those who have proved to be a user: on every device that they are signed in on. Who only claims it is not reached, and not asked.
    pub fn to_user(&self, user: impl AsRef<str>) -> Audience {
        self.to(To::User(user.as_ref().to_owned()))
    }

    /// Those who are in any of the groups, each once.
    pub fn to_groups<G: Into<String>>(&self, groups: impl IntoIterator<Item = G>) -> Audience {
        self.to(To::AnyGroup(groups.into_iter().map(Into::into).collect()))
    }

    /// Those who are in all of the groups.
    pub fn to_including_groups<G: Into<String>>(&self, groups: impl IntoIterator<Item = G>) -> Audience {
        self.to(To::AllGroups(groups.into_iter().map(Into::into).collect()))
    }

    /// Those of the service's entities that a filter lets through.
    pub fn to_filter(&self, filter: Filter) -> Audience {
        self.to(To::Filter(filter))
    }

    /// The entities of the service that a filter lets through.
    #[must_use]
    pub fn entities(&self, filter: Filter) -> Vec<Entity> {
        self.daemon.upgrade().map_or_else(Vec::new, |daemon| To::Filter(filter).find(&daemon, self.service()))
    }

    /// One entity of the service.
    #[must_use]
    pub fn entity(&self, id: &EntityId) -> Option<Entity> {
        let entity = self.daemon.upgrade()?.registry().handles.get(id).cloned()?;
        (entity.service() == self.service()).then_some(entity)
    }

    /// Connects to the daemon as this service, from inside the process, to call others: what comes back is a client's end of a new connection.
    ///
    /// What is opened over it for no owner is [known to be this service's](Entity::calling_service), because the daemon itself has made the connection.
    /// A policy decides by what it says of the service. Whoever has an emitter of a service can speak for it, so it is not given away.
    ///
    /// ```
    /// use nsp::client::Client;
    /// use nsp::daemon::{Daemon, Emitter, Entity, Fail, Service};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let clock = Service::new("Clock").function("now", async |caller: Entity| {
    ///     format!("noon, {}", caller.calling_service().unwrap_or("whoever you are"))
    /// });
    /// let diary = Service::new("Diary").function("write", async |diary: Emitter| -> Result<String, Fail> {
    ///     let clock = Client::over(diary.connect_local()).activity("Clock").open().await?;
    ///     Ok(clock.call("now", &()).await?)
    /// });
    /// let daemon = Daemon::builder().service(clock).service(diary).bind().await?;
    /// let client = Client::over(daemon.handle().connect_local());
    /// let diary = client.activity("Diary").open().await?;
    /// assert_eq!(diary.call::<String>("write", &()).await?, "noon, Diary");
    /// # Ok(()) }
    /// ```
    ///
    /// A service that calls often keeps one client: it can be made in [`on_start`](super::Service::on_start) already. Where the daemon is gone, the
    /// connection is at its end.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn connect_local(&self) -> Box<dyn Carrier> {
        match self.daemon.upgrade() {
            Some(daemon) => daemon.connect_local(Some(Arc::clone(&self.service))),
            None => Box::new(memory().0),
        }
    }

    /// The daemon, as long as it lives.
    #[must_use]
    pub fn daemon(&self) -> Option<DaemonHandle> {
        self.daemon.upgrade().map(DaemonHandle::new)
    }

    fn to(&self, to: To) -> Audience {
        Audience::new(&self.service, &self.daemon, to)
    }
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Emitter").field(&self.service.name).finish()
    }
}

/// Who is meant.
#[derive(Debug, Clone)]
pub(crate) enum To {
    All,
    Entity(Entity),
    User(String),
    AnyGroup(Vec<String>),
    AllGroups(Vec<String>),
    Filter(Filter),
}

impl To {
    fn find(self, daemon: &Shared, service: &str) -> Vec<Entity> {
        let registry = daemon.registry();
        let entities = &registry.entities;
        let addresses = match self {
            Self::Entity(entity) => return vec![entity],
            Self::All => entities.of_service(service),
            Self::User(user) => entities.of_user(service, &user),
            Self::AnyGroup(groups) => entities.in_any(service, &groups),
            Self::AllGroups(groups) => entities.in_all(service, &groups),
            Self::Filter(filter) => {
                let here = Filter::is(Field::Service, service).and(filter);
                let records = entities.select(&here);
                return records
                    .iter()
                    .filter_map(|record| registry.handles.get(&record.id).cloned())
                    .collect();
            }
        };
        addresses.iter().filter_map(|address| registry.handles.get(&address.entity).cloned()).collect()
    }
}

/// Those who are to be reached, and how.
#[derive(Debug, Clone)]
#[must_use = "nothing is sent before it is told what"]
pub struct Audience {
    service: Arc<Runtime>,
    daemon: Weak<Shared>,
    to: To,
    except: Option<EntityId>,
    overflow: Overflow,
}

/// Who was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Reached {
    /// Entities to which it will leave.
    pub sent: usize,
    /// Entities that were too slow, and for which it was dropped.
    pub dropped: usize,
    /// Entities that went away meanwhile.
    pub gone: usize,
    /// Older messages that were dropped in its place.
    pub replaced: usize,
}

impl Reached {
    /// How many were meant and will not get it.
    #[must_use]
    pub const fn missed(&self) -> usize {
        self.dropped + self.gone
    }

    const fn count(&mut self, pushed: Pushed) {
        match pushed {
            Pushed::Sent => self.sent += 1,
            Pushed::SentInsteadOf(others) => {
                self.sent += 1;
                self.replaced += others;
            }
            Pushed::Dropped | Pushed::Full => self.dropped += 1,
            Pushed::Gone => self.gone += 1,
        }
    }
}

/// Why nothing was sent to anybody.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The data cannot be JSON.
    #[error("the data cannot be JSON: {0}")]
    NotJson(#[from] serde_json::Error),
}

impl Audience {
    pub(crate) fn new(service: &Arc<Runtime>, daemon: &Weak<Shared>, to: To) -> Self {
        let overflow = service.overflow;
        Self { service: Arc::clone(service), daemon: Weak::clone(daemon), to, except: None, overflow }
    }

    /// Without this one, who knows it already.
    pub fn except(self, entity: &Entity) -> Self {
        Self { except: Some(entity.id().clone()), ..self }
    }

    /// With this rule for those who are too slow, in place of the service's.
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Sends an event.
    ///
    /// Everybody who has room is served at once, before the first await; then it waits for the others, if that is the [rule](Overflow).
    ///
    /// # Errors
    /// When the data cannot be JSON.
    ///
    /// # Cancel safety
    /// Dropping it takes nothing back from those who were served.
    pub fn emit<T: Serialize + ?Sized>(
        self,
        event: &str,
        data: &T,
    ) -> impl Future<Output = Result<Reached, EmitError>> + Send + use<T> {
        let what = RawJson::of(data).map(|json| What::Event(event.to_owned(), Data::Json(json)));
        async move { Ok(self.deliver(what?).await) }
    }

    /// Sends an event with a blob.
    ///
    /// # Errors
    /// When what is said about the blob cannot be JSON.
    ///
    /// # Cancel safety
    /// As [`emit`](Self::emit).
    pub fn emit_blob<T: Serialize + ?Sized>(
        self,
        event: &str,
        blob: impl Into<Bytes>,
        meta: &T,
    ) -> impl Future<Output = Result<Reached, EmitError>> + Send {
        let blob = blob.into();
        let what = RawJson::of(meta).map(|meta| What::BlobEvent(event.to_owned(), meta, blob));
        async move { Ok(self.deliver(what?).await) }
    }

    /// Sends data.
    ///
    /// # Errors
    /// When it cannot be JSON.
    ///
    /// # Cancel safety
    /// As [`emit`](Self::emit).
    pub fn send<T: Serialize + ?Sized>(
        self,
        data: &T,
    ) -> impl Future<Output = Result<Reached, EmitError>> + Send + use<T> {
        let what = RawJson::of(data).map(|json| What::Data(Data::Json(json)));
        async move { Ok(self.deliver(what?).await) }
    }

    /// Sends bytes as data.
    ///
    /// # Cancel safety
    /// As [`emit`](Self::emit).
    pub async fn send_blob(self, blob: impl Into<Bytes> + Send) -> Reached {
        let what = What::Data(Data::Blob(blob.into()));
        self.deliver(what).await
    }

    /// Ends them: each client is told that it is closed. Gives how many there were.
    pub fn close(self) -> usize {
        let entities = self.entities();
        entities.iter().for_each(Entity::close);
        entities.len()
    }

    /// Who is meant, now.
    #[must_use]
    pub fn entities(&self) -> Vec<Entity> {
        let Some(daemon) = self.daemon.upgrade() else { return Vec::new() };
        let mut found = self.to.clone().find(&daemon, &self.service.name);
        if let Some(except) = &self.except {
            found.retain(|entity| entity.id() != except);
        }
        found
    }

    async fn deliver(self, what: What) -> Reached {
        let Some(daemon) = self.daemon.upgrade() else { return Reached::default() };
        let mut tally = Tally { daemon: Weak::clone(&self.daemon), reached: Reached::default() };
        let reached = &mut tally.reached;
        let mut slow = Vec::new();
        for entity in self.entities() {
            let push = what.to(entity.id());
            match entity.0.connection.push(&push, self.overflow) {
                Pushed::Full => slow.push((Arc::clone(&entity.0.connection), push)),
                pushed => reached.count(pushed),
            }
        }
        if !slow.is_empty() {
            let wait = daemon.limits.push_wait;
            drop(daemon); // a daemon that is dropped meanwhile is not kept alive by who waits
            wait_for(slow, wait, reached).await;
        }
        tally.reached
    }
}

/// Who has been reached so far; told to the daemon at the end, or when nobody waits for that any more.
struct Tally {
    daemon: Weak<Shared>,
    reached: Reached,
}

impl Drop for Tally {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.upgrade() {
            daemon.totals.pushed(&self.reached);
        }
    }
}

/// Waits for the slow ones, all of them side by side within the same time.
async fn wait_for(slow: Vec<(Arc<Connection>, ca::Request)>, wait: Duration, reached: &mut Reached) {
    let until = tokio::time::Instant::now() + wait;
    for (connection, push) in slow {
        // One after the other: who has room sooner is served a little later than could be, and everybody within the time.
        let pushed = tokio::time::timeout_at(until, connection.push_waiting(&push)).await;
        reached.count(pushed.unwrap_or(Pushed::Dropped));
    }
}

/// What is sent, without whom to: made once for all.
enum What {
    Data(Data),
    Event(String, Data),
    BlobEvent(String, RawJson, Bytes),
}

impl What {
    fn to(&self, entity: &EntityId) -> ca::Request {
        let entity = entity.clone();
        match self {
            Self::Data(data) => ca::Request::Data { entity, data: data.clone() },
            Self::Event(event, data) => {
                ca::Request::Event { entity, event: event.clone(), data: data.clone() }
            }
            Self::BlobEvent(event, meta, blob) => ca::Request::BlobEvent {
                entity,
                event: event.clone(),
                meta: Some(meta.clone()),
                data: Data::Blob(blob.clone()),
            },
        }
    }
}
