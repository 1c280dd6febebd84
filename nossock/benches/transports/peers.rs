//! The peers: everything that can carry the rows' messages.
//!
//! To add one, write a file here with a type that is a [`Peer`], and name it in [`peers!`] below.

mod by_hand;
mod codec;
mod messages;
mod mux;
mod ours;
mod raw;
mod rawj;
mod tarpc;
mod tungstenite;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::client;
use crate::measure::{Burst, Sample, stride};
use crate::messages::{Answer, Ask};
use crate::net::{Door, Listener};
use crate::rows::Load;

/// A way to carry messages: how it is served, and how it is reached.
pub(crate) trait Peer: 'static {
    /// The rows it can be measured in.
    const PART: Part = Part::All;

    type Link: Link;

    /// Serves all rows to everybody who connects, until dropped.
    fn serve(listener: Listener) -> impl Future<Output = io::Result<()>> + Send;

    /// Connects to such a server.
    fn connect(door: &Door) -> impl Future<Output = io::Result<Self::Link>> + Send;
}

/// Which rows a peer can be measured in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    All,
    /// Those with requests.
    Calls,
}

/// The client's end of a connection. A peer leaves out the rows it has no part in.
pub(crate) trait Link: Sized + Send + 'static {
    /// Keeps `depth` requests in flight until the burst is over and all are answered; returns how many were.
    fn calls(&mut self, depth: usize, burst: &Arc<Burst>) -> impl Future<Output = io::Result<u64>> + Send;

    /// Sends messages until the burst is over and the server has said it read them all; returns how many.
    fn notes(&mut self, burst: &Burst) -> impl Future<Output = io::Result<u64>> + Send {
        let _ = burst;
        async { no_part() }
    }

    /// The same with raw bodies.
    fn blobs(&mut self, body: Vec<u8>, burst: &Burst) -> impl Future<Output = io::Result<u64>> + Send {
        let _ = (body, burst);
        async { no_part() }
    }

    /// Asks to receive what is sent to all, and returns when that is so.
    fn join(&mut self) -> impl Future<Output = io::Result<()>> + Send {
        async { no_part() }
    }

    /// Asks the server to send a message to all who joined; returns how many that were.
    fn fan(&mut self) -> impl Future<Output = io::Result<u64>> + Send {
        async { no_part() }
    }

    /// Reports what is sent to all, forever.
    fn deliveries(self, arrivals: Arc<Arrivals>) -> impl Future<Output = io::Result<()>> + Send {
        let _ = arrivals;
        async { no_part() }
    }
}

macro_rules! peers {
    ($($name:literal: $peer:ty),+ $(,)?) => {
        /// The names of all peers.
        pub(crate) const NAMES: &[&str] = &[$($name),+];

        /// Whether the peer of that name can carry the load.
        pub(crate) fn takes_part(name: &str, load: Load) -> bool {
            match name {
                $($name => <$peer>::PART == Part::All || matches!(load, Load::Calls { .. }),)+
                _ => false,
            }
        }

        /// Serves as the peer of that name.
        pub(crate) async fn serve(name: &str, listener: Listener) -> io::Result<()> {
            match name {
                $($name => <$peer>::serve(listener).await,)+
                _ => Err(io::Error::other(format!("no peer is named {name}"))),
            }
        }

        /// Runs a row as a client of the peer of that name.
        pub(crate) async fn client(name: &str, job: &client::Job) -> io::Result<Sample> {
            match name {
                $($name => client::run::<$peer>(job).await,)+
                _ => Err(io::Error::other(format!("no peer is named {name}"))),
            }
        }
    };
}

peers! {
    "raw": raw::Raw,
    "rawj": rawj::Rawj,
    "mux": mux::Mux,
    "nossock": ours::Ours,
    "codec": codec::Codec,
    "codec-in-order": codec::CodecInOrder,
    "tungstenite": tungstenite::Tungstenite,
    "tungstenite-in-order": tungstenite::TungsteniteInOrder,
    "tarpc": tarpc::Tarpc,
}

/// Something that can be asked from many tasks at once, each awaiting its own answer.
pub(crate) trait Caller: Clone + Send + Sync + 'static {
    /// One request.
    fn ask(&self, ask: Ask) -> impl Future<Output = io::Result<Answer>> + Send;
}

/// [`Link::calls`] for such: `depth` tasks, each with one request after the other.
pub(crate) async fn calls_from_tasks<C: Caller>(
    caller: &C,
    depth: usize,
    burst: &Arc<Burst>,
) -> io::Result<u64> {
    let mut tasks = JoinSet::new();
    for _ in 0..depth {
        tasks.spawn(call_in_turn(caller.clone(), stride(depth), Arc::clone(burst)));
    }
    let mut answered = 0;
    while let Some(task) = tasks.join_next().await {
        answered += task??;
    }
    Ok(answered)
}

async fn call_in_turn(caller: impl Caller, stride: u64, burst: Arc<Burst>) -> io::Result<u64> {
    let mut answered = 0_u64;
    while !burst.is_over() {
        let timed = answered.is_multiple_of(stride);
        if timed && !burst.more(answered) {
            break;
        }
        let since = timed.then(Instant::now);
        let ask = Ask::number(answered);
        ask.check(caller.ask(ask).await?)?;
        answered += 1;
        since.into_iter().for_each(|since| burst.record(since));
    }
    Ok(answered)
}

/// Counts deliveries on all connections, and tells when a round of them is complete.
#[derive(Debug)]
pub(crate) struct Arrivals {
    clients: u64,
    arrived: AtomicU64,
    complete: Notify,
}

impl Arrivals {
    /// For that many clients.
    pub(crate) fn new(clients: usize) -> Self {
        Self { clients: clients as u64, arrived: AtomicU64::new(0), complete: Notify::new() }
    }

    /// One client has got the message.
    pub(crate) fn one(&self) {
        let arrived = self.arrived.fetch_add(1, Ordering::Relaxed) + 1;
        if arrived.is_multiple_of(self.clients) {
            self.complete.notify_one();
        }
    }

    /// Waits until all have got it.
    pub(crate) async fn all(&self) {
        self.complete.notified().await;
    }
}

fn no_part<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this peer has no part in this row"))
}
