//! What a daemon asks before it lets anybody do anything.
//!
//! The daemon knows who is connected; who they may be and what they may do, only an [`Authority`] knows. `nsp-auth` has one with
//! users, tokens and policies; [`Anonymous`] knows nobody.
//!
//! Most answers are at hand, in a cache. They are [`Answer::Now`], and cost the call neither an allocation nor a turn of the
//! runtime; the others are futures.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::proto::RawJson;
use crate::secret::{DaemonKey, Password, Token};

/// An answer that is here already, or will be.
#[must_use = "an answer does nothing unless awaited"]
#[expect(clippy::exhaustive_enums, reason = "it is here or it is not")]
pub enum Answer<'a, T> {
    /// It is here. `None` once it was taken.
    Now(Option<T>),
    /// It has to be waited for.
    Later(Pin<Box<dyn Future<Output = T> + Send + 'a>>),
}

impl<'a, T> Answer<'a, T> {
    /// It is here.
    pub const fn now(value: T) -> Self {
        Self::Now(Some(value))
    }

    /// It has to be waited for.
    pub fn later(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self::Later(Box::pin(future))
    }
}

impl<T: Unpin> Future for Answer<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match &mut *self {
            Self::Now(value) => Poll::Ready(value.take().expect("an answer is polled to its end once")),
            Self::Later(future) => future.as_mut().poll(cx),
        }
    }
}

impl<T> fmt::Debug for Answer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Now(_) => "Answer::Now(..)",
            Self::Later(_) => "Answer::Later(..)",
        })
    }
}

/// From where something is asked; what failures are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(clippy::exhaustive_structs, reason = "daemons fill this in")]
pub struct Origin {
    /// The address of the peer, where it has one.
    pub address: Option<IpAddr>,
}

/// Who knows users and what they may do. Cheap to ask: the daemon asks at every call.
///
/// An implementation must be as quick about a user that does not exist as about one that does.
pub trait Authority: Send + Sync + 'static {
    /// Exchanges a password for a new token (GT). A missing password is a wrong one.
    fn sign_in<'a>(
        &'a self,
        user: &'a str,
        password: Option<Password>,
        origin: Origin,
    ) -> Answer<'a, Result<Token, Denied>>;

    /// Whether a token is the user's, and for how long the daemon may rely on that.
    fn judge_token<'a>(
        &'a self,
        user: &'a str,
        token: &'a Token,
        origin: Origin,
    ) -> Answer<'a, Result<Proved, Denied>>;

    /// Whether a password is the user's.
    fn judge_password<'a>(
        &'a self,
        user: &'a str,
        password: &'a Password,
        origin: Origin,
    ) -> Answer<'a, Result<Proved, Denied>>;

    /// What a user may do by rank: 0 is a superuser, `None` is nobody.
    fn privilege<'a>(&'a self, user: &'a str) -> Answer<'a, Result<Option<i64>, Denied>>;

    /// Whether daemons at this address are trusted, given that they know the key. IPv4-mapped addresses come as IPv4.
    fn trusts(&self, _address: IpAddr) -> bool {
        false
    }

    /// Whether this is the key of daemons that are trusted. An authority without a key answers no.
    fn is_daemon_key(&self, _key: &DaemonKey) -> bool {
        false
    }

    /// Whether somebody may do something. Everything is permitted where there is no policy: then only the functions guard
    /// themselves.
    fn permits<'a>(&'a self, _access: &'a Access<'a>) -> Answer<'a, Permission> {
        Answer::now(Permission::Granted { shows: None })
    }

    /// Whether there is a policy, so that [`permits`](Self::permits) has to be asked. It is asked at every call, and must cost no more than an
    /// atomic load.
    fn has_policy(&self) -> bool {
        true
    }

    /// A number that grows whenever something may have lost its validity that this authority has said before: a token was revoked, a
    /// user locked, a policy changed. Daemons look at it before they rely on what they remember; reading it must cost no more than
    /// an atomic load.
    fn epoch(&self) -> u64 {
        0
    }

    /// Calls back, from any thread and without delay, for each user of whom live connections have to be cut, until the guard is dropped.
    /// For an authority that never revokes there is nothing to do.
    fn on_revoked(&self, _callback: Arc<dyn Fn(&Revoked) + Send + Sync>) -> Option<Box<dyn Send + Sync>> {
        None
    }
}

/// What was proved, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "authorities make these")]
pub struct Proved {
    /// For how long the daemon may take it for granted without asking again, as long as the [epoch](Authority::epoch) stays.
    pub rely_for: Duration,
}

/// Whose proofs are void.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revoked {
    /// One token of a user.
    Token {
        /// Whose it was.
        user: String,
        /// Which.
        token: RevokedToken,
    },
    /// All of a user: locked, removed, or with a new password.
    User {
        /// Who.
        user: String,
    },
}

