//! Stories of sockets that are closed to strangers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[path = "common/certs.rs"]
mod certs;

use std::time::Duration;

use nossock::transport::tls::{ClientTls, ServerTls, TlsVersion};
use nossock::wire::Frame;
use nossock::{
    CloseReason, Config, ConnectError, Connector, Introduction as _, IntroductionError, Limits, Router,
    Server, ServerBuilder, Socket,
};
use nsp_auth::psk::{Key, Psk};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

fn key() -> Key {
    Key::from_hex("2026-11", "000102030405060708090a0b0c0d0e0f").unwrap()
}

fn other_key() -> Key {
    Key::from_hex("2026-11", "ff0102030405060708090a0b0c0d0e0f").unwrap()
}

fn hub() -> Psk {
    Psk::new("hub").unwrap().peer("sensor-7", key()).unwrap()
}

fn sensor() -> Psk {
    Psk::new("sensor-7").unwrap().peer("hub", key()).unwrap()
}

/// A server that answers `who` with the name of who asks.
struct Served {
    address: String,
    task: JoinHandle<()>,
}

impl Served {
    async fn start(builder: ServerBuilder) -> Self {
        let server = builder.introduction(hub()).listen().await.unwrap();
        let address = server.address().to_string();
        let router = Router::new().on_request("who", async |socket: Socket| {
            socket.peer().identity().map(|peer| format!("{peer} by {}", peer.method()))
        });
        Self { address, task: tokio::spawn(server.serve(router)) }
    }

    async fn tcp() -> Self {
        Self::start(Server::bind("tcp://127.0.0.1:0").unwrap()).await
    }

    async fn tls(tls: ServerTls) -> Self {
        let mut server = Self::start(Server::bind("tls://127.0.0.1:0").unwrap().tls(tls)).await;
        server.address = server.address.replace("127.0.0.1", "localhost");
        server
    }

    fn connector(&self, psk: Psk) -> Connector {
        Connector::new(self.address.as_str()).unwrap().introduction(psk)
    }

    /// Where it listens, for a bare connection.
    fn place(&self) -> String {
        self.address.split("//").nth(1).unwrap().replace("localhost", "127.0.0.1")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn is_known(connector: Connector) {
    let socket = connector.connect().await.unwrap();
    assert_eq!(socket.peer().identity().unwrap().name(), "hub");
    let who: Option<String> = socket.request("who", &()).await.unwrap();
    assert_eq!(who.as_deref(), Some("sensor-7 by psk"));
    socket.close().await.unwrap();
}

async fn is_refused(connector: Connector) {
    let error = connector.connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Introduction(IntroductionError::RefusedByPeer)), "{error:?}");
    assert!(error.is_permanent());
}

#[tokio::test]
async fn two_that_share_a_key_talk_over_tcp() {
    let server = Served::tcp().await;
    is_known(server.connector(sensor())).await;
}

#[cfg(unix)]
#[tokio::test]
async fn two_that_share_a_key_talk_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("socket").display());
    let server = Served::start(Server::bind(address.as_str()).unwrap()).await;
    is_known(server.connector(sensor())).await;
}

#[tokio::test]
async fn two_that_share_a_key_talk_over_tls() {
    let authority = certs::Authority::new();
    let server = Served::tls(ServerTls::new(authority.localhost()).unwrap()).await;
    let tls = ClientTls::builder().ca(authority.pem()).build().unwrap();
    is_known(server.connector(sensor()).tls(tls)).await;
}

#[tokio::test]
async fn stranger_is_refused_and_not_told_why() {
    let server = Served::tcp().await;
    for psk in [
        Psk::new("sensor-7").unwrap().peer("hub", other_key()).unwrap(),
        Psk::new("sensor-8").unwrap().peer("hub", key()).unwrap(),
        Psk::new("sensor-7").unwrap().peer("hub", Key::generate("2026-12").unwrap()).unwrap(),
    ] {
        is_refused(server.connector(psk)).await;
    }
    let without = nossock::connect(server.address.as_str()).await.unwrap();
    let reason = without.closed().await;
    assert!(matches!(reason, CloseReason::PeerSaid { .. }), "{reason:?}");
    is_known(server.connector(sensor())).await;
}

