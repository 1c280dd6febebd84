//! A server over real TCP with a well-behaved client beside, to see that both outlive what a test does to them.
#![allow(dead_code, unreachable_pub, reason = "each test file includes this and uses what it needs")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::net::SocketAddr;

use nossock::transport::Address;
use nossock::{CloseReason, Connector, Drained, HandlerError, Json, Router, ServerBuilder, Socket};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// A server that answers `echo`, takes numbers as `note`, never answers `forever`, and tells what it saw.
pub struct Served {
    address: Address,
    bystander: (Connector, Socket),
    /// The server's end of each connection after the bystander's, in the order in which they came.
    sockets: mpsc::UnboundedReceiver<Socket>,
    errors: mpsc::UnboundedReceiver<String>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Drained>,
}

impl Served {
    /// Serves; `near` says how the bystander connects to the address that the server got.
    pub async fn start(builder: ServerBuilder, near: impl FnOnce(&Address) -> Connector) -> Self {
        let server = builder.listen().await.unwrap();
        let address = server.address().clone();
        let (connected, mut sockets) = mpsc::unbounded_channel();
        let (failed, errors) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let router = Router::new()
            .on("note", async |Json(_): Json<u64>| {})
            .on_request("echo", async |Json(value): Json<u64>| value)
            .on_request("forever", async || std::future::pending::<u64>().await)
            .on_connect(move |socket: Socket| {
                let _ = connected.send(socket);
                std::future::ready(())
            })
            .on_error(move |_: &Socket, error: &HandlerError| {
                let _ = failed.send(error.to_string());
            });
        let task = tokio::spawn(server.serve_until(router, async { stopped.await.unwrap_or_default() }));
        let connector = near(&address);
        let socket = connector.connect().await.unwrap();
        let one: u64 = socket.request("echo", &1).await.unwrap();
        assert_eq!(one, 1);
        drop(sockets.recv().await.unwrap());
        Self { address, bystander: (connector, socket), sockets, errors, stop: Some(stop), task }
    }

    /// Serves over plain TCP.
    pub async fn plain(config: nossock::Config) -> Self {
        let builder = nossock::Server::bind("tcp://127.0.0.1:0").unwrap().config(config);
        Self::start(builder, |address| Connector::new(address.clone()).unwrap()).await
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    pub fn port(&self) -> u16 {
        let text = self.address.to_string();
        text.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// A bare TCP connection.
    pub async fn raw(&self) -> TcpStream {
        TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], self.port()))).await.unwrap()
    }

    /// The server's end of the next connection.
    pub async fn accepted(&mut self) -> Socket {
        self.sockets.recv().await.unwrap()
    }

    /// Why the server's end of the next connection ended, in words.
    pub async fn ended(&mut self) -> String {
        self.reason().await.to_string()
    }

    pub async fn reason(&mut self) -> CloseReason {
        let socket = self.accepted().await;
        socket.closed().await
    }

    /// The next error that the server's router heard of.
    pub async fn error(&mut self) -> String {
        self.errors.recv().await.unwrap()
    }

    /// Sees that the connection that was there before goes on, that a new one is served, and that the server stops
    /// in peace.
    pub async fn still_serves(mut self) {
        let (connector, old) = &self.bystander;
        let value: u64 = old.request("echo", &2).await.unwrap();
        assert_eq!(value, 2, "the other connection goes on");
        let new = connector.connect().await.unwrap();
        let value: u64 = new.request("echo", &3).await.unwrap();
        assert_eq!(value, 3, "new connections are served");
        new.close().await.unwrap();
        old.close().await.unwrap();
        let _ = self.stop.take().unwrap().send(());
        let drained = self.task.await.unwrap();
        assert_eq!(drained.aborted, 0, "{drained:?}");
    }
}
