//! Who has failed too often, and has to wait. Pure: time is an argument.
//!
//! Failures are counted in three places, and an attempt has to be admitted by all that concern it:
//!
//! ```text
//! account                 does not count for a network from which this account has logged in within 90 days
//! network                 the /24 of an IPv4 address, the /64 of an IPv6 address; counts for all accounts
//! account from network    what this network has tried with this account
//!
//! failures   1 .. 4     5      6      7    ...    14     15 ..
//! wait         0       1 s    2 s    4 s   ...  512 s   900 s
//! ```
//!
//! So nobody is locked out for good. Somebody else's failures from another network keep the owner of an account waiting for at
//! most [`Settings::longest`] after the last of them, and not at all at a network where the owner was before.
//!
//! Attempts that are being judged are counted as well: whoever sends a thousand at once does not get a thousand guesses.
//!
//! Time may jump. Nobody waits for longer than the counter itself says, whatever the clock said when it was set.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::clock::Timestamp;

/// How much is tolerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Failures without consequence. 5 are tolerated: the fifth begins the waiting.
    pub free: u32,
    /// The first wait; each failure doubles it. 1 s.
    pub first: Duration,
    /// The longest. 15 min: some hundred guesses a day.
    pub longest: Duration,
    /// After how long a failure is forgotten. 24 h.
    pub forget: Duration,
    /// How long a network is known after a login from it. 90 days, the life of a token.
    pub known: Duration,
    /// Attempts of one account that are judged at once. 16: somebody starts a dozen programs.
    pub at_once: u32,
    /// Most counters of each of the three kinds. 16,384, some 2 MiB; where there is no room, the one with the fewest failures goes.
    pub capacity: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 60 * 60);
        Self {
            free: 5,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(15 * 60),
            forget: day,
            known: day * 90,
            at_once: 16,
            capacity: 16_384,
        }
    }
}

/// Addresses that are one to us: a /24 or a /64. IPv4-mapped ones are IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    V4([u8; 3]),
    V6([u8; 8]),
}

impl Network {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// A name somebody has claimed, whether it exists or not: hashed, so that each is as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Account([u8; 16]);

impl Account {
    pub(crate) fn of(claimed: &str) -> Self {
        let hash: [u8; 32] = Sha256::digest(claimed.to_ascii_lowercase()).into();
        let mut half = [0; 16];
        half.copy_from_slice(hash.split_at(16).0);
        Self(half)
    }
}

/// What failures are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Account(Account),
    Network(Network),
    Pair(Account, Network),
}

impl Key {
    /// For a store: `a` account, `n` network, `p` pair, each followed by its bytes.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let network = |network| match network {
            Network::V4(bytes) => bytes.to_vec(),
            Network::V6(bytes) => bytes.to_vec(),
        };
        match self {
            Self::Account(account) => [b"a".as_slice(), &account.0].concat(),
            Self::Network(one) => [b"n".as_slice(), &network(one)].concat(),
            Self::Pair(account, one) => [b"p".as_slice(), &account.0, &network(one)].concat(),
        }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let network = |bytes: &[u8]| match bytes.len() {
            3 => bytes.try_into().ok().map(Network::V4),
            8 => bytes.try_into().ok().map(Network::V6),
            _ => None,
        };
        let (kind, bytes) = bytes.split_first()?;
        match kind {
            b'a' => bytes.try_into().ok().map(|bytes| Self::Account(Account(bytes))),
            b'n' => network(bytes).map(Self::Network),
            b'p' => {
                let (account, rest) = bytes.split_at_checked(16)?;
                Some(Self::Pair(Account(account.try_into().ok()?), network(rest)?))
            }
            _ => None,
        }
    }
}

/// What is kept of a counter over a restart. One that counts nothing, neither a failure nor a login, need not be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores read and write these")]
pub struct Counted {
    /// What it counts, opaque.
    pub key: Vec<u8>,
    /// How many failures.
    pub failures: u32,
    /// When the last one was.
    pub failed: Timestamp,
    /// When the last login was, for an account from a network; [`Timestamp::EPOCH`] if there was none.
    pub succeeded: Timestamp,
}

