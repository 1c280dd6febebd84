//! Stories of servers and clients over real sockets.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[path = "common/certs.rs"]
mod certs;

use std::sync::Arc;
use std::time::Duration;

use nossock::transport::tls::{ClientTls, ServerTls};
use nossock::{
    Client, ClientError, ClientState, CloseReason, Config, Connector, Drained, Json, Limits, Reconnect,
    RequestError, Router, Server, ServerLimits, Socket, State,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

/// A server that is told when to stop.
struct Running {
    address: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Drained>,
}

impl Running {
    async fn start<S: Clone + Send + Sync + 'static>(router: Router<S>, limits: ServerLimits) -> Self {
        Self::start_at("tcp://127.0.0.1:0", router, limits).await
    }

    async fn start_at<S>(address: &str, router: Router<S>, limits: ServerLimits) -> Self
    where
        S: Clone + Send + Sync + 'static,
    {
        let server = Server::bind(address).unwrap().limits(limits).listen().await.unwrap();
        let address = server.address().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.serve_until(router, async { drop(stopped.await) }));
        Self { address, stop, task }
    }

    async fn stop(self) -> Drained {
        drop(self.stop);
        self.task.await.unwrap()
    }
}

fn echo() -> Router {
    Router::new().on_request("echo", async |Json(value): Json<serde_json::Value>| value)
}

#[tokio::test]
async fn stopping_server_tells_its_peers_and_lets_handlers_end() {
    let begun = Arc::new(Notify::new());
    let router = Router::with_state(Arc::clone(&begun)).on_request(
        "slow",
        async |State(begun): State<Arc<Notify>>| {
            begun.notify_one();
            tokio::time::sleep(Duration::from_millis(50)).await;
            "done"
        },
    );
    let server = Running::start(router, ServerLimits::default()).await;
    let busy = nossock::connect(server.address.as_str()).await.unwrap();
    let idle = nossock::connect(server.address.as_str()).await.unwrap();
    let asking = tokio::spawn(async move { (busy.request::<String, _>("slow", &()).await, busy) });
    begun.notified().await;
    let drained = server.stop().await;
    assert_eq!((drained.drained, drained.aborted), (2, 0));
    let (answer, busy) = asking.await.unwrap();
    assert_eq!(answer.unwrap(), "done");
    for socket in [busy, idle] {
        assert_eq!(
            socket.closed().await.to_string(),
            "closed by the peer: going_away (this side is stopping)"
        );
    }
}

#[tokio::test]
async fn stopping_server_cuts_what_does_not_end_and_counts_it() {
    let begun = Arc::new(Notify::new());
    let router = Router::with_state(Arc::clone(&begun)).on_request(
        "forever",
        async |State(begun): State<Arc<Notify>>| -> u8 {
            begun.notify_one();
            std::future::pending().await
        },
    );
    let limits = ServerLimits { grace: Duration::from_millis(100), ..ServerLimits::default() };
    let server = Running::start(router, limits).await;
    let socket = nossock::connect(server.address.as_str()).await.unwrap();
    let _idle = nossock::connect(server.address.as_str()).await.unwrap();
    let asking = tokio::spawn(async move { socket.request::<u8, _>("forever", &()).await });
    begun.notified().await;
    let drained = server.stop().await;
    assert_eq!((drained.drained, drained.aborted), (1, 1));
    assert!(matches!(asking.await.unwrap(), Err(RequestError::Closed { .. })));
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let limits = ServerLimits { connections_per_address: 2, ..ServerLimits::default() };
    let server = Running::start(echo(), limits).await;
    let first = nossock::connect(server.address.as_str()).await.unwrap();
    let second = nossock::connect(server.address.as_str()).await.unwrap();
    let _: u8 = first.request("echo", &1).await.unwrap();
    let _: u8 = second.request("echo", &1).await.unwrap();
    let third = nossock::connect(server.address.as_str()).await.unwrap();
    assert!(third.request::<u8, _>("echo", &1).await.is_err());
    first.close().await.unwrap();
    // its seat is free as soon as the server has seen the end
    loop {
        let again = nossock::connect(server.address.as_str()).await.unwrap();
        if again.request::<u8, _>("echo", &1).await.is_ok() {
            break;
        }
    }
    let _: u8 = second.request("echo", &2).await.unwrap();
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_free_one() {
    let limits = ServerLimits { connections: 1, ..ServerLimits::default() };
    let server = Running::start(echo(), limits).await;
    let first = nossock::connect(server.address.as_str()).await.unwrap();
    let _: u8 = first.request("echo", &1).await.unwrap();
    let second = nossock::connect(server.address.as_str()).await.unwrap();
    let waiting = second.request_within::<u8, _>(Duration::from_millis(50), "echo", &2).await;
    assert!(matches!(waiting, Err(RequestError::TimedOut { .. })));
    first.close().await.unwrap();
    let answer: u8 = second.request("echo", &3).await.unwrap();
    assert_eq!(answer, 3);
}

#[tokio::test]
async fn garbage_ends_its_own_connection_and_no_other() {
    let server = Running::start(echo(), ServerLimits::default()).await;
    let good = nossock::connect(server.address.as_str()).await.unwrap();
    let address = server.address.strip_prefix("tcp://").unwrap();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01",
        b"\x00",
        b"b\x01x\xff\xff\xff\xff",
        b"c\x01",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        let _: u8 = good.request("echo", &1).await.unwrap();
    }
}

