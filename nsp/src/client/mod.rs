//! What a caller holds: a [`Client`] for one daemon, and an [`Activity`] for each service that it uses.
//!
//! ```text
//!   Activity ─┐                             ┌─ Carrier ── the daemon
//!   Activity ─┼─▶ Shared: the machine ◀── driver
//!   Events  ──┘   under one lock            └─ Credentials, Trust
//! ```
//!
//! One task a client connects, receives and sends. A call writes its packet under the lock of the client, and wakes the task only if
//! that sleeps; an answer is left in the place of its call, and wakes the caller. Nothing goes through a channel.

mod activity;
mod call;
mod connector;
mod core;
mod credentials;
mod driver;
mod error;
mod inbox;
mod outcome;
mod run;
mod shared;
mod slots;
mod state;
mod stream;
mod trust;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::{mpsc, watch};

use self::activity::{Deadline, not_connected};
use self::call::Answer;
use self::outcome::Outcome;
use self::shared::Shared;
use crate::carrier::{Address, AddressError, Carrier};
use crate::machine::client::RequestError;
use crate::proto::Packet;
use crate::secret::{Password, Token};

pub use self::activity::{Activity, Opening};
pub use self::connector::Connector;
pub use self::credentials::{Ask, Credentials, Login, NoCredentials, Told};
pub use self::error::{CallError, DownReason, OpenError};
pub use self::inbox::Happening;
pub use self::state::{ActivityEnd, ActivityState, ClientState, Reconnect};
pub use self::stream::{BlobEvent, BlobEvents, DataStream, EventError, Events, Happenings};
pub use self::trust::{
    Asked, Confirm, HostName, KeyKind, KnownHost, KnownHosts, KnownHostsError, Offered, Trust, TrustError,
};

/// Packets of the user's own methods that wait for a reader.
const PACKETS: usize = 256;

/// A client of one daemon.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use nsp::client::{Client, Login};
///
/// let client = Client::connect("nsps://chat.example.org:43580")
///     .credentials(Login::new("alice").token("5b7c…"))
///     .await?;
/// let chat = client.activity("Chat").owner("alice").open().await?;
/// let answer: String = chat.call("Hello", &"I am client.").await?;
/// client.close().await;
/// # drop(answer); Ok(()) }
/// ```
///
/// It is a handle: clones are of the same client. When the connection is lost it comes back by itself and opens its activities
/// again, see [`Reconnect`] and [`ActivityState::Reopening`]. The connection is closed when the last handle of the client and of its
/// activities is gone.
#[derive(Debug, Clone)]
pub struct Client {
    alive: Arc<Alive>,
}

/// As long as one of these exists, the client is needed.
#[derive(Debug)]
pub(crate) struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.shut_down();
    }
}

impl Client {
    /// Says where the daemon is: `nsp://`, `nsps://`, `nsp+unix:`, `noservice://`, `ws://` or `wss://`, see [`Address`]. Say what
    /// else there is to say, and await it.
    pub fn connect<A>(address: A) -> Connector
    where
        A: TryInto<Address>,
        A::Error: Into<AddressError>,
    {
        Connector::new(address.try_into().map_err(Into::into))
    }

