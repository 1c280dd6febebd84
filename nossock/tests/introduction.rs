//! Stories of a step before the first message.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[path = "common/certs.rs"]
mod certs;

use std::time::Duration;

use nossock::transport::tls::{ClientTls, ServerTls};
use nossock::wire::Frame;
use nossock::{
    Client, ClientState, CloseReason, ConnectError, Connector, Drained, Exchange, Introduction,
    IntroductionError, Json, Limits, PeerIdentity, Router, Server, ServerBuilder, Side, Socket,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Each side says its name, the client first; `mallory` is refused.
struct Names {
    own: &'static str,
    time: Duration,
}

impl Names {
    fn new(own: &'static str) -> Self {
        Self { own, time: Duration::from_secs(5) }
    }
}

impl Introduction for Names {
    async fn introduce(&self, exchange: &mut Exchange<'_>) -> Result<PeerIdentity, IntroductionError> {
        let own = Frame::json("name", self.own).unwrap();
        if exchange.side() == Side::Client {
            exchange.send(&own).await?;
        }
        let frame = exchange.receive().await?;
        let name: String = frame.body.parse().map_err(IntroductionError::refused)?;
        if name == "mallory" {
            return Err(IntroductionError::refused("nobody likes mallory"));
        }
        if exchange.side() == Side::Server {
            exchange.send(&own).await?;
        }
        Ok(PeerIdentity::new(&name, "said so"))
    }

    fn time(&self) -> Duration {
        self.time
    }
}

/// A server with an introduction, that tells what it received, and from whom.
struct Served {
    address: String,
    notes: mpsc::UnboundedReceiver<(Option<String>, u64)>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Drained>,
}

impl Served {
    async fn start(builder: ServerBuilder) -> Self {
        let server = builder.listen().await.unwrap();
        let address = server.address().to_string();
        let (noted, notes) = mpsc::unbounded_channel();
        let router = Router::new()
            .on("note", move |socket: Socket, Json(number): Json<u64>| {
                let who = socket.peer().identity().map(|identity| identity.name().to_owned());
                let _ = noted.send((who, number));
                std::future::ready(())
            })
            .on_request("echo", async |Json(value): Json<u64>| value);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.serve_until(router, async { drop(stopped.await) }));
        Self { address, notes, stop, task }
    }

    async fn tcp() -> Self {
        Self::start(builder().introduction(Names::new("hub"))).await
    }

    fn connector(&self, name: &'static str) -> Connector {
        Connector::new(self.address.as_str()).unwrap().introduction(Names::new(name))
    }

    async fn raw(&self) -> TcpStream {
        TcpStream::connect(self.address.trim_start_matches("tcp://")).await.unwrap()
    }

    async fn stop(self) -> Drained {
        drop(self.stop);
        self.task.await.unwrap()
    }
}

fn builder() -> ServerBuilder {
    Server::bind("tcp://127.0.0.1:0").unwrap()
}

/// All that a bare connection still reads.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

const REFUSED: &str = "c\0\0\0\0){\"close\":{\"code\":\"refused\",\"message\":\"\"}}";

async fn are_introduced(mut server: Served, connector: Connector) {
    let socket = connector.connect().await.unwrap();
    let identity = socket.peer().identity().unwrap();
    assert_eq!((identity.name(), identity.method()), ("hub", "said so"));
    socket.send("note", &7).await.unwrap();
    assert_eq!(server.notes.recv().await.unwrap(), (Some("alice".to_owned()), 7));
    let value: u64 = socket.request("echo", &8).await.unwrap();
    assert_eq!(value, 8);
    socket.close().await.unwrap();
    assert_eq!(server.stop().await.aborted, 0);
}

#[tokio::test]
async fn both_sides_know_each_other_over_tcp() {
    let server = Served::tcp().await;
    let connector = server.connector("alice");
    are_introduced(server, connector).await;
}

#[cfg(unix)]
#[tokio::test]
async fn both_sides_know_each_other_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("socket").display());
    let builder = Server::bind(address.as_str()).unwrap().introduction(Names::new("hub"));
    let server = Served::start(builder).await;
    let connector = server.connector("alice");
    are_introduced(server, connector).await;
}

