//! Where a daemon listens, and what it agrees upon with those who come there.

use std::sync::Arc;
use std::time::Duration;

use nossock::transport::tls::ServerTls;
use tokio::task::JoinSet;

use super::builder::BindError;
use super::connection::{WeakUse, now};
use super::driver::Terms;
use super::limits::Limits;
use super::seats::Seat;
use super::shared::{Shared, Totals};
use crate::carrier::{self, Address, Arriving, CarrierKind, ListenOptions, Listener};
use crate::machine::SpPolicy;
use crate::proto::Methods;
use crate::proto::text::Dialect;
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
    address: String,
    tls: Option<ServerTls>,
    key: Option<Arc<ServerKey>>,
    weak_seeds: WeakSeeds,
    weak_use: WeakUse,
    is_plaintext_allowed: bool,
    origins: Vec<String>,
    text: Option<Dialect>,
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
            origins: Vec::new(),
            text: None,
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

    /// Lets in browsers that show a page of these origins, as `https://chat.example.org`; `*` are all. Without it no page gets in. Programs that are
    /// no browsers say no origin, and come in.
    pub fn origins<O: Into<String>>(mut self, origins: impl IntoIterator<Item = O>) -> Self {
        self.origins = origins.into_iter().map(Into::into).collect();
        self
    }

    /// Serves clients of NSP 0.4 too, which speak text: on `noservice://`, `ws://` and `wss://`. They are told from the others by the first byte that they send;
    /// which of the three forms of NSP 0.4 it is, cannot be told, and has to be known. The last of them is the default of [`Dialect`].
    ///
    /// They have no blobs: a blob event does not reach them and is counted as dropped, a blob for a result is answered with a failure. Under SP
    /// they send a seed that can be guessed: see [`legacy_clients`](Self::legacy_clients).
    pub const fn nsp_04(mut self, dialect: Dialect) -> Self {
        self.text = Some(dialect);
        self
    }

    /// What it demands of those who come.
    fn terms(&self) -> Terms {
        let sp = match &self.key {
            Some(key) => SpPolicy::Required { key: Arc::clone(key), weak: self.weak_seeds, timeout: SP_TIME },
            None => SpPolicy::Off,
        };
        Terms { sp, weak_use: self.weak_use, text: self.text, service: None }
    }
}

impl<A: Into<String>> From<A> for Listen {
    fn from(address: A) -> Self {
        Self::on(address)
    }
}

/// An address that is listened at.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listener: Listener,
    pub(crate) tls: Option<ServerTls>,
    terms: Terms,
}

impl Door {
    pub(crate) async fn new(listen: Listen, limits: &Limits, methods: &Methods) -> Result<Self, BindError> {
        let address: Address = listen.address.parse()?;
        let is_protected = address.is_tls()
            || address.unix().is_some()
            || address.is_loopback()
            || listen.key.is_some()
            || listen.is_plaintext_allowed;
        if !is_protected {
            return Err(BindError::Unprotected { address });
        }
        if listen.text.is_some() && address.carrier() == CarrierKind::Frames {
            return Err(BindError::NoText { address });
        }
        let terms = listen.terms();
        let tls = listen.tls.filter(|_| address.is_tls());
        let options = ListenOptions {
            limits: carrier::Limits {
                message: limits.connection.message,
                write_stall: limits.write_stall,
                ..carrier::Limits::default()
            },
            methods: methods.clone(),
            tls: tls.clone(),
            origins: listen.origins,
            ..ListenOptions::default()
        };
        let listener = Listener::bind(&address, &options).await?;
        Ok(Self { listener, tls, terms })
    }

    /// Lets in those who come, for ever.
    pub(crate) async fn open(self, daemon: Arc<Shared>) {
        // Dropped with this: who has not got through the handshake has nothing to lose.
        let mut handshakes = JoinSet::new();
        loop {
            let permit = daemon.seats.room().await;
            let arriving = self.listener.accept().await;
            while handshakes.try_join_next().is_some() {}
            let address = arriving.peer().address.map(|address| address.ip());
            let Some(seat) = Seat::take(&daemon, address, Some(permit)) else {
                Totals::add(&daemon.totals.refused);
                if let Some(times) = daemon.seats.crowded.times(now()) {
                    tracing::warn!(peer = %arriving.peer(), times, "too many connections of one address");
                }
                continue;
            };
            let admission = admit(arriving, self.terms.clone(), Arc::clone(&daemon), seat);
            handshakes.spawn(admission);
        }
    }
}

/// Shakes hands with somebody, and serves them.
async fn admit(arriving: Arriving, terms: Terms, daemon: Arc<Shared>, seat: Seat) {
    let peer = arriving.peer().clone();
    let handshake = async {
        // Where nothing is to be computed nobody has to wait for those who compute, and who says nothing takes no place from those who do.
        let _permit = if arriving.has_handshake() {
            arriving.speaks().await;
            Some(daemon.seats.handshake().await)
        } else {
            None
        };
        Box::pin(arriving.handshake()).await
    };
    match tokio::time::timeout(daemon.limits.handshake_time, handshake).await {
        Ok(Ok(carrier)) => return daemon.serve(carrier, terms, seat),
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a handshake failed"),
        Err(_) => tracing::debug!(%peer, "a handshake took too long"),
    }
    Totals::add(&daemon.totals.refused);
}
