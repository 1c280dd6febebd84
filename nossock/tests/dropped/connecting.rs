//! What comes before a conversation: connecting, TLS, an introduction; and a client that does all of it by itself.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use nossock::transport::tls::{ClientTls, ServerTls, TlsStream};
use nossock::transport::{Address, UnixAddress, tcp, unix};
use nossock::wire::Frame;
use nossock::{
    Client, ClientState, ConnectError, Connector, Exchange, Introduction, IntroductionError, Json,
    PeerIdentity, Router, Server, ServerBuilder, ServerLimits, Side, Socket, State,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

use crate::POLLS;
use crate::certs::Authority;
use crate::dropping::{When, drop_after, drops, settle};

fn echo() -> Router {
    Router::new().on_request("echo", async |Json(n): Json<u64>| n)
}

/// A server with room for one connection.
async fn narrow(builder: ServerBuilder) -> Address {
    let limits = ServerLimits { connections: 1, ..ServerLimits::default() };
    let server = builder.limits(limits).listen().await.unwrap();
    let address = server.address().clone();
    tokio::spawn(server.serve(echo()));
    address
}

fn port(address: &Address) -> u16 {
    address.to_string().rsplit(':').next().unwrap().parse().unwrap()
}

fn tls() -> (ClientTls, ServerTls) {
    let authority = Authority::new("dev");
    let server = ServerTls::new(authority.server(&["localhost"]).identity()).unwrap();
    (ClientTls::builder().ca(authority.pem()).build().unwrap(), server)
}

/// Each side says its name, the client first.
struct Names;

impl Introduction for Names {
    async fn introduce(&self, exchange: &mut Exchange<'_>) -> Result<PeerIdentity, IntroductionError> {
        let own = Frame::json("name", "somebody").unwrap();
        if exchange.side() == Side::Client {
            exchange.send(&own).await?;
        }
        exchange.receive().await?;
        if exchange.side() == Side::Server {
            exchange.send(&own).await?;
        }
        Ok(PeerIdentity::new("somebody", "said so"))
    }
}

/// Every way to connect that there is, as often as it can be dropped, at a server with room for one.
async fn connecting(connector: Connector) {
    let address = connector.address().clone();
    let is_tcp = !matches!(address, Address::Unix(_));
    let mut dropped = 0;
    for drop in drops(POLLS) {
        for way in ["connect", "connect_routed", "connect_over", "connect_routed_over", "alone", "transport"]
        {
            let over = match way.ends_with("over") {
                true if is_tcp => Some(TcpStream::connect(("127.0.0.1", port(&address))).await.unwrap()),
                true => continue,
                false => None,
            };
            let attempt = async {
                match (way, over, &address) {
                    ("connect_routed", ..) => connector.connect_routed(echo()).await,
                    ("connect_over", Some(stream), _) => connector.connect_over(stream).await,
                    ("connect_routed_over", Some(stream), _) => {
                        connector.connect_routed_over(stream, echo()).await
                    }
                    // Which does without what the connector knows: it need not succeed.
                    ("alone", ..) => nossock::connect(address.clone()).await,
                    ("transport", _, Address::Unix(path)) => {
                        std::mem::drop(unix::connect(path).await?);
                        connector.connect().await
                    }
                    ("transport", ..) => {
                        std::mem::drop(
                            tcp::connect("localhost", port(&address), &tcp::TcpOptions::default()).await?,
                        );
                        connector.connect().await
                    }
                    _ => connector.connect().await,
                }
            };
            let socket: Option<Result<Socket, ConnectError>> = drop_after(attempt, drop, settle).await;
            dropped += u32::from(socket.is_none());
            std::mem::drop(socket);
            // The only place is free again, or this one waits in vain.
            let next = connector.connect().await.unwrap();
            assert_eq!(next.request::<u64, _>("echo", &1).await.unwrap(), 1, "{way} {drop:?}");
            next.close().await.unwrap();
        }
    }
    assert!(dropped > 0);
}

#[tokio::test]
async fn connecting_that_is_dropped_leaves_no_connection_behind() {
    // What is dropped: `connect`, `connect_routed`, `connect_over`, `connect_routed_over`, `nossock::connect`, and the `connect` of
    // `tcp` and of `unix`.
    let (client, server) = tls();
    let plain = narrow(Server::bind("tcp://127.0.0.1:0").unwrap()).await;
    connecting(Connector::new(plain).unwrap()).await;
    let secure = narrow(Server::bind("tls://127.0.0.1:0").unwrap().tls(server)).await;
    let secure = format!("tls://localhost:{}", port(&secure));
    connecting(Connector::new(secure.as_str()).unwrap().tls(client)).await;
    let introduced = narrow(Server::bind("tcp://127.0.0.1:0").unwrap().introduction(Names)).await;
    connecting(Connector::new(introduced).unwrap().introduction(Names)).await;
    let directory = tempfile::tempdir().unwrap();
    let path = Address::Unix(UnixAddress::Path(directory.path().join("socket")));
    connecting(Connector::new(narrow(Server::bind(path).unwrap()).await).unwrap()).await;
}

/// Two ends of a TCP connection.
async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = tcp::listen("127.0.0.1", 0, 1).await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

/// Drops one side of a handshake, and sees that the other one learns it.
async fn handshake<A, B>(
    when: When,
    dropped: impl Future<Output = Result<TlsStream<A>, nossock::transport::tls::TlsError>>,
    other: impl Future<Output = Result<TlsStream<B>, nossock::transport::tls::TlsError>> + Send + 'static,
) -> bool
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let other = tokio::spawn(other);
    let one = drop_after(dropped, when, settle).await;
    let other = timeout(Duration::from_secs(5), other).await.expect("it does not wait in vain").unwrap();
    match (one, other) {
        (Some(one), Ok(mut other)) => {
            let mut one = one.unwrap();
            one.write_all(b"hello").await.unwrap();
            one.flush().await.unwrap();
            let mut read = [0; 5];
            other.read_exact(&mut read).await.unwrap();
            true
        }
        // Of the two the client is done first: it sees the end afterwards.
        (None, Ok(mut other)) => {
            let read = timeout(Duration::from_secs(5), other.read(&mut [0])).await.expect("it ends");
            assert!(!matches!(read, Ok(1..)), "{when:?}");
            false
        }
        (Some(one), Err(error)) => panic!("{when:?}: {:?} and {error}", one.map(|_| ())),
        (None, Err(_)) => false,
    }
}

