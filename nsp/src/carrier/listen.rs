use std::io;
use std::sync::Arc;
use std::time::Duration;

use nossock::Peer;
use nossock::transport::tcp;
use nossock::transport::tls::{Negotiated, ServerTls, TlsError};
#[cfg(unix)]
use nossock::transport::unix;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::{TcpListener, TcpStream};

use super::chunks::Chunks;
use super::frames::Frames;
use super::transport::{Io, Transport};
use super::upgrade::HttpError;
use super::{Address, Carrier, CarrierKind, Limits};
use crate::proto::{Methods, Side};

/// How to listen.
#[derive(Debug, Clone)]
#[expect(clippy::exhaustive_structs, reason = "made to be written as a literal with ..Default::default()")]
pub struct ListenOptions {
    /// Bounds of each connection.
    pub limits: Limits,
    /// The methods that are spoken.
    pub methods: Methods,
    /// What the system is told about a TCP connection.
    pub tcp: tcp::TcpOptions,
    /// Connections that wait to be accepted before the system refuses more.
    pub backlog: u32,
    /// TLS for `nsps://` and `wss://`, which cannot do without.
    ///
    /// For `wss://` it has to speak [`WEB_ALPN`](super::WEB_ALPN), or browsers are refused.
    pub tls: Option<ServerTls>,
    /// The web pages that may connect over WebSocket, as in `https://chat.example.org`; `*` are all. None by default.
    ///
    /// A browser lets every page connect to every address, loopback included, and only says which page it is. A program that
    /// is no browser says nothing, and is let in.
    pub origins: Vec<String>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            methods: Methods::default(),
            tcp: tcp::TcpOptions::default(),
            backlog: tcp::BACKLOG,
            tls: None,
            origins: Vec::new(),
        }
    }
}

/// Accepts connections at one address.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use nsp::carrier::{ListenOptions, Listener};
///
/// let listener = Listener::bind(&"nsp://127.0.0.1:0".parse()?, &ListenOptions::default()).await?;
/// println!("listening on {}", listener.address());
/// loop {
///     let arriving = listener.accept().await;
///     tokio::spawn(async move {
///         let carrier = arriving.handshake().await?;
///         println!("{} over {:?}", carrier.peer(), carrier.kind());
///         Ok::<_, nsp::carrier::HandshakeError>(())
///     });
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Listener {
    address: Address,
    socket: Socket,
    options: Arc<ListenOptions>,
    limits: Arc<Limits>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(unix::Listener),
}

/// How long to wait after a failure to accept, first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(1);

impl Listener {
    /// Begins to listen. Port 0 lets the system choose one.
    ///
    /// # Errors
    /// [`ListenError`] when the system refuses the address, or it needs a certificate and there is none.
    ///
    /// # Cancel safety
    /// Dropping it listens nowhere.
    pub async fn bind(address: &Address, options: &ListenOptions) -> Result<Self, ListenError> {
        if address.is_tls() && options.tls.is_none() {
            return Err(ListenError::NoCertificate { address: address.clone() });
        }
        if address.carrier() == CarrierKind::WebSocket && cfg!(not(feature = "websocket")) {
            return Err(ListenError::Unsupported { address: address.clone() });
        }
        let limits = Arc::new(options.limits);
        let options = Arc::new(options.clone());
        match (address.host(), address.port(), address.unix()) {
            (Some(host), Some(port), _) => {
                let listener = tcp::listen(host, port, options.backlog).await?;
                let port = listener.local_addr().map_or(port, |real| real.port());
                Ok(Self {
                    address: address.clone().with_port(port),
                    socket: Socket::Tcp(listener),
                    options,
                    limits,
                })
            }
            #[cfg(unix)]
            (_, _, Some(path)) => {
                let socket = Socket::Unix(unix::listen(path)?);
                Ok(Self { address: address.clone(), socket, options, limits })
            }
            _ => Err(ListenError::Unsupported { address: address.clone() }),
        }
    }

