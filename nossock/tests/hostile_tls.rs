//! Peers that begin a TLS handshake and mean harm: they cost themselves time and nobody else.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "common/certs.rs"]
mod certs;
#[path = "common/served.rs"]
mod served;

use std::time::{Duration, Instant};

use nossock::transport::tls::{ClientTls, ServerTls};
use nossock::{Connector, Server, ServerLimits};
use tokio::io::AsyncWriteExt as _;

use certs::Authority;
use served::Served;

async fn tls_server(limits: ServerLimits) -> (Served, Connector) {
    let authority = Authority::new("ca");
    let tls = ServerTls::new(authority.server(&["127.0.0.1"]).identity()).unwrap();
    let client = ClientTls::builder().ca(authority.pem()).build().unwrap();
    let builder = Server::bind("tls://127.0.0.1:0").unwrap().limits(limits).tls(tls);
    let near =
        |address: &nossock::transport::Address| Connector::new(address.clone()).unwrap().tls(client.clone());
    let served = Served::start(builder, near).await;
    let connector = near(served.address());
    (served, connector)
}

#[tokio::test]
async fn silent_connections_keep_nobody_from_the_handshake() {
    let limits = ServerLimits { handshakes: 2, ..ServerLimits::default() };
    let (served, connector) = tls_server(limits).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(served.raw().await);
    }
    let start = Instant::now();
    let socket = connector.connect().await.unwrap();
    assert_eq!(socket.request::<u64, _>("echo", &7).await.unwrap(), 7);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}: it waited for those who say nothing");
    socket.close().await.unwrap();
    drop(silent);
    served.still_serves().await;
}

#[tokio::test]
async fn one_address_cannot_take_all_handshakes() {
    let limits = ServerLimits::default();
    assert!(limits.connections_per_address * 4 <= limits.handshakes);
    let (served, connector) = tls_server(limits).await;
    let mut begun = Vec::new();
    // As many as one address may have, less the two that are served and one to come.
    for _ in 0..250 {
        let mut peer = served.raw().await;
        peer.write_all(&[0x16, 3, 1, 2, 0, 1, 0]).await.unwrap();
        begun.push(peer);
    }
    let start = Instant::now();
    let socket = connector.connect().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    socket.close().await.unwrap();
    drop(begun);
    served.still_serves().await;
}
