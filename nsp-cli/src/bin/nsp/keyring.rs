//! The keyring of the system, for those who do not want their tokens and passwords in files.
//!
//! | system | what it is | until when it keeps a secret |
//! |---|---|---|
//! | Linux | the keys of the kernel, keyrings(7) | it is removed, nobody has used it for three days, or the machine starts anew |
//! | others | none that this program knows | |
//!
//! The kernel's keys are in memory only: no backup, no disk image and no other user has them. Whatever runs as the same user can read
//! them, as it can read a file. The secret service of a desktop would outlive a restart; what speaks to it needs some fifty crates
//! more, and servers have none. The crate `keyring-core` is not taken either: its store for these keys puts them into the keyring of
//! the session, and where nobody has made a session, as in containers and for services, each process gets one of its own.

use std::fmt;

use zeroize::Zeroizing;

use nsp_cli::exit::Failure;

/// A user of a daemon, who has secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) user: String,
    /// Host and port, whatever the carrier.
    pub(crate) daemon: String,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.user, self.daemon)
    }
}

/// What is kept of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secret {
    Token,
    Password,
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "token",
            Self::Password => "password",
        })
    }
}

/// What can keep secrets under names. It may block. Errors say why not.
trait Store: fmt::Debug + Send + Sync {
    /// Whether it can be used at all.
    fn check(&self) -> Result<(), String>;
    /// Keeps a secret, in place of the one before.
    fn keep(&self, name: &str, secret: &str) -> Result<(), String>;
    fn find(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, String>;
    /// Says whether there was one.
    fn forget(&self, name: &str) -> Result<bool, String>;
}

/// A keyring.
#[derive(Debug)]
pub(crate) struct Keyring(Box<dyn Store>);

impl Keyring {
    /// That of the system.
    ///
    /// # Errors
    /// When there is none that this program knows.
    pub(crate) fn of_the_system() -> Result<Self, Failure> {
        #[cfg(target_os = "linux")]
        return Ok(Self(Box::new(kernel::Kernel)));
        #[cfg(not(target_os = "linux"))]
        Err(Failure::Usage(format!(
            "there is no keyring for nsp on {}: leave out --keyring, and tokens are in a file that only you may read",
            std::env::consts::OS
        )))
    }

    /// Looks whether it can be used, before anything is made that is to be kept in it.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.0.check().map_err(refused)
    }

    /// Keeps a secret, in place of the one before.
    pub(crate) fn keep(&self, secret: Secret, account: &Account, text: &str) -> Result<(), Failure> {
        self.0.keep(&name(secret, account), text).map_err(refused)
    }

    /// Looks for a secret.
    pub(crate) fn find(
        &self,
        secret: Secret,
        account: &Account,
    ) -> Result<Option<Zeroizing<String>>, Failure> {
        let Some(bytes) = self.0.find(&name(secret, account)).map_err(refused)? else { return Ok(None) };
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Some(Zeroizing::new(text.to_owned()))),
            Err(_) => Err(refused(format!("what it has as {} is no text", name(secret, account)))),
        }
    }

    /// Removes a secret; says whether there was one.
    pub(crate) fn forget(&self, secret: Secret, account: &Account) -> Result<bool, Failure> {
        self.0.forget(&name(secret, account)).map_err(refused)
    }
}

/// Under which name a secret is kept: `nsp:token:alice@chat.example.org:43580`.
fn name(secret: Secret, Account { user, daemon }: &Account) -> String {
    format!("nsp:{secret}:{user}@{daemon}")
}

/// Forgets the password of an account, for it is not wanted any more, or no longer the right one.
pub(crate) fn forget_password(account: &Account) {
    // A keyring that cannot be used has none.
    if let Ok(keyring) = Keyring::of_the_system() {
        drop(keyring.forget(Secret::Password, account));
    }
}

fn refused(why: String) -> Failure {
    Failure::Other(format!("the keyring of the system cannot be used: {why}"))
}

/// The keys of Linux, in the persistent keyring of the user.
#[cfg(target_os = "linux")]
mod kernel {
    use linux_keyutils::{Key, KeyError, KeyRing, KeyRingIdentifier};
    use zeroize::Zeroizing;

    #[derive(Debug)]
    pub(super) struct Kernel;

    /// The keyring. It is linked to that of the process, for only who holds a keyring so may search it; looking it up anew each time, in
    /// whatever thread, begins its three days anew as well.
    fn ring() -> Result<KeyRing, String> {
        KeyRing::get_persistent(KeyRingIdentifier::Process).map_err(|error| words(&error))
    }

    fn key(name: &str) -> Result<Option<Key>, String> {
        match ring()?.search(name) {
            Ok(key) => Ok(Some(key)),
            Err(KeyError::KeyDoesNotExist | KeyError::KeyExpired | KeyError::KeyRevoked) => Ok(None),
            Err(error) => Err(words(&error)),
        }
    }

    impl super::Store for Kernel {
        fn check(&self) -> Result<(), String> {
            ring().map(drop)
        }

        fn keep(&self, name: &str, secret: &str) -> Result<(), String> {
            ring()?.add_key(name, secret).map(drop).map_err(|error| words(&error))
        }

        fn find(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
            let Some(key) = key(name)? else { return Ok(None) };
            key.read_to_vec().map(|secret| Some(Zeroizing::new(secret))).map_err(|error| words(&error))
        }

