//! Where users and tokens are kept.
//!
//! ```text
//! Users, Authority ──▶ dyn Store ──▶ Sqlite   one file; one thread writes, others read
//!                                └─▶ Memory   for tests, and for daemons that may forget
//! ```
//!
//! A store keeps; it does not judge. What must hold whatever happens, it guards itself: names are unique, the last superuser
//! stays, and a [`Change`] is made whole or not at all.

mod error;
mod memory;
mod sqlite;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

pub use error::{ChangeError, StoreError};
pub use memory::Memory;
pub use sqlite::Sqlite;

use crate::clock::Timestamp;
use crate::password::PasswordHash;
pub use crate::throttle::Counted;
use crate::token::{TokenHash, TokenId, TokenRecord};
use crate::user::{Names, User, UserId, Username, Who};

/// An answer that has to be waited for.
pub type Pending<'a, T, E = StoreError> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// A user with the password.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores make these")]
pub struct Account {
    /// Who.
    pub user: User,
    /// What they prove it by.
    pub password: PasswordHash,
}

/// Keeps users and tokens. Futures that are dropped change nothing that was not under way already.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// A user, if there is one.
    fn account(&self, who: Who) -> Pending<'_, Option<Account>>;

    /// Users whose names begin with `prefix`, in the order of their names, after `after`, so many at most.
    ///
    /// The prefix is compared byte by byte; it has no wildcards. Nothing begins with what cannot be in a name.
    fn search(&self, prefix: String, after: Option<Username>, most: usize) -> Pending<'_, Vec<User>>;

    /// A token and its user, if there is one.
    fn token(&self, hash: TokenHash) -> Pending<'_, Option<(TokenRecord, User)>>;

    /// The tokens of a user, the one that was used last first.
    fn tokens(&self, user: UserId) -> Pending<'_, Vec<TokenRecord>>;

    /// How many failures were counted.
    fn counted(&self) -> Pending<'_, Vec<Counted>>;

    /// Changes something. When it returns, the change survives the end of the process.
    fn change(&self, change: Change) -> Pending<'_, Changed, ChangeError>;

    /// Takes note of something that may be lost, without waiting.
    fn note(&self, note: Note);

    /// Waits until all changes are made, and lets go of everything.
    fn close(&self) -> Pending<'_, ()>;
}

/// What can be changed, each whole or not at all. Those that end tokens say so in [`Changed::tokens`].
#[derive(Debug, Clone)]
#[expect(clippy::exhaustive_enums, reason = "a store has to know all of them")]
pub enum Change {
    /// Adds a user.
    Create(Account),
    /// Adds many users, or none of them.
    Import(Vec<Account>),
    /// Removes a user with all tokens.
    Delete(Who),
    /// Gives a user another name, and ends all tokens.
    Rename(Who, Username, Timestamp),
    /// Gives a user another password, and ends all tokens. The flag says whether it should be changed.
    Password(Who, PasswordHash, bool, Timestamp),
    /// Replaces a hash by a better one of the same password, if it is still that.
    Rehash(UserId, PasswordHash, PasswordHash),
    /// Gives a user another privilege, and ends all tokens if that makes or ends a superuser: theirs live shorter.
    Privilege(Who, i64, Timestamp),
    /// Changes names.
    Names(Who, Names, Timestamp),
    /// Gives a user other roles.
    Roles(Who, Vec<String>, Timestamp),
    /// Refuses logins of a user and ends all tokens, or permits them again.
    Lock(Who, bool, Timestamp),
    /// Adds a token, if the user is not locked and, where a hash is given, the password is still that: it may have changed while it
    /// was being checked. Where the user has more than so many, those that were not used for longest go.
    AddToken(TokenRecord, usize, Option<PasswordHash>),
    /// Ends one token.
    RevokeToken(Who, TokenId),
    /// Ends all tokens of a user.
    RevokeTokens(Who),
    /// Remembers how many failures were counted, and forgets counters that are [void](Counted::is_void).
    Count(Vec<Counted>),
}

/// What may be lost.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::exhaustive_enums, reason = "a store has to know all of them")]
pub enum Note {
    /// A token was used.
    Used(TokenHash, Timestamp),
    /// Tokens that expired before this are of no use, nor are counters that last counted before this.
    Sweep {
        /// Tokens.
        tokens: Timestamp,
        /// Counters.
        counted: Timestamp,
    },
}

/// What a change has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_structs, reason = "stores make these")]
pub struct Changed {
    /// The user before, where it was about one.
    pub before: Option<User>,
    /// The user after, unless there is none.
    pub after: Option<User>,
    /// Tokens that have ended by it.
    pub tokens: Vec<TokenHash>,
}
