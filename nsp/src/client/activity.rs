use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Alive;
use super::call::{self, Answer, Ask, Calling};
use super::error::{CallError, OpenError};
use super::inbox::Wanted;
use super::outcome::Outcome;
use super::shared::{Begun, Shared};
use super::state::{ActivityEnd, ActivityState, ClientState};
use super::stream::{BlobEvents, DataStream, Events, Happenings, Source};
use crate::machine::client::{ActivityKey, Open, Reply};
use crate::proto::{Data, EntityId, RawJson};
use crate::secret::DaemonKey;

/// An activity that is not open yet: from [`Client::activity`](super::Client::activity).
///
/// Streams that are made of it miss nothing, not even what the service says before it has agreed to the activity.
#[derive(Debug)]
#[must_use = "an activity does nothing until it is opened"]
pub struct Opening {
    handle: Arc<Handle>,
    open: Open,
}

/// What the service of an activity is called through.
///
/// It is a handle: clones are of the same activity, which is closed when the last of them and of its streams is gone. Over any carrier it
/// is the same type, so a service calls another service of its daemon as any client does.
///
/// ```no_run
/// # async fn run(client: nsp::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use futures_util::StreamExt as _;
///
/// let chat = client.activity("Chat").owner("alice").open().await?;
/// let mut messages = chat.events::<String>("message");
/// let members: u32 = chat.call("Join", &"lobby").await?;
/// while let Some(message) = messages.next().await {
///     println!("{members} hear: {}", message?);
/// }
/// # Ok(()) }
/// ```
///
/// A call is made once and answered once: none is repeated behind your back. When the connection is lost, calls under way fail with
/// [`CallError::Disconnected`], and those that are begun meanwhile wait for the activity to be open again, inside their deadlines.
#[derive(Debug, Clone)]
pub struct Activity {
    handle: Arc<Handle>,
    timeout: Duration,
}

/// Keeps an activity alive.
#[derive(Debug)]
pub(super) struct Handle {
    alive: Arc<Alive>,
    id: u64,
    service: String,
    /// What the conversation called it when it was last used; 0 before. A key is given once, so one that is not its own any more is nobody's.
    key: AtomicU64,
}

impl Handle {
    pub(super) fn shared(&self) -> &Shared {
        &self.alive.0
    }

    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    #[inline]
    pub(super) fn key(&self) -> Option<ActivityKey> {
        Some(self.key.load(Ordering::Relaxed)).filter(|key| *key != 0).map(ActivityKey)
    }

    pub(super) fn set_key(&self, key: ActivityKey) {
        self.key.store(key.0, Ordering::Relaxed);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared().forget(self.id);
    }
}

macro_rules! streams {
    () => {
        /// The events of this name, read as `T`. Each stream of a name gets every one.
        ///
        /// For a slow reader 256 messages wait, or 1 MiB of them; then the oldest go, and the reader is told how many. It is never the
        /// connection that waits, on which answers come too.
        pub fn events<T: DeserializeOwned>(&self, event: impl Into<String>) -> Events<T> {
            Events::new(self.source(Wanted::Event(event.into())))
        }

        /// The events of this name that come with a blob; as [`events`](Self::events).
        pub fn blob_events(&self, event: impl Into<String>) -> BlobEvents {
            BlobEvents::new(self.source(Wanted::BlobEvent(event.into())))
        }

        /// The data that the service sends, read as `T`; as [`events`](Self::events).
        pub fn data<T: DeserializeOwned>(&self) -> DataStream<T> {
            DataStream::new(self.source(Wanted::Data))
        }

        /// Everything that the service sends without being asked, as it comes: for programs that show it.
        pub fn happenings(&self) -> Happenings {
            Happenings::new(self.source(Wanted::All))
        }

        fn source(&self, wanted: Wanted) -> Source {
            Source::new(Arc::clone(&self.handle), wanted)
        }
    };
}

impl Opening {
    pub(super) fn new(alive: Arc<Alive>, service: String) -> Self {
        let id = alive.0.new_activity();
        let open = Open::new(service.clone());
        Self { handle: Arc::new(Handle { alive, id, service, key: AtomicU64::new(0) }), open }
    }

    /// Says for whom it is. This is a claim, until the daemon asks the client's [`Credentials`](super::Credentials) for proof.
    pub fn owner(mut self, user: impl Into<String>) -> Self {
        self.open.owner = Some(user.into());
        self
    }

