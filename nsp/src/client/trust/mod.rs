//! Whether a daemon is the one it was before.
//!
//! Neither SP nor a certificate that a daemon made itself says whose it is. What helps is to remember the key, as ssh does: who was not in
//! the middle the first time is noticed when he is later.

mod file;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub use file::{HostName, KnownHost, KnownHosts, KnownHostsError};

use crate::authority::Answer;
use crate::carrier::Carrier;
use crate::secure::Fingerprint;

/// Which keys of daemons are trusted.
///
/// [By default](Self::default) only that of a daemon on the same machine, or behind something that is confidential without the key, whichever it
/// is: nobody can be in the middle there. Whoever says how to judge keys has all of them judged like that, those on the same machine as well, as
/// ssh does.
#[derive(Debug, Clone, Default)]
pub struct Trust(Policy);

#[derive(Debug, Clone, Default)]
enum Policy {
    /// Only where nobody can be in the middle.
    #[default]
    Local,
    Anyone,
    Pinned(Vec<Fingerprint>),
    Known {
        hosts: KnownHosts,
        unknown: Unknown,
    },
}

/// What to do about a daemon that is met for the first time.
#[derive(Clone)]
enum Unknown {
    Refuse,
    Add,
    Ask(Arc<dyn Confirm>),
}

impl fmt::Debug for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refuse => "Refuse",
            Self::Add => "Add",
            Self::Ask(_) => "Ask(..)",
        })
    }
}

/// Asks somebody whether the key of a daemon that is met for the first time is its own. Closures implement it.
pub trait Confirm: Send + Sync + 'static {
    /// Whether it is. It is remembered then.
    fn confirm<'a>(&'a self, offered: &'a Offered) -> Answer<'a, bool>;
}

impl<F, R> Confirm for F
where
    F: Fn(Offered) -> R + Send + Sync + 'static,
    R: Future<Output = bool> + Send + 'static,
{
    fn confirm<'a>(&'a self, offered: &'a Offered) -> Answer<'a, bool> {
        Answer::later(self(offered.clone()))
    }
}

impl Trust {
    /// Trusts the daemons in the file, and nobody else.
    #[must_use]
    pub const fn strict(hosts: KnownHosts) -> Self {
        Self(Policy::Known { hosts, unknown: Unknown::Refuse })
    }

    /// Trusts whoever is met for the first time, and adds it to the file. A changed key is refused.
    #[must_use]
    pub const fn accept_new(hosts: KnownHosts) -> Self {
        Self(Policy::Known { hosts, unknown: Unknown::Add })
    }

    /// Asks about whoever is met for the first time, and adds it to the file if it is to be trusted. A changed key is refused
    /// without asking.
    #[must_use]
    pub fn ask(hosts: KnownHosts, confirm: impl Confirm) -> Self {
        Self(Policy::Known { hosts, unknown: Unknown::Ask(Arc::new(confirm)) })
    }

    /// Trusts the daemons that have one of these keys, wherever they are.
    #[must_use]
    pub fn pinned(keys: impl IntoIterator<Item = Fingerprint>) -> Self {
        Self(Policy::Pinned(keys.into_iter().collect()))
    }

    /// Trusts whoever answers. Whoever can reach into the connection can read and change all of it.
    #[must_use]
    pub const fn danger_anyone() -> Self {
        Self(Policy::Anyone)
    }

    /// Judges a key.
    ///
    /// # Errors
    /// [`TrustError`] when it is not to be trusted.
    ///
    /// # Cancel safety
    /// Dropping it leaves the file as it was, or with the new line.
    pub async fn judge(&self, offered: Offered) -> Result<(), TrustError> {
        let (hosts, unknown) = match &self.0 {
            Policy::Anyone => return Ok(()),
            Policy::Local if offered.is_local => return Ok(()),
            Policy::Local => {
                return Err(TrustError::Unknown { offered: offered.into(), asked: Asked::Nobody });
            }
            Policy::Pinned(pins) if pins.contains(&offered.fingerprint) => return Ok(()),
            Policy::Pinned(_) => return Err(TrustError::NotPinned { offered: offered.into() }),
            Policy::Known { hosts, unknown } => (hosts, unknown),
        };
        if blocking(hosts, &offered, KnownHosts::check).await? {
            return Ok(());
        }
        let asked = match unknown {
            Unknown::Add => None,
            Unknown::Refuse => Some(Asked::File),
            Unknown::Ask(confirm) => (!confirm.confirm(&offered).await).then_some(Asked::Somebody),
        };
        if let Some(asked) = asked {
            return Err(TrustError::Unknown { offered: offered.into(), asked });
        }
        // Looked at again under the lock of the file: another process may have added another key meanwhile.
        blocking(hosts, &offered, KnownHosts::learn).await
    }
}

