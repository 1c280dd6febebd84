//! Managing users: what `nsp user` and `nsp token` do.

use std::sync::Arc;

use nsp::{Password, Token};

use crate::audit;
use crate::authority::core::Core;
use crate::password::{self, HashingBusy, PasswordError};
use crate::store::{Account, Change, ChangeError, Changed, StoreError};
use crate::token::{TokenId, TokenRecord};
use crate::user::{
    Names, Profile, SUPERUSER, TextError, User, UserId, Username, UsernameError, Who, check_names,
    check_roles, check_text,
};

/// The users of an [`Authority`](crate::Authority).
///
/// Every change is on the disk when its future returns. It does not ask who is calling; [`by`](Self::by) says that to the audit log.
///
/// # Cancel safety
///
/// A change whose future is dropped was made or it was not. Where it was, the audit log has it, and what it ends has ended.
#[derive(Debug, Clone)]
pub struct Users {
    pub(crate) core: Arc<Core>,
    pub(crate) actor: Arc<str>,
}

/// A user to be.
#[derive(Debug, Clone)]
#[must_use = "nobody is created until it is given to `Users::create`"]
pub struct NewUser {
    name: Username,
    password: Password,
    privilege: i64,
    must_change_password: bool,
    names: Names,
    roles: Vec<String>,
}

impl NewUser {
    /// A user of privilege 1 without anything else.
    pub fn new(name: Username, password: Password) -> Self {
        let names = Names::default();
        Self { name, password, privilege: 1, must_change_password: false, names, roles: Vec::new() }
    }

    /// With another privilege; 0 is a superuser.
    pub const fn privilege(mut self, privilege: i64) -> Self {
        self.privilege = privilege;
        self
    }

    /// Whose password was made by somebody else.
    pub const fn must_change_password(mut self) -> Self {
        self.must_change_password = true;
        self
    }

    /// With names.
    pub fn names(mut self, names: Names) -> Self {
        self.names = names;
        self
    }

    /// With roles.
    pub fn roles(mut self, roles: Vec<String>) -> Self {
        self.roles = roles;
        self
    }
}

/// Some users, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// In the order of their names.
    pub users: Vec<User>,
    /// What to search after for the next page; `None` on the last one.
    pub next: Option<Username>,
}

/// Most users on one page. 1,000: some 200 KiB.
pub const LARGEST_PAGE: usize = 1000;

