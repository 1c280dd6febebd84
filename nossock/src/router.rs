use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use crate::seldom::Seldom;
use crate::session::{Reject, RequestName};
use crate::socket::{Endpoint, MessageHandler, OnMessage, OnRequest, RequestHandler, Socket};
use crate::wire::Name;

/// Which function handles which message.
///
/// Messages of one connection are handled in order, one after the other; a handler that waits holds back the
/// messages after it. Requests are started in the order in which they come, and run side by side.
///
/// ```
/// use nossock::{Json, Reject, Router, Socket};
///
/// let router = Router::new()
///     .on("hello", async |socket: Socket, Json(who): Json<String>| {
///         socket.send("bye", &format!("cruel {who}")).await
///     })
///     .on_request("sum", async |Json(n): Json<Vec<i64>>| -> Result<i64, Reject> { Ok(n.iter().sum()) });
/// # let _ = router;
/// ```
///
/// A handler for a name replaces the one before. An async closure that captures variables is no handler, because its
/// future would borrow from it: shared state is asked for with [`State`](crate::State), or captured by a closure that
/// gives a future of its own, `move |…| { …; std::future::ready(()) }`. With shared state:
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use nossock::{Router, State};
///
/// let router = Router::with_state(Arc::new(AtomicU64::new(0)))
///     .on_request("next", async |State(counter): State<Arc<AtomicU64>>| counter.fetch_add(1, Ordering::Relaxed));
/// # let _ = router;
/// ```
#[must_use = "a router does nothing until a server or client has it"]
pub struct Router<S = ()> {
    state: S,
    routes: Routes,
}

/// The routes of a [`Router`], with the type of its state forgotten.
#[derive(Default)]
pub(crate) struct Routes {
    messages: HashMap<Box<str>, Arc<Route>>,
    requests: HashMap<Box<str>, Arc<Route>>,
    message_fallback: Option<Arc<Route>>,
    request_fallback: Option<Arc<Route>>,
    pub(crate) on_connect: Option<Arc<Route>>,
    on_error: Option<Box<OnError>>,
}

type OnError = dyn Fn(&Socket, &HandlerError) + Send + Sync;

/// One entry: a name and what handles it.
pub(crate) struct Route {
    /// Empty for a fallback, so that it is looked up each time.
    pub(crate) name: Box<str>,
    pub(crate) is_request: bool,
    pub(crate) endpoint: Box<dyn Endpoint>,
}

impl Route {
    /// Whether a frame with this name goes here; gives what follows `req:` in that of a request. A name that it is not
    /// sure of is to be taken apart first.
    #[inline]
    pub(crate) fn matches<'a>(&self, frame_name: &'a [u8]) -> Option<&'a [u8]> {
        if self.name.is_empty() {
            return None; // a fallback has no name of its own
        }
        if !self.is_request {
            return (frame_name == self.name.as_bytes()).then_some(&[]);
        }
        let tag = frame_name.strip_prefix(b"req:")?;
        let id = tag.strip_prefix(self.name.as_bytes())?.strip_prefix(b":")?;
        RequestName::is_id(id).then_some(tag)
    }
}

/// What went wrong with one message; the connection goes on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HandlerError {
    /// The peer sent a body that the handler cannot read, or that an extractor refused.
    #[error("`{name}` was refused: {reject}")]
    Rejected {
        /// The message.
        name: Name,
        /// What the extractor said; the asker of a request has been told.
        reject: Reject,
    },
    /// The handler of a message gave an error.
    #[error("the handler of `{name}` failed: {error}")]
    Failed {
        /// The message.
        name: Name,
        /// What it said.
        error: String,
    },
    /// The handler panicked. The asker of a request has been told `internal`.
    #[error("the handler of `{name}` panicked")]
    Panicked {
        /// The message.
        name: Name,
    },
    /// The peer sent what was not let in.
    #[error(transparent)]
    Refused(#[from] crate::Refused),
    /// Nobody handles messages, or requests, of this name.
    #[error("nobody handles `{name}`")]
    Unhandled {
        /// The message.
        name: Name,
    },
}

impl Router<()> {
    /// A router without state.
    pub fn new() -> Self {
        Self::with_state(())
    }
}

