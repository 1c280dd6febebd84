//! Accepting connections: each is a task, with what it may cost bounded before it begins.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

use crate::router::{Router, Routes};
use crate::session::CloseReason;
use crate::socket::{Peer, Side, Socket};
#[cfg(feature = "tls")]
use crate::transport::tls::{Negotiated, ServerTls};
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
        let pool = Pool { shared: Arc::new(PoolShared::new(self.options)), tasks: TaskTracker::new() };
        let mut shutdown = pin!(shutdown);
        let mut pause = FIRST_PAUSE;
        loop {
            let next = async {
                let permit = Arc::clone(&pool.shared.connections).acquire_owned().await;
                (self.listener.accept().await, permit.expect("the semaphore is never closed"))
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

/// The connections of a server. Dropping it cuts them.
struct Pool {
    shared: Arc<PoolShared>,
    tasks: TaskTracker,
}

struct PoolShared {
    options: Options,
    connections: Arc<Semaphore>,
    #[cfg(feature = "tls")]
    handshakes: Semaphore,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    draining: bool,
    next: u64,
    members: HashMap<u64, Member>,
    addresses: HashMap<IpAddr, usize>,
}

/// One connection. The pool holds a handle of it, so it lives until one of the peers ends it.
struct Member {
    task: Option<AbortHandle>,
    socket: Option<Socket>,
}

/// What a connection holds of its server, given back when it ends in whatever way.
struct Seat {
    shared: Arc<PoolShared>,
    number: u64,
    address: Option<IpAddr>,
    _permit: OwnedSemaphorePermit,
}

impl PoolShared {
    fn new(options: Options) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(options.limits.connections.min(Semaphore::MAX_PERMITS))),
            #[cfg(feature = "tls")]
            handshakes: Semaphore::new(options.limits.handshakes.min(Semaphore::MAX_PERMITS)),
            options,
            state: Mutex::default(),
        }
    }

    fn with<R>(&self, act: impl FnOnce(&mut PoolState) -> R) -> R {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Pool {
    fn admit(&self, accepted: Accepted, permit: OwnedSemaphorePermit, routes: &Arc<Routes>) {
        let address = match &accepted {
            Accepted::Tcp(_, ip) => Some(network(*ip)),
            #[cfg(unix)]
            Accepted::Unix(_) => None,
        };
        let Some(seat) = self.seat(address, permit) else {
            tracing::warn!(?address, "too many connections of one address");
            return;
        };
        let number = seat.number;
        let routes = Arc::clone(routes);
        let task = match accepted {
            Accepted::Tcp(stream, _) => {
                let options = &self.shared.options;
                let peer = Peer { address: stream.peer_addr().ok(), ..Peer::default() };
                if let Err(error) = tcp::configure(&stream, &options.tcp) {
                    tracing::debug!(%peer, %error, "a connection ended before it began");
                    return;
                }
                #[cfg(feature = "tls")]
                if let Some(tls) = &options.tls {
                    let task = self.tasks.spawn(serve_tls(stream, tls.clone(), peer, routes, seat));
                    self.shared.with(|state| state.set_task(number, task.abort_handle()));
                    return;
                }
                self.tasks.spawn(serve(stream, peer, routes, seat))
            }
            #[cfg(unix)]
            Accepted::Unix(stream) => {
                let peer = Peer { unix: unix::PeerCredentials::of(&stream).ok(), ..Peer::default() };
                self.tasks.spawn(serve(stream, peer, routes, seat))
            }
        };
        self.shared.with(|state| state.set_task(number, task.abort_handle()));
    }

    fn seat(&self, address: Option<IpAddr>, permit: OwnedSemaphorePermit) -> Option<Seat> {
        let number = self.shared.with(|state| {
            if let Some(address) = address {
                let count = state.addresses.entry(address).or_default();
                if *count >= self.shared.options.limits.connections_per_address {
                    return None;
                }
                *count += 1;
            }
            state.next += 1;
            state.members.insert(state.next, Member { task: None, socket: None });
            Some(state.next)
        })?;
        Some(Seat { shared: Arc::clone(&self.shared), number, address, _permit: permit })
    }

    async fn drain(self) -> Drained {
        self.tasks.close();
        let sockets: Vec<Socket> = self.shared.with(|state| {
            state.draining = true;
            // Whoever has not got through the handshake has nothing to lose.
            let young = state.members.values().filter(|member| member.socket.is_none());
            young.filter_map(|member| member.task.as_ref()).for_each(AbortHandle::abort);
            state.members.values().filter_map(|member| member.socket.clone()).collect()
        });
        let open = sockets.len();
        for socket in sockets {
            socket.close_with(CloseReason::Stopped);
        }
        let grace = self.shared.options.limits.grace;
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_ok() {
            return Drained { drained: open, aborted: 0 };
        }
        let aborted = self.abort();
        self.tasks.wait().await;
        Drained { drained: open.saturating_sub(aborted), aborted }
    }

    fn abort(&self) -> usize {
        self.shared.with(|state| {
            state.members.values().filter_map(|member| member.task.as_ref()).for_each(AbortHandle::abort);
            state.members.len()
        })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.abort();
    }
}

impl PoolState {
    fn set_task(&mut self, number: u64, task: AbortHandle) {
        if let Some(member) = self.members.get_mut(&number) {
            member.task = Some(task);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let member = self.shared.with(|state| {
            if let Some(address) = self.address
                && let Some(count) = state.addresses.get_mut(&address)
            {
                *count -= 1;
                if *count == 0 {
                    state.addresses.remove(&address);
                }
            }
            state.members.remove(&self.number)
        });
        drop(member); // a socket, whose own lock is not taken inside of the pool's
    }
}

/// What counts as one address: an IPv4 address, mapped or not, or the /64 of an IPv6 one, which is what one
/// customer gets.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

/// Runs one connection.
async fn serve<T>(io: T, peer: Peer, routes: Arc<Routes>, seat: Seat)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config = Arc::clone(&seat.shared.options.config);
    let (socket, driver) = Socket::pair(io, Side::Server, config, Some(routes), peer);
    let draining = seat.shared.with(|state| {
        if let Some(member) = state.members.get_mut(&seat.number) {
            member.socket = Some(socket.clone());
        }
        state.draining
    });
    if draining {
        socket.close_with(CloseReason::Stopped);
    }
    drop(socket);
    driver.await;
}

#[cfg(feature = "tls")]
async fn serve_tls(stream: TcpStream, tls: ServerTls, mut peer: Peer, routes: Arc<Routes>, seat: Seat) {
    let shared = Arc::clone(&seat.shared);
    let handshake = async {
        let _permit = shared.handshakes.acquire().await;
        tls.accept(stream).await
    };
    // Boxed: what a handshake needs is given back when it is over.
    let handshake = Box::pin(tokio::time::timeout(shared.options.config.limits.connect, handshake));
    match handshake.await {
        Ok(Ok(stream)) => {
            peer.tls = Some(Arc::new(Negotiated::of(&stream)));
            drop((tls, shared));
            serve(stream, peer, routes, seat).await;
        }
        Ok(Err(error)) => tracing::info!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::info!(%peer, "TLS handshake took too long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_customer_is_one_address() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_eq!(network("2001:db8:1:2:3::1"), network("2001:db8:1:2:4::9"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
    }
}
