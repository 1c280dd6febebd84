//! Tokens of logins, in a file for its owner only; or the file says that the keyring has them.

use std::path::{Path, PathBuf};

use nsp::Token;
use serde::{Deserialize, Serialize};

use nsp_cli::exit::Failure;
use nsp_cli::files;

use crate::keyring::{Account, Keyring, Secret};

/// Where a login is kept.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct KeepOptions {
    /// Keep the token in the keyring of the system, and not in a file. Later logins of this user go there, too, until `nsp logout`.
    #[arg(long, env = "NSP_KEYRING", help_heading = "Login")]
    keyring: bool,
}

impl KeepOptions {
    /// The keyring, if the token is to go there. It is looked at before anybody logs in.
    pub(crate) fn keyring(&self, tokens: &Tokens, account: &Account) -> Result<Option<Keyring>, Failure> {
        // Who has chosen the keyring once is not to find a token in a file.
        let is_there = matches!(tokens.find(account), Some(Held::InKeyring(_)));
        if !self.keyring && !is_there {
            return Ok(None);
        }
        let keyring = Keyring::of_the_system()?;
        keyring.check()?;
        Ok(Some(keyring))
    }
}

/// A token, or where it is.
#[derive(Debug, Clone)]
pub(crate) enum Held {
    Here(Token),
    InKeyring(Account),
}

impl Held {
    /// The token itself. Asking the keyring may take a while, for some ask a person.
    ///
    /// # Errors
    /// When the keyring has it no more, or cannot be used.
    pub(crate) fn token(&self) -> Result<Token, Failure> {
        match self {
            Self::Here(token) => Ok(token.clone()),
            Self::InKeyring(account) => kept(&Keyring::of_the_system()?, account),
        }
    }
}

fn kept(keyring: &Keyring, account: &Account) -> Result<Token, Failure> {
    match keyring.find(Secret::Token, account)? {
        Some(token) => Ok(Token::new(token.as_str())),
        None => Err(Failure::NotAuthenticated(format!(
            "the keyring has the token of {account} no more: nsp login {}",
            account.user
        ))),
    }
}

/// The file, and what is in it.
#[derive(Debug)]
pub(crate) struct Tokens {
    path: PathBuf,
    file: File,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "token")]
    tokens: Vec<Kept>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Host and port of the daemon, whatever the carrier.
    daemon: String,
    user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// The keyring has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    keyring: bool,
}

impl Kept {
    fn is_of(&self, account: &Account) -> bool {
        self.daemon == account.daemon && self.user == account.user
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kept({} at {})", self.user, self.daemon)
    }
}

impl Tokens {
    /// Reads the file; none is as good as an empty one.
    pub(crate) fn read(path: PathBuf) -> Result<Self, Failure> {
        let Some(text) = files::read_if_there(&path)? else {
            return Ok(Self { path, file: File::default() });
        };
        if files::is_open_to_others(&path) {
            return Err(Failure::Usage(format!(
                "{} can be read by others: chmod 600 it, and log in again if you do not know for how long",
                path.display()
            )));
        }
        let file = toml::from_str(&text).map_err(|error| unreadable(&path, &error))?;
        Ok(Self { path, file })
    }

    pub(crate) fn find(&self, account: &Account) -> Option<Held> {
        let found = self.file.tokens.iter().find(|kept| kept.is_of(account))?;
        match &found.token {
            Some(token) => Some(Held::Here(Token::new(token.as_str()))),
            None => found.keyring.then(|| Held::InKeyring(account.clone())),
        }
    }

    /// The user who is logged in at a daemon, when it is only one.
    pub(crate) fn only_user(&self, daemon: &str) -> Option<&str> {
        let mut users = self.file.tokens.iter().filter(|kept| kept.daemon == daemon);
        let one = users.next()?;
        users.next().is_none().then_some(one.user.as_str())
    }

    /// Changes the file, as nobody else does at the same time.
    fn change(path: PathBuf, change: impl FnOnce(&mut Vec<Kept>)) -> Result<(), Failure> {
        if let Some(folder) = path.parent() {
            files::private_folder(folder)?;
        }
        let _alone = files::Lock::take(&path.with_extension("lock"))?;
        let mut tokens = Self::read(path)?;
        change(&mut tokens.file.tokens);
        let text = toml::to_string(&tokens.file).map_err(|error| Failure::Other(error.to_string()))?;
        files::write_private(&tokens.path, text.as_bytes())
    }

