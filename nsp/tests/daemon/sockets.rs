//! Listening: addresses, certificates, who gets in and who does not.

use std::sync::Arc;
use std::time::Duration;

use nossock::transport::tls::{ALPN, ClientTls, Identity, ServerTls};
use nsp::carrier::{CarrierEnd, ConnectOptions, WEB_ALPN, connect};
use nsp::daemon::{
    BindError, Caller, Daemon, DaemonHandle, Drained, Entity, Fail, Json, Limits, Listen, Service,
};
use nsp::secure::ServerKey;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::wire::Wire;

fn echo() -> Service {
    Service::new("Echo")
        .function("echo", async |Json(value): Json<Value>| value)
        .function("by", async |caller: Caller| format!("{:?} {}", caller.carrier, caller.is_confidential))
}

/// A daemon that serves until it is told to stop.
struct Served {
    addresses: Vec<String>,
    handle: DaemonHandle,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Drained>,
}

impl Served {
    async fn at(listens: impl IntoIterator<Item = Listen>, limits: Limits) -> Self {
        let mut builder = Daemon::builder().service(echo()).limits(limits);
        for listen in listens {
            builder = builder.listen(listen);
        }
        let daemon = builder.bind().await.unwrap();
        let addresses = daemon.addresses().iter().map(ToString::to_string).collect();
        let handle = daemon.handle();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(daemon.serve_until(async { drop(stopped.await) }));
        Self { addresses, handle, stop, serving }
    }

    async fn stop(self) -> Drained {
        drop(self.stop);
        self.serving.await.unwrap()
    }

    fn host(&self) -> String {
        self.addresses[0].split("://").last().unwrap().to_owned()
    }
}

fn identity() -> (Identity, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    (Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem()).unwrap(), made.cert.pem())
}

fn tls() -> (ServerTls, ClientTls) {
    let (identity, ca) = identity();
    let server = ServerTls::builder(identity).alpn([ALPN, WEB_ALPN]).build().unwrap();
    (server, ClientTls::builder().ca(ca).build().unwrap())
}

async fn dial(address: &str, options: &ConnectOptions) -> Wire {
    Wire::over(connect(&address.parse().unwrap(), options).await.unwrap())
}

#[tokio::test]
async fn one_daemon_serves_every_carrier_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let unix = format!("nsp+unix:{}", folder.path().join("nsp.sock").display());
    let (server, client) = tls();
    let addresses =
        ["nsp://127.0.0.1:0", "nsps://127.0.0.1:0", "noservice://127.0.0.1:0", "ws://127.0.0.1:0", &unix];
    let served =
        Served::at(addresses.map(|address| Listen::on(address).tls(server.clone())), Limits::default()).await;
    let options = ConnectOptions { tls: Some(client), ..ConnectOptions::default() };
    let mut wires = Vec::new();
    for (address, by) in served.addresses.iter().zip([
        "Frames false",
        "Frames true",
        "Chunks false",
        "WebSocket false",
        "Frames true",
    ]) {
        let mut wire = dial(address, &options).await;
        let entity = wire.open("Echo").await;
        assert_eq!(wire.call(&entity, "by", json!(null)).await, Ok(json!(by)), "{address}");
        let large = json!("x".repeat(1024 * 1024));
        assert_eq!(wire.call(&entity, "echo", large.clone()).await, Ok(large));
        wires.push(wire);
    }
    assert_eq!(served.handle.stats().connections, 5);
    let stopping = tokio::spawn(served.stop());
    for wire in &mut wires {
        wire.event().await; // the entity is closed
        wire.end().await;
    }
    drop(wires);
    let drained = stopping.await.unwrap();
    assert_eq!((drained.drained, drained.aborted), (5, 0));
}

#[tokio::test]
async fn address_in_clear_beyond_this_machine_needs_words() {
    let key = Arc::new(ServerKey::generate().unwrap());
    let bind = async |listen: Listen| Daemon::builder().service(echo()).listen(listen).bind().await;
    for address in ["nsp://0.0.0.0:0", "noservice://0.0.0.0:0", "ws://0.0.0.0:0"] {
        let refused = bind(Listen::on(address)).await.unwrap_err();
        assert!(matches!(refused, BindError::Unprotected { .. }), "{refused}");
        let _bound = bind(Listen::on(address).plaintext()).await.unwrap();
        let _bound = bind(Listen::on(address).sp(Arc::clone(&key))).await.unwrap();
    }
    assert!(matches!(bind(Listen::on("nsps://127.0.0.1:0")).await, Err(BindError::Listen(_))));
    assert!(matches!(bind(Listen::on("http://127.0.0.1:0")).await, Err(BindError::Address(_))));
}

