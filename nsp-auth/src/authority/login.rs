//! How somebody proves to be a user by a password.
//!
//! ```text
//! admitted by the throttle? ─▶ look the user up ─▶ hash (or that of nobody) ─▶ count the outcome ─▶ answer
//! ```
//!
//! A wrong password, an unknown user and a locked one take the same way, with the same work, to the same answer. Only the audit log
//! knows which it was.

use std::sync::Arc;

use nsp::authority::{Denied, Origin};
use nsp::{Password, Token};

use super::core::{Core, unavailable};
use crate::audit;
use crate::password::PasswordHash;
use crate::store::{Account, Change, ChangeError, Counted};
use crate::throttle::{self, Attempt, Network, Outcome, Refused};
use crate::token::{self, TokenHash, TokenId, TokenRecord};
use crate::user::{User, Username};

impl Core {
    /// Whether a password is the user's.
    ///
    /// # Cancel safety
    ///
    /// Dropped before the answer, the attempt counts as a failure: nobody gets a guess for free by hanging up.
    pub(super) async fn prove(
        self: &Arc<Self>,
        claimed: &str,
        password: Option<Password>,
        origin: Origin,
    ) -> Result<(User, PasswordHash), Denied> {
        // Where many come from one trusted address, it is no sign of anything.
        let network =
            origin.address.filter(|address| !self.settings.trusted.contains(&address.to_canonical()));
        let admitted =
            self.throttle().admit(throttle::Account::of(claimed), network.map(Network::of), self.now());
        let admitted = match admitted {
            Ok(attempt) => Admitted { core: self, attempt: Some(attempt) },
            Err(Refused::Wait(retry_after)) => {
                audit::throttled(claimed, origin, retry_after);
                return Err(Denied::Throttled { retry_after });
            }
            Err(Refused::Busy) => {
                audit::refused(claimed, origin, "busy");
                return Err(Denied::Busy);
            }
        };
        let account = match Username::parse(claimed) {
            Ok(name) => match self.store.account(name.into()).await {
                Ok(account) => account,
                Err(error) => {
                    admitted.settle(Outcome::Void);
                    return Err(unavailable(&error));
                }
            },
            Err(_) => None,
        };
        let hash = account.as_ref().map(|account| account.password.clone());
        let Ok(verdict) = self.hasher.verify(hash, password).await else {
            admitted.settle(Outcome::Void);
            audit::refused(claimed, origin, "busy");
            return Err(Denied::Busy);
        };
        let (outcome, reason) = match &account {
            None => (Outcome::Wrong, "unknown"),
            Some(account) if account.user.locked => (Outcome::Wrong, "locked"),
            Some(_) if !verdict.is_right => (Outcome::Wrong, "password"),
            Some(_) => (Outcome::Right, ""),
        };
        let counted = admitted.settle(outcome);
        if !counted.is_empty()
            && let Err(error) = self.store.change(Change::Count(counted)).await
        {
            // It counts as long as we live.
            tracing::warn!(%error, "a count of failures will not survive a restart");
        }
        let (Some(Account { user, password }), Outcome::Right) = (account, outcome) else {
            audit::refused(claimed, origin, reason);
            return Err(Denied::Wrong);
        };
        let Some(upgrade) = verdict.upgrade else { return Ok((user, password)) };
        match self.change(Change::Rehash(user.id, password.clone(), upgrade.clone()), |_| ()).await {
            Ok(_) => Ok((user, upgrade)),
            Err(error) => {
                // The old one is as right as it was; the next login tries again.
                tracing::debug!(%error, user = %user.name, "a hash could not be replaced");
                Ok((user, password))
            }
        }
    }

    /// Exchanges a password for a token.
    pub(super) async fn sign_in(
        self: &Arc<Self>,
        claimed: &str,
        password: Option<Password>,
        origin: Origin,
    ) -> Result<Token, Denied> {
        // Where the hash was replaced while this one was being checked, by another login perhaps, the second look decides.
        for _ in 0..2 {
            let (user, hash) = self.prove(claimed, password.clone(), origin).await?;
            let from = origin
                .address
                .map_or("login".into(), |address| format!("login from {}", address.to_canonical()));
            let name = user.name.clone();
            let note = move |token| audit::login(&name, origin, token);
            match self.add_token(&user, from, Some(hash), note).await {
                Ok((token, _)) => return Ok(token),
                Err(ChangeError::Outdated) => {}
                Err(ChangeError::Store(error)) => return Err(unavailable(&error)),
                // Removed meanwhile.
                Err(_) => break,
            }
        }
        audit::refused(claimed, origin, "password");
        Err(Denied::Wrong)
    }

    /// Makes a token of a user.
    pub(crate) async fn add_token(
        self: &Arc<Self>,
        user: &User,
        label: String,
        password: Option<PasswordHash>,
        note: impl FnOnce(TokenId) + Send + 'static,
    ) -> Result<(Token, TokenRecord), ChangeError> {
        let now = self.now();
        let token = token::random();
        let record = TokenRecord::new(TokenHash::of(&token), user.id, label, self.lifetime_for(user), now);
        let (id, most) = (record.id(), self.settings.tokens_per_user);
        self.change(Change::AddToken(record.clone(), most, password), move |_| note(id)).await?;
        self.sweep();
        Ok((token, record))
    }
}

/// An attempt that is being judged. Dropped before it is settled, it was wrong.
struct Admitted<'a> {
    core: &'a Core,
    attempt: Option<Attempt>,
}

impl Admitted<'_> {
    fn settle(mut self, outcome: Outcome) -> Vec<Counted> {
        let Some(attempt) = self.attempt.take() else { return Vec::new() };
        self.core.throttle().settle(&attempt, outcome, self.core.now())
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.core.throttle().settle(&attempt, Outcome::Wrong, self.core.now());
        }
    }
}
