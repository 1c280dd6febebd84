//! Taking over the users of a NoService daemon.
//!
//! The original keeps them in the table `NoService_Model_NSUser` of a SQLite file, with hashes that are no protection: HMAC-SHA256 with
//! a key everybody knows. Each is wrapped in Argon2id here, and gives way to a hash of the password itself at the first good
//! login. The tokens, which lie there in clear, are not taken over.
//!
//! Either all rows that should come do, or none. A row that cannot become a user is listed with the reason; whether the others
//! come without it, [`Import::skip_refused`] says.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};

use crate::audit;
use crate::clock::Timestamp;
use crate::password::{LegacyKey, legacy_hmac};
use crate::store::{Account, Change, ChangeError, StoreError};
use crate::user::{Names, User, UserId, Username, check_names};
use crate::users::Users;

/// What to import, and how.
#[derive(Clone)]
#[must_use = "nothing is imported until it is given to `Users::import`"]
pub struct Import {
    path: PathBuf,
    key: Vec<u8>,
    skips_refused: bool,
}

impl fmt::Debug for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Import").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The key of the original's HMAC since 0.6.
const KEY: &str = "FATFROG";
/// The password every original begins with.
const DEFAULT_PASSWORD: &str = "admin";
/// Most rows that are read. 100,000: with the default cost that is half an hour of hashing on one core.
const MOST: usize = 100_000;

impl Import {
    /// From the database of a NoService daemon.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), key: KEY.into(), skips_refused: false }
    }

    /// With another key of the HMAC: 0.5 took it from `SHA256_key` in its settings.
    pub fn key(mut self, key: &[u8]) -> Self {
        self.key = key.into();
        self
    }

    /// Imports the others when some rows are refused, instead of nothing.
    pub const fn skip_refused(mut self) -> Self {
        self.skips_refused = true;
        self
    }
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Imported {
    /// Who is a user now.
    pub users: Vec<Username>,
    /// Those among them who are locked, because they still had the password with which every original begins. They need another one before they are
    /// unlocked.
    pub locked: Vec<Username>,
    /// Rows that were left out.
    pub refused: Vec<RefusedRow>,
}

/// A row that cannot become a user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedRow {
    /// Which, counted from 1 in the order of the table.
    pub row: usize,
    /// What is in its column of names, escaped.
    pub name: String,
    /// What is the matter with it.
    pub reason: String,
}

impl fmt::Display for RefusedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {} ({}): {}", self.row, self.name, self.reason)
    }
}

/// Why nothing was imported.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The other database cannot be read.
    #[error("cannot read {}: {detail}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// It is no database of a NoService daemon.
    #[error("{} has no table NoService_Model_NSUser with users", .path.display())]
    NoUsers {
        /// Which.
        path: PathBuf,
    },
    /// It has too many.
    #[error("there are more than {MOST} users")]
    TooMany,
    /// Some rows cannot become users.
    #[error("{} of the rows cannot become users, the first being {}", .0.len(), .0.first().map_or_else(String::new, ToString::to_string))]
    Refused(Vec<RefusedRow>),
    /// A user came to be while the hashes were being wrapped.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> Self {
        Self::Change(error.into())
    }
}

/// A row that may become a user.
struct Candidate {
    row: usize,
    user: User,
    hmac: [u8; 32],
}

impl Users {
    /// Imports the users of a NoService daemon. It takes a core 20 ms for each.
    ///
    /// # Errors
    ///
    /// When the other database cannot be read, rows are refused and not [skipped](Import::skip_refused), or the change cannot be made;
    /// then nothing was imported.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has imported everything or nothing.
    pub async fn import(&self, import: Import) -> Result<Imported, ImportError> {
        let Import { path, key, skips_refused } = import;
        let reading = tokio::task::spawn_blocking(move || read(&path));
        let (candidates, mut refused) = reading.await.map_err(|_| StoreError::Closed)??;
        let mut free = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let user = &candidate.user;
            let same_name = self.find(&user.name).await?;
            let same_id = self.find(user.id).await?;
            match same_name.or(same_id) {
                None => free.push(candidate),
                Some(taken) => refused.push(RefusedRow {
                    row: candidate.row,
                    name: user.name.to_string(),
                    reason: format!("there is a user {} of this name or id already", taken.name),
                }),
            }
        }
        refused.sort_by_key(|refused| refused.row);
        if !refused.is_empty() && !skips_refused {
            return Err(ImportError::Refused(refused));
        }
        let users = free.iter().map(|candidate| candidate.user.name.clone()).collect();
        let accounts = self.wrap(free, &key).await?;
        let locked = accounts.iter().filter(|account| account.user.locked);
        let locked = locked.map(|account| account.user.name.clone()).collect();
        let (actor, count) = (self.actor.clone(), accounts.len());
        self.core.change(Change::Import(accounts), move |_| audit::imported(&actor, count)).await?;
        Ok(Imported { users, locked, refused })
    }

    /// One after the other: logins go on meanwhile, on the other cores.
    async fn wrap(&self, candidates: Vec<Candidate>, key: &[u8]) -> Result<Vec<Account>, ImportError> {
        let default = legacy_hmac(key, DEFAULT_PASSWORD.as_bytes());
        let key = LegacyKey::new(key);
        let now = self.core.now();
        let mut accounts = Vec::with_capacity(candidates.len());
        for Candidate { mut user, hmac, .. } in candidates {
            // It fails only where the runtime ends.
            let password = self.core.hasher.wrap(hmac, key.clone()).await.map_err(|_| StoreError::Closed)?;
            user.locked = hmac == default;
            user.modified = now;
            accounts.push(Account { user, password });
        }
        Ok(accounts)
    }
}