#[tokio::test]
async fn one_address_has_only_so_many_connections() {
    let limits = Limits { connections_per_address: 4, fresh_per_address: 2, ..Limits::default() };
    let served = Served::at(["nsp://127.0.0.1:0".into()], limits).await;
    let options = ConnectOptions::default();
    let mut settled = Vec::new();
    for _ in 0..2 {
        let mut wire = dial(&served.addresses[0], &options).await;
        wire.open("Echo").await;
        settled.push(wire);
    }
    let _fresh =
        [TcpStream::connect(served.host()).await.unwrap(), TcpStream::connect(served.host()).await.unwrap()];
    let mut one_more = TcpStream::connect(served.host()).await.unwrap();
    assert_eq!(one_more.read(&mut [0; 16]).await.unwrap_or(0), 0, "it is closed");
    assert_eq!(served.handle.stats().refused, 1);
    // Who leaves makes room.
    drop(settled);
    let mut wire = loop {
        if served.handle.stats().connections <= 2 {
            break dial(&served.addresses[0], &options).await;
        }
        tokio::task::yield_now().await;
    };
    assert!(wire.is_refused().await, "two are still fresh");
}

#[tokio::test]
async fn connections_over_the_limit_wait_until_one_ends() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let served = Served::at(["nsp://127.0.0.1:0".into()], limits).await;
    let options = ConnectOptions::default();
    let mut first = dial(&served.addresses[0], &options).await;
    first.open("Echo").await;
    let mut second = dial(&served.addresses[0], &options).await;
    let create = second.wanting("Echo", None);
    second.ask(nsp::proto::cs::Request::Create(Box::new(create))).await;
    first.call_echo().await;
    assert_eq!(served.handle.stats().accepted, 1);
    drop(first);
    second.answer().await;
    assert_eq!(served.handle.stats().accepted, 2);
}

#[tokio::test]
async fn handshake_that_is_never_made_is_given_up() {
    let limits = Limits { handshake_time: Duration::from_millis(200), ..Limits::default() };
    let (server, _) = tls();
    let listens = [Listen::on("nsps://127.0.0.1:0").tls(server), Listen::on("ws://127.0.0.1:0")];
    let served = Served::at(listens, limits).await;
    for address in &served.addresses {
        let host = address.split("://").last().unwrap().trim_end_matches('/');
        let mut stream = TcpStream::connect(host).await.unwrap();
        assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0, "{address}");
    }
    assert_eq!(served.handle.stats().refused, 2);
}

#[tokio::test]
async fn certificate_is_replaced_while_the_daemon_runs() {
    let (server, client) = tls();
    let served = Served::at([Listen::on("nsps://127.0.0.1:0").tls(server)], Limits::default()).await;
    let before = ConnectOptions { tls: Some(client), ..ConnectOptions::default() };
    let mut old = dial(&served.addresses[0], &before).await;
    let entity = old.open("Echo").await;
    let (identity, ca) = identity();
    served.handle.reload_tls(&identity).unwrap();
    assert!(connect(&served.addresses[0].parse().unwrap(), &before).await.is_err());
    let after = ConnectOptions {
        tls: Some(ClientTls::builder().ca(ca).build().unwrap()),
        ..ConnectOptions::default()
    };
    dial(&served.addresses[0], &after).await.open("Echo").await;
    assert_eq!(old.call(&entity, "echo", json!(1)).await, Ok(json!(1)), "who is in, stays");
}

#[tokio::test]
async fn bad_chunks_end_their_connection_and_no_other() {
    let served = Served::at(["noservice://127.0.0.1:0".into()], Limits::default()).await;
    let mut good = dial(&served.addresses[0], &ConnectOptions::default()).await;
    let entity = good.open("Echo").await;
    for bad in
        ["-000000000000001", "hello, I am http", "0000000000016385", "9999999999999999", "+000000000000004"]
    {
        let mut stream = TcpStream::connect(served.host()).await.unwrap();
        stream.write_all(bad.as_bytes()).await.unwrap();
        stream.write_all(&[b'x'; 100]).await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "{bad}");
        assert_eq!(good.call(&entity, "echo", json!(bad)).await, Ok(json!(bad)));
    }
    let reasons: Vec<_> = served.handle.closed().iter().map(|closed| closed.reason.to_string()).collect();
    assert_eq!(reasons.len(), 5);
    assert!(reasons.iter().all(|reason| !reason.contains("closed by the peer")), "{reasons:?}");
}

