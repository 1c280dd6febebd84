//! TCP: connecting to a name, listening, and what the operating system is told about a connection.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::address::HostPort;

/// Connections that wait to be accepted before the system refuses more; the system may cap it lower
/// (`net.core.somaxconn` on Linux, 4,096 by default).
pub const BACKLOG: u32 = 1_024;

/// How long one address has to answer before the next is tried beside it: the delay RFC 8305 recommends.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// What the operating system is told about a TCP connection.
///
/// The defaults end a connection to a peer that vanished within two minutes, in whatever state it is: the system's own
/// would take two hours when idle, and about a quarter of an hour when bytes are under way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpOptions {
    /// Whether small writes leave at once (`TCP_NODELAY`). On by default: frames are coalesced before they are
    /// written, so that Nagle's algorithm has nothing left to do but to delay the last of them.
    pub nodelay: bool,
    /// Probes on an idle connection; `None` sends none. On by default, see [`Keepalive`].
    pub keepalive: Option<Keepalive>,
    /// How long bytes may stay unacknowledged before the connection fails (`TCP_USER_TIMEOUT`), to the millisecond.
    /// 120 s by default: when an idle peer would have been found dead by the probes, see [`Keepalive`]. It has no effect
    /// where the system does not have it (other than Linux, Android, Fuchsia and Cygwin).
    pub user_timeout: Option<Duration>,
}

/// When a connection is idle, how its peer is asked whether it is still there. Whole seconds, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keepalive {
    /// How long a connection is idle before the first probe: 60 s by default, below the shortest time after which
    /// common firewalls and address translators forget a connection.
    pub idle: Duration,
    /// The time between probes: 10 s by default.
    pub interval: Duration,
    /// How many probes go unanswered before the peer counts as gone: 6 by default, which makes two minutes in all.
    pub retries: u32,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: Some(Keepalive::default()),
            user_timeout: Some(Duration::from_secs(120)),
        }
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), interval: Duration::from_secs(10), retries: 6 }
    }
}

/// Connects to `host`, a name or an IP address, and configures the connection.
///
/// Every address of the name is tried: the families in turn, the next one 250 ms after the last or as soon as that
/// failed, and whoever answers first is taken (RFC 8305, "happy eyeballs"). There is no limit of time but the
/// system's; put a deadline around it.
///
/// # Errors
///
/// [`ConnectError`] when the name has no address, or none of its addresses could be reached; it names each of them.
///
/// # Cancel safety
///
/// Dropping the future gives up every attempt and leaves nothing behind.
pub async fn connect(host: &str, port: u16, options: &TcpOptions) -> Result<TcpStream, ConnectError> {
    let found = lookup_host((host, port)).await;
    let found = found.map_err(|source| ConnectError::Resolve { host: host.to_owned(), source })?;
    let stream = first_to_answer(in_turn(found)).await.map_err(|failed| match failed.is_empty() {
        true => ConnectError::NoAddress { host: host.to_owned() },
        false => ConnectError::Unreachable { host: host.to_owned(), port, attempts: Attempts(failed) },
    })?;
    configure(&stream, options).map_err(|source| ConnectError::Configure { source })?;
    Ok(stream)
}

/// Listens on `host`, a name or an IP address (`0.0.0.0`, or `::` for IPv6 and IPv4 both), and on `port`, 0 letting the
/// system pick one.
///
/// The port of a server that ended a moment ago can be taken again at once (`SO_REUSEADDR`, on Unix; on Windows that
/// option would mean something else). A name that has several addresses is bound on the first that works. Configure
/// what is accepted with [`configure`]; [`BACKLOG`] is a sound `backlog`.
///
/// # Errors
///
/// [`ListenError`] when the name has no address, or the address cannot be had: taken, or not this machine's.
///
/// # Cancel safety
///
/// Dropping the future leaves nothing behind.
pub async fn listen(host: &str, port: u16, backlog: u32) -> Result<TcpListener, ListenError> {
    let error = |source| ListenError { host: host.to_owned(), port, source };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((host, port)).await.map_err(error)? {
        match listen_on(address, backlog) {
            Ok(listener) => return Ok(listener),
            Err(failed) => last = failed,
        }
    }
    Err(error(last))
}