/// Introduces by the channel binding: the two ends see the same one.
struct Bound;

impl Introduction for Bound {
    async fn introduce(&self, exchange: &mut Exchange<'_>) -> Result<PeerIdentity, IntroductionError> {
        let tls = exchange.peer().tls.as_ref().unwrap();
        let own = tls.channel_binding.unwrap();
        exchange.send(&Frame::raw("binding", own.as_bytes().to_vec()).unwrap()).await?;
        let theirs = exchange.receive().await?;
        assert_eq!(theirs.body.as_bytes(), own.as_bytes().as_slice());
        let name = if exchange.side() == Side::Client { "hub" } else { "alice" };
        Ok(PeerIdentity::new(name, "said so"))
    }
}

#[tokio::test]
async fn over_tls_the_channel_binding_is_at_hand_on_both_sides() {
    let authority = certs::Authority::new("test");
    let tls = ServerTls::new(authority.server(&["localhost"]).identity()).unwrap();
    let builder = Server::bind("tls://127.0.0.1:0").unwrap().tls(tls).introduction(Bound);
    let server = Served::start(builder).await;
    let tls = ClientTls::builder().ca(authority.pem()).build().unwrap();
    let address = server.address.replace("127.0.0.1", "localhost");
    let connector = Connector::new(address.as_str()).unwrap().tls(tls).introduction(Bound);
    are_introduced(server, connector).await;
}

#[tokio::test]
async fn refused_client_learns_that_and_nothing_more() {
    let server = Served::tcp().await;
    let error = server.connector("mallory").connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Introduction(IntroductionError::RefusedByPeer)), "{error:?}");
    assert!(error.is_permanent());
    let mut stream = server.raw().await;
    stream.write_all(&Frame::json("name", "mallory").unwrap().encode()).await.unwrap();
    assert_eq!(rest(stream).await, REFUSED);
    let alice = server.connector("alice");
    are_introduced(server, alice).await;
}

#[tokio::test]
async fn refused_server_learns_that_too() {
    let server = Served::start(builder().introduction(Names::new("mallory"))).await;
    let error = server.connector("alice").connect().await.unwrap_err();
    let text = "the peer was refused: nobody likes mallory";
    assert_eq!(error.to_string(), text);
    assert!(error.is_permanent());
}

#[tokio::test]
async fn reconnecting_client_introduces_itself_and_stops_when_refused() {
    let server = Served::tcp().await;
    let client = Client::start(server.connector("alice"), Router::new());
    let value: u64 = client.request("echo", &3).await.unwrap();
    assert_eq!(value, 3);
    assert_eq!(client.socket().await.unwrap().peer().identity().unwrap().to_string(), "hub");
    client.close().await;

    let client = Client::start(server.connector("mallory"), Router::new());
    let mut state = client.state();
    let ended = state.wait_for(|state| matches!(state, ClientState::Closed { .. })).await.unwrap();
    let ClientState::Closed { reason: Some(reason) } = &*ended else { panic!("{ended:?}") };
    assert_eq!(reason.to_string(), "the peer refused us");
}

#[tokio::test]
async fn client_without_an_introduction_is_refused_by_a_server_with_one() {
    let server = Served::tcp().await;
    let socket = nossock::connect(server.address.as_str()).await.unwrap();
    let reason = socket.closed().await;
    assert!(matches!(reason, CloseReason::PeerSaid { .. }), "{reason:?}");
    assert_eq!(reason.to_string(), "closed by the peer: refused ()");
}

#[tokio::test]
async fn messages_that_come_with_the_last_frame_are_not_lost() {
    let mut server = Served::tcp().await;
    let mut bytes = Frame::json("name", "alice").unwrap().encode().to_vec();
    for number in 0..100_u64 {
        bytes.extend_from_slice(&Frame::json("note", &number).unwrap().encode());
    }
    let mut stream = server.raw().await;
    stream.write_all(&bytes).await.unwrap();
    for number in 0..100 {
        assert_eq!(server.notes.recv().await.unwrap(), (Some("alice".to_owned()), number));
    }
}

