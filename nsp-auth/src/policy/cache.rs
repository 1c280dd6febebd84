use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use nsp::authority::{Access, Action};

use super::decide::{Actor, Decision, Subject};

/// Decisions of one policy that were made before.
///
/// Each has one place that it may be in, by its hash; what comes later takes the place. So there is a bound without a queue, a peer
/// that asks for names at random costs others no more than a decision made twice, and nobody waits for anybody's lock but at the
/// same place.
#[derive(Debug)]
pub(super) struct Cache {
    hasher: RandomState,
    places: Box<[Mutex<Option<Box<Entry>>>]>,
}

/// Decisions kept at once: more than the functions that a busy daemon's users call in a while, and with the longest names 8 MiB.
pub(super) const PLACES: usize = 8192;

#[derive(Debug)]
struct Entry {
    actor: OwnedActor,
    roles: Box<[Box<str>]>,
    action: Action,
    service: Box<str>,
    name: Option<Box<str>>,
    /// Whose it is; only whether it is the subject's own matters.
    owner: Owner,
    decision: Decision,
}

#[derive(Debug, PartialEq, Eq)]
enum OwnedActor {
    Anonymous,
    User(Box<str>),
    Service(Box<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Owner {
    Unsaid,
    Subject,
    Other,
}

impl Owner {
    fn of(subject: &Subject<'_>, access: &Access<'_>) -> Self {
        match (access.owner, subject.actor) {
            (None, _) => Self::Unsaid,
            (Some(owner), Actor::User(user)) if owner == user => Self::Subject,
            _ => Self::Other,
        }
    }
}

impl Cache {
    pub(super) fn new() -> Self {
        let places = std::iter::repeat_with(Mutex::default).take(PLACES).collect();
        Self { hasher: RandomState::new(), places }
    }

    /// The decision, from here or made now.
    pub(super) fn get(
        &self,
        subject: &Subject<'_>,
        access: &Access<'_>,
        decide: impl FnOnce() -> Decision,
    ) -> Decision {
        let owner = Owner::of(subject, access);
        let Some(place) = self.place(subject, access, owner) else { return decide() };
        let lock = || place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = &*lock()
            && entry.is_for(subject, access, owner)
        {
            return entry.decision.clone();
        }
        // Not under the lock: two may decide the same at once, and both are right.
        let decision = decide();
        let entry = Box::new(Entry::new(subject, access, owner, decision.clone()));
        let before = lock().replace(entry);
        drop(before);
        decision
    }

    fn place(
        &self,
        subject: &Subject<'_>,
        access: &Access<'_>,
        owner: Owner,
    ) -> Option<&Mutex<Option<Box<Entry>>>> {
        let question = (subject.actor, subject.roles, access.action, access.service, access.name, owner);
        let at = usize::try_from(self.hasher.hash_one(question) % PLACES as u64).ok()?;
        self.places.get(at)
    }
}

impl Entry {
    fn new(subject: &Subject<'_>, access: &Access<'_>, owner: Owner, decision: Decision) -> Self {
        Self {
            actor: match subject.actor {
                Actor::Anonymous => OwnedActor::Anonymous,
                Actor::User(name) => OwnedActor::User(name.into()),
                Actor::Service(name) => OwnedActor::Service(name.into()),
            },
            roles: subject.roles.iter().map(|role| (*role).into()).collect(),
            action: access.action,
            service: access.service.into(),
            name: access.name.map(Into::into),
            owner,
            decision,
        }
    }

    /// Places are shared: everything that the decision depends on has to be the same, and not its hash alone.
    fn is_for(&self, subject: &Subject<'_>, access: &Access<'_>, owner: Owner) -> bool {
        let actor = match (&self.actor, subject.actor) {
            (OwnedActor::Anonymous, Actor::Anonymous) => true,
            (OwnedActor::User(own), Actor::User(name)) | (OwnedActor::Service(own), Actor::Service(name)) => {
                **own == *name
            }
            _ => false,
        };
        actor
            && self.owner == owner
            && self.action == access.action
            && *self.service == *access.service
            && self.name.as_deref() == access.name
            && self.roles.len() == subject.roles.len()
            && self.roles.iter().zip(subject.roles).all(|(own, role)| **own == **role)
    }
}