    /// Keeps a token, in the keyring if there is one.
    pub(crate) fn keep(
        path: PathBuf,
        account: &Account,
        token: &Token,
        keyring: Option<&Keyring>,
    ) -> Result<(), Failure> {
        if let Some(keyring) = keyring {
            keyring.keep(Secret::Token, account, token.reveal())?;
        }
        Self::change(path, |tokens| {
            tokens.retain(|kept| !kept.is_of(account));
            tokens.push(Kept {
                daemon: account.daemon.clone(),
                user: account.user.clone(),
                token: keyring.is_none().then(|| token.reveal().to_owned()),
                keyring: keyring.is_some(),
            });
        })
    }

    pub(crate) fn forget(path: PathBuf, account: &Account) -> Result<(), Failure> {
        Self::change(path, |tokens| tokens.retain(|kept| !kept.is_of(account)))
    }
}

fn unreadable(path: &Path, error: &toml::de::Error) -> Failure {
    // The line itself is not shown: there is a token in it.
    Failure::Usage(format!(
        "{} cannot be read: {}",
        path.display(),
        error.message().lines().next().unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::memory;

    fn account(user: &str, daemon: &str) -> Account {
        Account { user: user.to_owned(), daemon: daemon.to_owned() }
    }

    fn found(tokens: &Tokens, account: &Account) -> Option<String> {
        tokens.find(account).map(|held| held.token().unwrap().reveal().to_owned())
    }

    #[test]
    fn tokens_are_kept_by_daemon_and_user_and_can_be_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings/tokens.toml");
        let keep = |user: &str, daemon: &str, token: &str| {
            Tokens::keep(path.clone(), &account(user, daemon), &Token::new(token), None).unwrap();
        };
        keep("alice", "a:1", "old");
        keep("alice", "a:1", "new");
        keep("alice", "b:1", "other");
        assert!(!files::is_open_to_others(&path));
        let tokens = Tokens::read(path.clone()).unwrap();
        assert_eq!(found(&tokens, &account("alice", "a:1")).unwrap(), "new");
        assert_eq!(tokens.only_user("a:1"), Some("alice"));
        keep("bobby", "a:1", "x");
        assert_eq!(Tokens::read(path.clone()).unwrap().only_user("a:1"), None);
        Tokens::forget(path.clone(), &account("alice", "a:1")).unwrap();
        let tokens = Tokens::read(path).unwrap();
        assert!(found(&tokens, &account("alice", "a:1")).is_none());
        assert!(found(&tokens, &account("alice", "b:1")).is_some());
        assert!(!format!("{tokens:?}").contains("other"), "{tokens:?}");
    }

    #[test]
    fn token_in_the_keyring_is_in_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, alice, keyring) =
            (dir.path().join("tokens.toml"), account("alice", "a:1"), memory::keyring());
        Tokens::keep(path.clone(), &alice, &Token::new("t0ken-in-a-file"), None).unwrap();
        Tokens::keep(path.clone(), &alice, &Token::new("t0ken"), Some(&keyring)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("keyring = true") && !text.contains("t0ken"), "{text}");
        let tokens = Tokens::read(path).unwrap();
        assert!(matches!(tokens.find(&alice), Some(Held::InKeyring(account)) if account == alice));
        assert_eq!(tokens.only_user("a:1"), Some("alice"));
        assert_eq!(kept(&keyring, &alice).unwrap().reveal(), "t0ken");
        keyring.forget(Secret::Token, &alice).unwrap();
        let failure = kept(&keyring, &alice).unwrap_err();
        assert!(failure.status() == 5 && failure.to_string().contains("nsp login alice"), "{failure}");
    }

    #[cfg(unix)]
    #[test]
    fn file_that_others_can_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        Tokens::keep(path.clone(), &account("alice", "a:1"), &Token::new("t"), None).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Tokens::read(path).unwrap_err().to_string().contains("chmod 600"));
    }
}
