//! Where passwords come from: a file, a file descriptor, the keyring, the environment, or a prompt that does not show them. Never an
//! argument, which everybody on the machine could read.

use std::io::{self, BufRead as _, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};

use nsp::Password;
use zeroize::Zeroizing;

use nsp_cli::exit::Failure;

use crate::hidden;
use crate::keyring::{Account, Keyring, Secret};

/// Longest password, in bytes; the daemon takes no longer ones.
const LONGEST: u64 = 1024;

/// Where the password comes from.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct PasswordOptions {
    /// A file whose first line is the password. NSP_PASSWORD holds the password itself. Otherwise it is asked for on the
    /// terminal, without showing it. There is no flag that takes it.
    #[arg(long, value_name = "FILE", env = "NSP_PASSWORD_FILE", help_heading = "Login")]
    password_file: Option<PathBuf>,

    /// A file descriptor that the password is read from, up to the end of a line.
    #[arg(
        long,
        value_name = "N",
        env = "NSP_PASSWORD_FD",
        conflicts_with = "password_file",
        help_heading = "Login"
    )]
    password_fd: Option<u16>,

    /// Take the password from the keyring of the system, where `nsp login --keep-password` has put it.
    #[arg(
        long,
        env = "NSP_PASSWORD_KEYRING",
        conflicts_with_all = ["password_file", "password_fd"],
        help_heading = "Login"
    )]
    password_keyring: bool,
}

impl PasswordOptions {
    /// The password from wherever it was said to be; `None` when nothing was said.
    pub(crate) fn given(&self, account: &Account) -> Result<Option<Password>, Failure> {
        if let Some(path) = &self.password_file {
            let file = std::fs::File::open(path).map_err(|error| Failure::file(path, &error))?;
            let first =
                first_line(file).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
            return Ok(Some(first));
        }
        if let Some(fd) = self.password_fd {
            // Opening it by name is the way to a descriptor that needs no unsafe code.
            let path = PathBuf::from(format!("/dev/fd/{fd}"));
            let file = std::fs::File::open(&path)
                .map_err(|error| Failure::Usage(format!("--password-fd {fd}: {error}")))?;
            let first =
                first_line(file).map_err(|error| Failure::Usage(format!("--password-fd {fd}: {error}")))?;
            return Ok(Some(first));
        }
        if self.password_keyring {
            return kept(&Keyring::of_the_system()?, account).map(Some);
        }
        match std::env::var("NSP_PASSWORD") {
            Ok(password) => Ok(Some(Password::new(password))),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(Failure::Usage("NSP_PASSWORD is not UTF-8".to_owned()))
            }
        }
    }

    /// The password from wherever it was said to be, or from the terminal.
    pub(crate) fn read(&self, account: &Account) -> Result<Password, Failure> {
        match self.given(account)? {
            Some(password) => Ok(password),
            None => ask(&format!("Password of {account}: ")),
        }
    }
}

fn kept(keyring: &Keyring, account: &Account) -> Result<Password, Failure> {
    let password = keyring.find(Secret::Password, account)?.ok_or_else(|| {
        Failure::NotAuthenticated(format!(
            "the keyring has no password of {account}: nsp login {} --keep-password",
            account.user
        ))
    })?;
    Ok(Password::new(password.as_str()))
}

/// Asks on the terminal for a password that is to be set, twice.
pub(crate) fn ask_twice(prompt: &str) -> Result<Password, Failure> {
    let password = ask(prompt)?;
    if password != ask("Once more: ")? {
        return Err(Failure::Usage("the two are not the same".to_owned()));
    }
    Ok(password)
}

/// The first line of a file.
pub(crate) fn of_file(path: &Path) -> Result<Password, Failure> {
    let file = std::fs::File::open(path).map_err(|error| Failure::file(path, &error))?;
    first_line(file).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

/// Asks on the terminal.
pub(crate) fn ask(prompt: &str) -> Result<Password, Failure> {
    if !can_ask() {
        return Err(Failure::NotAuthenticated(
            "there is no terminal to ask for a password on: give --password-file, --password-fd, --password-keyring or NSP_PASSWORD"
                .to_owned(),
        ));
    }
    let password = hidden::read(prompt).map_err(|error| match error.kind() {
        // As the shell has it for a program that Ctrl-C has ended.
        io::ErrorKind::Interrupted => Failure::Said { status: 130 },
        _ => Failure::Other(format!("the password cannot be read: {error}")),
    })?;
    if password.is_empty() {
        return Err(Failure::Usage("the password is empty".to_owned()));
    }
    Ok(Password::new(password))
}

/// Whether there is somebody to ask.
pub(crate) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn first_line(from: impl Read) -> Result<Password, String> {
    let mut line = Zeroizing::new(String::new());
    BufReader::new(from.take(LONGEST + 2)).read_line(&mut line).map_err(|error| error.to_string())?;
    let text = line.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err("the first line is empty".to_owned());
    }
    if text.len() as u64 > LONGEST {
        return Err(format!("the first line has more than {LONGEST} bytes"));
    }
    Ok(Password::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::memory;

    fn account() -> Account {
        Account { user: "alice".to_owned(), daemon: "localhost:1".to_owned() }
    }

    #[test]
    fn password_comes_from_the_keyring_or_it_is_said_how_it_gets_there() {
        let keyring = memory::keyring();
        let failure = kept(&keyring, &account()).unwrap_err();
        assert_eq!(failure.status(), 5);
        assert!(failure.to_string().contains("nsp login alice --keep-password"), "{failure}");
        keyring.keep(Secret::Password, &account(), "correct horse").unwrap();
        assert_eq!(kept(&keyring, &account()).unwrap().reveal(), "correct horse");
    }

    #[test]
    fn password_is_the_first_line_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let options = PasswordOptions { password_file: Some(path.clone()), ..PasswordOptions::default() };
        std::fs::write(&path, "correct horse\r\nmore\n").unwrap();
        assert_eq!(options.given(&account()).unwrap().unwrap().reveal(), "correct horse");
        for (text, said) in [(String::new(), "empty"), ("x".repeat(2000), "more than 1024")] {
            std::fs::write(&path, text).unwrap();
            assert!(options.given(&account()).unwrap_err().to_string().contains(said));
        }
    }

    #[cfg(unix)]
    #[test]
    fn password_comes_from_a_descriptor() {
        use std::os::fd::AsRawFd;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "from a descriptor").unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let fd = u16::try_from(file.as_raw_fd()).unwrap();
        let options = PasswordOptions { password_fd: Some(fd), ..PasswordOptions::default() };
        assert_eq!(options.given(&account()).unwrap().unwrap().reveal(), "from a descriptor");
    }
}