impl Users {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, actor: "local".into() }
    }

    /// The same users, managed by somebody: the audit log names them instead of `local`.
    #[must_use]
    pub fn by(&self, actor: &str) -> Self {
        Self { core: self.core.clone(), actor: actor.into() }
    }

    /// A user, if there is one.
    ///
    /// # Errors
    ///
    /// When the store does not answer.
    pub async fn find(&self, who: impl Into<Who>) -> Result<Option<User>, StoreError> {
        Ok(self.core.store.account(who.into()).await?.map(|account| account.user))
    }

    /// Users whose names begin with a text, after one of them, so many at most, and not more than [`LARGEST_PAGE`]. Nothing
    /// in the text is a wildcard.
    ///
    /// # Errors
    ///
    /// When the store does not answer.
    pub async fn search(
        &self,
        prefix: &str,
        after: Option<&Username>,
        most: usize,
    ) -> Result<Page, StoreError> {
        let most = most.clamp(1, LARGEST_PAGE);
        let prefix = prefix.chars().take(Username::MAX_LENGTH + 1).collect::<String>().to_ascii_lowercase();
        let mut users = self.core.store.search(prefix, after.cloned(), most + 1).await?;
        let has_more = users.len() > most;
        users.truncate(most);
        let next = if has_more { users.last().map(|user| user.name.clone()) } else { None };
        Ok(Page { users, next })
    }

    /// Creates a user.
    ///
    /// # Errors
    ///
    /// When there is one of that name, or the password or another text is not good enough.
    pub async fn create(&self, new: NewUser) -> Result<User, UserError> {
        let NewUser { name, password, privilege, must_change_password, names, roles } = new;
        self.check_password(&password, &name)?;
        check_names(&names)?;
        check_roles(&roles)?;
        let password = self.core.hasher.hash(password).await?;
        let now = self.core.now();
        let mut user = User::new(UserId::random(), name, privilege, now);
        user.roles = roles;
        user.must_change_password = must_change_password;
        user.rename(names, now);
        let (name, actor) = (user.name.clone(), self.actor.clone());
        let note = move |_: &Changed| audit::changed(&name, &actor, "created");
        self.core.change(Change::Create(Account { user: user.clone(), password }), note).await?;
        Ok(user)
    }

    /// Creates the superuser `admin` with a password that is made up and returned, if there is no user at all. It is
    /// marked as one that should be changed; logging in with it works.
    ///
    /// # Errors
    ///
    /// When the store does not answer.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have made the user, whose password nobody knows then: [`reset_password`](Self::reset_password) makes another one.
    pub async fn first_admin(&self) -> Result<Option<(User, Password)>, UserError> {
        if !self.search("", None, 1).await?.users.is_empty() {
            return Ok(None);
        }
        let password = password::one_time();
        let name = Username::parse("admin")?;
        let new = NewUser::new(name, password.clone()).privilege(SUPERUSER).must_change_password();
        match self.create(new).await {
            Ok(user) => Ok(Some((user, password))),
            // Somebody was quicker.
            Err(UserError::Change(ChangeError::Exists(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a user with all tokens, and ends live connections.
    ///
    /// # Errors
    ///
    /// When there is no such user, or it is the last superuser who can log in.
    pub async fn delete(&self, who: impl Into<Who>) -> Result<User, UserError> {
        let changed = self.core.change(Change::Delete(who.into()), self.note("removed")).await?;
        changed.before.ok_or(UserError::Change(ChangeError::NoUser))
    }

    /// Gives a user another name, and ends tokens and live connections, which have proved the old one.
    ///
    /// # Errors
    ///
    /// When there is no such user, or there is one of that name.
    pub async fn rename(&self, who: impl Into<Who>, name: Username) -> Result<User, UserError> {
        self.edit(Change::Rename(who.into(), name, self.core.now()), "renamed").await
    }

    /// Gives a user another password, and ends tokens and live connections.
    ///
    /// # Errors
    ///
    /// When there is no such user, or the password is not good enough.
    pub async fn set_password(&self, who: impl Into<Who>, password: Password) -> Result<User, UserError> {
        let user = self.find(who).await?.ok_or(ChangeError::NoUser)?;
        self.check_password(&password, &user.name)?;
        let hash = self.core.hasher.hash(password).await?;
        self.edit(Change::Password(user.id.into(), hash, false, self.core.now()), "password").await
    }

    /// Gives a user a password that is made up, and marks it as one that should be changed.
    ///
    /// # Errors
    ///
    /// When there is no such user.
    pub async fn reset_password(&self, who: impl Into<Who>) -> Result<(User, Password), UserError> {
        let password = password::one_time();
        let hash = self.core.hasher.hash(password.clone()).await?;
        let user = self.edit(Change::Password(who.into(), hash, true, self.core.now()), "password").await?;
        Ok((user, password))
    }

    /// Gives a user another privilege; 0 is a superuser. Where that makes or ends a superuser, tokens and live connections end.
    ///
    /// # Errors
    ///
    /// When there is no such user, or it is the last superuser who can log in.
    pub async fn set_privilege(&self, who: impl Into<Who>, privilege: i64) -> Result<User, UserError> {
        self.edit(Change::Privilege(who.into(), privilege, self.core.now()), "privilege").await
    }

    /// Changes names and what a user tells.
    ///
    /// # Errors
    ///
    /// When there is no such user, or one of the texts is too long or has control characters.
    pub async fn set_names(&self, who: impl Into<Who>, names: Names) -> Result<User, UserError> {
        check_names(&names)?;
        self.edit(Change::Names(who.into(), names, self.core.now()), "names").await
    }

    /// Changes what a user tells about themselves.
    ///
    /// # Errors
    ///
    /// As [`set_names`](Self::set_names).
    pub async fn set_profile(&self, who: impl Into<Who>, profile: Profile) -> Result<User, UserError> {
        self.set_names(who, Names { profile: Some(profile), ..Names::default() }).await
    }

    /// Gives a user other roles.
    ///
    /// # Errors
    ///
    /// When there is no such user, or there are more than [`MAX_ROLES`](crate::user::MAX_ROLES).
    pub async fn set_roles(&self, who: impl Into<Who>, roles: Vec<String>) -> Result<User, UserError> {
        check_roles(&roles)?;
        self.edit(Change::Roles(who.into(), roles, self.core.now()), "roles").await
    }

    /// Refuses logins of a user, and ends tokens and live connections.
    ///
    /// # Errors
    ///
    /// When there is no such user, or it is the last superuser who can log in.
    pub async fn lock(&self, who: impl Into<Who>) -> Result<User, UserError> {
        self.edit(Change::Lock(who.into(), true, self.core.now()), "locked").await
    }

    /// Permits logins again. Tokens do not come back.
    ///
    /// # Errors
    ///
    /// When there is no such user.
    pub async fn unlock(&self, who: impl Into<Who>) -> Result<User, UserError> {
        self.edit(Change::Lock(who.into(), false, self.core.now()), "unlocked").await
    }

    /// The tokens of a user, the one that was used last first; expired ones too, until they are swept away.
    ///
    /// # Errors
    ///
    /// When there is no such user.
    pub async fn tokens(&self, who: impl Into<Who>) -> Result<Vec<TokenRecord>, UserError> {
        let user = self.find(who).await?.ok_or(ChangeError::NoUser)?;
        Ok(self.core.store.tokens(user.id).await?)
    }

    /// Makes a token of a user without a password: for a program that has to log in by itself.
    ///
    /// # Errors
    ///
    /// When there is no such user, it is locked, or the label is too long.
    pub async fn issue_token(
        &self,
        who: impl Into<Who>,
        label: &str,
    ) -> Result<(Token, TokenRecord), UserError> {
        check_text("label", label)?;
        let user = self.find(who).await?.ok_or(ChangeError::NoUser)?;
        let (name, actor) = (user.name.clone(), self.actor.clone());
        let note = move |_| audit::changed(&name, &actor, "token");
        Ok(self.core.add_token(&user, label.into(), None, note).await?)
    }

    /// Ends one token, and live connections that have shown it.
    ///
    /// # Errors
    ///
    /// When there is no such user or no such token.
    pub async fn revoke_token(&self, who: impl Into<Who>, id: TokenId) -> Result<(), UserError> {
        self.core.change(Change::RevokeToken(who.into(), id), self.note_revoked()).await?;
        Ok(())
    }

    /// Ends all tokens of a user, and live connections. Says how many tokens there were.
    ///
    /// # Errors
    ///
    /// When there is no such user.
    pub async fn revoke_tokens(&self, who: impl Into<Who>) -> Result<usize, UserError> {
        let changed = self.core.change(Change::RevokeTokens(who.into()), self.note_revoked()).await?;
        Ok(changed.tokens.len())
    }

    /// Whether a password is good enough for that user.
    pub(crate) fn check_password(&self, password: &Password, user: &Username) -> Result<(), PasswordError> {
        self.core.settings.rules.check(password, Some(user))
    }

    async fn edit(&self, change: Change, what: &'static str) -> Result<User, UserError> {
        let changed = self.core.change(change, self.note(what)).await?;
        changed.after.ok_or(UserError::Change(ChangeError::NoUser))
    }

    fn note(&self, what: &'static str) -> impl FnOnce(&Changed) + Send + use<> {
        let actor = self.actor.clone();
        move |changed| {
            if let Some(user) = &changed.before {
                audit::changed(&user.name, &actor, what);
            }
        }
    }

    fn note_revoked(&self) -> impl FnOnce(&Changed) + Send + use<> {
        let actor = self.actor.clone();
        move |changed| {
            if let Some(user) = &changed.before {
                audit::revoked(&user.name, &actor, changed.tokens.len());
            }
        }
    }
}

/// Why something about a user was not done.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// It is no name.
    #[error(transparent)]
    Name(#[from] UsernameError),
    /// The password is not good enough.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// A text cannot be kept.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Too many passwords are being hashed.
    #[error(transparent)]
    Busy(#[from] HashingBusy),
    /// The change cannot be made.
    #[error(transparent)]
    Change(ChangeError),
    /// The store does not answer.
    #[error(transparent)]
    Store(StoreError),
}

impl From<ChangeError> for UserError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Store(error) => Self::Store(error),
            other => Self::Change(other),
        }
    }
}

impl From<StoreError> for UserError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