#[tokio::test]
async fn handshakes_that_are_dropped_drop_the_connection() {
    let (client, server) = tls();
    let (mut done, mut dropped) = (0, 0);
    for when in drops(2 * POLLS) {
        for which in ["connect", "connect_over", "accept"] {
            let (client, server) = (client.clone(), server.clone());
            let ended = match which {
                "connect" => {
                    let (near, far) = tcp_pair().await;
                    let accepting = async move { server.accept(far).await };
                    handshake(when, Box::pin(client.connect(near, "localhost")), accepting).await
                }
                "connect_over" => {
                    let (near, far) = tokio::io::duplex(256);
                    let accepting = async move { server.accept(far).await };
                    handshake(when, client.connect_over(near, "localhost"), accepting).await
                }
                _ => {
                    let (near, far) = tokio::io::duplex(256);
                    let connecting = async move { client.connect_over(near, "localhost").await };
                    handshake(when, server.accept(far), connecting).await
                }
            };
            *if ended { &mut done } else { &mut dropped } += 1;
        }
    }
    assert!(done > 0 && dropped > 0, "{done} {dropped}");
}

/// Gives up receiving, and receives; then answers with what came.
struct Hesitant(When);

impl Introduction for Hesitant {
    async fn introduce(&self, exchange: &mut Exchange<'_>) -> Result<PeerIdentity, IntroductionError> {
        let mut frames = Vec::new();
        while frames.len() < 2 {
            match drop_after(exchange.receive(), self.0, settle).await {
                Some(frame) => frames.push(frame?),
                None => frames.push(exchange.receive().await?),
            }
        }
        for frame in &frames {
            exchange.send(frame).await?;
        }
        Ok(PeerIdentity::new("somebody", "said so"))
    }
}

