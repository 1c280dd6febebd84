//! This crate, through its public interface, as its users write it: one type for each way to carry it.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use nossock::transport::tls::{ClientTls, TlsVersion};
use nsp::Client;
use nsp::client::{Activity, Connector, Events, Login, Trust};
use nsp::machine::SpMode;
use serde::de::IgnoredAny;

use crate::measure::Burst;
use crate::messages::{Answer, Ask};
use crate::net::{Door, HOST, Listener};

use super::blobs::weigh_in_tasks;
use super::daemon::{self, SERVICE, TOKEN, USER};
use super::{Arrivals, Caller, Link, Peer, calls_from_tasks};

/// What the ways differ in.
pub(crate) trait Way: Send + 'static {
    const SCHEME: &'static str;
    const FUNCTION: &'static str = "add";
    const SECURED: bool = false;
}

/// `nsp://`
pub(crate) enum Plain {}

/// `nsps://`
pub(crate) enum Tls {}

/// `ws://`
pub(crate) enum WebSocket {}

/// `wss://`
pub(crate) enum WebSocketTls {}

/// `noservice://`
pub(crate) enum Chunks {}

/// Any of them with SP.
pub(crate) struct Secured<W>(W);

/// `nsp://`, and a function that demands a superuser's token.
pub(crate) enum Proved {}

impl Way for Plain {
    const SCHEME: &'static str = "nsp";
}

impl Way for Tls {
    const SCHEME: &'static str = "nsps";
}

impl Way for WebSocket {
    const SCHEME: &'static str = "ws";
}

impl Way for WebSocketTls {
    const SCHEME: &'static str = "wss";
}

impl Way for Chunks {
    const SCHEME: &'static str = "noservice";
}

impl<W: Way> Way for Secured<W> {
    const SCHEME: &'static str = W::SCHEME;
    const SECURED: bool = true;
}

impl Way for Proved {
    const SCHEME: &'static str = "nsp";
    const FUNCTION: &'static str = "secure";
}

impl<W: Way> Peer for W {
    type Link = Line;

    async fn serve(listener: Listener) -> io::Result<()> {
        daemon::serve(listener, W::SCHEME, W::SECURED).await
    }

    async fn connect(door: &Door) -> io::Result<Line> {
        let mut tries = 0;
        let client = loop {
            match client::<W>(door)?.await {
                Ok(client) => break client,
                Err(error) if tries == TRIES => return Err(io::Error::other(error)),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
            tries += 1;
        };
        Line::open(client, W::FUNCTION).await
    }
}

/// For a daemon that does not listen yet: it may have an RSA key to make.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(20);

fn client<W: Way>(door: &Door) -> io::Result<Connector> {
    let address = format!("{}://{HOST}:{}", W::SCHEME, door.invitation.port);
    let mut connector = Client::connect(address.as_str())
        .no_reconnect()
        .credentials(Login::new(USER).token(TOKEN))
        .trust(Trust::danger_anyone())
        .sp(if W::SECURED { SpMode::Required } else { SpMode::WhenAsked });
    if let Some(certificate) = &door.invitation.certificate_pem {
        let tls =
            ClientTls::builder().ca(certificate).versions([TlsVersion::Tls13]).alpn([nsp::carrier::WEB_ALPN]);
        connector = connector.tls(tls.build().map_err(io::Error::other)?);
    }
    Ok(connector)
}

/// Client and daemon in one process: all of it but the sockets.
pub(crate) enum Memory {}

impl Peer for Memory {
    type Link = Line;

    /// Nobody comes to this one.
    async fn serve(_: Listener) -> io::Result<()> {
        pending().await
    }

    async fn connect(_: &Door) -> io::Result<Line> {
        let daemon = daemon::builder().bind().await.map_err(io::Error::other)?;
        let carrier = daemon.handle().connect_local();
        tokio::spawn(daemon.serve());
        Line::open(Client::over(carrier), "add").await
    }
}

/// A connection with one activity.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    activity: Activity,
    function: &'static str,
    /// The connection lives as long as this.
    _client: Client,
}

impl Line {
    async fn open(client: Client, function: &'static str) -> io::Result<Self> {
        let mut opening = client.activity(SERVICE);
        if function == Proved::FUNCTION {
            opening = opening.owner(USER);
        }
        let activity = opening.open().await.map_err(io::Error::other)?;
        Ok(Self { activity, function, _client: client })
    }
}

impl Caller for Line {
    async fn ask(&self, ask: Ask) -> io::Result<Answer> {
        self.activity.call(self.function, &ask).await.map_err(io::Error::other)
    }
}

impl Link for Line {
    async fn calls(&mut self, depth: usize, burst: &Arc<Burst>) -> io::Result<u64> {
        calls_from_tasks(self, depth, burst).await
    }

    async fn blobs(&mut self, body: Vec<u8>, burst: &Burst) -> io::Result<u64> {
        weigh_in_tasks(self.activity.clone(), body, burst, async |activity, body| {
            let (data, _) = activity.call_blob("weigh", body, &()).await.map_err(io::Error::other)?;
            let json = data.into_json().map_err(|_| io::Error::other("answered by a blob"))?;
            json.to::<i64>().map_err(io::Error::other)
        })
        .await
    }

    async fn join(&mut self) -> io::Result<()> {
        self.activity.call("join", &()).await.map_err(io::Error::other)
    }

    async fn fan(&mut self) -> io::Result<u64> {
        self.activity.call("fan", &()).await.map_err(io::Error::other)
    }

    async fn deliveries(self, arrivals: Arc<Arrivals>) -> io::Result<()> {
        let mut notes: Events<IgnoredAny> = self.activity.events("note");
        while let Some(note) = notes.next().await {
            note.map_err(io::Error::other)?;
            arrivals.one();
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
