//! What an authority is made with.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nsp::DaemonKey;
use sha2::{Digest, Sha256};

use super::Authority;
use super::core::{Core, Settings};
use crate::clock::{Clock, SystemClock};
use crate::password::{Cost, CostError, PasswordRules};
use crate::policy::Policies;
use crate::store::{Sqlite, Store, StoreError};
use crate::throttle;
use crate::token::Lifetime;

/// What an authority is made with; every default is stated where it can be changed.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct Builder {
    cost: Cost,
    throttle: throttle::Settings,
    daemon_key: Option<DaemonKey>,
    clock: Arc<dyn Clock>,
    policies: Policies,
    settings: Settings,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            cost: Cost::default(),
            throttle: throttle::Settings::default(),
            daemon_key: None,
            clock: Arc::new(SystemClock::default()),
            policies: Policies::none(),
            settings: Settings {
                rules: PasswordRules::default(),
                user_tokens: Lifetime::USER,
                superuser_tokens: Lifetime::SUPERUSER,
                tokens_per_user: 64,
                rely_for: Duration::from_secs(30),
                trusted: HashSet::new(),
                daemon_key: None,
            },
        }
    }

    /// What a guess at a password costs: 19 MiB and 2 passes, unless told. Where it rises, hashes are replaced at the next login.
    pub const fn cost(mut self, cost: Cost) -> Self {
        self.cost = cost;
        self
    }

    /// Fewest characters of a new password: 15. Less than 8 is not taken.
    pub const fn min_password_characters(mut self, characters: usize) -> Self {
        self.settings.rules.min_characters = characters;
        self
    }

    /// How long tokens of ordinary users live: 90 days, 30 without use.
    pub const fn token_lifetime(mut self, lifetime: Lifetime) -> Self {
        self.settings.user_tokens = lifetime;
        self
    }

    /// How long tokens of superusers live: 12 hours.
    pub const fn superuser_token_lifetime(mut self, lifetime: Lifetime) -> Self {
        self.settings.superuser_tokens = lifetime;
        self
    }

    /// Most tokens of one user: 64. A login beyond that ends the token that was not used for longest.
    pub const fn tokens_per_user(mut self, most: usize) -> Self {
        self.settings.tokens_per_user = most;
        self
    }

    /// How many failures are tolerated, and what follows.
    pub const fn throttle(mut self, settings: throttle::Settings) -> Self {
        self.throttle = settings;
        self
    }

    /// For how long daemons may rely on an answer: 30 s. A revocation reaches them at once all the same, through
    /// [`epoch`](nsp::authority::Authority::epoch) and [`on_revoked`](nsp::authority::Authority::on_revoked).
    pub const fn rely_for(mut self, duration: Duration) -> Self {
        self.settings.rely_for = duration;
        self
    }

    /// Trusts daemons at an address, given that they know the key. IPv4-mapped addresses are IPv4. Failures from there are counted for the
    /// account only, since many come from there. Nothing is trusted unless told, not even this machine.
    pub fn trust(mut self, address: IpAddr) -> Self {
        self.settings.trusted.insert(address.to_canonical());
        self
    }

    /// The key by which daemons show that they may act for their users. Without one, no key is right; an empty one is refused when the
    /// authority is opened.
    pub fn daemon_key(mut self, key: DaemonKey) -> Self {
        self.daemon_key = Some(key);
        self
    }

    /// Has a policy decide who may do what: what it does not grant is denied. Without one everything is permitted, and functions
    /// guard themselves. Users have the roles of the policy, those of their own, and `superuser` if they are.
    pub fn policies(mut self, policies: Policies) -> Self {
        self.policies = policies;
        self
    }

    /// Takes the time from somewhere else, for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Opens a database, or makes it.
    ///
    /// # Errors
    ///
    /// As [`Sqlite::open`], and when something of this makes no sense.
    ///
    /// # Cancel safety
    ///
    /// Dropped, what was opened is closed again.
    pub async fn open(self, path: impl Into<PathBuf>) -> Result<Authority, OpenError> {
        let checked = self.checked()?;
        let store = Sqlite::open(path).await?;
        checked.with(store).await
    }

    /// Uses a store that is open.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or something of this makes no sense.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the store is dropped with it.
    pub async fn open_store(self, store: impl Store) -> Result<Authority, OpenError> {
        self.checked()?.with(store).await
    }

    fn checked(mut self) -> Result<Self, OpenError> {
        self.cost.check()?;
        if let Some(key) = &self.daemon_key {
            if key.reveal().is_empty() {
                return Err(OpenError::EmptyDaemonKey);
            }
            self.settings.daemon_key = Some(Sha256::digest(key.reveal()).into());
        }
        if self.settings.tokens_per_user == 0 {
            return Err(OpenError::NoTokens);
        }
        Ok(self)
    }

    async fn with(self, store: impl Store) -> Result<Authority, OpenError> {
        let core =
            Core::open(Arc::new(store), self.cost, self.throttle, self.clock, self.policies, self.settings)
                .await?;
        Ok(Authority::new(core))
    }
}

/// Why an authority cannot be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Its store cannot.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A cost that nobody can pay.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// A key that everybody knows.
    #[error("the daemon key is empty: leave it out if no daemon is to be trusted")]
    EmptyDaemonKey,
    /// Nobody could log in.
    #[error("users may have no tokens: at least 1 is needed to log in")]
    NoTokens,
}
