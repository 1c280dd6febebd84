//! What the tables look like, and how older ones become those of today.

use rusqlite::{Connection, TransactionBehavior};

use super::failure::Failure;

/// What marks a file as ours: `nspu` in its header (`application_id`).
const APPLICATION: i32 = 0x6e73_7075;

/// The steps from nothing to the tables of today; `user_version` says how many were taken. A step that was published is never changed:
/// another one is added.
const STEPS: &[&str] = &[USERS, COUNTED];

const USERS: &str = "
CREATE TABLE users (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name           TEXT    NOT NULL UNIQUE COLLATE BINARY,
    display_name   TEXT    NOT NULL,
    first_name     TEXT    NOT NULL,
    last_name      TEXT    NOT NULL,
    detail         TEXT    NOT NULL,
    profile        TEXT    NOT NULL,  -- JSON
    roles          TEXT    NOT NULL,  -- JSON
    privilege      INTEGER NOT NULL,
    password       TEXT    NOT NULL,
    must_change    INTEGER NOT NULL,
    locked         INTEGER NOT NULL,
    created        INTEGER NOT NULL,  -- milliseconds since 1970, as all times
    modified       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX superusers ON users (locked) WHERE privilege = 0;

CREATE TABLE tokens (
    hash           BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32),  -- SHA-256
    user           BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    label          TEXT    NOT NULL,
    created        INTEGER NOT NULL,
    last_used      INTEGER NOT NULL,
    expires        INTEGER NOT NULL,
    idle           INTEGER NOT NULL   -- milliseconds
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_by_user ON tokens (user, last_used);
CREATE INDEX tokens_by_expiry ON tokens (expires);
";

const COUNTED: &str = "
CREATE TABLE counted (
    key            BLOB    NOT NULL PRIMARY KEY,
    failures       INTEGER NOT NULL,
    failed         INTEGER NOT NULL,
    succeeded      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// The schema of today.
pub(super) fn known() -> u32 {
    u32::try_from(STEPS.len()).unwrap_or(u32::MAX)
}

/// Makes the tables those of today.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Failure> {
    let number =
        |connection: &Connection, name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let application = number(&transaction, "application_id")?;
    let version = number(&transaction, "user_version")?;
    if application != i64::from(APPLICATION) {
        let tables: i64 =
            transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if application != 0 || version != 0 || tables != 0 {
            return Err(Failure::Foreign);
        }
        transaction.pragma_update(None, "application_id", APPLICATION)?;
    }
    let taken = u32::try_from(version).map_err(|_| Failure::Foreign)?;
    if taken > known() {
        return Err(Failure::Newer(taken));
    }
    for step in STEPS.iter().skip(usize::try_from(taken).unwrap_or(usize::MAX)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known())?;
    transaction.commit()?;
    Ok(())
}

/// Makes the tables of the past, for tests.
#[cfg(test)]
pub(super) fn make_old(connection: &Connection, steps: usize) {
    connection.pragma_update(None, "application_id", APPLICATION).unwrap();
    for step in &STEPS[..steps] {
        connection.execute_batch(step).unwrap();
    }
    connection.pragma_update(None, "user_version", i64::try_from(steps).unwrap()).unwrap();
}
