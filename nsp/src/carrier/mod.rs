//! What carries packets: nossock frames, NoService chunks, WebSocket messages, or memory.
//!
//! A carrier knows how a packet looks on its transport and moves bytes. It knows nothing of methods, activities and
//! entities: one driver a connection stands between it and a [`machine`](crate::machine).
//!
//! ```text
//!   socket ──▶ poll_receive ──▶ Incoming ──▶ machine ──▶ Outgoing ──▶ start_send ──▶ poll_flush ──▶ socket
//! ```

mod address;
pub(crate) mod alarm;
mod buffers;
mod chunks;
mod connect;
mod frames;
mod lent;
mod limits;
mod listen;
mod memory;
mod meter;
#[cfg(test)]
mod tests;
mod transport;
mod upgrade;
#[cfg(feature = "websocket")]
mod websocket;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use nossock::Peer;

use crate::machine::{Incoming, Next, Outgoing, Texts};
use crate::proto::{DecodeError, EncodeError, Leg, Method, Packet};

pub use address::{Address, AddressError, Scheme};
pub use connect::{ConnectError, ConnectOptions, connect};
pub use lent::Lent;
pub(crate) use lent::Sheet;
pub use limits::Limits;
pub use listen::{Arriving, HandshakeError, ListenError, ListenOptions, Listener};
pub use memory::{Memory, memory};
pub use meter::Meter;
pub use upgrade::HttpError;

/// What `wss://` is called in TLS' application-layer protocol negotiation: that of HTTP, as it begins there. A server that has one
/// [`ServerTls`](nossock::transport::tls::ServerTls) for `nsps://` and `wss://` gives it both this and nossock's.
pub const WEB_ALPN: &str = "http/1.1";

/// One connection that carries packets.
///
/// It is polled by the one driver that owns it. Dropping it cuts the connection.
pub trait Carrier: fmt::Debug + Send + 'static {
    /// Of which kind it is.
    fn kind(&self) -> CarrierKind;

    /// Who is at the other end, as far as the transport knows.
    fn peer(&self) -> &Peer;

    /// Whether nobody on the way can read what it carries: TLS, a Unix socket, or memory.
    fn is_confidential(&self) -> bool;

    /// Sets the largest message that is accepted from now on, in bytes. A larger one ends the connection, unless the
    /// carrier can skip it.
    fn limit_message(&mut self, bytes: usize);

    /// Takes the next message that has arrived.
    ///
    /// Whatever the carrier itself has to say, answers to pings and the like, it sends from here. A message that began to arrive
    /// has to end in time; who does not want to receive for a while calls [`hold`](Self::hold).
    ///
    /// # Errors
    /// With why no more will come: the connection is over.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, CarrierEnd>>;

    /// Waits until there is something to be [lent](Self::lend) or [received](Self::poll_receive), which may be the end. A carrier that
    /// never lends is always ready.
    fn poll_arrived(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Lends the next message, if it has arrived as a whole and is a packet of CS that is JSON alone, and a carrier can lend it. It stays the next one:
    /// until it is [`taken`](Self::taken), [`poll_receive`](Self::poll_receive) gives it as well.
    fn lend(&mut self) -> Option<Lent<'_>> {
        None
    }

    /// The message that was [lent](Self::lend) last is done with.
    fn taken(&mut self) {}

    /// Lends one message after the other, for as long as `take` says that it is done with it.
    fn lend_each(&mut self, take: &mut dyn FnMut(Leg, &[u8]) -> bool) {
        while self.lend().is_some_and(|lent| take(lent.leg, lent.json)) {
            self.taken();
        }
    }

    /// Nothing is received for a while, of this side's own will: the time of a message that is arriving begins anew when this goes on.
    fn hold(&mut self) {}

    /// Queues a message. Nothing leaves before [`poll_flush`](Self::poll_flush).
    ///
    /// # Errors
    /// When the message does not fit the carrier; the connection is as before.
    fn start_send(&mut self, message: Outgoing) -> Result<(), EncodeError>;

    /// The same for a packet of JSON alone that is only lent.
    ///
    /// # Errors
    /// As [`start_send`](Self::start_send).
    fn start_json(&mut self, method: Method, leg: Leg, json: &[u8]) -> Result<(), EncodeError> {
        self.start_send(Outgoing::Packet(Packet::new(method, leg, Bytes::copy_from_slice(json))))
    }

    /// The same for many of them, each behind its length in four bytes, the lowest first. Those that do not fit are left out.
    ///
    /// # Errors
    /// As [`start_send`](Self::start_send), of the last one that was left out.
    fn start_each(&mut self, method: Method, leg: Leg, texts: &[u8]) -> Result<(), EncodeError> {
        let mut result = Ok(());
        for json in Texts(texts) {
            result = self.start_json(method, leg, json).and(result);
        }
        result
    }

    /// Bytes that are queued and have not left. Who sends is to wait while this is large.
    fn queued(&self) -> usize;

    /// The largest message that [`start_send`](Self::start_send) takes, in bytes: this side's limit, or what the peer says that it
    /// accepts, which may become known later.
    fn largest_send(&self) -> usize {
        usize::MAX
    }

    /// How many messages were skipped because they were no packets or too large, on a carrier that can go on after them.
    fn skipped(&self) -> u64 {
        0
    }

    /// Writes what is queued. Ready when all of it has left; it has to be polled again while it is pending.
    ///
    /// # Errors
    /// With why nothing can leave any more.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierEnd>>;

    /// Tells the peer that this is the end, and why where the carrier has words for it, writes what is queued, and
    /// shuts the connection down. To be called with the same reason until it is ready.
    fn poll_close(&mut self, cx: &mut Context<'_>, reason: &Farewell) -> Poll<()>;
}

