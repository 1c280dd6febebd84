//! A store that forgets everything when it is dropped.

use std::collections::{BTreeMap, HashMap};
use std::future::ready;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Account, Change, ChangeError, Changed, Counted, Note, Pending, Store, StoreError};
use crate::password::PasswordHash;
use crate::token::{TokenHash, TokenRecord};
use crate::user::{User, UserId, Username, Who};

/// Keeps users in memory: for tests, and for daemons that may forget.
#[derive(Debug, Default)]
pub struct Memory(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    users: BTreeMap<Username, Account>,
    tokens: HashMap<TokenHash, TokenRecord>,
    counted: HashMap<Vec<u8>, Counted>,
}

impl Memory {
    /// Keeps nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is made on a copy or cannot fail half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now<'a, T: Send + 'a, E: Send + 'a>(result: Result<T, E>) -> Pending<'a, T, E> {
    Box::pin(ready(result))
}

impl Store for Memory {
    fn account(&self, who: Who) -> Pending<'_, Option<Account>> {
        now(Ok(self.state().find(&who).cloned()))
    }

    fn search(&self, prefix: String, after: Option<Username>, most: usize) -> Pending<'_, Vec<User>> {
        let state = self.state();
        let found = state.users.iter().filter(|(name, _)| name.as_str().starts_with(&prefix));
        let later = found.filter(|(name, _)| after.as_ref().is_none_or(|after| *name > after));
        now(Ok(later.take(most).map(|(_, account)| account.user.clone()).collect()))
    }

    fn token(&self, hash: TokenHash) -> Pending<'_, Option<(TokenRecord, User)>> {
        let state = self.state();
        let token = state.tokens.get(&hash).cloned();
        now(Ok(token.and_then(|token| {
            let user = state.find(&Who::Id(token.user))?.user.clone();
            Some((token, user))
        })))
    }

    fn tokens(&self, user: UserId) -> Pending<'_, Vec<TokenRecord>> {
        let state = self.state();
        let mut tokens: Vec<_> = state.tokens.values().filter(|token| token.user == user).cloned().collect();
        tokens.sort_by_key(|token| (std::cmp::Reverse(token.last_used), token.hash));
        now(Ok(tokens))
    }

    fn counted(&self) -> Pending<'_, Vec<Counted>> {
        now(Ok(self.state().counted.values().cloned().collect()))
    }

    fn change(&self, change: Change) -> Pending<'_, Changed, ChangeError> {
        now(self.state().change(change))
    }

    fn note(&self, note: Note) {
        let mut state = self.state();
        match note {
            Note::Used(hash, at) => {
                if let Some(token) = state.tokens.get_mut(&hash) {
                    token.last_used = token.last_used.max(at);
                }
            }
            Note::Sweep { tokens, counted } => {
                state.tokens.retain(|_, token| token.expires >= tokens);
                state.counted.retain(|_, one| one.failed.max(one.succeeded) >= counted);
            }
        }
    }

    fn close(&self) -> Pending<'_, ()> {
        now(Ok::<_, StoreError>(()))
    }
}

impl State {
    fn find(&self, who: &Who) -> Option<&Account> {
        match who {
            Who::Name(name) => self.users.get(name),
            Who::Id(id) => self.users.values().find(|account| account.user.id == *id),
        }
    }

    /// Changes a user, and ends the tokens if the change says so.
    fn edit(&mut self, who: &Who, edit: impl FnOnce(&mut Account) -> bool) -> Result<Changed, ChangeError> {
        let mut account = self.find(who).ok_or(ChangeError::NoUser)?.clone();
        let before = account.user.clone();
        let ends_tokens = edit(&mut account);
        let after = account.user.clone();
        if counts(&before) && !counts(&after) {
            self.not_the_last_superuser()?;
        }
        if before.name != after.name && self.users.contains_key(&after.name) {
            return Err(ChangeError::Exists(after.name));
        }
        self.users.remove(&before.name);
        self.users.insert(after.name.clone(), account);
        let tokens = if ends_tokens { self.end_tokens(after.id) } else { Vec::new() };
        Ok(Changed { before: Some(before), after: Some(after), tokens })
    }

    fn not_the_last_superuser(&self) -> Result<(), ChangeError> {
        let superusers = self.users.values().filter(|account| counts(&account.user)).count();
        if superusers > 1 { Ok(()) } else { Err(ChangeError::LastSuperuser) }
    }

    fn end_tokens(&mut self, user: UserId) -> Vec<TokenHash> {
        let mut ended = Vec::new();
        self.tokens.retain(|hash, token| {
            if token.user == user {
                ended.push(*hash);
            }
            token.user != user
        });
        ended
    }