impl Default for Router<()> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Clone + Send + Sync + 'static> Router<S> {
    /// A router whose handlers can ask for [`State<S>`](crate::State). It is cloned for each; put what is large
    /// or shared into an [`Arc`].
    pub fn with_state(state: S) -> Self {
        Self { state, routes: Routes::default() }
    }

    /// Handles messages of this name.
    pub fn on<Args: 'static>(mut self, name: &str, handler: impl MessageHandler<S, Args>) -> Self {
        let endpoint = Box::new(OnMessage::new(handler, self.state.clone()));
        let route = Route { name: name.into(), is_request: false, endpoint };
        self.routes.messages.insert(name.into(), Arc::new(route));
        self
    }

    /// Answers requests of this name.
    pub fn on_request<Args: 'static>(mut self, name: &str, handler: impl RequestHandler<S, Args>) -> Self {
        let endpoint = Box::new(OnRequest::new(handler, self.state.clone()));
        let route = Route { name: name.into(), is_request: true, endpoint };
        self.routes.requests.insert(name.into(), Arc::new(route));
        self
    }

    /// Handles messages that nothing else handles; ask for [`Name`] to learn which.
    pub fn fallback<Args: 'static>(mut self, handler: impl MessageHandler<S, Args>) -> Self {
        let endpoint = Box::new(OnMessage::new(handler, self.state.clone()));
        self.routes.message_fallback = Some(Arc::new(Route { name: "".into(), is_request: false, endpoint }));
        self
    }

    /// Answers requests that nothing else answers. Without it the asker is told `no_handler` at once.
    pub fn fallback_request<Args: 'static>(mut self, handler: impl RequestHandler<S, Args>) -> Self {
        let endpoint = Box::new(OnRequest::new(handler, self.state.clone()));
        self.routes.request_fallback = Some(Arc::new(Route { name: "".into(), is_request: true, endpoint }));
        self
    }

    /// Runs when a connection is there, before its first message is handled. The message it sees has an empty
    /// name and the body `null`.
    pub fn on_connect<Args: 'static>(mut self, handler: impl MessageHandler<S, Args>) -> Self {
        let endpoint = Box::new(OnMessage::new(handler, self.state.clone()));
        self.routes.on_connect = Some(Arc::new(Route { name: "".into(), is_request: false, endpoint }));
        self
    }

    /// Hears of messages that could not be handled: bad bodies, failed handlers, bodies over the limit, names
    /// that nobody handles. Without it they are counted in [`Stats`](crate::session::Stats) and logged at `debug`. A
    /// panic in it is logged and ends nothing.
    pub fn on_error(mut self, hear: impl Fn(&Socket, &HandlerError) + Send + Sync + 'static) -> Self {
        self.routes.on_error = Some(Box::new(hear));
        self
    }

    pub(crate) fn into_routes(self) -> Arc<Routes> {
        Arc::new(self.routes)
    }
}

impl Routes {
    pub(crate) fn find(&self, name: &str, is_request: bool) -> Option<&Arc<Route>> {
        let (named, fallback) = if is_request {
            (&self.requests, &self.request_fallback)
        } else {
            (&self.messages, &self.message_fallback)
        };
        named.get(name).or(fallback.as_ref())
    }

    pub(crate) fn report(&self, socket: &Socket, error: &HandlerError) {
        let peer = socket.peer();
        match error {
            // serde quotes the value that it could not read: whoever asked is told, and a log is not.
            HandlerError::Rejected { name, reject } => {
                tracing::debug!(%peer, %name, code = reject.code(), "a message was refused");
            }
            error => tracing::debug!(%peer, %error, "a message was not handled"),
        }
        let Some(hear) = &self.on_error else { return };
        // A panic is that of one report, as it is that of one message in a handler.
        if catch_unwind(AssertUnwindSafe(|| hear(socket, error))).is_err() {
            static PANICKED: Seldom = Seldom::new();
            if let Some(times) = PANICKED.times(Instant::now()) {
                tracing::warn!(%peer, times, "what hears of errors panicked");
            }
        }
    }
}

impl<S> std::fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router")
            .field("messages", &self.routes.messages.keys())
            .field("requests", &self.routes.requests.keys())
            .finish_non_exhaustive()
    }
}
