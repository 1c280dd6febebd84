//! What is read from the tables, by whoever has a connection.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::failure::Failure;
use crate::clock::Timestamp;
use crate::password::PasswordHash;
use crate::store::{Account, Counted};
use crate::token::{TokenHash, TokenRecord};
use crate::user::{User, UserId, Username, Who};

/// The columns of a user, in the order in which [`user`] reads them.
const USER: &str = "u.id, u.name, u.display_name, u.first_name, u.last_name, u.detail, u.profile, u.roles, u.privilege, \
                    u.must_change, u.locked, u.created, u.modified";
/// How many they are.
const USER_COLUMNS: usize = 13;
/// The columns of a token, in the order in which [`token`] reads them.
const TOKEN: &str = "t.hash, t.user, t.label, t.created, t.last_used, t.expires, t.idle";

pub(super) fn account(connection: &Connection, who: &Who) -> Result<Option<Account>, Failure> {
    let read = |row: &Row<'_>| Ok((user(row), row.get::<_, String>(USER_COLUMNS)?));
    let found = match who {
        Who::Name(name) => connection
            .prepare_cached(&format!("SELECT {USER}, u.password FROM users u WHERE u.name = ?1"))?
            .query_row([name.as_str()], read)
            .optional()?,
        Who::Id(id) => connection
            .prepare_cached(&format!("SELECT {USER}, u.password FROM users u WHERE u.id = ?1"))?
            .query_row([id.as_bits()], read)
            .optional()?,
    };
    let Some((user, password)) = found else { return Ok(None) };
    let password = PasswordHash::parse(&password).map_err(|_| Failure::Value("password"))?;
    Ok(Some(Account { user: user?, password }))
}

pub(super) fn search(
    connection: &Connection,
    prefix: &str,
    after: Option<&Username>,
    most: usize,
) -> Result<Vec<User>, Failure> {
    // A range of the index instead of a pattern: nothing in the prefix means anything. What it cannot begin a name with ends here.
    if !prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return Ok(Vec::new());
    }
    // Greater than every letter of a name.
    let end = format!("{prefix}\u{7f}");
    let after = after.map_or("", Username::as_str);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut query = connection.prepare_cached(&format!(
        "SELECT {USER} FROM users u WHERE u.name >= ?1 AND u.name < ?2 AND u.name > ?3 ORDER BY u.name LIMIT ?4"
    ))?;
    let rows = query.query_map(params![prefix, end, after, most], |row| Ok(user(row)))?;
    rows.map(|row| row?).collect()
}

pub(super) fn token_with_user(
    connection: &Connection,
    hash: &TokenHash,
) -> Result<Option<(TokenRecord, User)>, Failure> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT {USER}, {TOKEN} FROM tokens t JOIN users u ON u.id = t.user WHERE t.hash = ?1"
        ))?
        .query_row([hash.as_bytes()], |row| Ok((token(row, USER_COLUMNS), user(row))))
        .optional()?;
    let Some((token, user)) = found else { return Ok(None) };
    Ok(Some((token?, user?)))
}

pub(super) fn tokens(connection: &Connection, of: UserId) -> Result<Vec<TokenRecord>, Failure> {
    let mut query = connection.prepare_cached(&format!(
        "SELECT {TOKEN} FROM tokens t WHERE t.user = ?1 ORDER BY t.last_used DESC, t.hash"
    ))?;
    let rows = query.query_map([of.as_bits()], |row| Ok(token(row, 0)))?;
    rows.map(|row| row?).collect()
}

pub(super) fn counted(connection: &Connection) -> Result<Vec<Counted>, Failure> {
    let mut query = connection.prepare("SELECT key, failures, failed, succeeded FROM counted")?;
    let rows = query.query_map([], |row| {
        Ok(Counted {
            key: row.get(0)?,
            failures: row.get(1)?,
            failed: Timestamp::from_millis(row.get(2)?),
            succeeded: Timestamp::from_millis(row.get(3)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn user(row: &Row<'_>) -> Result<User, Failure> {
    let name: String = row.get(1)?;
    let name = Username::parse(&name).ok().filter(|parsed| parsed.as_str() == name);
    Ok(User {
        id: UserId::from_bits(row.get(0)?),
        name: name.ok_or(Failure::Value("name"))?,
        display_name: row.get(2)?,
        first_name: row.get(3)?,
        last_name: row.get(4)?,
        detail: row.get(5)?,
        profile: serde_json::from_str(&row.get::<_, String>(6)?).map_err(|_| Failure::Value("profile"))?,
        roles: serde_json::from_str(&row.get::<_, String>(7)?)
            .map_err(|_| Failure::Value("list of roles"))?,
        privilege: row.get(8)?,
        must_change_password: row.get(9)?,
        locked: row.get(10)?,
        created: Timestamp::from_millis(row.get(11)?),
        modified: Timestamp::from_millis(row.get(12)?),
    })
}

fn token(row: &Row<'_>, first: usize) -> Result<TokenRecord, Failure> {
    Ok(TokenRecord {
        hash: TokenHash::from_bytes(row.get(first)?),
        user: UserId::from_bits(row.get(first + 1)?),
        label: row.get(first + 2)?,
        created: Timestamp::from_millis(row.get(first + 3)?),
        last_used: Timestamp::from_millis(row.get(first + 4)?),
        expires: Timestamp::from_millis(row.get(first + 5)?),
        idle: Duration::from_millis(u64::try_from(row.get::<_, i64>(first + 6)?).unwrap_or(0)),
    })
}