fn read(path: &Path) -> Result<(Vec<Candidate>, Vec<RefusedRow>), ImportError> {
    let unreadable =
        |error: rusqlite::Error| ImportError::Unreadable { path: path.into(), detail: error.to_string() };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(unreadable)?;
    let named = connection.table_exists(None, "NoService_Model_NSUser").map_err(unreadable)?;
    if !named {
        return Err(ImportError::NoUsers { path: path.into() });
    }
    let query = "SELECT username, userid, displayname, pwdhash, privilege, detail, firstname, lastname, createdate \
                 FROM NoService_Model_NSUser ORDER BY rowid";
    let mut query = connection.prepare(query).map_err(|_| ImportError::NoUsers { path: path.into() })?;
    let mut rows = query.query([]).map_err(unreadable)?;
    let (mut candidates, mut refused) = (Vec::new(), Vec::new());
    let mut seen = (HashSet::new(), HashSet::new());
    let mut number = 0;
    while let Some(row) = rows.next().map_err(unreadable)? {
        number += 1;
        if number > MOST {
            return Err(ImportError::TooMany);
        }
        let candidate = candidate(row, number).and_then(|candidate| {
            let is_new = seen.0.insert(candidate.user.name.clone()) && seen.1.insert(candidate.user.id);
            if is_new { Ok(candidate) } else { Err("another row has the same name or id".into()) }
        });
        match candidate {
            Ok(candidate) => candidates.push(candidate),
            Err(reason) => {
                let name = text(row, 0).unwrap_or_else(|_| "?".into());
                let name = name.chars().take(Username::MAX_LENGTH).flat_map(char::escape_debug).collect();
                refused.push(RefusedRow { row: number, name, reason });
            }
        }
    }
    Ok((candidates, refused))
}

fn candidate(row: &Row<'_>, number: usize) -> Result<Candidate, String> {
    let name = Username::parse(&text(row, 0)?).map_err(|error| error.to_string())?;
    let id = UserId::parse(&text(row, 1)?).ok_or("the user id is no UUID")?;
    let hmac =
        digest(&text(row, 3)?).ok_or("the hash of the password is no HMAC-SHA256 in hexadecimal digits")?;
    let privilege = match row.get_ref(4) {
        Ok(ValueRef::Integer(privilege)) => privilege,
        Ok(ValueRef::Text(digits)) => {
            let digits = std::str::from_utf8(digits).ok().and_then(|digits| digits.trim().parse().ok());
            digits.ok_or("the privilege is no integer")?
        }
        _ => return Err("the privilege is no integer".into()),
    };
    let names = Names {
        display_name: Some(text(row, 2)?),
        detail: Some(text(row, 5)?),
        first_name: Some(text(row, 6)?),
        last_name: Some(text(row, 7)?),
        profile: None,
    };
    check_names(&names).map_err(|error| error.to_string())?;
    let created = text(row, 8).ok().and_then(|text| Timestamp::parse(&text)).unwrap_or_default();
    let mut user = User::new(id, name, privilege, created);
    user.rename(names, created);
    // It may be as short as five characters.
    user.must_change_password = true;
    Ok(Candidate { row: number, user, hmac })
}

/// A column of text; the original has no constraints, so anything may be in there.
fn text(row: &Row<'_>, column: usize) -> Result<String, String> {
    match row.get_ref(column) {
        Ok(ValueRef::Text(bytes)) => String::from_utf8(bytes.into())
            .map_err(|_| format!("column {} is no UTF-8", name_of(row, column))),
        Ok(ValueRef::Null) => Ok(String::new()),
        Ok(ValueRef::Integer(number)) => Ok(number.to_string()),
        _ => Err(format!("column {} is no text", name_of(row, column))),
    }
}

fn name_of(row: &Row<'_>, column: usize) -> String {
    row.as_ref().column_name(column).unwrap_or("?").to_owned()
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut bytes = [0; 32];
    for (n, byte) in bytes.iter_mut().enumerate().filter(|_| is_hex) {
        *byte = u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    is_hex.then_some(bytes)
}
