use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::Config;
use crate::introduction::{Introducer, Introduction, IntroductionError};
use crate::router::{Router, Routes};
use crate::socket::{Peer, Side, Socket};
#[cfg(feature = "tls")]
use crate::transport::tls::{ClientTls, Negotiated, TlsError, TlsSetupError};
#[cfg(unix)]
use crate::transport::unix;
use crate::transport::{Address, AddressError, Plain, tcp};

/// Connects to an address, with messages to be [received](Socket::recv) by hand.
///
/// Over `tls://` the server is verified with the roots that the platform trusts; for everything else there is a
/// [`Connector`]. There is no falling back from TLS.
///
/// # Errors
/// When the address cannot be understood, or nobody there speaks to us within [`Limits::connect`](crate::Limits).
///
/// # Cancel safety
/// Dropping it abandons the attempt.
pub async fn connect<A>(address: A) -> Result<Socket, ConnectError>
where
    A: TryInto<Address>,
    A::Error: Into<AddressError>,
{
    Connector::new(address)?.connect().await
}

/// How to reach a server: its address, and what else there is to say.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use nossock::transport::tls::{ClientTls, Identity};
/// use nossock::Connector;
///
/// let tls = ClientTls::builder()
///     .ca_file("ca.pem")
///     .identity(Identity::from_pem_files("client.pem", "client.key")?)
///     .build()?;
/// let socket = Connector::new("tls://chat.example.org:8797")?.tls(tls).connect().await?;
/// # drop(socket); Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a connector does nothing until it connects"]
pub struct Connector {
    address: Address,
    config: Arc<Config>,
    tcp: tcp::TcpOptions,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
    introduction: Option<Introducer>,
}

impl Connector {
    /// To this address, with the defaults.
    ///
    /// # Errors
    /// When the address cannot be understood.
    pub fn new<A>(address: A) -> Result<Self, ConnectError>
    where
        A: TryInto<Address>,
        A::Error: Into<AddressError>,
    {
        Ok(Self {
            address: address.try_into().map_err(Into::into)?,
            config: Arc::default(),
            tcp: tcp::TcpOptions::default(),
            #[cfg(feature = "tls")]
            tls: None,
            introduction: None,
        })
    }

    /// With this behaviour of the socket.
    pub fn config(mut self, config: Config) -> Self {
        self.config = Arc::new(config);
        self
    }

    /// With these options of the TCP connection.
    pub const fn tcp(mut self, options: tcp::TcpOptions) -> Self {
        self.tcp = options;
        self
    }

    /// With these options of TLS.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// With this introduction, before the first message.
    pub fn introduction(mut self, introduction: impl Introduction) -> Self {
        self.introduction = Some(Introducer::new(introduction));
        self
    }

