//! Tokens of logins, in a file for its owner only.

use std::path::{Path, PathBuf};

use nsp::Token;
use serde::{Deserialize, Serialize};

use nsp_cli::exit::Failure;
use nsp_cli::files;

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
    token: String,
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

    pub(crate) fn find(&self, daemon: &str, user: &str) -> Option<Token> {
        let found = self.file.tokens.iter().find(|kept| kept.daemon == daemon && kept.user == user)?;
        Some(Token::new(found.token.as_str()))
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

    pub(crate) fn keep(path: PathBuf, daemon: &str, user: &str, token: &Token) -> Result<(), Failure> {
        Self::change(path, |tokens| {
            tokens.retain(|kept| !(kept.daemon == daemon && kept.user == user));
            tokens.push(Kept {
                daemon: daemon.to_owned(),
                user: user.to_owned(),
                token: token.reveal().to_owned(),
            });
        })
    }

    pub(crate) fn forget(path: PathBuf, daemon: &str, user: &str) -> Result<(), Failure> {
        Self::change(path, |tokens| tokens.retain(|kept| !(kept.daemon == daemon && kept.user == user)))
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

    #[test]
    fn tokens_are_kept_by_daemon_and_user_and_can_be_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings/tokens.toml");
        let keep = |daemon: &str, user: &str, token: &str| {
            Tokens::keep(path.clone(), daemon, user, &Token::new(token)).unwrap();
        };
        keep("a:1", "alice", "old");
        keep("a:1", "alice", "new");
        keep("b:1", "alice", "other");
        assert!(!files::is_open_to_others(&path));
        let tokens = Tokens::read(path.clone()).unwrap();
        assert_eq!(tokens.find("a:1", "alice").unwrap().reveal(), "new");
        assert_eq!(tokens.only_user("a:1"), Some("alice"));
        keep("a:1", "bobby", "x");
        assert_eq!(Tokens::read(path.clone()).unwrap().only_user("a:1"), None);
        Tokens::forget(path.clone(), "a:1", "alice").unwrap();
        let tokens = Tokens::read(path).unwrap();
        assert!(tokens.find("a:1", "alice").is_none() && tokens.find("b:1", "alice").is_some());
        assert!(!format!("{tokens:?}").contains("other"), "{tokens:?}");
    }

    #[cfg(unix)]
    #[test]
    fn file_that_others_can_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        Tokens::keep(path.clone(), "a:1", "alice", &Token::new("t")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Tokens::read(path).unwrap_err().to_string().contains("chmod 600"));
    }
}