        fn forget(&self, name: &str) -> Result<bool, String> {
            let Some(key) = key(name)? else { return Ok(false) };
            key.invalidate().map(|()| true).map_err(|error| words(&error))
        }
    }

    fn words(error: &KeyError) -> String {
        /// What a kernel says that has no such call.
        const NO_CALL: i32 = 38;
        match error {
            KeyError::PermissionDenied | KeyError::AccessDenied => {
                "the system does not permit it, as in many containers".to_owned()
            }
            KeyError::QuotaExceeded => {
                "it is full: /proc/key-users says how much this user may have".to_owned()
            }
            KeyError::OperationNotSupported | KeyError::Unknown(NO_CALL) => "this kernel has none".to_owned(),
            error => format!("the kernel says {error:?}"),
        }
    }
}

/// One in memory, for tests.
#[cfg(test)]
pub(crate) mod memory {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::{Keyring, Store, Zeroizing};

    #[derive(Debug, Default)]
    struct Memory {
        secrets: Mutex<HashMap<String, Vec<u8>>>,
        refuses: Option<&'static str>,
    }

    impl Memory {
        fn with<R>(&self, act: impl FnOnce(&mut HashMap<String, Vec<u8>>) -> R) -> Result<R, String> {
            match self.refuses {
                Some(why) => Err(why.to_owned()),
                None => Ok(act(&mut self.secrets.lock().unwrap())),
            }
        }
    }

    impl Store for Memory {
        fn check(&self) -> Result<(), String> {
            self.with(|_| ())
        }

        fn keep(&self, name: &str, secret: &str) -> Result<(), String> {
            self.with(|secrets| drop(secrets.insert(name.to_owned(), secret.into())))
        }

        fn find(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
            self.with(|secrets| secrets.get(name).cloned().map(Zeroizing::new))
        }

        fn forget(&self, name: &str) -> Result<bool, String> {
            self.with(|secrets| secrets.remove(name).is_some())
        }
    }

    pub(crate) fn keyring() -> Keyring {
        Keyring(Box::new(Memory::default()))
    }

    pub(crate) fn refusing() -> Keyring {
        Keyring(Box::new(Memory { refuses: Some("it is locked"), ..Memory::default() }))
    }

    pub(crate) fn holding(name: &str, secret: &[u8]) -> Keyring {
        let memory = Memory::default();
        memory.secrets.lock().unwrap().insert(name.to_owned(), secret.to_owned());
        Keyring(Box::new(memory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(user: &str) -> Account {
        // A name of its own: the keyring of the system is that of all tests that run.
        Account { user: user.to_owned(), daemon: format!("test-{}:1", std::process::id()) }
    }

    /// What holds for each keyring.
    fn secrets_are_kept_apart_found_and_forgotten(keyring: &Keyring) {
        let (alice, bobby) = (account("alice"), account("bobby"));
        let find = |secret, account| keyring.find(secret, account).unwrap().map(|text| text.to_string());
        assert_eq!(find(Secret::Token, &alice), None);
        assert!(!keyring.forget(Secret::Token, &alice).unwrap(), "there is nothing to forget");
        for token in ["old", "new"] {
            keyring.keep(Secret::Token, &alice, token).unwrap();
        }
        keyring.keep(Secret::Password, &alice, "a password é").unwrap();
        assert_eq!(find(Secret::Token, &alice).unwrap(), "new");
        assert_eq!(find(Secret::Password, &alice).unwrap(), "a password é");
        assert_eq!(find(Secret::Token, &bobby), None);
        assert!(keyring.forget(Secret::Token, &alice).unwrap());
        assert_eq!(find(Secret::Token, &alice), None);
        assert!(keyring.forget(Secret::Password, &alice).unwrap());
    }

    #[test]
    fn secrets_are_kept_in_memory() {
        secrets_are_kept_apart_found_and_forgotten(&memory::keyring());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn secrets_are_kept_by_the_system_for_all_threads() {
        let keyring = Keyring::of_the_system().unwrap();
        // Containers often may not.
        if let Err(failure) = keyring.check() {
            eprintln!("skipped: {failure}");
            return;
        }
        secrets_are_kept_apart_found_and_forgotten(&keyring);
        let carol = account("carol");
        std::thread::scope(|scope| {
            let kept = scope.spawn(|| keyring.keep(Secret::Token, &carol, "t0ken").unwrap());
            kept.join().unwrap();
            let found = scope.spawn(|| keyring.find(Secret::Token, &carol).unwrap());
            assert_eq!(*found.join().unwrap().unwrap(), "t0ken");
        });
        assert!(keyring.forget(Secret::Token, &carol).unwrap());
    }

    #[test]
    fn refusal_is_said_without_the_secret() {
        let alice = account("alice");
        let refusing = memory::refusing();
        for failure in [
            refusing.check().unwrap_err(),
            refusing.keep(Secret::Token, &alice, "t0ken").unwrap_err(),
            refusing.find(Secret::Token, &alice).unwrap_err(),
            refusing.forget(Secret::Token, &alice).unwrap_err(),
        ] {
            assert_eq!(failure.to_string(), "the keyring of the system cannot be used: it is locked");
            assert_eq!(failure.status(), 1);
        }
        let failure = memory::holding(&name(Secret::Token, &alice), b"t0ken\xff").find(Secret::Token, &alice);
        let text = failure.unwrap_err().to_string();
        assert!(text.contains("nsp:token:alice@") && !text.contains("t0ken"), "{text}");
    }
}
