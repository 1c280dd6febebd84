//! What a daemon asks.

mod builder;
mod cache;
pub(crate) mod core;
mod login;
mod revoked;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use nsp::authority::{Access, Answer, Denied, Origin, Permission, Proved, Revoked};
use nsp::{DaemonKey, Password, Token};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use self::builder::{Builder, OpenError};
use self::cache::{Found, Rank, USED};
use self::core::{Core, unavailable};
use crate::audit;
use crate::policy::{Explanation, Policies, PolicyError, Subject};
use crate::store::{Note, StoreError};
use crate::token::TokenHash;
use crate::user::{SUPERUSER, Username};
use crate::users::Users;

/// Knows users, and whether somebody is one of them.
///
/// Cheap to clone; all clones are the same. It needs a tokio runtime: passwords are hashed on its blocking threads, as many at once
/// as there are cores.
///
/// Tokens that were good before are found in a cache, without an allocation and without the store; it holds the last 65,536. A
/// revocation, a lock, a new password, another name and a removal take them out, raise the [`epoch`](nsp::authority::Authority::epoch), and
/// are told to everybody who has asked for it with [`on_revoked`](nsp::authority::Authority::on_revoked).
#[derive(Debug, Clone)]
pub struct Authority {
    core: Arc<Core>,
    users: Users,
}

/// Longest text that is looked up as a token, in bytes. 128: ours have 43.
const LONGEST_TOKEN: usize = 128;

impl Authority {
    /// Opens a database of users, or makes it, with everything as documented at [`Builder`].
    ///
    /// # Errors
    ///
    /// As [`Sqlite::open`](crate::store::Sqlite::open).
    ///
    /// # Cancel safety
    ///
    /// Dropped, what was opened is closed again.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        Self::builder().open(path).await
    }

    /// Changes what there is to change before it is opened.
    pub fn builder() -> Builder {
        Builder::new()
    }

    fn new(core: Arc<Core>) -> Self {
        Self { users: Users::new(core.clone()), core }
    }

    /// The users and their tokens, for whoever manages them.
    #[must_use]
    pub const fn users(&self) -> &Users {
        &self.users
    }

    /// How many passwords were checked against a hash since it was opened: what logins have cost, right or wrong.
    #[must_use]
    pub fn passwords_checked(&self) -> u64 {
        self.core.hasher.checked()
    }

    /// Waits until all changes are on the disk, and lets go of the database. Whatever is asked afterwards is refused as unavailable.
    ///
    /// # Errors
    ///
    /// When the store cannot be closed.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may or may not be closed; calling it again is harmless.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.core.store.close().await
    }

    /// The policy, if there is one.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.core.policies
    }

    /// Reads the policy from its file again, on behalf of `actor`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no policy. Then the one that held holds on.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it is read all the same, and that is written down.
    pub async fn reload_policy(&self, actor: &str) -> Result<(), PolicyError> {
        let (policies, actor) = (self.core.policies.clone(), actor.to_owned());
        let reading = tokio::task::spawn_blocking(move || {
            let result = policies.reload();
            audit::policy(&actor, result.is_ok());
            result
        });
        // Where the runtime ends before it was read, nobody asks any more.
        reading.await.unwrap_or(Ok(()))
    }

    /// Which rule of the policy decides about an access of a user, of a service, or of nobody; `None` without a policy.
    ///
    /// # Errors
    ///
    /// When the users cannot be looked up.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn explain(&self, access: &Access<'_>) -> Result<Option<Explanation>, Denied> {
        let policies = &self.core.policies;
        let rank = match access.user.map(Username::parse) {
            Some(Ok(name)) => self.rank(&name).await?,
            _ => None,
        };
        Ok(match rank {
            Some(rank) => rank.with_roles(|roles| policies.explain(&Subject::of(access, roles), access)),
            None => policies.explain(&Subject::of(access, &[]), access),
        })
    }

    fn decide(&self, access: &Access<'_>, roles: &[&str]) -> Permission {
        let permission = self.core.policies.permits(access, roles);
        // What nobody may is not worth a line: whoever comes along can ask for it.
        let is_known = access.user.is_some() || access.calling_service.is_some();
        if is_known && matches!(permission, Permission::Denied) {
            audit::forbidden(access);
        }
        permission
    }

    /// What a user is; nobody who is locked is anything.
    async fn rank(&self, name: &Username) -> Result<Option<Arc<Rank>>, Denied> {
        let epoch = self.core.cache.epoch();
        let account = self.core.store.account(name.into()).await.map_err(|error| unavailable(&error))?;
        let Some(account) = account.filter(|account| !account.user.locked) else { return Ok(None) };
        let rank = Rank::of(&account.user);
        self.core.cache.put_rank(name, &rank, epoch);
        Ok(Some(rank))
    }

    async fn look_up(&self, hash: TokenHash, claimed: &str, origin: Origin) -> Result<Proved, Denied> {
        let core = &self.core;
        let epoch = core.cache.epoch();
        let found = core.store.token(hash).await.map_err(|error| unavailable(&error))?;
        let now = core.now();
        let Some((token, user)) = found.filter(|(_, user)| user.name.is_meant_by(claimed) && !user.locked)
        else {
            audit::refused(claimed, origin, "token");
            return Err(Denied::Wrong);
        };
        let Some(remaining) = token.remaining(now) else {
            audit::refused(claimed, origin, "token");
            return Err(Denied::Wrong);
        };
        core.cache.put_token(&token, &user.name, epoch);
        core.cache.put_rank(&user.name, &Rank::of(&user), epoch);
        if now.since(token.last_used) >= USED {
            core.store.note(Note::Used(hash, now));
        }
        Ok(Proved { rely_for: remaining.min(core.settings.rely_for) })
    }
}

