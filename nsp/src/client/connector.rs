use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use nossock::transport::tcp::TcpOptions;
use nossock::transport::tls::{ClientTls, PeerCertificates};

use super::credentials::{Credentials, NoCredentials};
use super::error::DownReason;
use super::run;
use super::shared::Shared;
use super::state::{ClientState, Reconnect};
use super::trust::{Offered, Trust, TrustError};
use super::{Alive, Client};
use crate::carrier::{
    self, Address, AddressError, Carrier, CarrierKind, ConnectError, ConnectOptions, Limits, Meter, WEB_ALPN,
};
use crate::machine::{SpMode, client as machine};
use crate::proto::Methods;
use crate::proto::text::Dialect;
use crate::secure::Fingerprint;

/// How to reach a daemon: from [`Client::connect`], to be awaited when all is said.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use nsp::client::{Client, KnownHosts, Login, Trust};
///
/// let known = KnownHosts::open("/home/alice/.config/nsp/known_hosts");
/// let client = Client::connect("noservice://chat.example.org:43583")
///     .trust(Trust::accept_new(known))
///     .credentials(Login::new("alice").token("5b7c…"))
///     .await?;
/// # drop(client); Ok(()) }
/// ```
#[must_use = "a connector does nothing until it is awaited"]
pub struct Connector {
    address: Result<Address, AddressError>,
    settings: Settings,
}

/// Everything that can be said beside the address.
pub(super) struct Settings {
    pub(super) connect: ConnectOptions,
    pub(super) machine: machine::Config,
    pub(super) sp: Option<SpMode>,
    pub(super) plaintext: bool,
    pub(super) trust: Trust,
    pub(super) certificates_by_trust: bool,
    pub(super) credentials: Arc<dyn Credentials>,
    pub(super) timeout: Duration,
    pub(super) reconnect: Option<Reconnect>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect: ConnectOptions::default(),
            machine: machine::Config::default(),
            sp: None,
            plaintext: false,
            trust: Trust::default(),
            certificates_by_trust: false,
            credentials: Arc::new(NoCredentials),
            timeout: Duration::from_secs(10),
            reconnect: Some(Reconnect::default()),
        }
    }
}

impl Connector {
    pub(super) fn new(address: Result<Address, AddressError>) -> Self {
        Self { address, settings: Settings::default() }
    }

    /// Answers the daemon's questions for tokens and passwords with these. Without, all are declined.
    pub fn credentials(mut self, credentials: impl Credentials) -> Self {
        self.settings.credentials = Arc::new(credentials);
        self
    }

