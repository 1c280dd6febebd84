//! Those who wait for others: listening, accepting, serving.

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use nossock::transport::{Address, UnixAddress, tcp, unix};
use nossock::{Connector, Router, Server, State};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::POLLS;
use crate::dropping::{drop_after, drops, settle};

/// Whether somebody is being served.
type Begun = Arc<AtomicBool>;

fn busy(begun: &Begun) -> Router<Begun> {
    Router::with_state(Arc::clone(begun)).on_request("forever", async |State(begun): State<Begun>| {
        begun.store(true, Ordering::Relaxed);
        pending::<u64>().await
    })
}

#[tokio::test]
async fn listening_that_is_dropped_leaves_the_address_free() {
    // An address of this machine that no other test uses, so that nobody takes the port meanwhile.
    let port = tcp::listen("127.77.0.1", 0, 1).await.unwrap().local_addr().unwrap().port();
    let address = format!("tcp://127.77.0.1:{port}");
    let directory = tempfile::tempdir().unwrap();
    let path = Address::Unix(UnixAddress::Path(directory.path().join("socket")));
    let mut dropped = 0;
    for (n, drop) in drops(3).cycle().take(300).enumerate() {
        if n >= drops(3).count() && dropped > 0 {
            break;
        }
        // A name is looked up elsewhere, which mostly takes a while.
        let named = drop_after(tcp::listen("localhost", 0, 1), drop, settle).await;
        dropped += u32::from(named.is_none());
        std::mem::drop(named.map(Result::unwrap));
        std::mem::drop(
            drop_after(tcp::listen("127.77.0.1", port, 1), drop, settle).await.map(Result::unwrap),
        );
        for address in [address.parse().unwrap(), path.clone()] {
            let listening = drop_after(Server::bind(address.clone()).unwrap().listen(), drop, settle).await;
            std::mem::drop(listening.map(Result::unwrap));
            let again = Server::bind(address).unwrap().listen().await;
            assert!(again.is_ok(), "{drop:?}: {again:?}");
        }
    }
    assert!(dropped > 0);
}

#[tokio::test]
async fn accepting_that_is_dropped_loses_no_connection() {
    let directory = tempfile::tempdir().unwrap();
    let address = UnixAddress::Path(directory.path().join("socket"));
    let listener = unix::listen(&address).unwrap();
    let mut dropped = 0;
    for (n, drop) in drops(4).enumerate() {
        let mut client = None;
        let come = async || {
            if client.is_none() {
                client = Some(unix::connect(&address).await.unwrap());
            }
        };
        let accepted = drop_after(listener.accept(), drop, come).await;
        dropped += u32::from(accepted.is_none());
        let mut client = match client {
            Some(client) => client,
            None => unix::connect(&address).await.unwrap(),
        };
        let mut accepted = match accepted {
            Some(accepted) => accepted.unwrap(),
            None => listener.accept().await.unwrap(),
        };
        let n = u8::try_from(n).unwrap();
        client.write_all(&[n]).await.unwrap();
        assert_eq!(accepted.read_u8().await.unwrap(), n, "{drop:?}: each is accepted once");
    }
    assert!(dropped > 0);
}

#[tokio::test]
async fn serving_that_is_dropped_cuts_its_connections() {
    let directory = tempfile::tempdir().unwrap();
    for drop in drops(POLLS).filter(|(polls, _)| *polls > 2) {
        for way in ["serve", "serve_until", "serve_until, of a builder", "serve_until, while it ends"] {
            let path = Address::Unix(UnixAddress::Path(directory.path().join("socket")));
            let (builder, begun) = (Server::bind(path.clone()).unwrap(), Begun::default());
            let later = async || tokio::time::sleep(Duration::from_millis(3)).await;
            let connector = Connector::new(path).unwrap();
            let dialling = tokio::spawn(async move {
                // As soon as somebody listens there.
                loop {
                    match connector.connect().await {
                        Ok(socket) => {
                            let asking = socket.clone();
                            tokio::spawn(async move { asking.request::<u64, _>("forever", &()).await });
                            return socket;
                        }
                        Err(_) => settle().await,
                    }
                }
            });
            let ended = match way {
                "serve" => {
                    let server = builder.listen().await.unwrap();
                    drop_after(server.serve(busy(&begun)), drop, later).await.is_some()
                }
                "serve_until" => {
                    let server = builder.listen().await.unwrap();
                    drop_after(server.serve_until(busy(&begun), pending()), drop, later).await.is_some()
                }
                "serve_until, of a builder" => {
                    drop_after(builder.serve_until(busy(&begun), pending()), drop, later).await.is_some()
                }
                _ => {
                    let server = builder.listen().await.unwrap();
                    // Somebody is served by then, and what was asked for is never done.
                    let shutdown = poll_fn(|_| match begun.load(Ordering::Relaxed) {
                        true => Poll::Ready(()),
                        false => Poll::Pending,
                    });
                    drop_after(server.serve_until(busy(&begun), shutdown), drop, later).await.is_some()
                }
            };
            assert!(!ended, "{way}, {drop:?}");
            let socket = dialling.await.unwrap();
            let reason = timeout(Duration::from_secs(5), socket.closed()).await;
            assert!(reason.is_ok(), "{way}, {drop:?}: somebody still serves it");
        }
    }
}