#[tokio::test]
async fn receiving_that_is_dropped_in_an_introduction_loses_nothing() {
    // What is dropped: `receive`, by `Hesitant`.
    for when in drops(2 * POLLS) {
        let builder = Server::bind("tcp://127.0.0.1:0").unwrap().introduction(Hesitant(when));
        let address = narrow(builder).await;
        let mut peer = TcpStream::connect(("127.0.0.1", port(&address))).await.unwrap();
        let said = [Frame::json("one", &1).unwrap().encode(), Frame::json("two", &"zwei").unwrap().encode()]
            .concat();
        for byte in &said {
            peer.write_all(&[*byte]).await.unwrap();
            settle().await;
        }
        let mut heard = vec![0; said.len()];
        timeout(Duration::from_secs(5), peer.read_exact(&mut heard)).await.expect("an answer").unwrap();
        assert_eq!(heard, said, "{when:?}");
    }
}

/// Gives up sending what nobody reads.
struct Impatient(When);

impl Introduction for Impatient {
    async fn introduce(&self, exchange: &mut Exchange<'_>) -> Result<PeerIdentity, IntroductionError> {
        let large = Frame::json("large", &"x".repeat(16 * 1024 * 1024)).unwrap();
        assert!(drop_after(exchange.send(&large), self.0, settle).await.is_none(), "nobody reads");
        Err(IntroductionError::refused("it takes too long"))
    }
}

#[tokio::test]
async fn sending_that_is_dropped_in_an_introduction_ends_it() {
    // What is dropped: `send`, by `Impatient`.
    for when in drops(3) {
        let builder = Server::bind("tcp://127.0.0.1:0").unwrap().introduction(Impatient(when));
        let address = narrow(builder).await;
        // One after the other, as there is room for one.
        for _ in 0..2 {
            let mut peer = TcpStream::connect(("127.0.0.1", port(&address))).await.unwrap();
            assert_eq!(peer.read_u8().await.unwrap(), b'j');
            tokio::time::sleep(Duration::from_millis(10)).await;
            let rest = timeout(Duration::from_secs(5), peer.read_to_end(&mut Vec::new())).await;
            let _ = rest.expect("it ends, however the system says it");
        }
    }
}

/// The numbers that a server got, in order.
type Got = Arc<Mutex<Vec<u64>>>;

#[tokio::test]
async fn futures_of_a_client_that_are_dropped_leave_it_as_it_was() {
    let got = Got::default();
    let router = Router::with_state(Arc::clone(&got))
        .on("m", async |Json(n): Json<u64>, State(got): State<Got>| got.lock().unwrap().push(n))
        .on("raw", async |bytes: Bytes, State(got): State<Got>| {
            got.lock().unwrap().push(std::str::from_utf8(&bytes).unwrap().parse().unwrap());
        })
        .on_request("echo", async |Json(n): Json<u64>| n);
    let server = Server::bind("tcp://127.0.0.1:0").unwrap().listen().await.unwrap();
    let connector = Connector::new(server.address().clone()).unwrap();
    tokio::spawn(server.serve(router));
    let mut expected = Vec::new();
    for (n, drop) in drops(POLLS).enumerate() {
        let n = n as u64;
        let client = Client::start(connector.clone(), Router::new());
        let socket = drop_after(client.socket(), drop, settle).await;
        std::mem::drop(socket);
        if let Some(sent) = drop_after(client.send("m", &n), drop, settle).await {
            sent.unwrap();
            expected.push(n);
        }
        if let Some(sent) = drop_after(client.send_raw("raw", (1000 + n).to_string()), drop, settle).await {
            sent.unwrap();
            expected.push(1000 + n);
        }
        if let Some(value) = drop_after(client.request::<u64, _>("echo", &n), drop, settle).await {
            assert_eq!(value.unwrap(), n);
        }
        assert_eq!(client.request::<u64, _>("echo", &(n + 1)).await.unwrap(), n + 1, "{drop:?}");
        let mut state = client.state();
        let closed = drop_after(client.close(), drop, settle).await;
        let over = state.wait_for(|state| matches!(state, ClientState::Closed { .. })).await.is_ok();
        assert!(closed.is_some() || over, "it closes all the same");
    }
    assert_eq!(*got.lock().unwrap(), expected, "each once");
}