    /// Where it listens, with the real port.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for the next connection.
    ///
    /// No failure ends it: out of file descriptors, most often, it waits a little, from 10 ms up to a second, and tries again.
    ///
    /// # Cancel safety
    /// Dropping it loses no connection.
    pub async fn accept(&self) -> Arriving {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.try_accept().await {
                Ok(arriving) => return arriving,
                Err(error) => {
                    tracing::warn!(address = %self.address, %error, ?pause, "cannot accept a connection");
                    // The connection stays in the backlog; trying at once would only burn the processor.
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    async fn try_accept(&self) -> io::Result<Arriving> {
        let mut peer = Peer::default();
        let stream = match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                peer.address = Some(address);
                Stream::Tcp(stream)
            }
            #[cfg(unix)]
            Socket::Unix(listener) => {
                let stream = listener.accept().await?;
                peer.unix = unix::PeerCredentials::of(&stream).ok();
                Stream::Unix(stream)
            }
        };
        Ok(Arriving {
            stream,
            peer,
            address: self.address.clone(),
            options: Arc::clone(&self.options),
            limits: Arc::clone(&self.limits),
        })
    }
}

/// A connection that has been accepted, and of which nothing has been read yet.
#[derive(Debug)]
pub struct Arriving {
    stream: Stream,
    peer: Peer,
    address: Address,
    options: Arc<ListenOptions>,
    limits: Arc<Limits>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Arriving {
    /// Who it is, as far as that can be told before the handshake.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether the handshake costs anything: TLS, or the upgrade to WebSocket. Where not, it is done at once.
    #[must_use]
    pub const fn has_handshake(&self) -> bool {
        self.address.is_tls() || matches!(self.address.carrier(), CarrierKind::WebSocket)
    }

    /// Waits until the peer says something, or is gone. Who says nothing is then no reason for others to wait for their handshake.
    ///
    /// # Cancel safety
    /// Nothing is read.
    pub async fn speaks(&self) {
        if let Stream::Tcp(stream) = &self.stream {
            // A stream that fails is read by the handshake, which says so.
            let _ = stream.peek(&mut [0]).await;
        }
    }

    /// Does what comes before the first packet.
    ///
    /// There is no limit of time but a second to tell a peer that it is refused: put a deadline around it, and accept the next
    /// connection meanwhile.
    ///
    /// # Errors
    /// [`HandshakeError`], which says what the peer did.
    ///
    /// # Cancel safety
    /// Dropping it drops the connection.
    pub async fn handshake(self) -> Result<Box<dyn Carrier>, HandshakeError> {
        let Self { stream, mut peer, address, options, limits } = self;
        let stream = match stream {
            #[cfg(unix)]
            Stream::Unix(stream) => {
                let transport = Transport::new(stream, peer, true, limits);
                return Ok(Box::new(Frames::new(transport, Side::Daemon, false)));
            }
            Stream::Tcp(stream) => stream,
        };
        tcp::configure(&stream, &options.tcp)?;
        match options.tls.as_ref().filter(|_| address.is_tls()) {
            Some(tls) => {
                // Boxed: TLS is large, and the future of a plain connection need not be.
                let stream = Box::pin(tls.accept(stream)).await?;
                peer.tls = Some(Arc::new(Negotiated::of(&stream)));
                greet(&address, Transport::new(stream, peer, true, limits), &options).await
            }
            None => greet(&address, Transport::new(stream, peer, false, limits), &options).await,
        }
    }
}

/// Makes a carrier of a stream.
async fn greet<T>(
    address: &Address,
    transport: Transport<T>,
    options: &ListenOptions,
) -> Result<Box<dyn Carrier>, HandshakeError>
where
    T: Io,
{
    Ok(match address.carrier() {
        CarrierKind::Chunks => Box::new(Chunks::new(transport, options.methods.clone())),
        #[cfg(feature = "websocket")]
        CarrierKind::WebSocket => {
            let mut transport = transport;
            Box::pin(super::upgrade::answer(&mut transport, &options.origins)).await?;
            Box::new(super::websocket::WebSocket::new(transport, Side::Daemon, options.methods.clone()))
        }
        _ => Box::new(Frames::new(transport, Side::Daemon, false)),
    })
}

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The system refuses the address.
    #[error(transparent)]
    Tcp(#[from] tcp::ListenError),
    /// The system refuses the path.
    #[cfg(unix)]
    #[error(transparent)]
    Unix(#[from] unix::UnixError),
    /// There is no TLS without a certificate.
    #[error("{address} needs a certificate, and none was given")]
    NoCertificate {
        /// The address.
        address: Address,
    },
    /// This build does not have the carrier: the feature `websocket` is off, or the system has no Unix sockets.
    #[error("this build has no carrier for {address}")]
    Unsupported {
        /// The address.
        address: Address,
    },
}

/// Why a connection ended before its first packet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// TLS failed; also when the peer speaks something else.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The peer did not make a WebSocket of the connection, or may not.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The transport failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}