    /// Makes a client of a carrier that is there already, as one end of a [pair in memory](crate::carrier::memory()), with the
    /// defaults; [`Connector::over`] is for everything else.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn over(carrier: Box<dyn Carrier>) -> Self {
        Connector::new(Err(AddressError::NoScheme(String::new()))).over(carrier)
    }

    /// How it is, and every change of it.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ClientState> {
        self.alive.0.state.subscribe()
    }

    /// Begins an activity of a service.
    pub fn activity(&self, service: impl Into<String>) -> Opening {
        Opening::new(Arc::clone(&self.alive), service.into())
    }

    /// Exchanges a password for a token.
    ///
    /// # Errors
    /// [`CallError::SignIn`] when the user or the password is wrong, without telling which; otherwise as
    /// [`Activity::call`].
    ///
    /// # Cancel safety
    /// Dropping it gives up waiting; the daemon may make the token all the same.
    pub async fn token(&self, user: &str, password: impl Into<Password>) -> Result<Token, CallError> {
        let (shared, password) = (&*self.alive.0, password.into());
        let timeout = shared.settings.timeout;
        let mut deadline = Deadline { until: None, timeout };
        let begin = || {
            let ask = |machine: &mut crate::machine::Client, now| {
                machine.token(user, password.clone(), timeout, now)
            };
            shared.ask(ask, |call| Some(*call))
        };
        let call = deadline.limit(self.when_up(begin)).await??;
        let answer = deadline.limit(Answer::new(shared, call)).await?;
        match answer.map_err(|error| CallError::of(error, timeout))? {
            Outcome::Token(Some(token)) => Ok(token),
            Outcome::Token(None) | Outcome::Reply(_) | Outcome::Unread(_) => Err(CallError::SignIn),
        }
    }

    /// Sends a packet of a method that was registered with [`Connector::methods`]. Whether and how it is answered is up to the two programs;
    /// what comes of that method is in [`packets`](Self::packets).
    ///
    /// # Errors
    /// [`CallError`] when it was not sent.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, it has sent nothing.
    pub async fn send_packet(&self, packet: Packet) -> Result<(), CallError> {
        let shared = &*self.alive.0;
        let mut deadline = Deadline { until: None, timeout: shared.settings.timeout };
        let begin = || {
            let send = |machine: &mut crate::machine::Client, _| -> Result<(), RequestError> {
                machine.send_custom(packet.clone())
            };
            shared.ask(send, |()| None)
        };
        deadline.limit(self.when_up(begin)).await?
    }

    /// The packets of the user's own methods that come from the daemon. There is one such stream: a second call takes it over. While 256 packets
    /// wait, further ones are thrown away, and counted among the [ignored](Self::ignored).
    pub fn packets(&self) -> Packets {
        let (sender, receiver) = mpsc::channel(PACKETS);
        self.alive.0.set_packets(sender);
        Packets { receiver }
    }

    /// How many messages of the daemon were not acted upon: late, unreadable, or for nobody.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.alive.0.ignored()
    }

    /// Closes it, for all who hold it: sends what is to be sent, tells the daemon, and waits until the connection has ended.
    ///
    /// # Cancel safety
    /// Once it was polled, the client closes; dropping it only stops waiting.
    pub async fn close(self) {
        self.alive.0.shut_down();
        let mut state = self.state();
        // It cannot fail: the sender is in what `self` holds.
        let _ = state.wait_for(|state| matches!(state, ClientState::Closed { .. })).await;
    }

    /// Does something as soon as there is a connection; connects if there is none.
    async fn when_up<R>(
        &self,
        mut act: impl FnMut() -> Option<Result<R, CallError>>,
    ) -> Result<R, CallError> {
        let shared = &*self.alive.0;
        let mut state = self.state();
        let _waiting = Waiting::new(shared);
        loop {
            // Looked at before, so that no change between is missed.
            let closed = matches!(&*state.borrow_and_update(), ClientState::Closed { .. });
            if let Some(result) = act() {
                return result;
            }
            if closed {
                return Err(not_connected(shared));
            }
            if state.changed().await.is_err() {
                return Err(not_connected(shared));
            }
        }
    }
}

/// Somebody waits for a connection without having an activity.
#[derive(Debug)]
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.lock().waiting += 1;
        shared.demand.notify_one();
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

/// Packets of methods of the user's own: from [`Client::packets`].
#[derive(Debug)]
#[must_use = "a stream does nothing unless it is read"]
pub struct Packets {
    receiver: mpsc::Receiver<Packet>,
}

impl Stream for Packets {
    type Item = Packet;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Packet>> {
        self.receiver.poll_recv(cx)
    }
}
