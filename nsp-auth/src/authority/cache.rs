//! What was looked up before.
//!
//! The store belongs to this process alone, so nothing in here grows old: whoever changes something takes it out. A look-up that
//! overlaps with a change must not put back what the change took out. Therefore the change counts the epoch on first, after
//! it was made and before it takes out; and a look-up puts in, under the same lock, only if the epoch is still the one from before it
//! began.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::token::{CLOCK_SKEW, TokenHash, TokenRecord};
use crate::user::{MAX_ROLES, User, Username};

/// How many tokens are remembered. 65,536, some 16 MiB: as many connections as a daemon has.
const TOKENS: usize = 65_536;
/// How many users are remembered. 16,384, some 2 MiB.
const USERS: usize = 16_384;
/// So that checks on many cores do not wait for each other.
const SHARDS: usize = 16;
/// How exact the time of a token's last use is. A minute: more would be a write at every call.
pub(super) const USED: Duration = Duration::from_secs(60);

/// Tokens that are good, and what users are.
#[derive(Debug)]
pub(super) struct Cache {
    epoch: AtomicU64,
    tokens: [RwLock<Shard>; SHARDS],
    users: RwLock<HashMap<Username, Arc<Rank>>>,
}

#[derive(Debug)]
struct Known {
    user: Username,
    created: Timestamp,
    expires: Timestamp,
    idle: Duration,
    /// The last use that the store was told of, in milliseconds.
    used: AtomicI64,
}

type Shard = HashMap<TokenHash, Known, BuildHasherDefault<Place>>;

/// Where a token lies in a map: its hash says it, being random already. Nobody chooses it: only tokens that we have made are kept, and for all
/// others it is a place to look at, and no more.
#[derive(Debug, Default)]
struct Place(u64);