impl nsp::authority::Authority for Authority {
    fn sign_in<'a>(
        &'a self,
        user: &'a str,
        password: Option<Password>,
        origin: Origin,
    ) -> Answer<'a, Result<Token, Denied>> {
        Answer::later(self.core.sign_in(user, password, origin))
    }

    fn judge_token<'a>(
        &'a self,
        user: &'a str,
        token: &'a Token,
        origin: Origin,
    ) -> Answer<'a, Result<Proved, Denied>> {
        if token.reveal().len() > LONGEST_TOKEN {
            audit::refused(user, origin, "token");
            return Answer::now(Err(Denied::Wrong));
        }
        let hash = TokenHash::of(token);
        let now = self.core.now();
        match self.core.cache.token(&hash, user, now) {
            Some(Found::Good { remaining, tell }) => {
                if tell {
                    self.core.store.note(Note::Used(hash, now));
                }
                Answer::now(Ok(Proved { rely_for: remaining.min(self.core.settings.rely_for) }))
            }
            Some(Found::Bad) => {
                audit::refused(user, origin, "token");
                Answer::now(Err(Denied::Wrong))
            }
            None => Answer::later(self.look_up(hash, user, origin)),
        }
    }

    fn judge_password<'a>(
        &'a self,
        user: &'a str,
        password: &'a Password,
        origin: Origin,
    ) -> Answer<'a, Result<Proved, Denied>> {
        Answer::later(async move {
            let (user, _) = self.core.prove(user, Some(password.clone()), origin).await?;
            audit::proof(&user.name, origin);
            Ok(Proved { rely_for: self.core.settings.rely_for })
        })
    }

    fn privilege<'a>(&'a self, user: &'a str) -> Answer<'a, Result<Option<i64>, Denied>> {
        let Ok(name) = Username::parse(user) else { return Answer::now(Ok(None)) };
        if let Some(rank) = self.core.cache.rank(&name) {
            return Answer::now(Ok(Some(rank.privilege)));
        }
        Answer::later(async move { Ok(self.rank(&name).await?.map(|rank| rank.privilege)) })
    }

    fn permits<'a>(&'a self, access: &'a Access<'a>) -> Answer<'a, Permission> {
        if !self.has_policy() {
            return Answer::now(Permission::Granted { shows: None });
        }
        let Some(user) = access.user else { return Answer::now(self.decide(access, &[])) };
        let Ok(name) = Username::parse(user) else { return Answer::now(Permission::Denied) };
        if let Some(rank) = self.core.cache.rank(&name) {
            return Answer::now(rank.with_roles(|roles| self.decide(access, roles)));
        }
        Answer::later(async move {
            match self.rank(&name).await {
                Ok(Some(rank)) => rank.with_roles(|roles| self.decide(access, roles)),
                // Removed or locked since it was proved, or nobody can tell.
                Ok(None) | Err(_) => Permission::Denied,
            }
        })
    }

    fn has_policy(&self) -> bool {
        self.core.policies.is_loaded()
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.core.settings.trusted.contains(&address.to_canonical())
    }

    fn is_daemon_key(&self, key: &DaemonKey) -> bool {
        let given: [u8; 32] = Sha256::digest(key.reveal()).into();
        self.core.settings.daemon_key.is_some_and(|ours| ours.ct_eq(&given).into())
    }

    fn epoch(&self) -> u64 {
        // Both only grow.
        self.core.cache.epoch().wrapping_add(self.core.policies.epoch())
    }

    fn on_revoked(&self, callback: Arc<dyn Fn(&Revoked) + Send + Sync>) -> Option<Box<dyn Send + Sync>> {
        Some(Box::new(self.core.listeners.add(callback)))
    }
}

const _: () = assert!(SUPERUSER == 0, "nsp says so too");