impl Counted {
    /// Whether it counts nothing, and need not be kept.
    #[must_use]
    pub fn is_void(&self) -> bool {
        self.failures == 0 && self.succeeded == Timestamp::EPOCH
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    failures: u32,
    at_once: u32,
    failed: Timestamp,
    succeeded: Timestamp,
}

impl Counter {
    fn wait(&self, settings: &Settings, now: Timestamp) -> Duration {
        let Some(doublings) = self.failures.checked_sub(settings.free) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let whole = settings.first.saturating_mul(factor).min(settings.longest);
        whole.saturating_sub(now.since(self.failed))
    }

    fn is_known(&self, settings: &Settings, now: Timestamp) -> bool {
        self.succeeded > Timestamp::EPOCH && now.since(self.succeeded) < settings.known
    }

    fn is_void(&self, settings: &Settings, now: Timestamp) -> bool {
        self.at_once == 0
            && (self.failures == 0 || now.since(self.failed) >= settings.forget)
            && !self.is_known(settings, now)
    }

    /// What it is worth keeping: many failures, or the memory of a login, which others must not be able to push out cheaply.
    fn worth(&self) -> (bool, u32, Timestamp) {
        let bonus = if self.succeeded > Timestamp::EPOCH { 8 } else { 0 };
        (self.at_once > 0, self.failures.saturating_add(bonus), self.failed.max(self.succeeded))
    }
}

/// All counters.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    settings: Settings,
    accounts: HashMap<Key, Counter>,
    networks: HashMap<Key, Counter>,
    pairs: HashMap<Key, Counter>,
    /// Counters that had to go, and that the store is still to be told of.
    gone: Vec<Key>,
}

/// An attempt that was admitted, and has to be settled.
#[derive(Debug)]
#[must_use = "an attempt that is not settled stays counted"]
pub(crate) struct Attempt {
    account: Account,
    network: Option<Network>,
}

/// Why an attempt is not even judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Too many have failed.
    Wait(Duration),
    /// Too many of this account are being judged.
    Busy,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was right.
    Right,
    /// It was wrong, or nobody waited for the answer.
    Wrong,
    /// It was not judged, through no fault of the one who asked.
    Void,
}

impl Throttle {
    pub(crate) fn new(settings: Settings, kept: impl IntoIterator<Item = Counted>) -> Self {
        let mut this = Self { settings, ..Self::default() };
        for Counted { key, failures, failed, succeeded } in kept {
            let Some(key) = Key::from_bytes(&key) else { continue };
            let counter = Counter { failures, at_once: 0, failed, succeeded };
            if this.table(key).len() < settings.capacity {
                this.table(key).insert(key, counter);
            }
        }
        this
    }

    /// Whether somebody at an address may try to be an account. Without an address only the account counts.
    pub(crate) fn admit(
        &mut self,
        account: Account,
        network: Option<Network>,
        now: Timestamp,
    ) -> Result<Attempt, Refused> {
        let attempt = Attempt { account, network };
        let settings = self.settings;
        let mut wait = Duration::ZERO;
        for key in attempt.keys() {
            if matches!(key, Key::Account(_)) && self.is_known(account, network, now) {
                continue;
            }
            let counter = self.counter(key, now);
            wait = wait.max(counter.wait(&settings, now));
            // One at a time once there were too many.
            if counter.failures >= settings.free && counter.at_once > 0 {
                wait = wait.max(settings.first);
            }
        }
        if !wait.is_zero() {
            return Err(Refused::Wait(wait));
        }
        if self.counter(Key::Account(account), now).at_once >= settings.at_once {
            return Err(Refused::Busy);
        }
        for key in attempt.keys() {
            self.change(key, now, |counter| counter.at_once += 1);
        }
        Ok(attempt)
    }

