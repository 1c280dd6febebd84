//! What lies below: listening, accepting, connecting, and what comes before the first packet.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use nossock::transport::tls::{ALPN, ClientTls, Identity, ServerTls};
use nsp::Client;
use nsp::carrier::{Address, Carrier, ConnectOptions, ListenOptions, Listener, WEB_ALPN, connect};
use nsp::daemon::{Daemon, Json, Limits, Listen, Service};
use nsp::machine::{Incoming, Outgoing};
use nsp::proto::{Leg, Method, Methods, Packet};
use tokio::time::timeout;

use crate::POLLS;
use crate::dropping::{drop_after, drops, settle};

const PATIENCE: Duration = Duration::from_secs(5);

fn tls() -> (ServerTls, ClientTls) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem()).unwrap();
    let server = ServerTls::builder(identity).alpn([ALPN, WEB_ALPN]).build().unwrap();
    (server, ClientTls::builder().ca(made.cert.pem()).build().unwrap())
}

/// An address for each carrier and transport; the folder is that of the socket.
fn addresses(folder: &tempfile::TempDir) -> Vec<String> {
    let unix = format!("nsp+unix:{}", folder.path().join("nsp.sock").display());
    let all = ["nsp://127.0.0.1:0", "nsps://localhost:0", "noservice://127.0.0.1:0", "ws://127.0.0.1:0"];
    all.into_iter().map(str::to_owned).chain([unix]).collect()
}

#[tokio::test]
async fn connecting_that_is_dropped_leaves_no_connection_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = tls();
    // Room for one.
    let limits = Limits { connections: 1, accept_rate: 100_000, accept_burst: 100_000, ..Limits::default() };
    let mut dropped = 0;
    for address in addresses(&folder) {
        let service = Service::new("Test").function("echo", async |Json(n): Json<u64>| n);
        let builder = Daemon::builder().service(service).limits(limits.clone());
        let daemon = builder.listen(Listen::on(address).tls(server.clone())).bind().await.unwrap();
        let address = daemon.addresses()[0].clone();
        let serving = tokio::spawn(daemon.serve());
        let options = ConnectOptions { tls: Some(client.clone()), ..ConnectOptions::default() };
        let connector = || Client::connect(address.clone()).tls(client.clone()).no_reconnect();
        for drop in drops(POLLS) {
            let carrier = drop_after(connect(&address, &options), drop, settle).await;
            dropped += u32::from(carrier.is_none());
            std::mem::drop(carrier);
            let nobody = drop_after(connector().connect(), drop, settle).await;
            dropped += u32::from(nobody.is_none());
            std::mem::drop(nobody);
            // The only place is free again, or this one waits in vain.
            let next = async {
                let next = connector().connect().await.unwrap();
                let activity = next.activity("Test").open().await.unwrap();
                assert_eq!(activity.call::<u64>("echo", &1).await.unwrap(), 1);
                next.close().await;
            };
            timeout(PATIENCE, next).await.unwrap_or_else(|_| panic!("{address} {drop:?}: it waits in vain"));
        }
        serving.abort();
        let _ = serving.await;
    }
    assert!(dropped > 0);
}

#[tokio::test]
async fn listening_that_is_dropped_leaves_the_address_free() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = tls();
    let options = ListenOptions { tls: Some(server), ..ListenOptions::default() };
    let mut dropped = 0;
    for address in addresses(&folder) {
        // An address of this machine that no other test uses, so that nobody takes the port meanwhile.
        let address: Address = address.replace("127.0.0.1", "127.77.0.2").parse().unwrap();
        let real = Listener::bind(&address, &options).await.unwrap().address().clone();
        let is_name = real.host() == Some("localhost");
        // Only a name is waited for, and it may be there at once.
        for (n, drop) in drops(3).cycle().take(300).enumerate() {
            if n >= drops(3).count() && (dropped > 0 || !is_name) {
                break;
            }
            let listener = drop_after(Listener::bind(&address, &options), drop, settle).await;
            dropped += u32::from(listener.is_none());
            std::mem::drop(listener.map(Result::unwrap));
            if !is_name {
                let again = Listener::bind(&real, &options).await;
                assert!(again.is_ok(), "{drop:?}: {again:?}");
            }
        }
    }
    assert!(dropped > 0);
}

