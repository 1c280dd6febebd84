//! What goes wrong with a database, and whose fault it is.

use std::io;
use std::path::PathBuf;

use crate::user::Username;

/// Why a store does not answer. Nothing was changed, and what was acknowledged before is kept.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the file, or this one has it twice.
    #[error("{} is in use by another daemon or program", .path.display())]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// Another program works on the file, and did not let go of it within five seconds.
    #[error("{} is locked by a program that is no daemon", .path.display())]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// What is in it is damaged.
    #[error("{} is damaged: {detail}", .path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// It is something else.
    #[error("{} is not a database of users", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A later version has written it.
    #[error("{} was written by a newer version (its schema is {found}, this version knows {known})", .path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The latest schema this version knows.
        known: u32,
    },
    /// It cannot be written to.
    #[error("{} is read-only", .path.display())]
    ReadOnly {
        /// The database.
        path: PathBuf,
    },
    /// There is no room.
    #[error("there is no room for {}: the disk is full", .path.display())]
    Full {
        /// The database.
        path: PathBuf,
    },
    /// It cannot be opened or read, for another reason.
    #[error("cannot use {}: {detail}", .path.display())]
    Io {
        /// The database.
        path: PathBuf,
        /// What the operating system or SQLite says.
        detail: String,
    },
    /// It was closed.
    #[error("the store of users is closed")]
    Closed,
}

impl StoreError {
    pub(super) fn io(path: impl Into<PathBuf>, error: &io::Error) -> Self {
        let path = path.into();
        match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { path, detail: error.to_string() },
        }
    }
}

/// Why something was not changed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// There is a user with that name or id.
    #[error("there is a user {0} already")]
    Exists(Username),
    /// There is no such user.
    #[error("there is no such user")]
    NoUser,
    /// There is no such token.
    #[error("the user has no such token")]
    NoToken,
    /// Without this one, nobody could do everything.
    #[error("this is the last superuser who can log in: make another one first")]
    LastSuperuser,
    /// The password is another one by now, or the user was locked.
    #[error("the user was changed meanwhile")]
    Outdated,
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}
