use std::time::Duration;

use nossock::Peer;
use nossock::transport::tcp;
use nossock::transport::tls::{ClientTls, Negotiated, TlsError, TlsSetupError};
#[cfg(unix)]
use nossock::transport::unix;

use super::chunks::Chunks;
use super::frames::Frames;
use super::transport::{Io, Transport};
use super::upgrade::HttpError;
use super::{Address, Carrier, CarrierKind, Limits, Meter};
use crate::proto::{Methods, Side};

/// How to connect.
#[derive(Debug, Clone)]
#[expect(clippy::exhaustive_structs, reason = "made to be written as a literal with ..Default::default()")]
pub struct ConnectOptions {
    /// Bounds of the connection.
    pub limits: Limits,
    /// The methods that are spoken.
    pub methods: Methods,
    /// What the system is told about a TCP connection.
    pub tcp: tcp::TcpOptions,
    /// TLS for `nsps://` and `wss://`. Without, whom the operating system trusts is trusted.
    ///
    /// For `wss://` it is to offer [`WEB_ALPN`](super::WEB_ALPN), or no protocol at all.
    pub tls: Option<ClientTls>,
    /// Whether to say nossock's hello, without which the peer sends no pings and no reason at the end.
    pub hello: bool,
    /// The `Origin` to name when upgrading to WebSocket. None by default, as for every program that is no browser.
    pub origin: Option<String>,
    /// What counts the bytes. Nothing by default.
    pub meter: Option<Meter>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            methods: Methods::default(),
            tcp: tcp::TcpOptions::default(),
            tls: None,
            hello: true,
            origin: None,
            meter: None,
        }
    }
}

/// Connects to a daemon, up to the point where packets can be exchanged.
///
/// # Errors
/// [`ConnectError`], after at most [`Limits::connect`].
///
/// # Cancel safety
/// Dropping it abandons the attempt and leaves nothing behind.
pub async fn connect(address: &Address, options: &ConnectOptions) -> Result<Box<dyn Carrier>, ConnectError> {
    let after = options.limits.connect;
    // Boxed: what a handshake needs is not to be carried along by everyone who awaits this.
    match tokio::time::timeout(after, Box::pin(attempt(address, options))).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::TimedOut { address: address.clone(), after }),
    }
}

async fn attempt(address: &Address, options: &ConnectOptions) -> Result<Box<dyn Carrier>, ConnectError> {
    let (host, port) = match (address.host(), address.port(), address.unix()) {
        (Some(host), Some(port), _) => (host, port),
        #[cfg(unix)]
        (_, _, Some(address)) => {
            let stream = unix::connect(address).await?;
            let mut peer = Peer::default();
            peer.unix = unix::PeerCredentials::of(&stream).ok();
            let transport = Transport::new(stream, peer, true, options.limits).metered(options.meter.clone());
            return Ok(Box::new(Frames::new(transport, Side::Client, options.hello)));
        }
        _ => return Err(ConnectError::Unsupported { address: address.clone() }),
    };
    if address.carrier() == CarrierKind::WebSocket && cfg!(not(feature = "websocket")) {
        return Err(ConnectError::Unsupported { address: address.clone() });
    }
    let stream = tcp::connect(host, port, &options.tcp).await?;
    let mut peer = Peer::default();
    peer.address = stream.peer_addr().ok();
    if address.is_tls() {
        let tls = match &options.tls {
            Some(tls) => tls.clone(),
            None if address.carrier() == CarrierKind::WebSocket => {
                ClientTls::builder().alpn([super::WEB_ALPN]).build()?
            }
            None => ClientTls::new()?,
        };
        let stream = tls.connect(stream, host).await?;
        peer.tls = Some(std::sync::Arc::new(Negotiated::of(&stream)));
        greet(address, Transport::new(stream, peer, true, options.limits), options).await
    } else {
        greet(address, Transport::new(stream, peer, false, options.limits), options).await
    }
}

/// Makes a carrier of a stream.
async fn greet<T>(
    address: &Address,
    transport: Transport<T>,
    options: &ConnectOptions,
) -> Result<Box<dyn Carrier>, ConnectError>
where
    T: Io,
{
    let transport = transport.metered(options.meter.clone());
    Ok(match address.carrier() {
        CarrierKind::Chunks => Box::new(Chunks::new(transport, options.methods.clone())),
        #[cfg(feature = "websocket")]
        CarrierKind::WebSocket => {
            let mut transport = transport;
            super::upgrade::ask(&mut transport, address, options.origin.as_deref()).await?;
            Box::new(super::websocket::WebSocket::new(transport, Side::Client, options.methods.clone()))
        }
        _ => Box::new(Frames::new(transport, Side::Client, options.hello)),
    })
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No TCP connection.
    #[error(transparent)]
    Tcp(#[from] tcp::ConnectError),
    /// No Unix socket.
    #[cfg(unix)]
    #[error(transparent)]
    Unix(#[from] unix::UnixError),
    /// The daemon was reached, and TLS with it failed.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The caller's TLS settings cannot be used.
    #[error(transparent)]
    TlsSetup(#[from] TlsSetupError),
    /// The daemon was reached, and does not make a WebSocket of the connection.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// This build does not have the carrier: the feature `websocket` is off, or the system has no Unix sockets.
    #[error("this build has no carrier for {address}")]
    Unsupported {
        /// Where it was to go.
        address: Address,
    },
    /// NSP 0.4 was asked for, and the frames of `nsp://` and `nsps://` have packets in them, no text.
    #[error("there is no NSP 0.4 on {address}")]
    NoText {
        /// Where it was to go.
        address: Address,
    },
    /// It took too long.
    #[error("{address} did not answer within {after:?}")]
    TimedOut {
        /// Where it was tried.
        address: Address,
        /// [`Limits::connect`].
        after: Duration,
    },
}

impl ConnectError {
    /// Whether trying again would give the same: the settings are wrong, or the other side is not to be trusted.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        match self {
            Self::TlsSetup(_) | Self::Unsupported { .. } | Self::NoText { .. } => true,
            Self::Tls(error) => error.is_permanent(),
            Self::Http(error) => error.is_permanent(),
            _ => false,
        }
    }
}
