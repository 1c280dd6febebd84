//! Accepting connections: each is a task, with what it may cost bounded before it begins.

mod pool;

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use pool::Pool;
use tokio::net::{TcpListener, TcpStream};

use crate::introduction::{Introducer, Introduction};
use crate::router::Router;
#[cfg(feature = "tls")]
use crate::transport::tls::ServerTls;
#[cfg(unix)]
use crate::transport::unix;
use crate::transport::{Address, AddressError, tcp};
use crate::{Config, ServerLimits};

/// Accepts connections and runs a router on each.
///
/// ```no_run
/// # async fn run(shutdown: impl std::future::Future<Output = ()>) -> Result<(), Box<dyn std::error::Error>> {
/// use nossock::transport::tls::{Identity, ServerTls};
/// use nossock::{Json, Router, Server};
///
/// let router = Router::new().on_request("echo", async |Json(value): Json<String>| value);
/// let tls = ServerTls::new(Identity::from_pem_files("server.pem", "server.key")?)?;
///
/// let server = Server::bind("tls://0.0.0.0:8797")?.tls(tls).listen().await?;
/// println!("listening on {}", server.address());
/// let drained = server.serve_until(router, shutdown).await;
/// println!("{} connections ended by themselves, {} were cut", drained.drained, drained.aborted);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Server {
    address: Address,
    listener: Listener,
    options: Options,
}

/// A server that does not listen yet; from [`Server::bind`].
#[derive(Debug, Clone)]
#[must_use = "a server does nothing until it listens"]
pub struct ServerBuilder {
    address: Address,
    options: Options,
}

#[derive(Debug, Clone, Default)]
struct Options {
    config: Arc<Config>,
    limits: ServerLimits,
    tcp: tcp::TcpOptions,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
    introduction: Option<Introducer>,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(unix::Listener),
}

enum Accepted {
    Tcp(TcpStream, IpAddr),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

/// What became of the connections that were open when a server stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Drained {
    /// Those that ended within [`ServerLimits::grace`]: what was queued was sent, what ran ended.
    pub drained: usize,
    /// Those that did not, and were cut.
    pub aborted: usize,
}