    /// Says how an attempt ended; what has to be stored of that comes back.
    pub(crate) fn settle(&mut self, attempt: &Attempt, outcome: Outcome, now: Timestamp) -> Vec<Counted> {
        let (settings, mut changed) = (self.settings, Vec::new());
        for key in attempt.keys() {
            let before = self.counter(key, now);
            self.change(key, now, |counter| {
                counter.at_once = counter.at_once.saturating_sub(1);
                match (outcome, key) {
                    (Outcome::Wrong, _) => {
                        counter.failures = counter.failures.saturating_add(1);
                        counter.failed = now;
                    }
                    // A network stays suspicious: whoever has an account there must not clear it for trying others.
                    (Outcome::Right, Key::Account(_)) => counter.failures = 0,
                    (Outcome::Right, Key::Pair(..)) => {
                        counter.failures = 0;
                        counter.succeeded = now;
                    }
                    (Outcome::Right, Key::Network(_)) | (Outcome::Void, _) => {}
                }
            });
            let after = self.table(key).get(&key).copied().unwrap_or_default();
            // That a network is known need not be written at every login.
            let is_news = now.since(before.succeeded) >= Duration::from_secs(24 * 60 * 60);
            if before.failures != after.failures || before.succeeded != after.succeeded && is_news {
                changed.push(Counted {
                    key: key.to_bytes(),
                    failures: after.failures,
                    failed: after.failed,
                    succeeded: after.succeeded,
                });
            }
            if after.is_void(&settings, now) {
                self.table(key).remove(&key);
            }
        }
        let void = |key: Key| Counted {
            key: key.to_bytes(),
            failures: 0,
            failed: Timestamp::EPOCH,
            succeeded: Timestamp::EPOCH,
        };
        // Unless they have come back.
        let gone = std::mem::take(&mut self.gone);
        changed.extend(gone.into_iter().filter(|key| !self.table(*key).contains_key(key)).map(void));
        changed
    }

    /// Whether the account has logged in from there.
    fn is_known(&self, account: Account, network: Option<Network>, now: Timestamp) -> bool {
        let pair = network.and_then(|network| self.pairs.get(&Key::Pair(account, network)));
        pair.is_some_and(|pair| pair.is_known(&self.settings, now))
    }

    fn table(&mut self, key: Key) -> &mut HashMap<Key, Counter> {
        match key {
            Key::Account(_) => &mut self.accounts,
            Key::Network(_) => &mut self.networks,
            Key::Pair(..) => &mut self.pairs,
        }
    }

    /// The counter as it counts now: what is long ago is forgotten.
    fn counter(&mut self, key: Key, now: Timestamp) -> Counter {
        let forget = self.settings.forget;
        let Some(counter) = self.table(key).get_mut(&key) else { return Counter::default() };
        // A clock that was set back has left these in the future. They count as of now, and stay so: else the wait would begin
        // again at every look.
        counter.failed = counter.failed.min(now);
        counter.succeeded = counter.succeeded.min(now);
        if now.since(counter.failed) >= forget {
            counter.failures = 0;
        }
        *counter
    }

    fn change(&mut self, key: Key, now: Timestamp, change: impl FnOnce(&mut Counter)) {
        let (settings, mut counter) = (self.settings, self.counter(key, now));
        change(&mut counter);
        let table = self.table(key);
        let mut gone = Vec::new();
        if !table.contains_key(&key) && table.len() >= settings.capacity {
            gone = make_room(table, &settings, now);
        }
        table.insert(key, counter);
        self.gone.append(&mut gone);
    }
}

/// Looks at every counter, which takes less time than the hash without which nobody gets here. Those that went come back, so that
/// the store is not left with what memory had no room for.
fn make_room(table: &mut HashMap<Key, Counter>, settings: &Settings, now: Timestamp) -> Vec<Key> {
    let mut gone: Vec<_> =
        table.extract_if(|_, counter| counter.is_void(settings, now)).map(|(key, _)| key).collect();
    if table.len() >= settings.capacity
        && let Some((&least, _)) = table.iter().min_by_key(|(_, counter)| counter.worth())
    {
        table.remove(&least);
        gone.push(least);
    }
    gone
}

impl Attempt {
    fn keys(&self) -> impl Iterator<Item = Key> + use<> {
        let (account, network) = (self.account, self.network);
        let network_keys = network.map(|network| [Key::Network(network), Key::Pair(account, network)]);
        [Key::Account(account)].into_iter().chain(network_keys.into_iter().flatten())
    }
}

#[cfg(test)]
#[path = "throttle/model.rs"]
mod model;
#[cfg(test)]
#[path = "throttle/tests.rs"]
mod tests;
