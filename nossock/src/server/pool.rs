use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
#[cfg(feature = "tls")]
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;
#[cfg(feature = "tls")]
use tokio_rustls::TlsStream;
use tokio_util::task::TaskTracker;

use super::{Accepted, Drained, Options};
use crate::router::Routes;
use crate::seldom::Seldom;
use crate::session::CloseReason;
use crate::socket::{Peer, Side, Socket};
#[cfg(feature = "tls")]
use crate::transport::tls::{Negotiated, ServerTls};
#[cfg(unix)]
use crate::transport::unix;
use crate::transport::{Plain, tcp};

/// The connections of a server. Dropping it cuts them.
pub(super) struct Pool {
    shared: Arc<PoolShared>,
    tasks: TaskTracker,
}

struct PoolShared {
    options: Options,
    connections: Arc<Semaphore>,
    #[cfg(feature = "tls")]
    handshakes: Semaphore,
    state: Mutex<PoolState>,
    /// An address had too many.
    crowded: Seldom,
}

#[derive(Default)]
struct PoolState {
    draining: bool,
    /// Connections that ended while a handler of theirs ran.
    cut: usize,
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
            crowded: Seldom::new(),
        }
    }

    fn with<R>(&self, act: impl FnOnce(&mut PoolState) -> R) -> R {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Pool {
    pub(super) fn new(options: Options) -> Self {
        Self { shared: Arc::new(PoolShared::new(options)), tasks: TaskTracker::new() }
    }

    /// Waits until one more connection may be accepted.
    pub(super) async fn room(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.shared.connections).acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }

    /// Runs a connection that was accepted, if its address has not too many.
    pub(super) fn admit(&self, accepted: Accepted, permit: OwnedSemaphorePermit, routes: &Arc<Routes>) {
        let address = match &accepted {
            Accepted::Tcp(_, ip) => Some(network(*ip)),
            #[cfg(unix)]
            Accepted::Unix(_) => None,
        };
        let Some(seat) = self.seat(address, permit) else {
            if let Some(times) = self.shared.crowded.times(Instant::now().into_std()) {
                tracing::warn!(?address, times, "too many connections of one address");
            }
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
                self.spawn(Plain::from(stream), peer, routes, seat)
            }
            #[cfg(unix)]
            Accepted::Unix(stream) => {
                let peer = Peer { unix: unix::PeerCredentials::of(&stream).ok(), ..Peer::default() };
                self.spawn(Plain::from(stream), peer, routes, seat)
            }
        };
        self.shared.with(|state| state.set_task(number, task.abort_handle()));
    }

    fn spawn<T>(&self, io: T, peer: Peer, routes: Arc<Routes>, seat: Seat) -> JoinHandle<()>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self.shared.options.introduction {
            None => self.tasks.spawn(serve(io, peer, routes, seat)),
            Some(_) => self.tasks.spawn(serve_introduced(io, peer, routes, seat)),
        }
    }

    fn seat(&self, address: Option<IpAddr>, permit: OwnedSemaphorePermit) -> Option<Seat> {
        let number = self.shared.with(|state| {
            if let Some(address) = address {
                let count = state.addresses.get(&address).copied().unwrap_or_default();
                if count >= self.shared.options.limits.connections_per_address {
                    return None;
                }
                state.addresses.insert(address, count + 1);
            }
            state.next += 1;
            state.members.insert(state.next, Member { task: None, socket: None });
            Some(state.next)
        })?;
        Some(Seat { shared: Arc::clone(&self.shared), number, address, _permit: permit })
    }

    /// Ends the connections in peace, as far as that goes.
    pub(super) async fn drain(self) -> Drained {
        self.tasks.close();
        let sockets: Vec<Socket> = self.shared.with(|state| {
            state.draining = true;
            state.cut = 0;
            // Whoever has not got through the handshake has nothing to lose.
            let young = state.members.values().filter(|member| member.socket.is_none());
            young.filter_map(|member| member.task.as_ref()).for_each(AbortHandle::abort);
            state.members.values().filter_map(|member| member.socket.clone()).collect()
        });
        let open = sockets.len();
        // Most of the time is for what runs; the rest, for what it said to leave.
        let grace = self.shared.options.limits.grace;
        let handlers = grace.mul_f32(0.75);
        for socket in sockets {
            socket.close_within(handlers, CloseReason::Stopped);
        }
        let left =
            if tokio::time::timeout(grace, self.tasks.wait()).await.is_ok() { 0 } else { self.abort() };
        self.tasks.wait().await;
        let aborted = left + self.shared.with(|state| state.cut);
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
        let sockets: Vec<Socket> =
            self.shared.with(|state| state.members.values().filter_map(|m| m.socket.clone()).collect());
        for socket in sockets {
            socket.close_within(Duration::ZERO, CloseReason::Aborted("the server was dropped"));
        }
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
        let grace = seat.shared.options.limits.grace.mul_f32(0.75);
        socket.close_within(grace, CloseReason::Stopped);
    }
    drop(socket);
    // Boxed: an async function would keep room for it twice, before and while it is awaited.
    if !Box::pin(driver).await {
        seat.shared.with(|state| state.cut += 1);
    }
}

/// Runs one connection that has to introduce itself.
async fn serve_introduced<T>(mut io: T, peer: Peer, routes: Arc<Routes>, seat: Seat)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limit = seat.shared.options.config.limits.connect;
    // Boxed: what an introduction needs is given back when it is over.
    let introduced = Box::pin(introduce(&mut io, peer, &seat.shared, limit)).await;
    if let Some(peer) = introduced {
        serve(io, peer, routes, seat).await;
    }
}

/// The peer with its identity, where the server has an introduction; `None` is a peer that was refused.
async fn introduce<T>(io: &mut T, mut peer: Peer, shared: &PoolShared, within: Duration) -> Option<Peer>
where
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    if let Some(introduction) = &shared.options.introduction
        && let Err(error) = introduction.run(io, Side::Server, &mut peer, within).await
    {
        tracing::debug!(%peer, %error, "introduction failed");
        return None;
    }
    Some(peer)
}

#[cfg(feature = "tls")]
async fn serve_tls(stream: TcpStream, tls: ServerTls, peer: Peer, routes: Arc<Routes>, seat: Seat) {
    // Boxed: what a handshake needs is given back when it is over.
    let handshake = Box::pin(handshake(stream, tls, peer, Arc::clone(&seat.shared)));
    if let Some((stream, peer)) = handshake.await {
        serve(stream, peer, routes, seat).await;
    }
}

/// Boxes what comes of it, here: the state of TLS is large, and a future keeps room for all that passes through it.
#[cfg(feature = "tls")]
async fn handshake(
    stream: TcpStream,
    tls: ServerTls,
    mut peer: Peer,
    shared: Arc<PoolShared>,
) -> Option<(Box<TlsStream<TcpStream>>, Peer)> {
    let (began, limit) = (Instant::now(), shared.options.config.limits.connect);
    let accepted = async {
        // Whoever says nothing takes no place from those who do. A stream that fails is read by `accept`, which says so.
        let _ = stream.peek(&mut [0]).await;
        let _permit = shared.handshakes.acquire().await;
        tls.accept(stream).await
    };
    match tokio::time::timeout(limit, accepted).await {
        Ok(Ok(stream)) => {
            peer.tls = Some(Arc::new(Negotiated::of(&stream)));
            let mut stream = Box::new(stream);
            let left = limit.saturating_sub(began.elapsed());
            let peer = introduce(&mut stream, peer, &shared, left).await?;
            return Some((stream, peer));
        }
        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
    }
    None
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
