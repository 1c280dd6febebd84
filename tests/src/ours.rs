use std::fmt::Debug;
use std::future::ready;

use nossock::transport::Address;
use nossock::transport::tls::ServerTls;
use nossock::wire::{Body, Name};
use nossock::{Config, Drained, Router, Server, Socket};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::in_time;

/// A server of ours. Its connections, the messages that no route of the story takes, and its errors are read by the
/// story.
///
/// Dropped, it stops.
#[derive(Debug)]
pub struct Ours {
    port: u16,
    sockets: UnboundedReceiver<Socket>,
    messages: UnboundedReceiver<Received>,
    errors: UnboundedReceiver<String>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<Drained>,
}

/// A message that a server of ours got.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made to be compared with")]
pub struct Received {
    /// What it is called.
    pub name: String,
    /// What it carries.
    pub body: Body,
}

impl Ours {
    /// Listens on a free port, over TLS when there is some.
    ///
    /// # Cancel safety
    /// Dropping it listens nowhere.
    pub async fn listen(tls: Option<ServerTls>, config: Config, router: Router) -> Self {
        let (opened, sockets) = unbounded_channel();
        let (got, messages) = unbounded_channel();
        let (failed, errors) = unbounded_channel();
        // The story may have heard enough: then nobody reads, and that is fine.
        let router = router
            .on_connect(move |socket: Socket| {
                let _ = opened.send(socket);
                ready(())
            })
            .fallback(move |name: Name, body: Body| {
                let _ = got.send(Received { name: name.to_string(), body });
                ready(())
            })
            .on_error(move |_, error| {
                let _ = failed.send(error.to_string());
            });
        let builder = match tls {
            Some(tls) => Server::bind("tls://127.0.0.1:0").unwrap().tls(tls),
            None => Server::bind("tcp://127.0.0.1:0").unwrap(),
        };
        let server = builder.config(config).listen().await.unwrap();
        let (Address::Tcp { port, .. } | Address::Tls { port, .. }) = *server.address() else {
            unreachable!()
        };
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.serve_until(router, async {
            let _ = stopped.await; // dropped is as good as told
        }));
        Self { port, sockets, messages, errors, stop: Some(stop), serving }
    }

    /// Where it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The next connection.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub async fn socket(&mut self) -> Socket {
        next("a connection", &mut self.sockets).await
    }

    /// The next message, of whichever connection.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub async fn message(&mut self) -> Received {
        next("a message", &mut self.messages).await
    }

    /// The next message that could not be handled, as text.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub async fn error(&mut self) -> String {
        next("an error", &mut self.errors).await
    }

    /// Stops, and says what became of the connections.
    ///
    /// # Cancel safety
    /// Dropping it waits no longer; it stops all the same.
    pub async fn stop(mut self) -> Drained {
        drop(self.stop.take());
        in_time("stopping", &mut self.serving).await.unwrap()
    }
}

async fn next<T: Debug>(what: &str, queue: &mut UnboundedReceiver<T>) -> T {
    in_time(what, queue.recv()).await.expect("the server runs")
}