    /// Uses TLS like this. Without, whom the operating system trusts is trusted.
    ///
    /// For `wss://` it is to offer [`WEB_ALPN`], or no protocol at all.
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.settings.connect.tls = Some(tls);
        self.settings.certificates_by_trust = false;
        self
    }

    /// Judges the keys of daemons like this: those of SP, and those of TLS [if wanted](Self::trust_certificates). By default nobody's
    /// is trusted but that of a daemon on the same machine; a daemon there is judged like any other as soon as this is said.
    pub fn trust(mut self, trust: Trust) -> Self {
        self.settings.trust = trust;
        self
    }

    /// Judges the certificates of daemons by [`trust`](Self::trust) alone, not by who issued them, what names they have and until
    /// when they are valid: for daemons that made theirs themselves. That the daemon holds the certificate's key is still verified.
    pub fn trust_certificates(mut self) -> Self {
        self.settings.connect.tls = None;
        self.settings.certificates_by_trust = true;
        self
    }

    /// Wants this of SP. By default it is [required](SpMode::Required) wherever somebody could read along, and that it stays whatever is
    /// said here, unless [`plaintext`](Self::plaintext) is said as well; where nobody could, over TLS, Unix sockets and
    /// loopback, a daemon that asks for it gets it.
    pub const fn sp(mut self, mode: SpMode) -> Self {
        self.settings.sp = Some(mode);
        self
    }

    /// Lets everybody on the way read and change what is said. Tokens, passwords and daemon keys are not sent all the same, unless
    /// the daemon asks for SP.
    pub const fn plaintext(mut self) -> Self {
        self.settings.plaintext = true;
        self
    }

    /// Speaks these methods, with some of the user's own. See [`Client::send_packet`] and [`Client::packets`].
    pub fn methods(mut self, methods: Methods) -> Self {
        self.settings.connect.methods = methods.clone();
        self.settings.machine.methods = methods;
        self
    }

    /// Speaks the text of NSP 0.4, which daemons before 0.6 understand: on `noservice://`, `ws://` and `wss://`. It has no blobs, its questions do not
    /// say for whom they are, and which of its three forms the daemon speaks has to be known.
    ///
    /// Without TLS or [SP](Self::sp) it is as open as NSP 0.5; SP is the same, and what it encrypts has no salt.
    pub const fn dialect(mut self, dialect: Dialect) -> Self {
        self.settings.machine.text = Some(dialect);
        self
    }

    /// Gives every call, send and request for a token this much time, waiting for a connection included. 10 s by default.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Gives the opening of an activity this much time, beside that for answering questions. 30 s by default.
    pub const fn open_timeout(mut self, timeout: Duration) -> Self {
        self.settings.machine.open_timeout = timeout;
        self
    }

    /// Bounds each connection like this.
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.settings.connect.limits = limits;
        self
    }

    /// Keeps no more than this: activities, calls, questions.
    pub const fn most(mut self, limits: machine::Limits) -> Self {
        self.settings.machine.limits = limits;
        self
    }

    /// Tells the system this about TCP connections.
    pub fn tcp(mut self, options: TcpOptions) -> Self {
        self.settings.connect.tcp = options;
        self
    }

    /// Names this `Origin` to a WebSocket daemon that wants one.
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.settings.connect.origin = Some(origin.into());
        self
    }

    /// Counts the bytes of all its connections here.
    pub fn meter(mut self, meter: Meter) -> Self {
        self.settings.connect.meter = Some(meter);
        self
    }

    /// Comes back like this when the connection is lost.
    pub const fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.settings.reconnect = Some(reconnect);
        self
    }

    /// Does not come back when the connection is lost: the client is closed then.
    pub const fn no_reconnect(mut self) -> Self {
        self.settings.reconnect = None;
        self
    }

    /// Connects, and waits until activities can be opened: until the daemon's key is judged and the connection secured, if that is to be.
    ///
    /// # Errors
    /// [`DownReason`], at the first failure: from then on it would be tried again, but not before.
    ///
    /// # Cancel safety
    /// Dropping it closes the connection.
    pub async fn connect(self) -> Result<Client, DownReason> {
        let (dialler, settings) = self.dialler()?;
        let carrier = dialler.dial(&settings).await?;
        let client = start(settings, Some(dialler), Some(carrier));
        let mut state = client.state();
        let settled = state.wait_for(|state| !matches!(state, ClientState::Connecting)).await;
        match settled.as_deref() {
            Ok(ClientState::Closed { reason }) => Err(reason.clone().unwrap_or(DownReason::Stopped)),
            Ok(ClientState::Down { reason, .. }) => Err(reason.clone()),
            // Nobody needs it yet, so it does not come back.
            Ok(ClientState::Idle) | Err(_) => Err(DownReason::Ended(carrier::CarrierEnd::Peer)),
            Ok(_) => {
                drop(settled);
                Ok(client)
            }
        }
    }

    /// Makes a client that connects when an activity or a token is asked for first.
    ///
    /// # Errors
    /// [`DownReason`] when the address or the settings are wrong.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn lazy(self) -> Result<Client, DownReason> {
        let (dialler, settings) = self.dialler()?;
        Ok(start(settings, Some(dialler), None))
    }

    /// Uses a carrier that is there already; there will be no other when it ends.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn over(self, carrier: Box<dyn Carrier>) -> Client {
        start(self.settings, None, Some(carrier))
    }

    fn dialler(self) -> Result<(Dialler, Settings), DownReason> {
        let Self { address, mut settings } = self;
        let address = address?;
        if settings.machine.text.is_some() && address.carrier() == CarrierKind::Frames {
            return Err(ConnectError::NoText { address }.into());
        }
        if address.is_tls() && settings.connect.tls.is_none() {
            // Made once: reading the roots of the system takes a while, and its connections resume each other's sessions.
            let builder = match address.carrier() {
                CarrierKind::WebSocket => ClientTls::builder().alpn([WEB_ALPN]),
                _ => ClientTls::builder(),
            };
            let builder = match settings.certificates_by_trust {
                // It is judged before anything is sent, see `dial`.
                true => builder.danger_accept_any_certificate(),
                false => builder,
            };
            settings.connect.tls = Some(builder.build().map_err(ConnectError::TlsSetup)?);
        }
        let host = match (address.host(), address.port()) {
            (Some(host), Some(port)) if host.contains(':') => format!("[{host}]:{port}"),
            (Some(host), Some(port)) => format!("{}:{port}", host.to_ascii_lowercase()),
            _ => address.to_string(),
        };
        Ok((Dialler { address, host }, settings))
    }
}

/// Where a client connects to.
#[derive(Debug)]
pub(super) struct Dialler {
    address: Address,
    /// Under which name the daemon's keys are remembered.
    host: String,
}

impl Dialler {
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Makes a connection to a daemon whose certificate is trusted, if it has one.
    pub(super) async fn dial(&self, settings: &Settings) -> Result<Box<dyn Carrier>, DownReason> {
        let carrier = carrier::connect(&self.address, &settings.connect).await?;
        if settings.certificates_by_trust && self.address.is_tls() {
            // The handshake has proved that the daemon holds this key, and nothing has been sent to it yet.
            let key = carrier.peer().certificates().and_then(PeerCertificates::public_key_sha256);
            let key = Fingerprint::from_sha256(key.ok_or(TrustError::NoKey)?);
            settings.trust.judge(Offered::tls(&self.host, &*carrier, key)).await?;
        }
        Ok(carrier)
    }
}

fn start(settings: Settings, dialler: Option<Dialler>, first: Option<Box<dyn Carrier>>) -> Client {
    let state = if first.is_some() { ClientState::Connecting } else { ClientState::Idle };
    let shared = Arc::new(Shared::new(settings, state));
    tokio::spawn(run::run(Arc::clone(&shared), dialler, first));
    Client { alive: Arc::new(Alive(shared)) }
}

impl IntoFuture for Connector {
    type Output = Result<Client, DownReason>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.connect())
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("address", &self.address).field("settings", &self.settings).finish()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("sp", &self.sp)
            .field("plaintext", &self.plaintext)
            .field("trust", &self.trust)
            .field("timeout", &self.timeout)
            .field("reconnect", &self.reconnect)
            .finish_non_exhaustive()
    }
}
