//! `nossock`: this crate, through its public interface, as its users write it.

use std::future::ready;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use nossock::transport::tls::{ClientTls, Identity, ServerTls, TlsVersion};
use nossock::{
    Config, Connector, EncodedMessage, Json, Limits, Reject, Router, Server, ServerLimits, Socket, State,
};

use crate::measure::Burst;
use crate::messages::{Answer, Ask, Note, Received, Tally, weigh_blob};
use crate::net::{Door, HOST, Listener};

use super::{Arrivals, Caller, Link, Peer, calls_from_tasks};

/// This crate.
#[derive(Debug)]
pub(crate) struct Ours;

/// What the handlers share.
#[derive(Debug, Default)]
struct Service {
    received: Received,
    fans: Mutex<Vec<Socket>>,
}

fn config() -> Config {
    Config { limits: Limits { max_body: 8 * 1024 * 1024, ..Limits::default() }, ..Config::default() }
}

fn router() -> Router<Arc<Service>> {
    let service = Arc::new(Service::default());
    let (notes, blobs) = (Arc::clone(&service), Arc::clone(&service));
    Router::with_state(service)
        .on("note", move |Json(note): Json<Note>| {
            notes.received.add(note.weight());
            ready(())
        })
        .on("blob", move |body: Bytes| ready(weigh_blob(&body).map(|weight| blobs.received.add(weight))))
        .on_request("add", async |Json(ask): Json<Ask>| -> Answer { ask.answer() })
        .on_request("weigh", async |body: Bytes| -> Result<i64, Reject> {
            weigh_blob(&body).map_err(|error| error.to_string().into())
        })
        .on_request("tally", async |State(service): State<Arc<Service>>| service.received.take())
        .on_request("join", async |State(service): State<Arc<Service>>, socket: Socket| {
            service.fans.lock().expect("nobody panics with it").push(socket);
        })
        .on_request("fan", async |State(service): State<Arc<Service>>| -> Result<usize, Reject> {
            let message =
                EncodedMessage::json("note", &Note::number(0)).map_err(|error| error.to_string())?;
            let fans = service.fans.lock().expect("nobody panics with it");
            for fan in fans.iter() {
                fan.try_send_encoded(&message).map_err(|error| error.to_string())?;
            }
            Ok(fans.len())
        })
}

impl Peer for Ours {
    type Link = Line;

    async fn serve(listener: Listener) -> io::Result<()> {
        let scheme = if listener.identity.is_some() { "tls" } else { "tcp" };
        let limits =
            ServerLimits { connections: 20_000, connections_per_address: 20_000, ..ServerLimits::default() };
        let mut server = Server::bind(format!("{scheme}://127.0.0.1:0").as_str())
            .map_err(io::Error::other)?
            .config(config())
            .limits(limits);
        if let Some(identity) = listener.identity {
            let identity = Identity::from_pem(&identity.pem.0, &identity.pem.1).map_err(io::Error::other)?;
            let tls = ServerTls::builder(identity).versions([TlsVersion::Tls13]).build();
            server = server.tls(tls.map_err(io::Error::other)?);
        }
        let server = server.listen_on(listener.tcp).map_err(io::Error::other)?;
        // A task: a future in `block_on` is not polled by a worker.
        tokio::spawn(server.serve(router())).await.map_err(io::Error::other)
    }

    async fn connect(door: &Door) -> io::Result<Self::Link> {
        let scheme = if door.invitation.certificate_pem.is_some() { "tls" } else { "tcp" };
        let address = format!("{scheme}://{HOST}:{}", door.invitation.port);
        let mut connector = Connector::new(address.as_str()).map_err(io::Error::other)?.config(config());
        if let Some(certificate) = &door.invitation.certificate_pem {
            let tls = ClientTls::builder().ca(certificate).versions([TlsVersion::Tls13]).build();
            connector = connector.tls(tls.map_err(io::Error::other)?);
        }
        let arrivals = Arc::new(OnceLock::<Arc<Arrivals>>::new());
        let heard = Arc::clone(&arrivals);
        let router = Router::new().on("note", move || {
            heard.get().into_iter().for_each(|arrivals| arrivals.one());
            ready(())
        });
        let stream = door.open_tcp().await?;
        let socket = connector.connect_routed_over(stream, router).await.map_err(io::Error::other)?;
        Ok(Line { socket, arrivals })
    }
}

/// The client's end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) socket: Socket,
    /// Whom the handler of notes tells.
    arrivals: Arc<OnceLock<Arc<Arrivals>>>,
}

impl Line {
    async fn check(&self, sent: Tally) -> io::Result<u64> {
        sent.check(self.socket.request("tally", &()).await.map_err(io::Error::other)?)
    }
}

impl Caller for Line {
    async fn ask(&self, ask: Ask) -> io::Result<Answer> {
        self.socket.request("add", &ask).await.map_err(io::Error::other)
    }
}

impl Link for Line {
    async fn calls(&mut self, depth: usize, burst: &Arc<Burst>) -> io::Result<u64> {
        calls_from_tasks(self, depth, burst).await
    }

    async fn notes(&mut self, burst: &Burst) -> io::Result<u64> {
        let mut sent = Tally::default();
        while !sent.count.is_multiple_of(64) || burst.more(sent.count) {
            let note = Note::number(sent.count);
            self.socket.send("note", &note).await.map_err(io::Error::other)?;
            sent.add(note.weight());
        }
        self.check(sent).await
    }

    async fn blobs(&mut self, body: Vec<u8>, burst: &Burst) -> io::Result<u64> {
        let weight = weigh_blob(&body)?;
        let body = Bytes::from(body);
        let mut sent = Tally::default();
        while burst.more(sent.count) {
            self.socket.send_raw("blob", body.clone()).await.map_err(io::Error::other)?;
            sent.add(weight);
        }
        self.check(sent).await
    }

    async fn join(&mut self) -> io::Result<()> {
        self.socket.request("join", &()).await.map_err(io::Error::other)
    }

    async fn fan(&mut self) -> io::Result<u64> {
        self.socket.request("fan", &()).await.map_err(io::Error::other)
    }

    async fn deliveries(self, arrivals: Arc<Arrivals>) -> io::Result<()> {
        drop(self.arrivals.set(arrivals));
        self.socket.closed().await;
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