impl Hasher for Place {
    fn write(&mut self, bytes: &[u8]) {
        // Not the first of them, by which the shard was chosen. What is shorter is the length, the same for all.
        if let Some(place) = bytes.get(8..16).and_then(|bytes| bytes.try_into().ok()) {
            self.0 = u64::from_le_bytes(place);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What a user is, as far as decisions go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rank {
    pub(super) privilege: i64,
    roles: Vec<String>,
}

/// The role of superusers in a policy; they have it without being given it.
const SUPERUSER: &str = "superuser";

impl Rank {
    pub(super) fn of(user: &User) -> Arc<Self> {
        let mut roles = user.roles.clone();
        if user.is_superuser() {
            roles.push(SUPERUSER.into());
        }
        Arc::new(Self { privilege: user.privilege, roles })
    }

    /// Calls with the roles, without an allocation.
    pub(super) fn with_roles<T>(&self, call: impl FnOnce(&[&str]) -> T) -> T {
        let mut roles = [""; MAX_ROLES + 1];
        let mut count = 0;
        for (place, role) in roles.iter_mut().zip(&self.roles) {
            *place = role;
            count += 1;
        }
        call(roles.get(..count).unwrap_or_default())
    }
}

/// What is known of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It is good for so long. The store is to be told that it was used, if so.
    Good { remaining: Duration, tell: bool },
    /// It is somebody else's, or has expired.
    Bad,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { epoch: AtomicU64::new(0), tokens: Default::default(), users: RwLock::default() }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether a token is known.
    pub(super) fn token(&self, hash: &TokenHash, claimed: &str, now: Timestamp) -> Option<Found> {
        let shard = read(self.shard(hash));
        let known = shard.get(hash)?;
        let used = Timestamp::from_millis(known.used.load(Ordering::Relaxed));
        let record = |last_used: Timestamp| known.expires.min(last_used.after(known.idle)).since(now);
        if !known.user.is_meant_by(claimed) || record(used).is_zero() || known.created > now.after(CLOCK_SKEW)
        {
            return Some(Found::Bad);
        }
        // One of those that see it at once tells the store.
        let tell = now.since(used) >= USED
            && known
                .used
                .compare_exchange(used.as_millis(), now.as_millis(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        Some(Found::Good { remaining: record(now), tell })
    }

    /// Remembers a token that was looked up when the epoch was `epoch`.
    pub(super) fn put_token(&self, token: &TokenRecord, user: &Username, epoch: u64) {
        let mut shard = write(self.shard(&token.hash));
        if self.epoch() == epoch {
            make_room(&mut shard, TOKENS / SHARDS);
            let used = AtomicI64::new(token.last_used.as_millis());
            let (created, expires, idle) = (token.created, token.expires, token.idle);
            shard.insert(token.hash, Known { user: user.clone(), created, expires, idle, used });
        }
    }

    /// What a user is, as far as decisions go.
    pub(super) fn rank(&self, user: &Username) -> Option<Arc<Rank>> {
        read(&self.users).get(user).cloned()
    }

    /// Remembers what a user is, as of that epoch.
    pub(super) fn put_rank(&self, user: &Username, rank: &Arc<Rank>, epoch: u64) {
        let mut users = write(&self.users);
        if self.epoch() == epoch {
            make_room(&mut users, USERS);
            users.insert(user.clone(), rank.clone());
        }
    }

    /// Takes out what a change has made void. It is to be called after the change.
    pub(super) fn take_out(&self, users: &[&User], tokens: &[TokenHash]) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        for hash in tokens {
            write(self.shard(hash)).remove(hash);
        }
        let mut known = write(&self.users);
        for user in users {
            known.remove(&user.name);
        }
    }

    fn shard(&self, hash: &TokenHash) -> &RwLock<Shard> {
        let [first, ..] = hash.as_bytes();
        self.tokens.get(usize::from(*first) % SHARDS).unwrap_or(&self.tokens[0])
    }
}

/// Every second one goes: they are looked up again where they are still needed. Where only one went for each that comes, a map would give up the
/// same place each time, and who has come to a full one would be forgotten by the next.
fn make_room<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>, most: usize) {
    if map.len() >= most {
        let mut stays = false;
        map.retain(|_, _| {
            stays = !stays;
            stays
        });
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{self, Lifetime};
    use crate::user::UserId;

    fn name() -> Username {
        Username::parse("alice").unwrap()
    }

    fn rank() -> Arc<Rank> {
        Rank::of(&User::new(UserId::random(), name(), 0, Timestamp::EPOCH))
    }

    #[test]
    fn superusers_have_a_role_that_nobody_gives_them() {
        rank().with_roles(|roles| assert_eq!(roles, ["superuser"]));
        let mut user = User::new(UserId::random(), name(), 1, Timestamp::EPOCH);
        user.roles = vec!["a".into(), "b".into()];
        Rank::of(&user).with_roles(|roles| assert_eq!(roles, ["a", "b"]));
    }

    fn record(now: Timestamp) -> TokenRecord {
        TokenRecord::new(
            TokenHash::of(&token::random()),
            UserId::random(),
            String::new(),
            Lifetime::USER,
            now,
        )
    }

    #[test]
    fn a_look_up_that_overlaps_with_a_revocation_is_not_remembered() {
        let (cache, now) = (Cache::new(), Timestamp::from_millis(1_000_000_000_000));
        let token = record(now);
        let epoch = cache.epoch();
        cache.take_out(&[], &[token.hash]);
        cache.put_token(&token, &name(), epoch);
        assert_eq!(cache.token(&token.hash, "alice", now), None);
        cache.put_rank(&name(), &rank(), epoch);
        assert_eq!(cache.rank(&name()), None);
        // One after it is.
        cache.put_token(&token, &name(), cache.epoch());
        assert!(matches!(cache.token(&token.hash, "ALICE", now), Some(Found::Good { .. })));
        assert_eq!(cache.token(&token.hash, "alic_", now), Some(Found::Bad));
        cache.take_out(&[], &[token.hash]);
        assert_eq!(cache.token(&token.hash, "alice", now), None);
    }

    #[test]
    fn it_is_bounded() {
        let (cache, now) = (Cache::new(), Timestamp::from_millis(1_000_000_000_000));
        for _ in 0..TOKENS + 10_000 {
            cache.put_token(&record(now), &name(), 0);
        }
        let total: usize = cache.tokens.iter().map(|shard| read(shard).len()).sum();
        assert!((TOKENS / 2..=TOKENS).contains(&total), "{total}");
        for n in 0..USERS + 100 {
            cache.put_rank(&Username::parse(&format!("user{n}")).unwrap(), &rank(), 0);
        }
        let total = read(&cache.users).len();
        assert!((USERS / 2..=USERS).contains(&total), "{total}");
    }

    #[test]
    fn what_was_seen_last_is_known_though_there_are_many_more_than_there_is_room_for() {
        let (cache, now) = (Cache::new(), Timestamp::from_millis(1_000_000_000_000));
        // Not the moment at which every second one goes: then it would be half of them.
        let (all, mut last) = (2 * TOKENS + TOKENS / 4, Vec::new());
        for n in 0..all {
            let record = record(now);
            cache.put_token(&record, &name(), 0);
            if n >= all - 1000 {
                last.push(record.hash);
            }
        }
        let known = last.iter().filter(|hash| cache.token(hash, "alice", now).is_some()).count();
        assert!(known > 900, "{known} of 1000");
    }

    #[test]
    fn use_keeps_a_token_alive_and_is_told_once_a_minute() {
        let (cache, begin) = (Cache::new(), Timestamp::from_millis(1_000_000_000_000));
        let token = record(begin);
        cache.put_token(&token, &name(), 0);
        let found = |now| cache.token(&token.hash, "alice", now);
        assert!(matches!(found(begin.after(USED / 2)), Some(Found::Good { tell: false, .. })));
        assert!(matches!(found(begin.after(USED)), Some(Found::Good { tell: true, .. })));
        assert!(matches!(found(begin.after(USED)), Some(Found::Good { tell: false, .. })));
        let days = |n: u32| begin.after(Duration::from_secs(24 * 60 * 60) * n);
        assert!(matches!(found(days(29)), Some(Found::Good { .. })));
        assert!(matches!(found(days(58)), Some(Found::Good { .. })));
        assert_eq!(found(days(88)), Some(Found::Bad));
    }
}