    /// Names the owner's domain.
    pub fn owner_domain(mut self, domain: impl Into<String>) -> Self {
        self.open.owner_domain = Some(domain.into());
        self
    }

    /// Acts for a daemon that has this key: without asking its users.
    pub fn daemon_key(mut self, key: impl Into<DaemonKey>) -> Self {
        self.open.key = Some(key.into());
        self
    }

    /// Describes it to whoever lists entities.
    pub fn description(mut self, description: RawJson) -> Self {
        self.open.description = Some(description);
        self
    }

    streams!();

    /// Opens it, and connects if there is no connection.
    ///
    /// # Errors
    /// [`OpenError`], which says whether it was the daemon or the service that did not want to.
    ///
    /// # Cancel safety
    /// Dropping it closes what there is of the activity.
    pub async fn open(self) -> Result<Activity, OpenError> {
        let Self { handle, open } = self;
        let shared = handle.shared();
        let until = Instant::now() + shared.settings.machine.open_timeout;
        let mut client = shared.state.subscribe();
        let Some(mut state) = shared.want(handle.id, open) else { return Err(OpenError::Disconnected) };
        loop {
            match &*state.borrow_and_update() {
                ActivityState::Opening => {}
                ActivityState::Closed(ActivityEnd::NotOpened(error)) => return Err(error.clone()),
                ActivityState::Closed(_) => return Err(OpenError::Disconnected),
                _ => break,
            }
            if let ClientState::Closed { reason } = &*client.borrow_and_update() {
                return Err(OpenError::NotConnected(reason.clone()));
            }
            tokio::select! {
                _ = state.changed() => {}
                _ = client.changed() => {}
                // Once the daemon has been asked there is another deadline, which knows of questions.
                () = tokio::time::sleep_until(until), if !shared.is_asked(handle.id) => {
                    if !shared.is_asked(handle.id) {
                        return Err(OpenError::Timeout);
                    }
                }
            }
        }
        let timeout = shared.settings.timeout;
        Ok(Activity { handle, timeout })
    }
}