/// Tells the operating system about an open connection.
///
/// # Errors
///
/// What the system answers, which for a connection that the peer has just ended may be that there is none.
pub fn configure(stream: &TcpStream, options: &TcpOptions) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(options.nodelay)?;
    match &options.keepalive {
        Some(keepalive) => socket.set_tcp_keepalive(&keepalive.probes())?,
        None => socket.set_keepalive(false)?,
    }
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux", target_os = "cygwin"))]
    socket.set_tcp_user_timeout(options.user_timeout)?;
    Ok(())
}

/// Why no TCP connection was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name could not be looked up, most often because there is no such name.
    #[error("cannot look up the host `{}`", host.escape_debug())]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver answered.
        source: io::Error,
    },
    /// The name exists and has no address.
    #[error("the host `{}` has no address", host.escape_debug())]
    NoAddress {
        /// The name.
        host: String,
    },
    /// None of the addresses could be reached.
    #[error("cannot connect to {}: {}", HostPort(host, *port), Tried(HostPort(host, *port), attempts))]
    Unreachable {
        /// The name.
        host: String,
        /// The port.
        port: u16,
        /// What was tried, in the order in which it failed.
        attempts: Attempts,
    },
    /// The connection was made, and the system refused an option of it.
    #[error("cannot configure the connection")]
    Configure {
        /// What the system answered.
        source: io::Error,
    },
}

impl ConnectError {
    /// What kind of failure it was, that of the first address where several were tried.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Resolve { source, .. } | Self::Configure { source } => source.kind(),
            Self::NoAddress { .. } => io::ErrorKind::NotFound,
            Self::Unreachable { attempts, .. } => {
                attempts.0.first().map_or(io::ErrorKind::Other, |(_, error)| error.kind())
            }
        }
    }
}

/// Addresses that were tried, each with what became of it.
#[derive(Debug)]
pub struct Attempts(Vec<(SocketAddr, io::Error)>);

impl Attempts {
    /// Every address and its error, in the order in which they failed.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &io::Error)> {
        self.0.iter().map(|(address, error)| (*address, error))
    }
}

impl fmt::Display for Attempts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (address, error)) in self.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(out, "{separator}{address}: {error}")?;
        }
        Ok(())
    }
}

/// What was tried for a name, without the address where that is the name.
struct Tried<'a>(HostPort<'a>, &'a Attempts);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1.0.as_slice() {
            [(address, error)] if address.to_string() == self.0.to_string() => error.fmt(out),
            _ => self.1.fmt(out),
        }
    }
}

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {}", HostPort(host, *port))]
#[non_exhaustive]
pub struct ListenError {
    /// The name or address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What the system answered.
    pub source: io::Error,
}

impl Keepalive {
    fn probes(self) -> TcpKeepalive {
        let probes = TcpKeepalive::new().with_time(self.idle);
        #[cfg(not(any(
            target_os = "openbsd",
            target_os = "haiku",
            target_os = "vita",
            target_os = "redox"
        )))]
        let probes = probes.with_interval(self.interval);
        #[cfg(not(any(
            target_os = "openbsd",
            target_os = "haiku",
            target_os = "vita",
            target_os = "redox"
        )))]
        let probes = probes.with_retries(self.retries);
        probes
    }
}