/// Does something with the file where that holds nobody up.
async fn blocking<T: Send + 'static>(
    hosts: &KnownHosts,
    offered: &Offered,
    act: fn(&KnownHosts, &Offered) -> Result<T, TrustError>,
) -> Result<T, TrustError> {
    let (hosts, offered) = (hosts.clone(), offered.clone());
    let done = tokio::task::spawn_blocking(move || act(&hosts, &offered));
    // It does not panic, so only a runtime that stops does not let it end.
    done.await.unwrap_or(Err(TrustError::Stopped))
}

/// A key that a daemon has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offered {
    /// Of whom: host and port as they were dialled, in lower case.
    pub host: String,
    /// For what.
    pub kind: KeyKind,
    /// Which.
    pub fingerprint: Fingerprint,
    /// Whether the daemon is on this machine, or the way to it is confidential without the key: nobody can be in the middle.
    pub is_local: bool,
}

impl Offered {
    pub(super) fn rsa(host: &str, carrier: &dyn Carrier, fingerprint: Fingerprint) -> Self {
        let is_local = carrier.is_confidential() || is_loopback(carrier);
        Self { host: host.to_owned(), kind: KeyKind::Rsa, fingerprint, is_local }
    }

    pub(super) fn tls(host: &str, carrier: &dyn Carrier, fingerprint: Fingerprint) -> Self {
        Self { host: host.to_owned(), kind: KeyKind::Tls, fingerprint, is_local: is_loopback(carrier) }
    }
}

fn is_loopback(carrier: &dyn Carrier) -> bool {
    carrier.peer().address.is_some_and(|address| address.ip().to_canonical().is_loopback())
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum KeyKind {
    /// `nsp-rsa`: the key that a daemon sends in SP.
    Rsa,
    /// `tls`: the public key in a daemon's certificate.
    Tls,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa => "nsp-rsa",
            Self::Tls => "tls",
        })
    }
}

/// Who did not know the key of a daemon that is met for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Asked {
    /// Nobody said how to judge keys.
    Nobody,
    /// The file was to know it.
    File,
    /// Somebody was asked, and said no.
    Somebody,
}

/// Why a daemon is not trusted.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Its key is another one than it was. Its owner has made a new one, or somebody is in the middle.
    #[error(
        "the {} key of {} has changed: known is {known} ({}:{line}), offered is {}; somebody may be in the middle. \
         Ask the daemon's owner; if the new one is right, remove that line",
        offered.kind, offered.host.escape_debug(), path.display(), offered.fingerprint
    )]
    Changed {
        /// What the daemon shows now.
        offered: Box<Offered>,
        /// What it showed before.
        known: Fingerprint,
        /// The file that knows it.
        path: PathBuf,
        /// And its line, counted from 1.
        line: usize,
    },
    /// It is met for the first time.
    #[error("the {} key of {} is not known: {}{}", offered.kind, offered.host.escape_debug(), offered.fingerprint, help(*asked))]
    Unknown {
        /// What the daemon shows.
        offered: Box<Offered>,
        /// Who did not know it.
        asked: Asked,
    },
    /// Its key is none of those that were named.
    #[error("the {} key of {} is {}, which is not pinned", offered.kind, offered.host.escape_debug(), offered.fingerprint)]
    NotPinned {
        /// What the daemon shows.
        offered: Box<Offered>,
    },
    /// Its certificate cannot be read.
    #[error("the daemon's certificate cannot be read, so there is no key to be known by")]
    NoKey,
    /// The file of known daemons cannot be used.
    #[error(transparent)]
    File(Arc<KnownHostsError>),
    /// The runtime has stopped meanwhile.
    #[error("the runtime has stopped")]
    Stopped,
}

impl From<KnownHostsError> for TrustError {
    fn from(error: KnownHostsError) -> Self {
        Self::File(Arc::new(error))
    }
}

const fn help(asked: Asked) -> &'static str {
    match asked {
        Asked::Nobody => "; say with `trust` how keys are to be judged",
        Asked::File => "; add it to the known ones, or let new ones in",
        Asked::Somebody => ", and was not accepted",
    }
}
