//! Where a daemon listens, and what it agrees upon with those who come there.

use std::sync::Arc;
use std::time::Duration;

use nossock::transport::tls::ServerTls;

use super::connection::WeakUse;
use crate::machine::SpPolicy;
use crate::secure::{ServerKey, WeakSeeds};

/// One address to listen at, with what goes for those who come there.
///
/// Beyond loopback, an address without TLS needs [`sp`](Self::sp), or [`plaintext`](Self::plaintext) in so many words.
///
/// ```no_run
/// use std::sync::Arc;
/// use nsp::daemon::Listen;
/// use nsp::secure::ServerKey;
///
/// # fn example(tls: nossock::transport::tls::ServerTls) -> Result<(), Box<dyn std::error::Error>> {
/// let key = Arc::new(ServerKey::generate()?);
/// let all = [
///     Listen::on("nsps://0.0.0.0:43580").tls(tls),
///     Listen::on("noservice://0.0.0.0:43583").sp(key).legacy_clients(),
///     Listen::on("ws://127.0.0.1:43582").origins(["https://chat.example.org"]),
/// ];
/// # let _ = all; Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "it listens when a daemon has it"]
pub struct Listen {
    pub(crate) address: String,
    pub(crate) tls: Option<ServerTls>,
    key: Option<Arc<ServerKey>>,
    weak_seeds: WeakSeeds,
    pub(crate) weak_use: WeakUse,
    pub(crate) is_plaintext_allowed: bool,
    pub(crate) origins: Option<Vec<String>>,
}

/// How long a client may take for SP. The original waits for ever.
const SP_TIME: Duration = Duration::from_secs(10);

impl Listen {
    /// At this address: `nsp://`, `nsps://`, `noservice://`, `ws://` or `wss://`. Port 0 lets the system choose.
    pub fn on(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            tls: None,
            key: None,
            weak_seeds: WeakSeeds::Refuse,
            weak_use: WeakUse::NoSecrets,
            is_plaintext_allowed: false,
            origins: None,
        }
    }

    /// With this certificate: for `nsps://` and `wss://`. Keep a clone to replace it while the daemon runs.
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Demands SP of every client, with this key.
    pub fn sp(mut self, key: Arc<ServerKey>) -> Self {
        self.key = Some(key);
        self
    }

    /// Lets in clients whose SP can be broken by trying: all those of the original. Over such a connection no password is asked for, and
    /// no secure function can be called, unless [`weak_use`](Self::weak_use) says so too.
    pub const fn legacy_clients(mut self) -> Self {
        self.weak_seeds = WeakSeeds::Allow;
        self
    }

    /// What may go over a connection whose SP can be broken.
    pub const fn weak_use(mut self, weak_use: WeakUse) -> Self {
        self.weak_use = weak_use;
        self
    }

    /// Goes without TLS and without SP, though somebody may read along. Passwords and tokens are not asked for over such a connection, unless both
    /// ends of it are on this machine.
    pub const fn plaintext(mut self) -> Self {
        self.is_plaintext_allowed = true;
        self
    }

    /// Lets in only browsers that show a page of these origins, as `https://chat.example.org`; programs that are no browsers say no origin, and come
    /// in. Without it only pages of the daemon's own host get in.
    pub fn origins<O: Into<String>>(mut self, origins: impl IntoIterator<Item = O>) -> Self {
        self.origins = Some(origins.into_iter().map(Into::into).collect());
        self
    }

    /// What it demands of SP.
    pub(crate) fn policy(&self) -> SpPolicy {
        match &self.key {
            Some(key) => SpPolicy::Required { key: Arc::clone(key), weak: self.weak_seeds, timeout: SP_TIME },
            None => SpPolicy::Off,
        }
    }
}

impl<A: Into<String>> From<A> for Listen {
    fn from(address: A) -> Self {
        Self::on(address)
    }
}
