//! What stands before a handler: the policy, the proof that a secure function demands, and the shape of the argument.

use std::sync::Arc;
use std::time::Instant;

use super::call::{Call, CallKind, Target};
use super::connection::now;
use super::entity::{ClaimedOwner, Entity};
use super::fail::{Fail, code};
use super::proof::Standing;
use super::shared::Shared;
use crate::authority::{Access, Action, Answer, Authority, Permission, Shows};
use crate::machine::check::Demand;
use crate::machine::daemon::Gift;
use crate::proto::Data;

/// What is demanded of a call before its handler runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard {
    action: Option<Action>,
    demand: Option<Demand>,
}

/// What of the answer the caller gets to see.
pub(crate) struct Shown(Option<Arc<dyn Shows>>);

impl Shown {
    /// All of it.
    pub(crate) const ALL: Self = Self(None);

    pub(crate) const fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// What is said about a blob is filtered as an answer is; the blob itself is shown whole.
    pub(crate) fn apply(&self, Gift { meta, data }: Gift) -> Gift {
        let Some(shows) = &self.0 else { return Gift { meta, data } };
        let data = match data {
            Data::Json(json) => Data::Json(shows.show(json)),
            other => other,
        };
        Gift { meta: meta.map(|meta| shows.show(meta)), data }
    }
}

impl Guard {
    /// Nothing is demanded.
    pub(crate) const OPEN: Self = Self { action: None, demand: None };

    /// The policy is asked.
    pub(crate) const fn on(action: Action) -> Self {
        Self { action: Some(action), demand: None }
    }

    /// And a proof is demanded.
    pub(crate) const fn demanding(self, demand: Demand) -> Self {
        Self { demand: Some(demand), ..self }
    }

    /// Whether there is anything to ask before a call.
    #[inline]
    pub(crate) fn stands(&self, daemon: &Shared) -> bool {
        self.demand.is_some() || self.asked(daemon).is_some()
    }

    /// What the policy is asked, where there is one.
    #[inline]
    fn asked(&self, daemon: &Shared) -> Option<Action> {
        self.action.filter(|_| daemon.authority.has_policy())
    }

    const fn is_open(&self) -> bool {
        self.action.is_none() && self.demand.is_none()
    }

    /// Lets a call pass, or says why not.
    pub(crate) async fn admit(&self, call: &Call) -> Result<Shown, Fail> {
        let now = match call.entity.daemon() {
            _ if self.is_open() => Some(Ok(Shown::ALL)),
            Some(daemon) => self.admit_now(&daemon, call.target(), now()),
            None => Some(Err(gone())),
        };
        let shown = match now {
            Some(shown) => shown?,
            // Boxed: it is large, and seldom needed.
            None => Box::pin(self.admit_later(call)).await?,
        };
        call.entity.0.service.check_shape(call)?;
        Ok(shown)
    }

    /// What can be said without waiting for anybody; `None` when that is not enough.
    #[inline]
    pub(crate) fn admit_now(
        &self,
        daemon: &Shared,
        target: Target<'_>,
        now: Instant,
    ) -> Option<Result<Shown, Fail>> {
        let action = match (self.asked(daemon), self.demand) {
            (None, None) => return Some(Ok(Shown::ALL)),
            (None, Some(demand)) => {
                return target.entity.shows(demand, daemon, now).then_some(Ok(Shown::ALL));
            }
            (Some(action), _) => action,
        };
        let standing = target.entity.standing(daemon, now);
        let shows = |demand| matches!(&standing, Standing::Proved(proof) if proof.shows(demand));
        if !self.demand.is_none_or(shows) {
            return None;
        }
        let (user, is_stale) = match known_user(target.entity, &standing) {
            Ok(user) => (user, false),
            // It was proved, and too long ago. What anybody may needs no proof, so nobody is asked for one.
            Err(Stale) => (None, true),
        };
        let permission = permission_now(&*daemon.authority, target, action, user)?;
        match permission {
            Permission::Granted { shows: None } => Some(Ok(Shown::ALL)),
            _ if is_stale => None,
            Permission::Granted { shows } => Some(Ok(Shown(shows))),
            Permission::Denied if user.is_none() && target.entity.claimed_owner().is_some() => None,
            Permission::Denied => Some(Err(Fail::forbidden())),
        }
    }