/// A token that is void, known by its hash alone: SHA-256 of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "authorities make these")]
pub struct RevokedToken(pub [u8; 32]);

/// Why it was not proved. A client hears only as much as it may know: of [`Wrong`](Self::Wrong), not what was wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// The user does not exist, is locked, or the password or the token is wrong.
    #[error("user or secret is wrong")]
    Wrong,
    /// Too many have failed.
    #[error("too many failures; try again in {} s", .retry_after.as_secs().max(1))]
    Throttled {
        /// When it may be tried again.
        retry_after: Duration,
    },
    /// Too many are being checked at once.
    #[error("too many logins at once; try again")]
    Busy,
    /// The authority cannot tell; its own log says why.
    #[error("the users cannot be looked up now")]
    Unavailable,
}

/// Somebody who wants to do something.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Access<'a> {
    /// The user that was proved; `None` for anybody.
    pub user: Option<&'a str>,
    /// The service of this daemon that wants it [for itself](crate::daemon::Entity::calling_service): the daemon knows, and nobody can claim it. There
    /// is no `user` then.
    pub calling_service: Option<&'a str>,
    /// What they want.
    pub action: Action,
    /// The service.
    pub service: &'a str,
    /// The function or event, where there is one.
    pub name: Option<&'a str>,
    /// The user whose thing it is, where the service [tells](crate::daemon::Service::owner_of): for grants on one's own. An empty one is nobody.
    pub owner: Option<&'a str>,
}

impl<'a> Access<'a> {
    /// Somebody wants to do something with a service.
    #[must_use]
    pub const fn new(user: Option<&'a str>, action: Action, service: &'a str) -> Self {
        Self { user, calling_service: None, action, service, name: None, owner: None }
    }

    /// Not by a user, but by this service of the daemon.
    #[must_use]
    pub const fn calling_service(self, calling_service: &'a str) -> Self {
        Self { user: None, calling_service: Some(calling_service), ..self }
    }

    /// With this function or event of it.
    #[must_use]
    pub const fn name(self, name: &'a str) -> Self {
        Self { name: Some(name), ..self }
    }

    /// Which concerns what belongs to this user.
    #[must_use]
    pub const fn owner(self, owner: &'a str) -> Self {
        Self { owner: Some(owner), ..self }
    }
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Open an activity of a service.
    Open,
    /// Call a function, blob function included.
    Call,
    /// Send data to a service.
    Send,
}

/// Whether somebody may.
#[derive(Debug, Clone)]
#[expect(clippy::exhaustive_enums, reason = "one may or one may not")]
pub enum Permission {
    /// They may.
    Granted {
        /// What of the answer they get to see, unless all of it.
        shows: Option<Arc<dyn Shows>>,
    },
    /// They may not.
    Denied,
}

/// What of an answer somebody gets to see.
pub trait Shows: fmt::Debug + Send + Sync {
    /// The part of it that may be seen.
    fn show(&self, answer: RawJson) -> RawJson;
}

/// The authority that knows nobody: no token is handed out, no proof is right.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::exhaustive_structs, reason = "it knows nothing")]
pub struct Anonymous;

impl Authority for Anonymous {
    fn sign_in<'a>(
        &'a self,
        _: &'a str,
        _: Option<Password>,
        _: Origin,
    ) -> Answer<'a, Result<Token, Denied>> {
        Answer::now(Err(Denied::Wrong))
    }

    fn judge_token<'a>(&'a self, _: &'a str, _: &'a Token, _: Origin) -> Answer<'a, Result<Proved, Denied>> {
        Answer::now(Err(Denied::Wrong))
    }

    fn judge_password<'a>(
        &'a self,
        _: &'a str,
        _: &'a Password,
        _: Origin,
    ) -> Answer<'a, Result<Proved, Denied>> {
        Answer::now(Err(Denied::Wrong))
    }

    fn privilege<'a>(&'a self, _: &'a str) -> Answer<'a, Result<Option<i64>, Denied>> {
        Answer::now(Ok(None))
    }

    fn has_policy(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn anonymous_lets_nobody_in() {
        let (user, origin) = ("admin", Origin::default());
        assert_eq!(Anonymous.sign_in(user, Some("admin".into()), origin).await, Err(Denied::Wrong));
        assert_eq!(Anonymous.judge_token(user, &Token::new(""), origin).await, Err(Denied::Wrong));
        assert_eq!(Anonymous.judge_password(user, &Password::new(""), origin).await, Err(Denied::Wrong));
        assert_eq!(Anonymous.privilege(user).await, Ok(None));
        assert!(!Anonymous.is_daemon_key(&DaemonKey::new("")));
        assert!(!Anonymous.trusts([127, 0, 0, 1].into()));
    }
}