#[tokio::test]
async fn nonsense_does_no_harm_on_any_carrier() {
    let addresses = ["nsp://127.0.0.1:0", "noservice://127.0.0.1:0", "ws://127.0.0.1:0"];
    let served = Served::at(addresses.map(Listen::on), Limits::default()).await;
    for address in &served.addresses {
        let mut wire = dial(address, &ConnectOptions::default()).await;
        let before = served.handle.stats().ignored;
        for packet in crate::bad_input::nonsense() {
            wire.say(packet).await;
        }
        wire.call_echo().await;
        let ignored = served.handle.stats().ignored - before;
        assert_eq!(ignored, crate::bad_input::nonsense().len() as u64, "{address}");
    }
}

#[tokio::test]
async fn result_and_event_that_are_too_large_are_told_and_not_lost() {
    let large = Service::new("Large")
        .function("result", async |Json(n): Json<usize>| "x".repeat(n))
        .function("event", async |entity: Entity, Json(n): Json<usize>| -> Result<usize, Fail> {
            Ok(entity.emit("e", &"x".repeat(n)).await?.dropped)
        });
    let addresses = ["nsp://127.0.0.1:0", "noservice://127.0.0.1:0", "ws://127.0.0.1:0"];
    let mut builder = Daemon::builder().service(large);
    for address in addresses {
        builder = builder.listen(address);
    }
    let daemon = builder.bind().await.unwrap();
    let addresses = daemon.addresses();
    let serving = tokio::spawn(daemon.serve());
    for address in addresses {
        let mut wire = dial(&address.to_string(), &ConnectOptions::default()).await;
        let entity = wire.open("Large").await;
        let failure = wire.call(&entity, "result", json!(2 << 20)).await.unwrap_err();
        assert_eq!(failure.code.as_deref(), Some("too_large"), "{address}");
        assert_eq!(wire.call(&entity, "event", json!(2 << 20)).await, Ok(json!(1)));
        // What just fits leaves.
        let fits = (1024 + 64) * 1024 - 2048 - 2;
        assert_eq!(wire.call(&entity, "result", json!(fits)).await.unwrap().as_str().unwrap().len(), fits);
    }
    serving.abort();
}

#[tokio::test]
async fn header_that_comes_byte_by_byte_is_understood() {
    let served = Served::at(["noservice://127.0.0.1:0".into()], Limits::default()).await;
    let mut stream = TcpStream::connect(served.host()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in br#"0000000000000024GTrq{"u":"ann","p":"pw"}"# {
        stream.write_all(&[*byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
    let mut answer = [0; 40];
    stream.read_exact(&mut answer[..16]).await.unwrap();
    assert!(answer.starts_with(b"00000000000000"));
}

#[tokio::test]
async fn message_before_an_entity_is_small() {
    let served = Served::at(["nsp://127.0.0.1:0".into()], Limits::default()).await;
    let mut wire = dial(&served.addresses[0], &ConnectOptions::default()).await;
    let mut create = wire.wanting("Echo", None);
    create.description = Some(nsp::proto::RawJson::of(&"x".repeat(20_000)).unwrap());
    wire.ask(nsp::proto::cs::Request::Create(Box::new(create))).await;
    // A frame can be skipped; the connection may go on, or end with that reason.
    let entity = tokio::time::timeout(Duration::from_secs(20), wire.try_open("Echo")).await.unwrap();
    if entity.is_err() {
        assert!(served.handle.closed()[0].reason.to_string().contains("limit"));
    }
    assert_eq!(served.handle.stats().created, u64::from(entity.is_ok()));
}

#[tokio::test]
async fn stopping_abandons_handshakes_and_refuses_new_connections() {
    let (server, _) = tls();
    let served = Served::at([Listen::on("nsps://127.0.0.1:0").tls(server)], Limits::default()).await;
    let host = served.host();
    let mut halfway = TcpStream::connect(&host).await.unwrap();
    let handle = served.handle.clone();
    let drained = served.stop().await;
    assert_eq!((drained.drained, drained.aborted), (0, 0));
    assert_eq!(halfway.read(&mut [0; 16]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(&host).await.is_err());
    assert!(matches!(Wire::to(&handle).end().await, CarrierEnd::Peer));
}