#[tokio::test]
async fn handshake_that_never_ends_is_given_up_and_others_are_served() {
    let pki = certs::Authority::new("CA");
    let config = Config {
        limits: Limits { connect: Duration::from_millis(100), ..Limits::default() },
        ..Config::default()
    };
    let server = Server::bind("tls://127.0.0.1:0")
        .unwrap()
        .config(config)
        .tls(ServerTls::new(pki.server(&["localhost"]).identity()).unwrap())
        .limits(ServerLimits { handshakes: 2, ..ServerLimits::default() })
        .listen()
        .await
        .unwrap();
    let address = server.address().to_string();
    tokio::spawn(server.serve(echo()));
    let mut silent = TcpStream::connect(address.strip_prefix("tls://").unwrap()).await.unwrap();
    silent.write_all(b"\x16\x03\x01").await.unwrap();
    let tls = ClientTls::builder().ca(pki.pem()).build().unwrap();
    let connector = Connector::new(address.replace("127.0.0.1", "localhost").as_str()).unwrap().tls(tls);
    let socket = connector.connect().await.unwrap();
    let answer: u8 = socket.request("echo", &5).await.unwrap();
    assert_eq!(answer, 5);
    assert!(socket.peer().certificates().is_some());
    let mut rest = Vec::new();
    drop(silent.read_to_end(&mut rest).await); // the server ends it
}

#[cfg(unix)]
#[tokio::test]
async fn unix_socket_says_who_the_peer_is() {
    let dir = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", dir.path().join("s").display());
    let router =
        Router::new().on_request("who", async |socket: Socket| socket.peer().unix.map(|peer| peer.uid));
    let server = Running::start_at(&address, router, ServerLimits::default()).await;
    let socket = nossock::connect(address.as_str()).await.unwrap();
    let uid: Option<u32> = socket.request("who", &()).await.unwrap();
    assert_eq!(uid, socket.peer().unix.map(|peer| peer.uid));
    assert!(uid.is_some());
    server.stop().await;
}

