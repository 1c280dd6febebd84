//! What SQLite says when something goes wrong, and what that means.

use std::path::Path;

use rusqlite::{Error, ErrorCode};

use super::schema;
use crate::store::{ChangeError, StoreError};

/// A failure that does not know yet of which file.
#[derive(Debug)]
pub(super) enum Failure {
    Sqlite(Error),
    Foreign,
    Newer(u32),
    /// A value that this version does not write.
    Value(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Failure {
    pub(super) fn of(self, path: &Path) -> StoreError {
        let path = path.to_owned();
        let error = match self {
            Self::Foreign => return StoreError::Foreign { path },
            Self::Newer(found) => return StoreError::Newer { path, found, known: schema::known() },
            Self::Value(what) => {
                return StoreError::Corrupt { path, detail: format!("a user or token has a bad {what}") };
            }
            Self::Sqlite(error) => error,
        };
        let detail = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked { path },
            Some(ErrorCode::NotADatabase) => StoreError::Foreign { path },
            Some(ErrorCode::DatabaseCorrupt) => StoreError::Corrupt { path, detail },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StoreError::ReadOnly { path },
            Some(ErrorCode::DiskFull) => StoreError::Full { path },
            // A column of another type than the schema has, or a text that is not UTF-8.
            None => StoreError::Corrupt { path, detail },
            _ => StoreError::Io { path, detail },
        }
    }
}

/// Why a change was not made: what the change itself was wrong about, or the file.
#[derive(Debug)]
pub(super) enum Unchanged {
    Refused(ChangeError),
    Failed(Failure),
}

impl From<ChangeError> for Unchanged {
    fn from(error: ChangeError) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for Unchanged {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Error> for Unchanged {
    fn from(error: Error) -> Self {
        Self::Failed(error.into())
    }
}
