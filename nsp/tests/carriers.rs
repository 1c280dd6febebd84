//! Carriers over real sockets: connecting, listening, and whoever comes to the wrong door.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use nossock::transport::tls::{ClientTls, Identity, ServerTls};
use nsp::carrier::{
    Address, Carrier, CarrierEnd, ConnectError, ConnectOptions, Farewell, HandshakeError, Limits,
    ListenOptions, Listener, Meter, WEB_ALPN, connect,
};
use nsp::machine::{Incoming, Outgoing};
use nsp::proto::{Leg, Method, Methods, Packet};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// TLS of a daemon and of a client that trusts it, for `nsps://` and `wss://` both.
fn tls() -> (ServerTls, ClientTls) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem()).unwrap();
    let server =
        ServerTls::builder(identity).alpn([nossock::transport::tls::ALPN, WEB_ALPN]).build().unwrap();
    let client = ClientTls::builder().ca(made.cert.pem()).alpn([WEB_ALPN]).build().unwrap();
    (server, client)
}

fn probe(json: &'static str) -> Outgoing {
    Outgoing::Packet(Packet::new(Method::Au, Leg::Request, Bytes::from_static(json.as_bytes())))
}

async fn send(carrier: &mut dyn Carrier, message: Outgoing) {
    carrier.start_send(message).unwrap();
    poll_fn(|cx| carrier.poll_flush(cx)).await.unwrap();
}

async fn receive(carrier: &mut dyn Carrier) -> Result<String, CarrierEnd> {
    let packet = match poll_fn(|cx| carrier.poll_receive(cx)).await? {
        Incoming::Packet(packet) => packet,
        Incoming::Message(message) | Incoming::Sealed(message) => {
            Packet::decode(message, &Methods::default()).unwrap()
        }
    };
    Ok(String::from_utf8(packet.payload.json.to_vec()).unwrap())
}

async fn listen(address: &str, options: &ListenOptions) -> Listener {
    Listener::bind(&address.parse().unwrap(), options).await.unwrap()
}