#[tokio::test]
async fn client_comes_back_and_keeps_its_handlers_and_what_waits() {
    let (heard, mut hearing) = tokio::sync::mpsc::unbounded_channel();
    let on_client = Router::with_state(heard).on(
        "hello",
        async |State(heard): State<tokio::sync::mpsc::UnboundedSender<u32>>, Json(n): Json<u32>| {
            heard.send(n).map_err(|error| error.to_string())
        },
    );
    let on_server =
        || Router::new().on("say", async |socket: Socket, Json(n): Json<u32>| socket.send("hello", &n).await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener); // nobody is there at first
    let reconnect =
        Reconnect { first_delay: Duration::from_millis(5), offline_queue: 100, ..Reconnect::default() };
    let connector = Connector::new(format!("tcp://{address}").as_str()).unwrap();
    let client = Client::start_with(connector, on_client, reconnect);
    for n in 0..4 {
        client.send("say", &n).await.unwrap();
    }
    let full = loop {
        match client.send("say", &9).await {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(full, ClientError::OfflineQueueFull { limit: 100 }), "{full}");
    let server = Running::start_at(&format!("tcp://{address}"), on_server(), ServerLimits::default()).await;
    for n in 0..4 {
        assert_eq!(hearing.recv().await.unwrap(), n, "what waited leaves first, and in order");
    }
    server.stop().await;
    let mut state = client.state();
    state.wait_for(|state| matches!(state, ClientState::Down { .. })).await.unwrap();
    let server = Running::start_at(&format!("tcp://{address}"), on_server(), ServerLimits::default()).await;
    client.socket().await.unwrap();
    client.send("say", &77).await.unwrap();
    while hearing.recv().await.unwrap() != 77 {}
    client.close().await;
    server.stop().await;
}

#[tokio::test]
async fn requests_in_flight_fail_with_the_reason_when_the_connection_goes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let client = Client::start(Connector::new(address.as_str()).unwrap(), Router::new());
    let cutting = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut some = [0; 64];
        assert_ne!(stream.read(&mut some).await.unwrap(), 0);
        drop(stream);
    };
    let (answer, ()) = tokio::join!(client.request::<u8, _>("x", &()), cutting);
    assert!(matches!(answer, Err(ClientError::Request(RequestError::Closed { .. }))), "{answer:?}");
}

#[tokio::test]
async fn client_stops_when_trying_again_would_not_help() {
    let (pki, other) = (certs::Authority::new("one"), certs::Authority::new("another"));
    let server = Server::bind("tls://127.0.0.1:0")
        .unwrap()
        .tls(ServerTls::new(pki.server(&["localhost"]).identity()).unwrap());
    let server = server.listen().await.unwrap();
    let address = server.address().to_string().replace("127.0.0.1", "localhost");
    tokio::spawn(server.serve(echo()));
    let tls = ClientTls::builder().ca(other.pem()).build().unwrap();
    let client = Client::start(Connector::new(address.as_str()).unwrap().tls(tls), Router::new());
    let mut state = client.state();
    let state = state.wait_for(|state| matches!(state, ClientState::Closed { .. })).await.unwrap().clone();
    let ClientState::Closed { reason: Some(reason) } = state else { panic!("{state:?}") };
    assert!(reason.to_string().contains("issued by nobody trusted here"), "{reason}");
    assert!(matches!(client.send("x", &1).await, Err(ClientError::Closed(Some(_)))));
}

#[tokio::test]
async fn refused_client_certificate_reaches_everyone_who_waits() {
    let pki = certs::Authority::new("CA");
    let tls = ServerTls::builder(pki.server(&["localhost"]).identity())
        .client_certificates(nossock::transport::tls::ClientCertificates::Require)
        .ca(pki.pem())
        .build()
        .unwrap();
    let server = Server::bind("tls://127.0.0.1:0").unwrap().tls(tls).listen().await.unwrap();
    let address = server.address().to_string().replace("127.0.0.1", "localhost");
    tokio::spawn(server.serve(echo()));
    let tls = ClientTls::builder().ca(pki.pem()).build().unwrap();
    let socket = Connector::new(address.as_str()).unwrap().tls(tls).connect().await.unwrap();
    let error = socket.request::<u8, _>("echo", &1).await.unwrap_err();
    assert!(error.to_string().contains("requires a client certificate"), "{error}");
    assert!(matches!(socket.closed().await, CloseReason::Tls(_)));
}
