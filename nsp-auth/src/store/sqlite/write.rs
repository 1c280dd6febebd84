//! How changes are made: each whole or not at all.

use rusqlite::{Connection, params};

use super::failure::{Failure, Unchanged};
use super::read;
use crate::password::PasswordHash;
use crate::store::memory::counts;
use crate::store::{Account, Change, ChangeError, Changed, Counted, Note};
use crate::token::{TokenHash, TokenId, TokenRecord};
use crate::user::{User, UserId, Who};

/// Makes a change, inside a transaction that the caller ends.
pub(super) fn change(connection: &Connection, change: &Change) -> Result<Changed, Unchanged> {
    match change {
        Change::Create(account) => insert(connection, account),
        Change::Import(accounts) => {
            for account in accounts {
                insert(connection, account)?;
            }
            Ok(Changed::default())
        }
        Change::Delete(who) => {
            let user = find(connection, who)?.user;
            let tokens = end_tokens(connection, user.id)?;
            connection.prepare_cached("DELETE FROM users WHERE id = ?1")?.execute([user.id.as_bits()])?;
            if counts(&user) {
                some_superuser_remains(connection)?;
            }
            Ok(Changed { before: Some(user), after: None, tokens })
        }
        Change::Rename(who, name, at) => {
            let holder = read::account(connection, &Who::Name(name.clone()))?;
            let user = find(connection, who)?.user;
            if holder.is_some_and(|holder| holder.user.id != user.id) {
                return Err(ChangeError::Exists(name.clone()).into());
            }
            edit(connection, who, |user, _| {
                user.name = name.clone();
                user.modified = *at;
                true
            })
        }
        Change::Password(who, new, must_change, at) => edit(connection, who, |user, password| {
            *password = new.clone();
            user.must_change_password = *must_change;
            user.modified = *at;
            true
        }),
        Change::Rehash(id, old, new) => {
            if find(connection, &Who::Id(*id))?.password != *old {
                return Err(ChangeError::Outdated.into());
            }
            edit(connection, &Who::Id(*id), |_, password| {
                *password = new.clone();
                false
            })
        }
        Change::Privilege(who, privilege, at) => edit(connection, who, |user, _| {
            let was_superuser = user.is_superuser();
            user.privilege = *privilege;
            user.modified = *at;
            was_superuser != user.is_superuser()
        }),
        Change::Names(who, names, at) => edit(connection, who, |user, _| {
            user.rename(names.clone(), *at);
            false
        }),
        Change::Roles(who, roles, at) => edit(connection, who, |user, _| {
            user.roles.clone_from(roles);
            user.modified = *at;
            false
        }),
        Change::Lock(who, locked, at) => edit(connection, who, |user, _| {
            user.locked = *locked;
            user.modified = *at;
            *locked
        }),
        Change::AddToken(token, most, password) => add_token(connection, token, *most, password.as_ref()),
        Change::RevokeToken(who, id) => revoke_token(connection, who, *id),
        Change::RevokeTokens(who) => edit(connection, who, |_, _| true),
        Change::Count(counted) => {
            counted.iter().try_for_each(|one| count(connection, one))?;
            Ok(Changed::default())
        }
    }
}

/// Takes note of something that may be lost.
pub(super) fn note(connection: &Connection, note: Note) -> Result<(), Failure> {
    match note {
        Note::Used(hash, at) => connection
            .prepare_cached("UPDATE tokens SET last_used = max(last_used, ?2) WHERE hash = ?1")?
            .execute(params![hash.as_bytes(), at.as_millis()])?,
        Note::Sweep { tokens, counted } => {
            connection.execute("DELETE FROM tokens WHERE expires < ?1", [tokens.as_millis()])?;
            connection
                .execute("DELETE FROM counted WHERE max(failed, succeeded) < ?1", [counted.as_millis()])?
        }
    };
    Ok(())
}

fn find(connection: &Connection, who: &Who) -> Result<Account, Unchanged> {
    read::account(connection, who)?.ok_or_else(|| ChangeError::NoUser.into())
}

fn insert(connection: &Connection, account: &Account) -> Result<Changed, Unchanged> {
    let user = &account.user;
    for who in [Who::Name(user.name.clone()), Who::Id(user.id)] {
        if read::account(connection, &who)?.is_some() {
            return Err(ChangeError::Exists(user.name.clone()).into());
        }
    }
    let insert = "INSERT INTO users (id, name, display_name, first_name, last_name, detail, profile, roles, privilege, password, \
                  must_change, locked, created, modified) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
    write(connection, insert, user, &account.password)?;
    Ok(Changed { after: Some(user.clone()), ..Changed::default() })
}

