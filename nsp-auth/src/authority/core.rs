//! What an authority and those who manage its users share.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nsp::authority::{Denied, Revoked, RevokedToken};
use tracing::Instrument as _;

use super::cache::Cache;
use super::revoked::Listeners;
use crate::clock::{Clock, Timestamp, Watch};
use crate::password::{Cost, Hasher, PasswordRules};
use crate::policy::Policies;
use crate::store::{Change, ChangeError, Changed, Note, Store, StoreError};
use crate::throttle::{self, Throttle};
use crate::token::Lifetime;
use crate::user::User;

/// What was settled when the authority was made.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) rules: PasswordRules,
    pub(crate) user_tokens: Lifetime,
    pub(crate) superuser_tokens: Lifetime,
    pub(crate) tokens_per_user: usize,
    pub(crate) rely_for: Duration,
    pub(crate) trusted: HashSet<IpAddr>,
    /// SHA-256 of it, so that comparing says nothing about its length.
    pub(crate) daemon_key: Option<[u8; 32]>,
}

/// How often what has expired is taken out of the store, at a login. Every hour.
const SWEEP: Duration = Duration::from_secs(60 * 60);
/// How long what has expired stays in the store. A week: where the clock was wrong for a while, tokens are good again when it is right.
const GRACE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hasher: Hasher,
    pub(crate) settings: Settings,
    pub(super) cache: Cache,
    pub(super) listeners: Listeners,
    pub(super) policies: Arc<Policies>,
    throttle: Mutex<Throttle>,
    throttle_settings: throttle::Settings,
    watch: Watch,
    swept: AtomicI64,
}

impl Core {
    pub(super) async fn open(
        store: Arc<dyn Store>,
        cost: Cost,
        throttle_settings: throttle::Settings,
        clock: Arc<dyn Clock>,
        policies: Policies,
        settings: Settings,
    ) -> Result<Arc<Self>, StoreError> {
        let counted = store.counted().await?;
        let hasher =
            tokio::task::spawn_blocking(move || Hasher::new(cost)).await.map_err(|_| StoreError::Closed)?;
        Ok(Arc::new(Self {
            store,
            hasher,
            settings,
            cache: Cache::new(),
            listeners: Listeners::default(),
            policies: Arc::new(policies),
            throttle: Mutex::new(Throttle::new(throttle_settings, counted)),
            throttle_settings,
            watch: Watch::new(clock),
            swept: AtomicI64::new(i64::MIN),
        }))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.watch.now()
    }

    pub(super) fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn lifetime_for(&self, user: &User) -> Lifetime {
        if user.is_superuser() { self.settings.superuser_tokens } else { self.settings.user_tokens }
    }

    /// Changes something, makes void what was said before, and has it written down.
    ///
    /// # Cancel safety
    ///
    /// Once begun it goes on by itself: a caller who is dropped between the change and its announcement would leave revoked tokens in
    /// the cache, live connections uncut, and a change of which no log knows.
    pub(crate) async fn change(
        self: &Arc<Self>,
        change: Change,
        note: impl FnOnce(&Changed) + Send + 'static,
    ) -> Result<Changed, ChangeError> {
        let core = self.clone();
        let work = async move {
            let ends = Ends::of(&change);
            let changed = core.store.change(change).await?;
            note(&changed);
            core.announce(&changed, ends);
            Ok(changed)
        };
        // A function by which a user ends their own access is answered before it does.
        let task = tokio::spawn(nsp::daemon::in_this_call(work).in_current_span());
        task.await.unwrap_or(Err(ChangeError::Store(StoreError::Closed)))
    }

    fn announce(&self, changed: &Changed, ends: Ends) {
        let Changed { before, after, tokens } = changed;
        // Nothing that was said before has lost its validity: daemons need not ask again.
        if ends == Ends::Nothing || ends == Ends::Tokens && tokens.is_empty() {
            return;
        }
        let users: Vec<&User> = before.iter().chain(after).collect();
        self.cache.take_out(&users, tokens);
        let Some(before) = before else { return };
        let user = before.name.to_string();
        let rank_changed = after.as_ref().is_none_or(|after| after.is_superuser() != before.is_superuser());
        match ends {
            Ends::User => self.listeners.tell(&Revoked::User { user }),
            Ends::Rank if rank_changed => self.listeners.tell(&Revoked::User { user }),
            Ends::Tokens => {
                for hash in tokens {
                    let token = RevokedToken(*hash.as_bytes());
                    self.listeners.tell(&Revoked::Token { user: user.clone(), token });
                }
            }
            Ends::Rank | Ends::Decisions | Ends::Nothing => {}
        }
    }

    /// Takes out of the store what has expired, once in a while.
    ///
    /// Not by the time of day: a clock that is ahead for a moment would have it throw away what is good when it is set right, and the cache, which
    /// knows nothing of this, would go on calling good what nobody can revoke any more.
    pub(super) fn sweep(&self) {
        let now = self.watch.at_least();
        let last = self.swept.load(Ordering::Relaxed);
        let is_due = now.since(Timestamp::from_millis(last)) >= SWEEP;
        let takes = || {
            self.swept.compare_exchange(last, now.as_millis(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if is_due && takes() {
            let counted = now.before(self.throttle_settings.known.max(self.throttle_settings.forget));
            self.store.note(Note::Sweep { tokens: now.before(GRACE), counted });
        }
    }
}

/// What a change ends of what was proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Nothing,
    /// What was decided about the user.
    Decisions,
    /// Single tokens.
    Tokens,
    /// All of the user, if that was or will be a superuser.
    Rank,
    /// All of the user.
    User,
}

impl Ends {
    const fn of(change: &Change) -> Self {
        match change {
            Change::Delete(..)
            | Change::Rename(..)
            | Change::Password(..)
            | Change::Lock(_, true, _)
            | Change::RevokeTokens(..) => Self::User,
            Change::Privilege(..) => Self::Rank,
            Change::AddToken(..) | Change::RevokeToken(..) => Self::Tokens,
            Change::Roles(..) | Change::Lock(..) => Self::Decisions,
            Change::Create(..)
            | Change::Import(..)
            | Change::Names(..)
            | Change::Count(..)
            | Change::Rehash(..) => Self::Nothing,
        }
    }
}

/// What a peer is told where the store does not answer; what is the matter goes to the log.
pub(super) fn unavailable(error: &StoreError) -> Denied {
    tracing::error!(%error, "users cannot be looked up");
    Denied::Unavailable
}