async fn say(carrier: &mut dyn Carrier, n: usize) {
    let packet = Packet::new(Method::Au, Leg::Request, Bytes::from(n.to_string()));
    carrier.start_send(Outgoing::Packet(packet)).unwrap();
    poll_fn(|cx| carrier.poll_flush(cx)).await.unwrap();
}

async fn hear(carrier: &mut dyn Carrier) -> usize {
    let packet = match poll_fn(|cx| carrier.poll_receive(cx)).await.unwrap() {
        Incoming::Packet(packet) => packet,
        Incoming::Message(message) | Incoming::Sealed(message) => {
            Packet::decode(message, &Methods::default()).unwrap()
        }
    };
    std::str::from_utf8(&packet.payload.json).unwrap().parse().unwrap()
}

#[tokio::test]
async fn accepting_that_is_dropped_loses_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = tls();
    let listening = ListenOptions { tls: Some(server), ..ListenOptions::default() };
    let connecting = ConnectOptions { tls: Some(client), ..ConnectOptions::default() };
    let mut dropped = 0;
    for address in addresses(&folder) {
        let listener = Listener::bind(&address.parse().unwrap(), &listening).await.unwrap();
        for (n, drop) in drops(4).enumerate() {
            let mut client = None;
            let mut come = async || {
                if client.is_none() {
                    let (address, options) = (listener.address().clone(), connecting.clone());
                    client = Some(tokio::spawn(async move {
                        let mut carrier = connect(&address, &options).await.unwrap();
                        say(&mut *carrier, n).await;
                        carrier
                    }));
                }
                settle().await;
            };
            let accepted = drop_after(listener.accept(), drop, &mut come).await;
            dropped += u32::from(accepted.is_none());
            come().await;
            let arriving = match accepted {
                Some(arriving) => arriving,
                None => timeout(PATIENCE, listener.accept()).await.expect("somebody has come"),
            };
            let _ = drop_after(arriving.speaks(), drop, settle).await;
            timeout(PATIENCE, arriving.speaks()).await.expect("it speaks");
            let mut carrier = timeout(PATIENCE, arriving.handshake()).await.expect("a handshake").unwrap();
            let heard = timeout(PATIENCE, hear(&mut *carrier)).await.expect("a packet");
            assert_eq!(heard, n, "{address} {drop:?}: nothing was read before");
            std::mem::drop(client.unwrap().await.unwrap());
        }
    }
    assert!(dropped > 0);
}

#[tokio::test]
async fn handshakes_that_are_dropped_drop_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = tls();
    let listening = ListenOptions { tls: Some(server), ..ListenOptions::default() };
    let connecting = ConnectOptions { tls: Some(client), ..ConnectOptions::default() };
    let (mut dropped, mut done) = (0, 0);
    for address in addresses(&folder) {
        let listener = Listener::bind(&address.parse().unwrap(), &listening).await.unwrap();
        for drop in drops(POLLS) {
            let (address, options) = (listener.address().clone(), connecting.clone());
            // The other side learns it, at the latest when it waits for a packet.
            let client = tokio::spawn(async move {
                let Ok(mut carrier) = connect(&address, &options).await else { return false };
                poll_fn(|cx| carrier.poll_receive(cx)).await.is_ok()
            });
            let arriving = listener.accept().await;
            match drop_after(arriving.handshake(), drop, settle).await {
                Some(carrier) => {
                    let mut carrier = carrier.unwrap();
                    say(&mut *carrier, 7).await;
                    assert!(timeout(PATIENCE, client).await.expect("a packet").unwrap(), "{drop:?}");
                    done += 1;
                }
                None => {
                    assert!(!timeout(PATIENCE, client).await.expect("the end").unwrap(), "{drop:?}");
                    dropped += 1;
                }
            }
        }
    }
    assert!(dropped > 0 && done > 0, "{dropped} {done}");
}