fn listen_on(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Windows would let another program take the port from under a listener that set this.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.ip().is_unspecified() && address.is_ipv6() {
        // Said rather than left to the system, where it differs: `[::]` is everybody. A system that has only IPv6
        // refuses the question, and then everybody is IPv6.
        let _ = socket.set_only_v6(false);
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// Orders addresses so that the families alternate, beginning with the one that the resolver put first: when one
/// family leads nowhere, the second attempt is already on the other.
fn in_turn(found: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let mut found = found.peekable();
    let leads = found.peek().is_none_or(SocketAddr::is_ipv6);
    let (leading, other): (Vec<_>, Vec<_>) = found.partition(|address| address.is_ipv6() == leads);
    let mut others = other.into_iter();
    let mut ordered = VecDeque::new();
    for address in leading {
        ordered.push_back(address);
        ordered.extend(others.next());
    }
    ordered.extend(others);
    ordered
}

/// Tries each address, the next one when the last failed or did not answer in time; dropping the set of attempts
/// aborts those that are still under way.
async fn first_to_answer(
    mut waiting: VecDeque<SocketAddr>,
) -> Result<TcpStream, Vec<(SocketAddr, io::Error)>> {
    let mut failed = Vec::new();
    let mut trying = JoinSet::new();
    loop {
        if let Some(address) = waiting.pop_front() {
            trying.spawn(async move { TcpStream::connect(address).await.map_err(|error| (address, error)) });
        }
        let next = if waiting.is_empty() {
            trying.join_next().await
        } else {
            match timeout(NEXT_ADDRESS_AFTER, trying.join_next()).await {
                Ok(next) => next,
                Err(_) => continue,
            }
        };
        match next {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(attempt))) => failed.push(attempt),
            // An attempt does not panic, and nobody but this function's end aborts it, unless the runtime itself
            // shuts down; then nobody awaits this either.
            Some(Err(_)) => {}
            None => return Err(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &[&str]) -> Vec<SocketAddr> {
        text.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn families_alternate_beginning_with_the_resolvers_first() {
        let found = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let expected = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(in_turn(found.into_iter()), expected);

        let found = addresses(&["1.1.1.1:1", "[::1]:1", "[::2]:1"]);
        let expected = addresses(&["1.1.1.1:1", "[::1]:1", "[::2]:1"]);
        assert_eq!(in_turn(found.into_iter()), expected);
    }

    #[tokio::test]
    async fn an_address_that_refuses_gives_way_to_the_next_at_once() {
        let listener = listen("127.0.0.1", 0, BACKLOG).await.unwrap();
        let open = listener.local_addr().unwrap();
        // Bound and never listening, so that the port stays taken and refuses.
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&addresses(&["127.0.0.2:0"])[0].into()).unwrap();
        let closed = bound.local_addr().unwrap().as_socket().unwrap();

        let stream = first_to_answer([closed, open].into()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
    }

    #[tokio::test]
    async fn a_failure_names_every_address() {
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&addresses(&["127.0.0.1:0"])[0].into()).unwrap();
        let closed = bound.local_addr().unwrap().as_socket().unwrap();

        let error = connect("127.0.0.1", closed.port(), &TcpOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let text = error.to_string();
        let begin = format!("cannot connect to {closed}: Connection refused");
        assert!(text.starts_with(&begin), "once, for it is what was asked for: {text}");
        let error = connect("localhost", closed.port(), &TcpOptions::default()).await.unwrap_err();
        assert!(error.to_string().contains(&format!("localhost:{}: ", closed.port())), "{error}");
        assert!(error.to_string().contains(&format!("{closed}: Connection refused")), "{error}");
    }

    #[tokio::test]
    async fn options_reach_the_system_on_both_sides() {
        let listener = listen("127.0.0.1", 0, BACKLOG).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let keepalive =
            Keepalive { idle: Duration::from_secs(7), interval: Duration::from_secs(3), retries: 2 };
        let options = TcpOptions { keepalive: Some(keepalive), ..TcpOptions::default() };
        let stream = connect("127.0.0.1", port, &options).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_keepalive_time().unwrap(), keepalive.idle);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), keepalive.interval);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 2);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(120)));
        }

        let (accepted, _) = listener.accept().await.unwrap();
        let options = TcpOptions { nodelay: false, keepalive: None, user_timeout: None };
        configure(&accepted, &options).unwrap();
        let socket = SockRef::from(&accepted);
        assert!(!socket.tcp_nodelay().unwrap());
        assert!(!socket.keepalive().unwrap());
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let listener = listen("127.0.0.1", 0, BACKLOG).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = listen("127.0.0.1", port, BACKLOG).await.unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(error.to_string(), format!("cannot listen on 127.0.0.1:{port}"));
    }
}
