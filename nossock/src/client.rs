//! A connection that comes back by itself.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::connect::{ConnectError, Connector};
use crate::router::{Router, Routes};
use crate::session::{CloseCode, CloseReason};
use crate::socket::{EncodedMessage, RequestError, SendError, Socket};

/// A client that connects, and connects again when the connection is lost.
///
/// Handlers belong to the client and stay; requests under way when the connection goes fail with its reason, and
/// are not repeated, as the peer may have handled them. What is sent while there is no connection is kept, up to
/// [`Reconnect::offline_queue`], and leaves first when there is one again. What had been given to a connection
/// that was lost is lost with it: delivery is at most once.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use nossock::{Client, Connector, Json, Router};
///
/// let router = Router::new().on("news", async |Json(text): Json<String>| println!("{text}"));
/// let client = Client::start(Connector::new("tcp://127.0.0.1:8797")?, router);
/// client.send("subscribe", &"all").await?;
/// let count: u64 = client.request("count", &()).await?;
/// client.close().await;
/// # let _ = count; Ok(()) }
/// ```
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    state: watch::Receiver<ClientState>,
    task: tokio::task::JoinHandle<()>,
}

/// How a [`Client`] behaves between two connections.
///
/// | field | default | why |
/// |---|---|---|
/// | `first_delay` | 250 ms | the range of the first wait; doubled after each failure |
/// | `last_delay` | 30 s | where doubling ends |
/// | `offline_queue` | 1048576 | bytes that are kept while there is no connection |
///
/// Each wait is a random part of its range, from nothing to all of it, so that the clients of a server that was
/// restarted do not come back at once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made to be written as a literal with ..Default::default()")]
pub struct Reconnect {
    /// The range of the first wait.
    pub first_delay: Duration,
    /// The largest range of a wait.
    pub last_delay: Duration,
    /// Bytes that are kept while there is no connection; 0 refuses to send then.
    pub offline_queue: usize,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(250),
            last_delay: Duration::from_secs(30),
            offline_queue: 1024 * 1024,
        }
    }
}

/// How a [`Client`] is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClientState {
    /// It is trying to connect.
    Connecting,
    /// It is connected.
    Up,
    /// It is not connected, and will try again.
    Down {
        /// Why the connection ended, or none came about.
        reason: Arc<DownReason>,
        /// When it tries again.
        retry_at: Instant,
    },
    /// It has ended: it was closed, or trying again would not help.
    Closed {
        /// Why, when it was not closed by its owner.
        reason: Option<Arc<DownReason>>,
    },
}

/// Why a [`Client`] has no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownReason {
    /// None came about.
    #[error(transparent)]
    NotConnected(#[from] ConnectError),
    /// It ended.
    #[error(transparent)]
    Closed(CloseReason),
}

impl DownReason {
    /// Whether trying again would give the same.
    fn is_permanent(&self) -> bool {
        match self {
            Self::NotConnected(error) => error.is_permanent(),
            Self::Closed(CloseReason::PeerSaid { code: CloseCode::Refused, .. }) => true,
            #[cfg(feature = "tls")]
            Self::Closed(CloseReason::Tls(error)) => error.is_permanent(),
            Self::Closed(_) => false,
        }
    }
}

/// Why a [`Client`] did not take a message, or got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// As of the connection.
    #[error(transparent)]
    Send(#[from] SendError),
    /// As of the connection.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// There is no connection, and as many bytes wait for one as may.
    #[error("not connected, and {limit} bytes wait already")]
    OfflineQueueFull {
        /// [`Reconnect::offline_queue`]
        limit: usize,
    },
    /// There was no connection within the request's time.
    #[error("not connected within {0:?}")]
    TimedOut(Duration),
    /// The client has ended.
    #[error("the client is closed{}", .0.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Closed(Option<Arc<DownReason>>),
}

#[derive(Debug)]
struct Shared {
    connector: Connector,
    reconnect: Reconnect,
    inner: Mutex<Inner>,
    closing: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// The connection, once everything that waited for it has been given to it.
    socket: Option<Socket>,
    waiting: VecDeque<EncodedMessage>,
    waiting_bytes: usize,
    closed: bool,
}