/// The whole of what a refused peer hears is the same to the byte, whatever was wrong.
#[tokio::test]
async fn answers_to_strangers_do_not_differ() {
    let server = Served::tcp().await;
    let mut heard = Vec::new();
    for (name, id) in [("sensor-7", "2026-11"), ("sensor-7", "x"), ("sensor-99", "2026-11")] {
        let mut stream = TcpStream::connect(server.place()).await.unwrap();
        let nonce = "11".repeat(32);
        let offer = serde_json::json!({"psk": 1, "name": name, "nonce": nonce});
        let proof = serde_json::json!({"keys": [{"id": id, "mac": nonce}]});
        stream.write_all(&Frame::json("psk:offer", &offer).unwrap().encode()).await.unwrap();
        stream.write_all(&Frame::json("psk:proof", &proof).unwrap().encode()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let text = String::from_utf8(bytes).unwrap();
        // The server's nonce is another each time.
        let (before, after) = text.split_once(r#""nonce":""#).unwrap();
        heard.push((before.to_owned(), after[64..].to_owned()));
    }
    assert!(heard[0].1.ends_with(r#"{"close":{"code":"refused","message":""}}"#), "{heard:?}");
    assert!(heard.iter().all(|other| *other == heard[0]), "{heard:?}");
}

#[tokio::test]
async fn impostor_of_a_server_is_refused_by_the_client() {
    let impostor = Psk::new("hub").unwrap().peer("sensor-7", other_key()).unwrap();
    let server = Server::bind("tcp://127.0.0.1:0").unwrap().introduction(impostor).listen().await.unwrap();
    let address = server.address().to_string();
    let task = tokio::spawn(server.serve(Router::new()));
    is_refused(Connector::new(address.as_str()).unwrap().introduction(sensor())).await;
    task.abort();

    // One that accepts everybody.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connecting = tokio::spawn(async move {
        Connector::new(address.as_str()).unwrap().introduction(sensor()).connect().await
    });
    let (mut stream, _) = listener.accept().await.unwrap();
    let zeros = "00".repeat(32);
    let challenge = serde_json::json!({"psk": 1, "name": "hub", "nonce": zeros});
    let accept = serde_json::json!({"id": "2026-11", "mac": zeros});
    stream.write_all(&Frame::json("psk:challenge", &challenge).unwrap().encode()).await.unwrap();
    stream.write_all(&Frame::json("psk:accept", &accept).unwrap().encode()).await.unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    assert!(heard.ends_with(r#"{"close":{"code":"refused","message":""}}"#), "{heard}");
    drop(stream);
    let error = connecting.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the peer was refused: it has no key of `hub` that this side has too");
}

/// Passes everything on between a client that trusts it and the server.
async fn relay(tls: ServerTls, upstream: ClientTls, server: String) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let mut near = tls.accept(listener.accept().await.unwrap().0).await.unwrap();
        let far = TcpStream::connect(server).await.unwrap();
        let mut far = upstream.connect(far, "localhost").await.unwrap();
        let _ = copy_bidirectional(&mut near, &mut far).await;
    });
    (format!("tls://localhost:{port}"), task)
}

#[tokio::test]
async fn man_in_the_middle_of_tls_cannot_pass_proofs_on() {
    let authority = certs::Authority::new();
    let server = Served::tls(ServerTls::new(authority.localhost()).unwrap()).await;
    let client = ClientTls::builder().ca(authority.pem()).build().unwrap();
    // His certificate is from the same authority: TLS alone lets him through.
    let his = ServerTls::new(authority.localhost()).unwrap();
    let (address, task) = relay(his.clone(), client.clone(), server.place()).await;
    is_refused(Connector::new(address.as_str()).unwrap().tls(client.clone()).introduction(sensor())).await;
    task.abort();

    // It was the binding: two that do without are introduced through him.
    let unbound = Server::bind("tls://127.0.0.1:0").unwrap();
    let tls = ServerTls::new(authority.localhost()).unwrap();
    let unbound = unbound.tls(tls).introduction(hub().unbound()).listen().await.unwrap();
    let place = unbound.address().to_string().trim_start_matches("tls://").to_owned();
    let serving = tokio::spawn(unbound.serve(Router::new()));
    let (address, task) = relay(his, client.clone(), place).await;
    let connector = Connector::new(address.as_str()).unwrap().tls(client).introduction(sensor().unbound());
    assert!(connector.connect().await.is_ok());
    task.abort();
    serving.abort();
}

#[tokio::test]
async fn tls_without_a_channel_binding_is_refused() {
    let authority = certs::Authority::new();
    let server = Served::tls(ServerTls::new(authority.localhost()).unwrap()).await;
    let old = ClientTls::builder().ca(authority.pem()).versions([TlsVersion::Tls12]).build().unwrap();
    let error = server.connector(sensor()).tls(old).connect().await.unwrap_err();
    assert!(error.to_string().contains("psk over TLS needs TLS 1.3"), "{error}");
}

#[tokio::test]
async fn garbage_and_large_frames_are_refused() {
    let server = Served::tcp().await;
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"j\x09psk:offer\0\0\0\x02{}".to_vec(),
        b"j\x09psk:offer\xff\xff\xff\xff".to_vec(),
        Frame::raw("psk:offer", vec![b' '; 5000]).unwrap().encode().to_vec(),
    ] {
        let mut stream = TcpStream::connect(server.place()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        assert!(heard.ends_with(r#"{"close":{"code":"refused","message":""}}"#), "{heard}");
    }
    // Half an introduction, and gone.
    let mut stream = TcpStream::connect(server.place()).await.unwrap();
    stream.write_all(b"j\x09psk:of").await.unwrap();
    drop(stream);
    is_known(server.connector(sensor())).await;
}

#[tokio::test]
async fn silent_peer_has_five_seconds_and_no_more_than_connecting_may_take() {
    assert_eq!(hub().time(), Duration::from_secs(5));
    let limits = Limits { connect: Duration::from_millis(20), ..Limits::default() };
    let config = Config { limits, ..Config::default() };
    let server = Served::start(Server::bind("tcp://127.0.0.1:0").unwrap().config(config)).await;
    let mut stream = TcpStream::connect(server.place()).await.unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    assert!(heard.ends_with(r#"{"close":{"code":"timeout","message":""}}"#), "{heard}");
}