#[tokio::test]
async fn frames_arrive_byte_by_byte() {
    let mut server = Served::tcp().await;
    let mut bytes = Frame::json("name", "alice").unwrap().encode().to_vec();
    bytes.extend_from_slice(&Frame::json("note", &1).unwrap().encode());
    let mut stream = server.raw().await;
    stream.set_nodelay(true).unwrap();
    for byte in bytes {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(server.notes.recv().await.unwrap().1, 1);
}

#[tokio::test]
async fn what_is_no_frame_or_too_large_a_one_is_refused_like_everything_else() {
    let server = Served::tcp().await;
    let largest = Exchange::MAX_FRAME - Frame::raw("name", "").unwrap().encode().len();
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"j\x02\xff\xff\0\0\0\x011".to_vec(),
        b"c\0\0\0\0\x0a{\"ping\":7}".to_vec(),
        // Refused on the head alone, whatever it announces.
        b"b\x04name\xff\xff\xff\xff".to_vec(),
        Frame::raw("name", vec![b'1'; largest + 1]).unwrap().encode().to_vec(),
    ] {
        let mut stream = server.raw().await;
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(rest(stream).await, REFUSED, "{:?}", &bytes[..8]);
    }
    let mut stream = server.raw().await;
    let name = format!("\"{}\"", "x".repeat(largest - 2));
    stream.write_all(&Frame::raw("name", name).unwrap().encode()).await.unwrap();
    let mut answer = [0; 11];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"j\x04name\0\0\0\x05\"", "one of exactly the limit is read");
}

#[tokio::test]
async fn silent_peer_is_let_go_after_its_time() {
    let names = Names { time: Duration::from_millis(20), ..Names::new("hub") };
    let server = Served::start(builder().introduction(names)).await;
    let text = rest(server.raw().await).await;
    assert!(text.ends_with("{\"close\":{\"code\":\"timeout\",\"message\":\"\"}}"), "{text}");

    let names = Names { time: Duration::from_secs(3600), ..Names::new("hub") };
    let limits = Limits { connect: Duration::from_millis(20), ..Limits::default() };
    let config = nossock::Config { limits, ..nossock::Config::default() };
    let server = Served::start(builder().config(config).introduction(names)).await;
    let text = rest(server.raw().await).await;
    assert!(text.contains("timeout"), "the limit for connecting holds too: {text}");
}

#[tokio::test]
async fn server_that_says_nothing_is_not_waited_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let names = Names { time: Duration::from_millis(20), ..Names::new("alice") };
    let connector = Connector::new(address.as_str()).unwrap().introduction(names);
    let connecting = tokio::spawn(async move { connector.connect().await });
    let (stream, _) = listener.accept().await.unwrap();
    let text = rest(stream).await;
    assert!(text.starts_with("j\x04name"), "{text}");
    let error = connecting.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the peer was not introduced within 20ms");
    assert!(!error.is_permanent());
}

#[tokio::test]
async fn peer_that_leaves_halfway_is_no_refusal() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connector = Connector::new(address.as_str()).unwrap().introduction(Names::new("alice"));
    let connecting = tokio::spawn(async move { connector.connect().await });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut greeting = [0; 17];
    stream.read_exact(&mut greeting).await.unwrap();
    stream.write_all(b"j\x04na").await.unwrap();
    drop(stream);
    let error = connecting.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the peer ended the connection before it was introduced");
    assert!(!error.is_permanent());
}

#[tokio::test]
async fn stopping_server_does_not_wait_for_strangers() {
    let server = Served::tcp().await;
    let mut stream = server.raw().await;
    stream.write_all(b"j").await.unwrap();
    // An introduced one shows that the stranger before it was accepted.
    let alice = server.connector("alice").connect().await.unwrap();
    let drained = server.stop().await;
    assert_eq!((drained.drained, drained.aborted), (1, 0));
    drop(alice);
}