impl Client {
    /// Starts to connect, with the default [`Reconnect`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start<S: Clone + Send + Sync + 'static>(connector: Connector, router: Router<S>) -> Self {
        Self::start_with(connector, router, Reconnect::default())
    }

    /// Starts to connect.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start_with<S: Clone + Send + Sync + 'static>(
        connector: Connector,
        router: Router<S>,
        reconnect: Reconnect,
    ) -> Self {
        let (sender, state) = watch::channel(ClientState::Connecting);
        let shared =
            Arc::new(Shared { connector, reconnect, inner: Mutex::default(), closing: Notify::new() });
        let task = tokio::spawn(run(Arc::clone(&shared), router.into_routes(), sender));
        Self { shared, state, task }
    }

    /// How it is, and every change of it.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ClientState> {
        self.state.clone()
    }

    /// The connection, when there is one; waits for it.
    ///
    /// # Errors
    /// When the client has ended.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn socket(&self) -> Result<Socket, ClientError> {
        let mut state = self.state.clone();
        loop {
            // Looked at before the connection: were it after, one that comes between the two would not be seen as a change.
            let closed = match &*state.borrow_and_update() {
                ClientState::Closed { reason } => Some(reason.clone()),
                _ => None,
            };
            if let Some(socket) = self.shared.socket() {
                return Ok(socket);
            }
            if let Some(reason) = closed {
                return Err(ClientError::Closed(reason));
            }
            if state.changed().await.is_err() {
                return Err(ClientError::Closed(None));
            }
        }
    }

    /// Sends a message with a JSON body, or keeps it until there is a connection.
    ///
    /// # Errors
    /// As [`Socket::send`]; and when as much waits for a connection as may, or the client has ended.
    ///
    /// # Cancel safety
    /// As [`Socket::send`].
    pub async fn send<T: Serialize + ?Sized>(&self, name: &str, body: &T) -> Result<(), ClientError> {
        match self.shared.socket() {
            Some(socket) => Ok(socket.send(name, body).await?),
            None => self.send_later(EncodedMessage::json(name, body)?).await,
        }
    }

    /// Sends a message with a raw body, or keeps it until there is a connection.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_raw(&self, name: &str, body: impl Into<Bytes>) -> Result<(), ClientError> {
        match self.shared.socket() {
            Some(socket) => Ok(socket.send_raw(name, body).await?),
            None => self.send_later(EncodedMessage::raw(name, body)?).await,
        }
    }

    async fn send_later(&self, message: EncodedMessage) -> Result<(), ClientError> {
        let limit = self.shared.reconnect.offline_queue;
        let socket = {
            let mut inner = self.shared.lock();
            if inner.closed {
                return Err(self.closed_error());
            }
            match inner.socket.clone() {
                Some(socket) => socket,
                None if inner.waiting_bytes + message.len() > limit => {
                    return Err(ClientError::OfflineQueueFull { limit });
                }
                None => {
                    inner.waiting_bytes += message.len();
                    inner.waiting.push_back(message);
                    return Ok(());
                }
            }
        };
        Ok(socket.send_encoded(&message).await?) // it has come meanwhile
    }

    /// Asks the peer; waits for a connection first, within the request's time.
    ///
    /// # Errors
    /// As [`Socket::request`]; and when there was no connection in time, or the client has ended.
    ///
    /// # Cancel safety
    /// As [`Socket::request`].
    pub async fn request<R, B>(&self, name: &str, body: &B) -> Result<R, ClientError>
    where
        R: DeserializeOwned,
        B: Serialize + ?Sized,
    {
        let timeout = self.shared.connector.settings().request_timeout;
        let start = Instant::now();
        let socket = match self.shared.socket() {
            Some(socket) => socket,
            None => match tokio::time::timeout(timeout, self.socket()).await {
                Ok(socket) => socket?,
                Err(_) => return Err(ClientError::TimedOut(timeout)),
            },
        };
        Ok(socket.request_within(timeout.saturating_sub(start.elapsed()), name, body).await?)
    }

    /// Closes: sends what the connection has taken, says farewell, and does not connect again. What waits for a
    /// connection is dropped.
    ///
    /// # Cancel safety
    /// Dropping it lets the close go on, and no longer waits for it.
    pub async fn close(self) {
        self.shared.closing.notify_one();
        let mut state = self.state.clone();
        let closed = state.wait_for(|state| matches!(state, ClientState::Closed { .. })).await;
        drop(closed);
    }

    fn closed_error(&self) -> ClientError {
        match &*self.state.borrow() {
            ClientState::Closed { reason } => ClientError::Closed(reason.clone()),
            _ => ClientError::Closed(None),
        }
    }
}

