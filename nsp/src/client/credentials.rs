//! Who answers when the daemon asks for a token or a password.

use std::fmt;

use crate::authority::Answer;
use crate::proto::au::{Notice, Question};
use crate::secret::{Password, Proof, Token};

/// What a client may be asked for, and what it is told about that.
///
/// The daemon asks for a token or a password when a service does something that only a certain user may do. It names the user, who is the
/// owner of the activity. Answers may take their time, a person may have to type; the daemon waits for up to three minutes, and
/// calls of this client's that wait for the same should have a deadline that allows for it. An answer that takes longer is dropped.
///
/// Nothing is asked of an implementation over a connection that others could read: such questions are declined before.
pub trait Credentials: Send + Sync + 'static {
    /// The token of a user, or `None` to decline. A daemon of NSP 0.4 does not say whose.
    fn token<'a>(&'a self, user: Option<&'a str>) -> Answer<'a, Option<Token>> {
        let _ = user;
        Answer::now(None)
    }

    /// The password of a user, or `None` to decline.
    fn password<'a>(&'a self, user: Option<&'a str>) -> Answer<'a, Option<Password>> {
        let _ = user;
        Answer::now(None)
    }

    /// Hears that a token or a password was wrong, or that an activity should be somebody's. It must not block.
    fn notice(&self, told: Told<'_>) {
        let _ = told;
    }
}

/// What the daemon says without wanting an answer.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Told<'a> {
    /// What.
    pub notice: Notice,
    /// The service of the activity that it concerns, if the daemon says which.
    pub service: Option<&'a str>,
    /// The owner of that activity.
    pub owner: Option<&'a str>,
}

/// Declines everything.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to add")]
pub struct NoCredentials;

impl Credentials for NoCredentials {}

/// A token or a password, or both, of one user, known before. Questions about anybody else are declined.
///
/// ```
/// use nsp::client::Login;
///
/// let login = Login::new("alice").token("5b7c…").password("hunter2");
/// assert_eq!(format!("{login:?}"), r#"Login { user: "alice", token: Some(Token(..)), password: Some(Password(..)) }"#);
/// ```
#[derive(Debug, Clone)]
pub struct Login {
    user: String,
    token: Option<Token>,
    password: Option<Password>,
}

impl Login {
    /// Of this user; knows nothing yet.
    pub fn new(user: impl Into<String>) -> Self {
        Self { user: user.into(), token: None, password: None }
    }

    /// With this token, as [`Client::token`](super::Client::token) returns one.
    #[must_use]
    pub fn token(mut self, token: impl Into<Token>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// With this password.
    #[must_use]
    pub fn password(mut self, password: impl Into<Password>) -> Self {
        self.password = Some(password.into());
        self
    }

    fn is_about(&self, user: Option<&str>) -> bool {
        user.is_none_or(|user| user == self.user)
    }
}

impl Credentials for Login {
    fn token<'a>(&'a self, user: Option<&'a str>) -> Answer<'a, Option<Token>> {
        Answer::now(self.token.clone().filter(|_| self.is_about(user)))
    }

    fn password<'a>(&'a self, user: Option<&'a str>) -> Answer<'a, Option<Password>> {
        Answer::now(self.password.clone().filter(|_| self.is_about(user)))
    }
}

/// Asks a closure, which may ask a keyring or a person.
///
/// ```
/// use nsp::client::Ask;
/// use nsp::proto::au::Question;
///
/// let ask = Ask::new(async |question, user: Option<String>| match (question, user.as_deref()) {
///     (Question::Password, Some("alice")) => Some("hunter2".into()),
///     _ => None,
/// });
/// # let _: &dyn nsp::client::Credentials = &ask;
/// ```
pub struct Ask<F>(F);

impl<F, R> Ask<F>
where
    F: Fn(Question, Option<String>) -> R + Send + Sync + 'static,
    R: Future<Output = Option<Proof>> + Send,
{
    /// The closure is given what is asked for and of whom, and returns it, or `None` to decline.
    pub const fn new(ask: F) -> Self {
        Self(ask)
    }
}

impl<F, R> Credentials for Ask<F>
where
    F: Fn(Question, Option<String>) -> R + Send + Sync + 'static,
    R: Future<Output = Option<Proof>> + Send + 'static,
{
    fn token<'a>(&'a self, user: Option<&'a str>) -> Answer<'a, Option<Token>> {
        let asked = (self.0)(Question::Token, user.map(str::to_owned));
        Answer::later(async { asked.await.map(Proof::into_token) })
    }

    fn password<'a>(&'a self, user: Option<&'a str>) -> Answer<'a, Option<Password>> {
        let asked = (self.0)(Question::Password, user.map(str::to_owned));
        Answer::later(async { asked.await.map(Proof::into_password) })
    }
}

impl<F> fmt::Debug for Ask<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ask(..)")
    }
}