    async fn admit_later(&self, call: &Call) -> Result<Shown, Fail> {
        let daemon = call.entity.daemon().ok_or_else(gone)?;
        if let Some(demand) = self.demand {
            call.entity.prove(demand).await?;
        }
        let Some(action) = self.asked(&daemon) else { return Ok(Shown::ALL) };
        let standing = call.entity.standing(&daemon, now());
        let proved;
        let user = match known_user(&call.entity, &standing) {
            Ok(user) => user,
            // It may still hold, and counts for nothing if it does not.
            Err(Stale) => {
                proved = call.entity.prove(Demand::Token).await.ok().and_then(|passed| passed.user);
                proved.as_deref()
            }
        };
        let authority = &*daemon.authority;
        match ask(authority, call, action, user).await? {
            Permission::Granted { shows } => return Ok(Shown(shows)),
            Permission::Denied if user.is_some() || call.entity.claimed_owner().is_none() => {
                return Err(Fail::forbidden());
            }
            Permission::Denied => {}
        }
        // Nobody may; perhaps the owner may, once it is known that it is them.
        let user = call.entity.prove(Demand::Token).await?.user;
        match ask(authority, call, action, user.as_deref()).await? {
            Permission::Granted { shows } => Ok(Shown(shows)),
            Permission::Denied => Err(Fail::forbidden()),
        }
    }
}

/// What the authority says at once; `None` when it does not, or when it depends on the owner.
fn permission_now(
    authority: &dyn Authority,
    target: Target<'_>,
    action: Action,
    user: Option<&str>,
) -> Option<Permission> {
    let access = access(target, action, user);
    let permission = |access: &Access<'_>| match authority.permits(access) {
        Answer::Now(permission) => permission,
        Answer::Later(_) => None,
    };
    if target.entity.0.service.owners(target).is_none() {
        return permission(&access);
    }
    let (theirs, ours) = (access.owner(NOBODY), user.map(|user| access.owner(user)));
    let theirs = permission(&theirs)?;
    match ours {
        Some(ours) => settled(permission(&ours)?, theirs).ok(),
        None => Some(theirs),
    }
}

async fn ask(
    authority: &dyn Authority,
    call: &Call,
    action: Action,
    user: Option<&str>,
) -> Result<Permission, Fail> {
    let access = access(call.target(), action, user);
    let Some(owners) = call.entity.0.service.owners(call.target()) else {
        return Ok(authority.permits(&access).await);
    };
    let theirs = authority.permits(&access.owner(NOBODY)).await;
    let Some(user) = user else { return Ok(theirs) };
    let ours = authority.permits(&access.owner(user)).await;
    match settled(ours, theirs) {
        Ok(permission) => Ok(permission),
        Err((ours, theirs)) => {
            let owner = owners.owner(call).await?;
            Ok(if owner.as_deref() == Some(user) { ours } else { theirs })
        }
    }
}

/// Whose things are for who may with any, and for nobody else.
const NOBODY: &str = "";

/// What may be done whoever owns it; both sides if it depends on that. A policy may grant one's own, or show more of it, or deny nothing but that.
fn settled(ours: Permission, theirs: Permission) -> Result<Permission, (Permission, Permission)> {
    match (&ours, &theirs) {
        (Permission::Granted { shows: None }, Permission::Granted { shows: None })
        | (Permission::Denied, Permission::Denied) => Ok(theirs),
        _ => Err((ours, theirs)),
    }
}

fn access<'a>(target: Target<'a>, action: Action, user: Option<&'a str>) -> Access<'a> {
    let mut access = Access::new(user, action, target.entity.service());
    if let Some(service) = target.entity.calling_service() {
        access = access.calling_service(service);
    }
    match target.kind {
        CallKind::Function | CallKind::BlobFunction => access.name(target.name),
        _ => access,
    }
}

/// A proof that does not hold any more.
struct Stale;

/// For whom an entity may be taken: the user that it has proved, or, from a trusted daemon, whom it says.
fn known_user<'a>(entity: &'a Entity, standing: &'a Standing) -> Result<Option<&'a str>, Stale> {
    if entity.is_trusted_daemon() {
        return Ok(entity.claimed_owner().map(ClaimedOwner::unproved));
    }
    match standing {
        Standing::Nobody => Ok(None),
        Standing::Proved(proof) => Ok(Some(&proof.user)),
        Standing::Stale => Err(Stale),
    }
}

fn gone() -> Fail {
    Fail::new(code::CLOSING, "Error: the daemon stops")
}
