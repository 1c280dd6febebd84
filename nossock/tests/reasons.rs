//! What a connection says of its end when it was not the peer's doing, and what is no reason to end.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use nossock::{Config, Router, Server, Side, Socket, State};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[tokio::test]
async fn panic_of_who_hears_of_errors_costs_no_connection() {
    let (here, there) = tokio::io::duplex(1024);
    let router = Router::new().on_request("echo", async || 7).on_error(|_, _| panic!("cannot hear"));
    let server = Socket::routed(here, Side::Server, Config::default(), router);
    let client = Socket::over(there, Side::Client, Config::default());
    for _ in 0..3 {
        client.send("nobody handles this", &1).await.unwrap();
        assert_eq!(client.request::<u8, _>("echo", &()).await.unwrap(), 7);
    }
    assert_eq!(server.stats().unhandled, 3);
    assert!(server.close_reason().is_none());
}

#[tokio::test]
async fn server_that_is_dropped_is_named() {
    let sockets: Arc<Mutex<Vec<Socket>>> = Arc::default();
    let router = Router::with_state(Arc::clone(&sockets)).on_request(
        "keep",
        async |socket: Socket, State(sockets): State<Arc<Mutex<Vec<Socket>>>>| {
            sockets.lock().unwrap().push(socket);
            1
        },
    );
    let server = Server::bind("tcp://127.0.0.1:0").unwrap().listen().await.unwrap();
    let address = server.address().to_string();
    let serving = tokio::spawn(server.serve(router));
    let client = nossock::connect(address.as_str()).await.unwrap();
    let _: u8 = client.request("keep", &()).await.unwrap();
    serving.abort();
    let socket = sockets.lock().unwrap().pop().unwrap();
    assert_eq!(socket.closed().await.to_string(), "aborted: the server was dropped");
}

/// A transport with a mistake in it.
struct Bursts;

impl AsyncRead for Bursts {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        panic!("bursts")
    }
}

impl AsyncWrite for Bursts {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        panic!("bursts")
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        panic!("bursts")
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        panic!("bursts")
    }
}

#[tokio::test]
async fn transport_that_panics_is_named() {
    let socket = Socket::over(Bursts, Side::Client, Config::default());
    assert_eq!(socket.closed().await.to_string(), "aborted: the task of the connection panicked");
}