    /// Where it connects to.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn settings(&self) -> &Config {
        &self.config
    }

    /// Connects, with messages to be [received](Socket::recv) by hand.
    ///
    /// # Errors
    /// As [`connect`].
    ///
    /// # Cancel safety
    /// As [`connect`].
    pub async fn connect(&self) -> Result<Socket, ConnectError> {
        self.open(None).await
    }

    /// Connects, with messages handled by a router.
    ///
    /// # Errors
    /// As [`connect`].
    ///
    /// # Cancel safety
    /// As [`connect`].
    pub async fn connect_routed<S>(&self, router: Router<S>) -> Result<Socket, ConnectError>
    where
        S: Clone + Send + Sync + 'static,
    {
        self.open(Some(router.into_routes())).await
    }

    /// Uses a TCP connection that is there already, through a proxy perhaps; over `tls://` the handshake follows,
    /// with the host of the address as the name to verify. Messages are [received](Socket::recv) by hand.
    ///
    /// # Errors
    /// As [`connect`]; and when the address is that of a Unix socket.
    ///
    /// # Cancel safety
    /// As [`connect`].
    pub async fn connect_over(&self, stream: TcpStream) -> Result<Socket, ConnectError> {
        self.in_time(self.greet(stream, None)).await
    }

    /// As [`connect_over`](Self::connect_over), with messages handled by a router.
    ///
    /// # Errors
    /// As [`connect_over`](Self::connect_over).
    ///
    /// # Cancel safety
    /// As [`connect`].
    pub async fn connect_routed_over<S>(
        &self,
        stream: TcpStream,
        router: Router<S>,
    ) -> Result<Socket, ConnectError>
    where
        S: Clone + Send + Sync + 'static,
    {
        self.in_time(self.greet(stream, Some(router.into_routes()))).await
    }

    pub(crate) async fn open(&self, routes: Option<Arc<Routes>>) -> Result<Socket, ConnectError> {
        self.in_time(self.attempt(routes)).await
    }

    async fn in_time(
        &self,
        attempt: impl Future<Output = Result<Socket, ConnectError>>,
    ) -> Result<Socket, ConnectError> {
        let after = self.config.limits.connect;
        // Boxed: what a handshake needs is not to be carried along by everyone who awaits this.
        match tokio::time::timeout(after, Box::pin(attempt)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::TimedOut { address: self.address.clone(), after }),
        }
    }

    async fn attempt(&self, routes: Option<Arc<Routes>>) -> Result<Socket, ConnectError> {
        match &self.address {
            Address::Tcp { host, port } | Address::Tls { host, port } => {
                #[cfg(not(feature = "tls"))]
                if self.address.is_tls() {
                    return Err(ConnectError::Unsupported { scheme: "tls" });
                }
                self.greet(tcp::connect(host, *port, &self.tcp).await?, routes).await
            }
            #[cfg(unix)]
            Address::Unix(address) => {
                let stream = unix::connect(address).await?;
                let peer = Peer { unix: unix::PeerCredentials::of(&stream).ok(), ..Peer::default() };
                self.begin(Plain::from(stream), routes, peer).await
            }
            #[cfg(not(unix))]
            Address::Unix(_) => Err(ConnectError::Unsupported { scheme: "unix" }),
        }
    }

    /// Makes a socket of a TCP connection, with TLS where the address says so.
    async fn greet(&self, stream: TcpStream, routes: Option<Arc<Routes>>) -> Result<Socket, ConnectError> {
        let peer = Peer { address: stream.peer_addr().ok(), ..Peer::default() };
        match &self.address {
            Address::Tcp { .. } => self.begin(Plain::from(stream), routes, peer).await,
            #[cfg(feature = "tls")]
            Address::Tls { host, .. } => {
                let tls = match &self.tls {
                    Some(tls) => tls.clone(),
                    None => ClientTls::new()?,
                };
                let stream = tls.connect(stream, host).await?;
                let peer = Peer { tls: Some(Arc::new(Negotiated::of(&stream))), ..peer };
                self.begin(Box::new(stream), routes, peer).await
            }
            other => Err(ConnectError::Unsupported { scheme: other.scheme() }),
        }
    }

    /// Makes a socket of a stream, after the introduction where there is one.
    async fn begin<T>(
        &self,
        mut io: T,
        routes: Option<Arc<Routes>>,
        mut peer: Peer,
    ) -> Result<Socket, ConnectError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if let Some(introduction) = &self.introduction {
            introduction.run(&mut io, Side::Client, &mut peer, self.config.limits.connect).await?;
        }
        Ok(Socket::spawn(io, Side::Client, Arc::clone(&self.config), routes, peer))
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The caller's address cannot be understood.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No TCP connection.
    #[error(transparent)]
    Tcp(#[from] tcp::ConnectError),
    /// No Unix socket.
    #[cfg(unix)]
    #[error(transparent)]
    Unix(#[from] unix::UnixError),
    /// The server was reached, and TLS with it failed.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The caller's TLS settings cannot be used.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    TlsSetup(#[from] TlsSetupError),
    /// The server was reached, and one of the two refused the other.
    #[error(transparent)]
    Introduction(#[from] IntroductionError),
    /// This build does not have the transport.
    #[error("this build of nossock has no `{scheme}:`{}", if *scheme == "tls" { ": the feature `tls` is off" } else { "" })]
    Unsupported {
        /// The scheme of the address.
        scheme: &'static str,
    },
    /// It took too long.
    #[error("{address} did not answer within {after:?}")]
    TimedOut {
        /// Where it was tried.
        address: Address,
        /// [`Limits::connect`](crate::Limits::connect)
        after: Duration,
    },
}

impl ConnectError {
    /// Whether trying again would give the same: the address or the settings are wrong, or the other side is not
    /// to be trusted.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        match self {
            Self::Address(_) | Self::Unsupported { .. } => true,
            #[cfg(feature = "tls")]
            Self::TlsSetup(_) => true,
            #[cfg(feature = "tls")]
            Self::Tls(error) => error.is_permanent(),
            Self::Introduction(error) => error.is_permanent(),
            _ => false,
        }
    }
}

impl From<std::convert::Infallible> for AddressError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl Address {
    pub(crate) const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls { .. })
    }
}