/// Why a server does not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The caller's address cannot be understood.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The system refuses the address.
    #[error(transparent)]
    Tcp(#[from] tcp::ListenError),
    /// The system refuses the path.
    #[cfg(unix)]
    #[error(transparent)]
    Unix(#[from] unix::UnixError),
    /// The address says `tls://` and no certificate was given.
    #[error("{address} needs a certificate, and none was given")]
    NoIdentity {
        /// The address.
        address: Address,
    },
    /// This build does not have the transport.
    #[error("this build of nossock has no `{scheme}:`{}", if *scheme == "tls" { ": the feature `tls` is off" } else { "" })]
    Unsupported {
        /// The scheme of the address.
        scheme: &'static str,
    },
}

impl Server {
    /// Says where to listen: `tcp://`, `tls://` or `unix:`. Port 0 lets the system choose.
    ///
    /// # Errors
    /// When the address cannot be understood.
    pub fn bind<A>(address: A) -> Result<ServerBuilder, BindError>
    where
        A: TryInto<Address>,
        A::Error: Into<AddressError>,
    {
        let address = address.try_into().map_err(Into::into)?;
        Ok(ServerBuilder { address, options: Options::default() })
    }

    fn new(address: Address, listener: Listener, options: Options) -> Result<Self, BindError> {
        #[cfg(not(feature = "tls"))]
        if address.is_tls() {
            return Err(BindError::Unsupported { scheme: address.scheme() });
        }
        #[cfg(feature = "tls")]
        if address.is_tls() && options.tls.is_none() {
            return Err(BindError::NoIdentity { address });
        }
        let real = match &listener {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            #[cfg(unix)]
            Listener::Unix(_) => None,
        };
        let address = match real {
            Some(real) => address.with_port(real.port()),
            None => address,
        };
        #[cfg(feature = "tls")]
        let options = Options { tls: options.tls.filter(|_| address.is_tls()), ..options };
        Ok(Self { address, listener, options })
    }

    /// Where it listens, with the real port.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Serves for ever.
    ///
    /// No failure to accept ends it: it waits a little, from 10 ms up to a second, and goes on.
    ///
    /// # Cancel safety
    /// Dropping it stops accepting and cuts every connection; [`serve_until`](Self::serve_until) ends them in peace.
    pub async fn serve<S: Clone + Send + Sync + 'static>(self, router: Router<S>) {
        self.serve_until(router, std::future::pending()).await;
    }

    /// Serves until `shutdown` is ready; then stops accepting, tells the peers, and gives the connections
    /// [`ServerLimits::grace`] to finish what is queued and running before it cuts them.
    ///
    /// # Cancel safety
    /// As [`serve`](Self::serve).
    pub async fn serve_until<S, F>(self, router: Router<S>, shutdown: F) -> Drained
    where
        S: Clone + Send + Sync + 'static,
        F: Future<Output = ()>,
    {
        let routes = router.into_routes();
        let pool = Pool::new(self.options);
        let mut shutdown = pin!(shutdown);
        let mut pause = FIRST_PAUSE;
        loop {
            let next = async {
                let permit = pool.room().await;
                (self.listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                biased;
                () = &mut shutdown => break,
                next = next => next,
            };
            match accepted {
                Ok(stream) => {
                    pause = FIRST_PAUSE;
                    pool.admit(stream, permit, &routes);
                }
                Err(error) => {
                    // Out of descriptors, most often. The connection stays in the backlog; trying at once would
                    // only burn the processor.
                    tracing::warn!(%error, ?pause, "cannot accept a connection");
                    tokio::select! {
                        () = &mut shutdown => break,
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
        drop(self.listener);
        pool.drain().await
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(1);

impl ServerBuilder {
    /// With this behaviour of each socket.
    pub fn config(mut self, config: Config) -> Self {
        self.options.config = Arc::new(config);
        self
    }

    /// With these bounds.
    pub const fn limits(mut self, limits: ServerLimits) -> Self {
        self.options.limits = limits;
        self
    }

    /// With these options of each TCP connection.
    pub const fn tcp(mut self, options: tcp::TcpOptions) -> Self {
        self.options.tcp = options;
        self
    }

    /// With this certificate, and these demands on clients. Keep a clone to replace the certificate while the
    /// server runs.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.options.tls = Some(tls);
        self
    }

    /// With this introduction of each connection, before its first message. Until then it may send a few small frames, and
    /// nothing of it reaches the router.
    pub fn introduction(mut self, introduction: impl Introduction) -> Self {
        self.options.introduction = Some(Introducer::new(introduction));
        self
    }

    /// Begins to listen.
    ///
    /// # Errors
    /// When the system refuses the address, or it is `tls://` and there is no certificate.
    ///
    /// # Cancel safety
    /// Dropping it listens nowhere.
    pub async fn listen(self) -> Result<Server, BindError> {
        let Self { address, options } = self;
        let listener = match &address {
            Address::Tcp { host, port } | Address::Tls { host, port } => {
                Listener::Tcp(tcp::listen(host, *port, options.limits.backlog).await?)
            }
            #[cfg(unix)]
            Address::Unix(path) => Listener::Unix(unix::listen(path)?),
            #[cfg(not(unix))]
            Address::Unix(_) => return Err(BindError::Unsupported { scheme: address.scheme() }),
        };
        Server::new(address, listener, options)
    }

    /// Uses a TCP listener that is there already: handed over by a supervisor, or made with options of its own.
    ///
    /// # Errors
    /// When the address is `tls://` and there is no certificate, or it is that of a Unix socket.
    pub fn listen_on(self, listener: TcpListener) -> Result<Server, BindError> {
        let Self { address, options } = self;
        if matches!(address, Address::Unix(_)) {
            return Err(BindError::Unsupported { scheme: address.scheme() });
        }
        Server::new(address, Listener::Tcp(listener), options)
    }

    /// Listens, and serves until `shutdown` is ready.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    ///
    /// # Cancel safety
    /// As [`Server::serve`].
    pub async fn serve_until<S, F>(self, router: Router<S>, shutdown: F) -> Result<Drained, BindError>
    where
        S: Clone + Send + Sync + 'static,
        F: Future<Output = ()>,
    {
        Ok(self.listen().await?.serve_until(router, shutdown).await)
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok(Accepted::Tcp(stream, address.ip()))
            }
            #[cfg(unix)]
            Self::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?)),
        }
    }
}