/// Stops the client. The connection closes as a [`Socket`] does whose last handle is dropped.
impl Drop for Client {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.closing.notify_one();
        if self.shared.lock().socket.is_none() {
            self.task.abort();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket(&self) -> Option<Socket> {
        self.lock().socket.clone()
    }

    /// Gives the connection what waited for it, then lets everybody use it: nothing sent later overtakes.
    async fn catch_up(&self, socket: &Socket) -> Result<(), SendError> {
        loop {
            let next = {
                let mut inner = self.lock();
                match inner.waiting.front().cloned() {
                    Some(message) => message,
                    None => {
                        inner.waiting_bytes = 0;
                        inner.socket = Some(socket.clone());
                        return Ok(());
                    }
                }
            };
            match socket.send_encoded(&next).await {
                // The peer's limit is known only now: this one will never fit.
                Err(error @ SendError::TooLarge { .. }) => {
                    tracing::warn!(%error, "dropped from the offline queue");
                }
                sent => sent?,
            }
            let mut inner = self.lock();
            inner.waiting_bytes = inner.waiting_bytes.saturating_sub(next.len());
            inner.waiting.pop_front();
        }
    }
}

/// Connects for ever. Ends when the client is closed, or there is no sense in trying again.
async fn run(shared: Arc<Shared>, routes: Arc<Routes>, state: watch::Sender<ClientState>) {
    let mut range = shared.reconnect.first_delay;
    let reason = loop {
        let reason = {
            let connected = tokio::select! {
                biased;
                () = shared.closing.notified() => break None,
                connected = shared.connector.open(Some(Arc::clone(&routes))) => connected,
            };
            match connected {
                Ok(socket) => {
                    let up = Instant::now();
                    let ended = hold(&shared, &socket, &state).await;
                    shared.lock().socket = None;
                    // A connection that held for a while was a good one.
                    if up.elapsed() > shared.reconnect.last_delay {
                        range = shared.reconnect.first_delay;
                    }
                    match ended {
                        Some(reason) => DownReason::Closed(reason),
                        None => break None,
                    }
                }
                Err(error) => DownReason::NotConnected(error),
            }
        };
        if reason.is_permanent() {
            break Some(Arc::new(reason));
        }
        let wait = range.mul_f64(random_part());
        range = (range * 2).min(shared.reconnect.last_delay);
        tracing::info!(%reason, ?wait, address = %shared.connector.address(), "not connected");
        let retry_at = Instant::now() + wait;
        state.send_replace(ClientState::Down { reason: Arc::new(reason), retry_at });
        tokio::select! {
            () = shared.closing.notified() => break None,
            () = tokio::time::sleep_until(retry_at) => {}
        }
        state.send_replace(ClientState::Connecting);
    };
    {
        let mut inner = shared.lock();
        inner.closed = true;
        inner.socket = None;
        inner.waiting.clear();
    }
    state.send_replace(ClientState::Closed { reason });
}

/// Runs one connection to its end; `None` says that the client was closed.
async fn hold(shared: &Shared, socket: &Socket, state: &watch::Sender<ClientState>) -> Option<CloseReason> {
    let work = async {
        if shared.catch_up(socket).await.is_ok() {
            state.send_replace(ClientState::Up);
        }
        socket.closed().await
    };
    tokio::select! {
        reason = work => Some(reason),
        () = shared.closing.notified() => {
            if let Err(unsent) = socket.close().await {
                tracing::warn!(%unsent, "the client closed too late");
            }
            None
        }
    }
}

/// A number from 0 to 1, without a source of randomness for anything that matters.
fn random_part() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    #[allow(clippy::cast_precision_loss, reason = "53 bits are what a double holds")]
    let part = bits as f64 / (1_u64 << 53) as f64;
    part
}
