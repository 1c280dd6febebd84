//! What a user holds: [`Socket`], and the handlers that messages go to.
//!
//! # Order
//!
//! Messages of one connection arrive and are handled **in order**; requests are started in the order in which
//! they come and run side by side, up to [`Limits::requests_in`](crate::Limits::requests_in). Either side sends,
//! asks and handles; who dialled does not matter. A request that comes after a message is not held back by a
//! handler of that message that still waits: so a handler may itself ask the peer something, and be asked back.
//!
//! # Back-pressure
//!
//! Counted in bytes, on both sides. [`Socket::send`] waits while
//! [`Limits::send_queue`](crate::Limits::send_queue) bytes are queued, [`Socket::try_send`] gives up instead. A
//! slow handler, or a user who does not call [`Socket::recv`], fills
//! [`Limits::receive_queue`](crate::Limits::receive_queue); then this socket is not read any more, the peer's own
//! queue fills, and its senders wait. Nobody else's socket is touched.
//!
//! Answers arrive by the same stream as messages: while nothing is read, requests of ours get no answer. Who asks
//! and is sent messages too has to receive them, or give them a [`Router`](crate::Router).
//!
//! While the peer does not take its answers, [`Limits::send_queue`](crate::Limits::send_queue) bytes of them, its requests are
//! not handled, and nothing of it is read. A socket with a router that waits for answers itself reads on, for both sides may
//! have much to answer and would wait for each other; then requests wait in the receive queue.
//!
//! # One task
//!
//! A connection is one task, its driver. Per wake-up it reads what is there, decodes all of it, polls the
//! handlers in place and writes everything that they said at once. A send from anywhere else puts bytes into the
//! connection's queue under a short lock, and wakes the driver only if that sleeps.
//!
//! A handler that does not wait is never more than a call: its future lives in a place of the thread, and its answer goes
//! straight into what the driver writes next, unless something was queued before it. Only an
//! [`EncodedMessage`](crate::EncodedMessage) goes past the driver, if that sleeps and nothing is queued: so one task can
//! write to a thousand sockets.

mod answers;
mod batch;
mod driver;
mod encode;
mod encoded;
mod extract;
mod handler;
mod memory;
mod message;
mod peer;
mod receive;
mod request;
mod send;
mod shared;
pub mod slot;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use driver::Driver;
pub use encoded::EncodedMessage;
pub use extract::{FromMessage, Incoming, Json, State};
pub(crate) use handler::{Endpoint, OnMessage, OnRequest};
pub use handler::{IntoAnswer, IntoOutcome, MessageHandler, Raw, RequestHandler};
pub use message::{AnswerError, Message, RecvError, Refused, Responder};
pub use peer::Peer;
pub use receive::Messages;
pub use request::{RequestError, Value};
pub use send::{Permit, SendError, TrySendError, Unsent};
pub(crate) use shared::Shared;

use crate::router::{Router, Routes};
use crate::session::{CloseReason, Hello, Stats};
use crate::transport::Plain;
use crate::{Config, Limits};

/// One end of a connection: sends, asks, receives and closes.
///
/// Cheap to clone, and every method takes `&self`: use it from any task. The connection closes when
/// [`close`](Self::close) is called or the last `Socket` is dropped; a [`Server`](crate::Server) holds one for
/// each of its connections, a handler that asks for one gets a clone.
#[derive(Debug)]
pub struct Socket {
    shared: Arc<Shared>,
}

/// Which side of a connection this is; they differ in who says hello first, and in nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a connection has two sides")]
pub enum Side {
    /// The one that connected.
    Client,
    /// The one that accepted.
    Server,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

impl Socket {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        shared.add_handle();
        Self { shared }
    }

    /// Runs a conversation over any byte stream, with messages to be [received](Self::recv) by hand.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn over<T>(io: T, side: Side, config: Config) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self::spawn(io, side, Arc::new(config), None, Peer::default())
    }

    /// Runs a conversation over any byte stream, with messages handled by a router.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn routed<T, S>(io: T, side: Side, config: Config, router: Router<S>) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Clone + Send + Sync + 'static,
    {
        Self::spawn(io, side, Arc::new(config), Some(router.into_routes()), Peer::default())
    }

    pub(crate) fn spawn<T>(
        io: T,
        side: Side,
        config: Arc<Config>,
        routes: Option<Arc<Routes>>,
        peer: Peer,
    ) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (socket, driver) = Self::pair(io, side, config, routes, peer);
        tokio::spawn(driver);
        socket
    }

    /// The socket and the future that drives it.
    pub(crate) fn pair<T>(
        io: T,
        side: Side,
        config: Arc<Config>,
        routes: Option<Arc<Routes>>,
        peer: Peer,
    ) -> (Self, Driver<T>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Of all streams that a user may bring, too, only this one has an end to share.
        let plain = (&io as &dyn Any).downcast_ref::<Plain>();
        let write_end = plain.map(|plain| Arc::clone(plain.write_end()));
        let shared =
            Shared::new(config, peer, side == Side::Client, routes.is_none(), write_end, shared::now());
        let socket = Self::new(Arc::clone(&shared));
        (socket, Driver::new(io, shared, routes))
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.shared.peer
    }

    /// What the peer said of itself, once it has: `None` is a peer that speaks plain nossock, or has not spoken
    /// yet.
    #[must_use]
    pub fn peer_hello(&self) -> Option<Hello> {
        self.shared.lock().session.peer().cloned()
    }

    /// The bounds this side keeps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.shared.config.limits
    }

    /// What was counted on this connection.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.lock().session.stats()
    }

    /// Why the conversation ended, if it has.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.shared.lock().session.reason().cloned()
    }

    /// Whether both are handles of the same connection.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Clone for Socket {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.shared.drop_handle();
    }
}