/// Changes a user, and ends the tokens if the change says so.
fn edit(
    connection: &Connection,
    who: &Who,
    edit: impl FnOnce(&mut User, &mut PasswordHash) -> bool,
) -> Result<Changed, Unchanged> {
    let Account { user: before, mut password } = find(connection, who)?;
    let mut after = before.clone();
    let ends_tokens = edit(&mut after, &mut password);
    let update = "UPDATE users SET name = ?2, display_name = ?3, first_name = ?4, last_name = ?5, detail = ?6, profile = ?7, \
                  roles = ?8, privilege = ?9, password = ?10, must_change = ?11, locked = ?12, created = ?13, modified = ?14 \
                  WHERE id = ?1";
    write(connection, update, &after, &password)?;
    if counts(&before) && !counts(&after) {
        some_superuser_remains(connection)?;
    }
    let tokens = if ends_tokens { end_tokens(connection, after.id)? } else { Vec::new() };
    Ok(Changed { before: Some(before), after: Some(after), tokens })
}

fn write(
    connection: &Connection,
    statement: &str,
    user: &User,
    password: &PasswordHash,
) -> Result<(), Failure> {
    let json = |result: serde_json::Result<String>| result.map_err(|_| Failure::Value("profile"));
    connection.prepare_cached(statement)?.execute(params![
        user.id.as_bits(),
        user.name.as_str(),
        user.display_name,
        user.first_name,
        user.last_name,
        user.detail,
        json(serde_json::to_string(&user.profile))?,
        json(serde_json::to_string(&user.roles))?,
        user.privilege,
        password.reveal(),
        user.must_change_password,
        user.locked,
        user.created.as_millis(),
        user.modified.as_millis(),
    ])?;
    Ok(())
}

/// Looked at after the change, before it is committed: whatever it was, it cannot leave nobody behind.
fn some_superuser_remains(connection: &Connection) -> Result<(), Unchanged> {
    let remains: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM users WHERE privilege = 0 AND locked = 0)")?
        .query_row([], |row| row.get(0))?;
    if remains { Ok(()) } else { Err(ChangeError::LastSuperuser.into()) }
}

fn end_tokens(connection: &Connection, user: UserId) -> Result<Vec<TokenHash>, Failure> {
    let mut delete = connection.prepare_cached("DELETE FROM tokens WHERE user = ?1 RETURNING hash")?;
    let hashes = delete.query_map([user.as_bits()], |row| row.get(0).map(TokenHash::from_bytes))?;
    Ok(hashes.collect::<Result<_, _>>()?)
}

fn add_token(
    connection: &Connection,
    token: &TokenRecord,
    most: usize,
    password: Option<&PasswordHash>,
) -> Result<Changed, Unchanged> {
    let account = find(connection, &Who::Id(token.user))?;
    if account.user.locked || password.is_some_and(|password| *password != account.password) {
        return Err(ChangeError::Outdated.into());
    }
    let keep = i64::try_from(most.saturating_sub(1)).unwrap_or(i64::MAX);
    let mut delete = connection.prepare_cached(
        "DELETE FROM tokens WHERE hash IN (SELECT hash FROM tokens WHERE user = ?1 ORDER BY last_used DESC, hash LIMIT -1 OFFSET ?2) \
         RETURNING hash",
    )?;
    let ended =
        delete.query_map(params![token.user.as_bits(), keep], |row| row.get(0).map(TokenHash::from_bytes))?;
    let ended = ended.collect::<Result<_, _>>()?;
    connection
        .prepare_cached(
            "INSERT INTO tokens (hash, user, label, created, last_used, expires, idle) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            token.hash.as_bytes(),
            token.user.as_bits(),
            token.label,
            token.created.as_millis(),
            token.last_used.as_millis(),
            token.expires.as_millis(),
            i64::try_from(token.idle.as_millis()).unwrap_or(i64::MAX),
        ])?;
    Ok(Changed { before: Some(account.user.clone()), after: Some(account.user), tokens: ended })
}

fn revoke_token(connection: &Connection, who: &Who, id: TokenId) -> Result<Changed, Unchanged> {
    let user = find(connection, who)?.user;
    let mut delete = connection
        .prepare_cached("DELETE FROM tokens WHERE user = ?1 AND substr(hash, 1, 8) = ?2 RETURNING hash")?;
    let hashes = delete
        .query_map(params![user.id.as_bits(), id.as_bytes()], |row| row.get(0).map(TokenHash::from_bytes))?;
    let tokens: Vec<_> = hashes.collect::<Result<_, _>>()?;
    if tokens.is_empty() {
        return Err(ChangeError::NoToken.into());
    }
    Ok(Changed { before: Some(user.clone()), after: Some(user), tokens })
}

fn count(connection: &Connection, one: &Counted) -> Result<(), Failure> {
    if one.is_void() {
        connection.prepare_cached("DELETE FROM counted WHERE key = ?1")?.execute([&one.key])?;
        return Ok(());
    }
    let Counted { key, failures, failed, succeeded } = one;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO counted (key, failures, failed, succeeded) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![key, failures, failed.as_millis(), succeeded.as_millis()])?;
    Ok(())
}
