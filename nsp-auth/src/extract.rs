//! Who may call, said in the signature of a function: arguments that refuse in its place.
//!
//! ```
//! use nsp::daemon::{Entity, Fail, Json, Service};
//! use nsp_auth::extract::{CallingService, Group, Member, Owner, Superuser};
//!
//! /// Those who have a key to the room.
//! enum Keyholders {}
//!
//! impl Group for Keyholders {
//!     const NAME: &str = "keyholders";
//! }
//!
//! let room = Service::new("Room")
//!     .function("mine", async |owner: Owner| format!("the things of {}", owner.name()))
//!     .function("enter", async |_: Member<Keyholders>, Json(door): Json<u8>| door)
//!     .function("clean", async |cleaner: CallingService| format!("as {cleaner} likes it"))
//!     .function("demolish", async |_: Superuser| "done");
//! # drop(room);
//! ```
//!
//! A function that has one of them among its arguments is not run for anybody else: the refusal is the reply. Put it first: arguments are
//! taken in order, and nothing of a stranger's needs to be read.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use nsp::daemon::{Arriving, Call, Demand, Entity, Fail, FromCall, ProveError};

/// The user that the entity speaks for, who has proved to be that; of a trusted daemon, the one that it names.
///
/// A token that was shown before counts as long as the authority lets one rely on it; otherwise the client is asked for one.
///
/// Refuses with `auth_failed` whoever does not prove anything, and with the code of the [reason](ProveError) in other cases.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner(Arc<str>);

impl Owner {
    /// The name of the user.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// The name. What a terminal would obey is escaped.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_debug().fmt(f)
    }
}

impl<S: Sync> FromCall<S> for Owner {
    async fn from_call(call: &Call, _: &S) -> Result<Self, Fail> {
        prove(call, Demand::Token).await.map(Self)
    }

    const AT_ONCE: bool = true;

    fn at_once(call: &Arriving<'_>, _: &S) -> Option<Result<Self, Fail>> {
        prove_now(call, Demand::Token).map(|user| Ok(Self(user)))
    }
}

/// A user who has proved to be that and is a superuser; of a trusted daemon, the superuser that it names.
///
/// As [`nsp`'s secure functions](nsp::daemon::Service::secure_function), for a function that wants to know who it is. Refuses with `forbidden`
/// who is no superuser, and otherwise as [`Owner`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Superuser(Arc<str>);

impl Superuser {
    /// The name of the user.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// The name. What a terminal would obey is escaped.
impl fmt::Display for Superuser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_debug().fmt(f)
    }
}

impl<S: Sync> FromCall<S> for Superuser {
    async fn from_call(call: &Call, _: &S) -> Result<Self, Fail> {
        prove(call, Demand::Superuser).await.map(Self)
    }

    const AT_ONCE: bool = true;

    fn at_once(call: &Arriving<'_>, _: &S) -> Option<Result<Self, Fail>> {
        prove_now(call, Demand::Superuser).map(|user| Ok(Self(user)))
    }
}

/// Who it is, for whoever has proved it.
async fn prove(call: &Call, demand: Demand) -> Result<Arc<str>, Fail> {
    let entity = call.entity();
    if let Some(user) = entity.prove(demand).await?.user {
        return Ok(user.into());
    }
    // A trusted daemon: it has proved to be that, and acts for whomever it says.
    let owner = entity.claimed_owner().filter(|_| entity.is_trusted_daemon());
    Ok(owner.ok_or(ProveError::NoOwner)?.unproved().into())
}

/// Who it is, if that is known already.
fn prove_now(call: &Arriving<'_>, demand: Demand) -> Option<Arc<str>> {
    call.entity().prove_now(demand)?.user.map(Into::into)
}

/// Another service of the same daemon that calls [for itself](Entity::calling_service): not one that says so, but one that the daemon has connected.
///
/// Refuses everybody else with `forbidden`, superusers included. Which service may is for the policy to say, or for the function, by the name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallingService(Box<str>);

impl CallingService {
    fn of(entity: &Entity) -> Result<Self, Fail> {
        entity.calling_service().map(|service| Self(service.into())).ok_or_else(Fail::forbidden)
    }

    /// The name of the service.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// The name. What a terminal would obey is escaped.
impl fmt::Display for CallingService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_debug().fmt(f)
    }
}

impl<S: Sync> FromCall<S> for CallingService {
    async fn from_call(call: &Call, _: &S) -> Result<Self, Fail> {
        Self::of(call.entity())
    }

    const AT_ONCE: bool = true;

    fn at_once(call: &Arriving<'_>, _: &S) -> Option<Result<Self, Fail>> {
        Some(Self::of(call.entity()))
    }
}

/// A group of a service, known to the compiler.
pub trait Group: Send + Sync + 'static {
    /// What the service calls it when it lets an entity [join](Entity::join).
    const NAME: &str;
}

/// An entity that the service has put into a group.
///
/// What that means is for the service to say, when it lets somebody join. Refuses everybody else with `forbidden`.
pub struct Member<G> {
    entity: Entity,
    group: PhantomData<fn() -> G>,
}

impl<G> Member<G> {
    /// The entity.
    #[must_use]
    pub const fn entity(&self) -> &Entity {
        &self.entity
    }
}

impl<G: Group> fmt::Debug for Member<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("group", &G::NAME).field("entity", &self.entity).finish()
    }
}

impl<G: Group, S: Sync> FromCall<S> for Member<G> {
    async fn from_call(call: &Call, _: &S) -> Result<Self, Fail> {
        Self::of(call.entity())
    }

    const AT_ONCE: bool = true;

    fn at_once(call: &Arriving<'_>, _: &S) -> Option<Result<Self, Fail>> {
        Some(Self::of(call.entity()))
    }
}

impl<G: Group> Member<G> {
    fn of(entity: &Entity) -> Result<Self, Fail> {
        if entity.groups().iter().any(|group| group == G::NAME) {
            Ok(Self { entity: entity.clone(), group: PhantomData })
        } else {
            Err(Fail::forbidden())
        }
    }
}