    fn insert(&mut self, account: Account) -> Result<Changed, ChangeError> {
        let user = account.user.clone();
        if self.users.contains_key(&user.name) || self.find(&Who::Id(user.id)).is_some() {
            return Err(ChangeError::Exists(user.name));
        }
        self.users.insert(user.name.clone(), account);
        Ok(Changed { after: Some(user), ..Changed::default() })
    }

    fn change(&mut self, change: Change) -> Result<Changed, ChangeError> {
        match change {
            Change::Create(account) => self.insert(account),
            Change::Import(accounts) => {
                let before = self.users.clone();
                for account in accounts {
                    if let Err(error) = self.insert(account) {
                        self.users = before;
                        return Err(error);
                    }
                }
                Ok(Changed::default())
            }
            Change::Delete(who) => {
                let user = self.find(&who).ok_or(ChangeError::NoUser)?.user.clone();
                if counts(&user) {
                    self.not_the_last_superuser()?;
                }
                self.users.remove(&user.name);
                let tokens = self.end_tokens(user.id);
                Ok(Changed { before: Some(user), after: None, tokens })
            }
            Change::Rename(who, name, at) => self.edit(&who, |account| {
                account.user.name = name;
                account.user.modified = at;
                true
            }),
            Change::Password(who, password, must_change, at) => self.edit(&who, |account| {
                account.password = password;
                account.user.must_change_password = must_change;
                account.user.modified = at;
                true
            }),
            Change::Rehash(id, old, new) => {
                let account = self.find(&Who::Id(id)).ok_or(ChangeError::NoUser)?;
                if account.password != old {
                    return Err(ChangeError::Outdated);
                }
                self.edit(&Who::Id(id), |account| {
                    account.password = new;
                    false
                })
            }
            Change::Privilege(who, privilege, at) => self.edit(&who, |account| {
                let was_superuser = account.user.is_superuser();
                account.user.privilege = privilege;
                account.user.modified = at;
                was_superuser != account.user.is_superuser()
            }),
            Change::Names(who, names, at) => self.edit(&who, |account| {
                account.user.rename(names, at);
                false
            }),
            Change::Roles(who, roles, at) => self.edit(&who, |account| {
                account.user.roles = roles;
                account.user.modified = at;
                false
            }),
            Change::Lock(who, locked, at) => self.edit(&who, |account| {
                account.user.locked = locked;
                account.user.modified = at;
                locked
            }),
            Change::AddToken(token, most, password) => self.add_token(token, most, password.as_ref()),
            Change::RevokeToken(who, id) => {
                let user = self.find(&who).ok_or(ChangeError::NoUser)?.user.clone();
                let is_it = |token: &&TokenRecord| token.user == user.id && token.id() == id;
                let hash = self.tokens.values().find(is_it).ok_or(ChangeError::NoToken)?.hash;
                self.tokens.remove(&hash);
                Ok(Changed { before: Some(user.clone()), after: Some(user), tokens: vec![hash] })
            }
            Change::RevokeTokens(who) => self.edit(&who, |_| true),
            Change::Count(counted) => {
                for one in counted {
                    if one.is_void() {
                        self.counted.remove(&one.key);
                    } else {
                        self.counted.insert(one.key.clone(), one);
                    }
                }
                Ok(Changed::default())
            }
        }
    }

    fn add_token(
        &mut self,
        token: TokenRecord,
        most: usize,
        password: Option<&PasswordHash>,
    ) -> Result<Changed, ChangeError> {
        let account = self.find(&Who::Id(token.user)).ok_or(ChangeError::NoUser)?;
        if account.user.locked || password.is_some_and(|password| *password != account.password) {
            return Err(ChangeError::Outdated);
        }
        let user = account.user.clone();
        let mut others: Vec<_> = self.tokens.values().filter(|other| other.user == user.id).collect();
        others.sort_by_key(|token| (std::cmp::Reverse(token.last_used), token.hash));
        let ended: Vec<_> = others.iter().skip(most.saturating_sub(1)).map(|token| token.hash).collect();
        for hash in &ended {
            self.tokens.remove(hash);
        }
        self.tokens.insert(token.hash, token);
        Ok(Changed { before: Some(user.clone()), after: Some(user), tokens: ended })
    }
}

/// Whether this is somebody who can do everything: a locked one cannot.
pub(super) const fn counts(user: &User) -> bool {
    user.is_superuser() && !user.locked
}