/// Gives a carrier what a machine has to say.
#[inline]
pub(crate) fn send(carrier: &mut dyn Carrier, next: Next<'_>) -> Result<(), EncodeError> {
    match next {
        Next::Short { leg, json } => carrier.start_json(Method::Cs, leg, json),
        Next::Whole(message) => carrier.start_send(message),
    }
}

/// The kinds of carriers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CarrierKind {
    /// nossock frames: `nsp://`, `nsps://`.
    Frames,
    /// NoService chunks over TCP: `noservice://`.
    Chunks,
    /// WebSocket messages: `ws://`, `wss://`.
    WebSocket,
    /// In this process.
    Memory,
}

impl CarrierKind {
    /// Whether the daemon sends heartbeats over it, as the original does. nossock has pings of its own.
    #[must_use]
    pub const fn has_heartbeat(self) -> bool {
        matches!(self, Self::Chunks | Self::WebSocket)
    }
}

/// What the last words to a peer are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Farewell {
    /// All is said.
    Normal,
    /// This side stops.
    GoingAway,
    /// The peer did something that ends its connection; for it to read, without anything that it should not know.
    Refused(String),
}

/// Why nothing more comes by a carrier.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CarrierEnd {
    /// The peer ended it between two messages.
    #[error("closed by the peer")]
    Peer,
    /// The peer ended it and said why.
    #[error("closed by the peer: {}", .0.escape_debug())]
    PeerSaid(String),
    /// The peer ended it inside a message.
    #[error("the peer's stream ended inside a message")]
    Truncated,
    /// The peer sent a message that is too large.
    #[error("a message of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size in bytes, as far as it is known.
        size: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// The peer sent what the carrier is not made of.
    #[error("{0}")]
    Protocol(String),
    /// The peer sent what cannot be read as a packet, on a carrier that cannot go on after it.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// Something took too long.
    #[error("{what} took longer than {after:?}")]
    TimedOut {
        /// What.
        what: &'static str,
        /// The limit.
        after: Duration,
    },
    /// The transport failed.
    #[error("the connection failed: {0}")]
    Io(#[source] Arc<io::Error>),
}

impl From<io::Error> for CarrierEnd {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}