#[tokio::test]
async fn every_address_is_listened_on_and_connected_to() {
    let folder = tempfile::tempdir().unwrap();
    let unix = format!("nsp+unix:{}", folder.path().join("nsp.sock").display());
    let (server, client) = tls();
    let listening = ListenOptions { tls: Some(server), ..ListenOptions::default() };
    let connecting = ConnectOptions { tls: Some(client), ..ConnectOptions::default() };
    for text in [
        "nsp://127.0.0.1:0",
        "nsps://127.0.0.1:0",
        "nsps://localhost:0",
        &unix,
        "noservice://127.0.0.1:0",
        "ws://127.0.0.1:0/chat?room=1",
        "wss://127.0.0.1:0",
    ] {
        let listener = listen(text, &listening).await;
        assert_ne!(listener.address().port(), Some(0), "{text}");
        let (client, daemon) = tokio::join!(connect(listener.address(), &connecting), async {
            let arriving = listener.accept().await;
            assert_eq!(arriving.peer().address.is_some(), listener.address().host().is_some());
            arriving.handshake().await
        });
        let (mut client, mut daemon) = (client.unwrap(), daemon.unwrap());
        assert_eq!(
            (client.kind(), daemon.kind()),
            (listener.address().carrier(), listener.address().carrier())
        );
        let confidential =
            text.starts_with("nsps") || text.starts_with("wss") || text.starts_with("nsp+unix");
        assert_eq!(
            (client.is_confidential(), daemon.is_confidential()),
            (confidential, confidential),
            "{text}"
        );
        for _ in 0..2 {
            send(&mut *client, probe(r#"{"q":1}"#)).await;
            assert_eq!(receive(&mut *daemon).await.unwrap(), r#"{"q":1}"#);
            send(&mut *daemon, probe(r#"{"a":1}"#)).await;
            assert_eq!(receive(&mut *client).await.unwrap(), r#"{"a":1}"#);
        }
        let refused = Farewell::Refused("enough".to_owned());
        let closing = async {
            poll_fn(|cx| daemon.poll_close(cx, &refused)).await;
            drop(daemon);
        };
        let ((), end) = tokio::join!(closing, async {
            let end = receive(&mut *client).await.unwrap_err();
            poll_fn(|cx| client.poll_close(cx, &Farewell::Normal)).await;
            end
        });
        match text.split(':').next().unwrap() {
            "noservice" => assert!(matches!(end, CarrierEnd::Peer), "{text}: {end}"),
            _ => assert!(end.to_string().ends_with("enough"), "{text}: {end}"),
        }
    }
}

/// What a daemon says of a peer that begins with these bytes, and what the peer gets to read.
async fn strange(listener: &Listener, bytes: &[u8]) -> (String, Vec<u8>) {
    let address = ("127.0.0.1", listener.address().port().unwrap());
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let judging = async {
        match listener.accept().await.handshake().await {
            Ok(mut carrier) => receive(&mut *carrier).await.unwrap_err().to_string(),
            Err(error) => error.to_string(),
        }
    };
    let reading = async {
        let mut read = Vec::new();
        // What came before a reset is read all the same.
        let _ = stream.read_to_end(&mut read).await;
        read
    };
    tokio::join!(judging, reading)
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const TLS: &[u8] = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00";
const FRAME: &[u8] = b"j\x04GTrq\0\0\0\x02{}";
const CHUNK: &[u8] = b"0000000000000025GTrq{\"u\":\"admin\",\"p\":\"a\"}";

#[tokio::test]
async fn whoever_speaks_something_else_is_named() {
    let (server, _) = tls();
    let options = ListenOptions { tls: Some(server), ..ListenOptions::default() };
    for (scheme, bytes, says) in [
        ("nsp", GET, "this looks like HTTP"),
        ("nsp", TLS, "this looks like TLS, and the address is a plain one"),
        ("nsp", CHUNK, "this looks like the NoService TCP carrier"),
        ("noservice", GET, "this looks like HTTP, not like NoService chunks"),
        ("noservice", TLS, "this looks like TLS, not like NoService chunks"),
        ("nsps", GET, "the peer does not speak TLS: it looks like HTTP"),
        ("nsps", FRAME, "the peer does not speak TLS: it looks like plain nossock"),
        ("wss", GET, "the peer does not speak TLS: it looks like HTTP"),
        ("ws", TLS, "the peer does not speak HTTP: this looks like TLS"),
        ("ws", FRAME, "the peer does not speak HTTP"),
        ("ws", CHUNK, "the peer does not speak HTTP: this looks like the NoService TCP carrier"),
        ("ws", GET, "the peer's HTTP is no upgrade to WebSocket: "),
    ] {
        let listener = listen(&format!("{scheme}://127.0.0.1:0"), &options).await;
        let (error, read) = strange(&listener, bytes).await;
        assert!(error.contains(says), "{scheme}: {error}");
        if (scheme, bytes) == ("ws", GET) {
            let answer = String::from_utf8(read).unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n"),
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn head_that_does_not_end_is_cut_off() {
    let listener = listen("ws://127.0.0.1:0", &ListenOptions::default()).await;
    let endless = [b"GET / HTTP/1.1\r\nCookie: ".as_slice(), &[b'a'; 20_000]].concat();
    let (error, read) = strange(&listener, &endless).await;
    assert_eq!(error, "the peer sent a head of HTTP that is longer than 16384 bytes");
    assert!(read.starts_with(b"HTTP/1.1 431 "));
}

#[tokio::test]
async fn web_pages_come_in_only_if_they_are_allowed() {
    let allowed = vec!["https://chat.example.org".to_owned()];
    for (origins, origin, comes_in) in [
        (vec![], None, true),
        (vec![], Some("https://evil.example.org"), false),
        (allowed.clone(), Some("https://chat.example.org"), true),
        (allowed.clone(), Some("http://chat.example.org"), false),
        (allowed, Some("null"), false),
        (vec!["*".to_owned()], Some("null"), true),
    ] {
        let listener =
            listen("ws://127.0.0.1:0", &ListenOptions { origins, ..ListenOptions::default() }).await;
        let options = ConnectOptions { origin: origin.map(str::to_owned), ..ConnectOptions::default() };
        let (client, daemon) = tokio::join!(connect(listener.address(), &options), async {
            listener.accept().await.handshake().await
        });
        match (client, daemon) {
            (Ok(_), Ok(_)) => assert!(comes_in, "{origin:?}"),
            (Err(client), Err(HandshakeError::Http(daemon))) => {
                assert!(!comes_in, "{origin:?}");
                assert_eq!(client.to_string(), "HTTP status 403 instead of a WebSocket");
                assert!(client.is_permanent() && daemon.to_string().ends_with("may not connect"), "{daemon}");
            }
            other => panic!("{origin:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn connecting_says_what_is_at_the_other_end() {
    let (server, client) = tls();
    let options = ListenOptions { tls: Some(server), ..ListenOptions::default() };
    for (listening, dialled, says) in [
        ("nsp", "ws", "the upgrade to WebSocket was cut off: "),
        ("nsps", "ws", "the peer does not speak HTTP: this looks like TLS"),
        ("ws", "nsps", "the peer does not speak TLS"),
    ] {
        let listener = listen(&format!("{listening}://127.0.0.1:0"), &options).await;
        let port = listener.address().port().unwrap();
        let address: Address = format!("{dialled}://127.0.0.1:{port}").parse().unwrap();
        let options = ConnectOptions { tls: Some(client.clone()), ..ConnectOptions::default() };
        let (connected, _) = tokio::join!(connect(&address, &options), async {
            if let Ok(mut carrier) = listener.accept().await.handshake().await {
                let end = receive(&mut *carrier).await.unwrap_err();
                assert!(end.to_string().contains("HTTP"), "{end}");
            }
        });
        let error = connected.unwrap_err().to_string();
        assert!(error.starts_with(says), "{listening} dialled as {dialled}: {error}");
    }
    let tls = Listener::bind(&"nsps://127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).await;
    assert!(tls.unwrap_err().to_string().ends_with(" needs a certificate, and none was given"));
}

#[tokio::test]
async fn connecting_has_a_limit_of_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Address = format!("ws://{}", listener.local_addr().unwrap()).parse().unwrap();
    let limits = Limits { connect: Duration::from_millis(50), ..Limits::default() };
    let error = connect(&address, &ConnectOptions { limits, ..ConnectOptions::default() }).await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn socket_of_nossock_speaks_packets_with_nothing_but_send_and_receive() {
    let listener = listen("nsp://127.0.0.1:0", &ListenOptions::default()).await;
    let address = format!("tcp://127.0.0.1:{}", listener.address().port().unwrap());
    let socket = nossock::connect(address.as_str()).await.unwrap();
    let mut carrier = listener.accept().await.handshake().await.unwrap();

    socket.send("AUrs", &serde_json::json!({"m": "TK"})).await.unwrap();
    assert_eq!(receive(&mut *carrier).await.unwrap(), r#"{"m":"TK"}"#);
    send(&mut *carrier, probe(r#"{"m":"SI"}"#)).await;
    let message = socket.recv().await.unwrap().unwrap();
    assert_eq!(message.name, "AUrq");
    assert_eq!(message.body.as_bytes(), &br#"{"m":"SI"}"#[..]);

    // Each of the two ends the conversation as the other understands it.
    let closing = tokio::spawn(async move { socket.close().await });
    let end = receive(&mut *carrier).await.unwrap_err();
    assert!(matches!(end, CarrierEnd::Peer), "{end}");
    poll_fn(|cx| carrier.poll_close(cx, &Farewell::Normal)).await;
    closing.await.unwrap().unwrap();
}

#[tokio::test]
async fn meter_shows_how_far_a_large_message_is() {
    /// More than the buffers of two sockets hold.
    const LARGE: usize = 64 << 20;
    let limits = Limits { message: LARGE + 1024, ..Limits::default() };
    for scheme in ["nsp", "noservice", "ws"] {
        let listening = ListenOptions { limits, ..ListenOptions::default() };
        let listener = listen(&format!("{scheme}://127.0.0.1:0"), &listening).await;
        let meter = Meter::default();
        let connecting = ConnectOptions { limits, meter: Some(meter.clone()), ..ConnectOptions::default() };
        let (client, daemon) = tokio::join!(connect(listener.address(), &connecting), async {
            listener.accept().await.handshake().await
        });
        let (mut client, mut daemon) = (client.unwrap(), daemon.unwrap());

        let mut packet = Packet::new(Method::Cs, Leg::Request, Bytes::from_static(b"{}"));
        packet.payload.blob = Some(Bytes::from(vec![7; LARGE]));
        client.start_send(Outgoing::Packet(packet)).unwrap();
        let before = meter.sent();
        let stuck = poll_fn(|cx| Poll::Ready(client.poll_flush(cx).is_pending())).await;
        assert!(stuck, "{scheme}: nobody reads");
        let sent = meter.sent() - before;
        assert!(sent > 0 && sent < LARGE as u64, "{scheme}: {sent}");
        let (flushed, received) =
            tokio::join!(poll_fn(|cx| client.poll_flush(cx)), poll_fn(|cx| daemon.poll_receive(cx)));
        flushed.unwrap();
        received.unwrap();
        assert!(meter.sent() - before >= LARGE as u64, "{scheme}: all of it has left");

        let mut packet = Packet::new(Method::Ca, Leg::Request, Bytes::from_static(b"{}"));
        packet.payload.blob = Some(Bytes::from(vec![7; LARGE]));
        daemon.start_send(Outgoing::Packet(packet)).unwrap();
        let stuck = poll_fn(|cx| Poll::Ready(daemon.poll_flush(cx).is_pending())).await;
        assert!(stuck && meter.arriving().is_none(), "{scheme}");
        let before = meter.received();
        let whole = poll_fn(|cx| match client.poll_receive(cx) {
            // What is there now; the rest comes when the daemon goes on.
            Poll::Pending if meter.received() > before => Poll::Ready(false),
            poll => poll.map(|_| true),
        });
        assert!(!whole.await, "{scheme}: it is not whole");
        let here = meter.received() - before;
        assert!(here > 0 && here < LARGE as u64, "{scheme}: {here}");
        match meter.arriving() {
            Some((come, whole)) => assert!(
                come > 0 && come <= here && whole >= LARGE as u64 && come < whole,
                "{scheme}: {come} {whole}"
            ),
            None => assert_eq!(scheme, "ws", "it alone does not say"),
        }
        let (flushed, received) =
            tokio::join!(poll_fn(|cx| daemon.poll_flush(cx)), poll_fn(|cx| client.poll_receive(cx)));
        flushed.unwrap();
        received.unwrap();
        assert_eq!(meter.arriving(), None, "{scheme}: it is whole");
    }
}
