use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use nsp::authority::{Access, Action};

use super::decide::{Actor, Decision, Subject};

/// Decisions of one policy that were made before.
///
/// Each has one set of a few places that it may be in, by its hash; what comes later takes the place of the oldest there. So there is a bound
/// without a queue, a peer that asks for names at random costs others no more than a decision made twice, and nobody waits for
/// anybody's lock but at the same set.
#[derive(Debug)]
pub(super) struct Cache {
    hasher: RandomState,
    sets: Box<[Mutex<Set>]>,
}

/// The latest first.
type Set = [Option<Box<Entry>>; WAYS];

/// Places of a set: as many as it takes that a cache a quarter full has no full sets to speak of.
const WAYS: usize = 4;

/// Decisions kept at once: more than the functions that a busy daemon's users call in a while. With what each may hold, 8 MiB at most.
pub(super) const PLACES: usize = 8192;

/// Bytes of names in a question that is remembered. Longer ones are decided each time: a daemon asks for names that a peer has chosen.
pub(super) const LONGEST: usize = 1024;

#[derive(Debug)]
struct Entry {
    hash: u64,
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
        let sets = std::iter::repeat_with(Mutex::default).take(PLACES / WAYS).collect();
        Self { hasher: RandomState::new(), sets }
    }

    /// The decision, from here or made now.
    pub(super) fn get(
        &self,
        subject: &Subject<'_>,
        access: &Access<'_>,
        decide: impl FnOnce() -> Decision,
    ) -> Decision {
        if length(subject, access) > LONGEST {
            return decide();
        }
        let owner = Owner::of(subject, access);
        let question = (subject.actor, subject.roles, access.action, access.service, access.name, owner);
        let hash = self.hasher.hash_one(question);
        let Some(set) = self.set(hash) else { return decide() };
        let lock = || set.lock().unwrap_or_else(PoisonError::into_inner);
        let found = |entry: &Entry| entry.hash == hash && entry.is_for(subject, access, owner);
        if let Some(entry) = lock().iter().flatten().find(|entry| found(entry)) {
            return entry.decision.clone();
        }
        // Not under the lock: two may decide the same at once, and both are right.
        let decision = decide();
        let entry = Box::new(Entry::new(hash, subject, access, owner, decision.clone()));
        let oldest = {
            let mut set = lock();
            set.rotate_right(1);
            let [latest, ..] = &mut *set;
            latest.replace(entry)
        };
        drop(oldest);
        decision
    }

    fn set(&self, hash: u64) -> Option<&Mutex<Set>> {
        self.sets.get(usize::try_from(hash % self.sets.len() as u64).ok()?)
    }
}

/// Bytes of all names in a question.
fn length(subject: &Subject<'_>, access: &Access<'_>) -> usize {
    let actor = match subject.actor {
        Actor::Anonymous => 0,
        Actor::User(name) | Actor::Service(name) => name.len(),
    };
    let roles: usize = subject.roles.iter().map(|role| role.len() + size_of::<Box<str>>()).sum();
    actor + roles + access.service.len() + access.name.map_or(0, str::len)
}

impl Entry {
    fn new(hash: u64, subject: &Subject<'_>, access: &Access<'_>, owner: Owner, decision: Decision) -> Self {
        Self {
            hash,
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

    /// Everything that the decision depends on has to be the same, and not its hash alone.
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use nsp::authority::Permission;

    use super::*;

    #[test]
    fn question_is_remembered_unless_it_is_long() {
        let cache = Cache::new();
        let decided = Cell::new(0);
        let ask = |name: &str, roles: &[&str]| {
            let access = Access::new(Some("alice"), Action::Call, "Notes").name(name);
            cache.get(&Subject::of(&access, roles), &access, || {
                decided.set(decided.get() + 1);
                Decision { permission: Permission::Denied, rule: None }
            });
            decided.replace(0)
        };
        assert_eq!((ask("x", &[]), ask("x", &[]), ask("y", &[]), ask("x", &["r"])), (1, 0, 1, 1));
        let longest = "x".repeat(LONGEST - "alice".len() - "Notes".len());
        assert_eq!((ask(&longest, &[]), ask(&longest, &[])), (1, 0));
        let longer = longest + "x";
        assert_eq!((ask(&longer, &[]), ask(&longer, &[])), (1, 1));
        let roles = vec!["role"; 100];
        assert_eq!((ask("x", &roles), ask("x", &roles)), (1, 1));
    }
}