impl Activity {
    /// The name of the service.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.handle.service
    }

    /// How it is, and every change of it.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ActivityState> {
        self.shared().activity_state(self.handle.id)
    }

    /// What the daemon calls it, while it is open. It is another one each time it is opened again.
    #[must_use]
    pub fn entity(&self) -> Option<EntityId> {
        match &*self.state().borrow() {
            ActivityState::Open { entity } => Some(entity.clone()),
            _ => None,
        }
    }

    /// The same activity, with this much time for each call and send, waiting for a connection included.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self { handle: Arc::clone(&self.handle), timeout }
    }

    streams!();

    /// Calls a service function.
    ///
    /// # Errors
    /// [`CallError`]; what the service said is in [`CallError::Failed`].
    ///
    /// # Cancel safety
    /// Dropping it gives the call up; once it was polled, the service may do it all the same.
    pub fn call<'a, R: DeserializeOwned>(
        &'a self,
        function: &'a str,
        argument: &'a (impl Serialize + ?Sized),
    ) -> impl Future<Output = Result<R, CallError>> {
        Calling::new(self, function, argument)
    }

    /// Calls a service function with JSON that is written already, and returns what comes as it is: for programs that pass it on.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    /// As [`call`](Self::call).
    pub async fn call_raw(&self, function: &str, argument: RawJson) -> Result<Data, CallError> {
        let ask = Ask::Function { name: function, data: argument.into() };
        Ok(self.ask(ask).await?.data)
    }

    /// Calls a blob function: bytes, and JSON that says something about them, go both ways. What comes back may be JSON instead of a
    /// blob; what is said about it is `null` if nothing is.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    /// As [`call`](Self::call).
    pub async fn call_blob(
        &self,
        function: &str,
        blob: impl Into<Bytes>,
        meta: &(impl Serialize + ?Sized),
    ) -> Result<(Data, RawJson), CallError> {
        let meta = RawJson::of(meta).map_err(CallError::Argument)?;
        let ask = Ask::BlobFunction { name: function, meta, blob: blob.into().into() };
        let Reply { data, meta } = self.ask(ask).await?;
        Ok((data, meta.unwrap_or(RawJson::NULL)))
    }

    /// Sends data to the service, and waits until it says that it has it.
    ///
    /// One that is given up has been sent all the same: it counts among [those that wait](crate::machine::client::Limits::calls) until the daemon
    /// acknowledges it, and while there are as many as may, the next one waits, inside its deadline.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    /// As [`call`](Self::call).
    pub async fn send(&self, data: &(impl Serialize + ?Sized)) -> Result<(), CallError> {
        let data = RawJson::of(data).map_err(CallError::Argument)?;
        self.send_data(data.into()).await
    }

    /// Sends bytes to the service; as [`send`](Self::send).
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    /// As [`call`](Self::call).
    pub async fn send_blob(&self, blob: impl Into<Bytes>) -> Result<(), CallError> {
        self.send_data(blob.into().into()).await
    }

    async fn send_data(&self, data: Data) -> Result<(), CallError> {
        let mut deadline = self.deadline();
        let mut sent = self.ask(Ask::Data(data.clone())).await;
        while let Err(CallError::TooMany { .. }) = sent {
            // Those that were given up keep their places until they are acknowledged, or the activity is opened anew.
            let room = poll_fn(|cx| match self.shared().lock().poll_send(self.handle.id, cx.waker()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            });
            deadline.limit(room).await?;
            sent = self.call_later(Ask::Data(data.clone()), deadline).await.and_then(Outcome::into_reply);
        }
        sent.map(drop)
    }

    /// Closes it, for all who hold it, and waits until the daemon has been told. Its streams end, and its calls fail.
    ///
    /// # Cancel safety
    /// Once it was polled, the activity is closed; dropping it only stops waiting.
    pub async fn close(self) {
        self.shared().close_activity(self.handle.id);
        poll_fn(|cx| match self.shared().lock().poll_clean(cx.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    pub(super) fn shared(&self) -> &Shared {
        self.handle.shared()
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) const fn deadline(&self) -> Deadline {
        Deadline { until: None, timeout: self.timeout }
    }

    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    async fn ask(&self, ask: Ask<'_>) -> Result<Reply, CallError> {
        let begun = poll_fn(|cx| Poll::Ready(call::begin(self, &ask, cx))).await?;
        match begun {
            Some(answer) => call::outcome(answer.await, self.timeout)?,
            None => Box::pin(self.call_later(ask, self.deadline())).await?,
        }
        .into_reply()
    }

    /// Begins a call as soon as there is room for it and the activity is open, and waits for its answer.
    pub(super) async fn call_later(
        &self,
        ask: Ask<'_>,
        mut deadline: Deadline,
    ) -> Result<Outcome, CallError> {
        let (shared, timeout) = (self.shared(), self.timeout);
        let Some(_permit) = deadline.limit(shared.permit()).await? else {
            return Err(not_connected(shared));
        };
        let call = loop {
            let call = |machine: &mut _, key, now| ask.begin(machine, key, timeout, now);
            let mut state = match shared.begin(&self.handle, ask.size(), None, call) {
                Begun::Call(call) => break call,
                Begun::Failed(error) => return Err(*error),
                Begun::Full => return Err(not_connected(shared)), // it has a permit already
                Begun::NotYet(state) => *state,
            };
            let usable = state
                .wait_for(|state| matches!(state, ActivityState::Open { .. } | ActivityState::Closed(_)));
            match deadline.limit(usable).await?.as_deref() {
                Ok(ActivityState::Open { .. }) => {}
                Ok(ActivityState::Closed(ActivityEnd::Disconnected(reason))) => {
                    return Err(CallError::NotConnected(reason.clone()));
                }
                _ => return Err(CallError::Closed),
            }
        };
        // The conversation counts from the moment at which the call was begun; who had to wait before has less.
        call::outcome(deadline.limit(Answer::new(shared, call)).await?, timeout)
    }
}

/// The time for a call, measured once it is known that there is something to wait for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) until: Option<Instant>,
    pub(super) timeout: Duration,
}

impl Deadline {
    pub(super) async fn limit<F: Future>(&mut self, waiting: F) -> Result<F::Output, CallError> {
        let until = *self.until.get_or_insert_with(|| Instant::now() + self.timeout);
        timeout_at(until, waiting).await.map_err(|_| CallError::Timeout(self.timeout))
    }
}

pub(super) fn not_connected(shared: &Shared) -> CallError {
    match &*shared.state.borrow() {
        ClientState::Closed { reason } => CallError::NotConnected(reason.clone()),
        _ => CallError::NotConnected(None),
    }
}
