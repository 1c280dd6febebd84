//! What is done with what a handler gives, be it at once or later.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use nossock::Seldom;

use crate::daemon::call::Current;
use crate::daemon::connection::{Command, Connection, now};
use crate::daemon::fail::{Fail, code};
use crate::daemon::handler::{CallFuture, Endpoint};
use crate::daemon::service::Runtime;
use crate::daemon::shared::{Shared, Totals};
use crate::machine::daemon::{Gift, RequestKey};
use crate::machine::entities::ConnectionId;
use crate::proto::{EncodeError, EntityId, Failure};

/// What a handler was started for.
#[derive(Debug)]
pub(super) enum Finish {
    /// To look at an entity.
    Verify { key: RequestKey, entity: EntityId },
    /// To give a result.
    Give { key: RequestKey },
    /// To hear data.
    Data { entity: EntityId },
    /// To say goodbye.
    Leave,
}

impl Finish {
    /// The call that a function works on; hooks work on none.
    #[inline]
    pub(super) fn current(&self, connection: &Connection) -> Option<Current> {
        match self {
            Self::Give { key } => Some(Current { connection: connection.id, key: *key }),
            Self::Verify { .. } | Self::Data { .. } | Self::Leave => None,
        }
    }
}

/// Gives a result to who waits for it: once, and in whatever way its handler ends.
pub(super) struct Reply {
    connection: Arc<Connection>,
    shared: Arc<Shared>,
    service: Arc<Runtime>,
    endpoint: Arc<dyn Endpoint>,
    finish: Option<Finish>,
}

impl Reply {
    pub(super) fn new(
        connection: &Arc<Connection>,
        shared: &Arc<Shared>,
        service: Arc<Runtime>,
        endpoint: Arc<dyn Endpoint>,
        finish: Finish,
    ) -> Self {
        Self {
            connection: Arc::clone(connection),
            shared: Arc::clone(shared),
            service,
            endpoint,
            finish: Some(finish),
        }
    }

    /// Waits for a handler and gives what comes of it.
    pub(super) async fn wait_for(mut self, mut future: CallFuture) {
        let current = self.finish.as_ref().and_then(|finish| finish.current(&self.connection));
        let polled = poll_fn(|cx| Current::poll(current, || future.poll(cx)));
        let result = AssertUnwindSafe(polled).catch_unwind().await;
        self.give(result.unwrap_or_else(|panic| Err(panicked(&*panic))));
    }

    fn give(&mut self, result: Result<Gift, Fail>) {
        let Some(finish) = self.finish.take() else { return };
        let result = told(&self.shared, &self.service, &*self.endpoint, &finish, result);
        self.connection.with(|core| match finish {
            Finish::Give { key } => {
                core.machine.give(key, result);
                core.commands.push(Command::Finished(key));
            }
            Finish::Verify { key, entity } => {
                let result = result.map(drop);
                core.commands.extend([Command::Finished(key), Command::Verified { key, entity, result }]);
            }
            Finish::Data { entity } => core.commands.push(Command::DataTaken(entity)),
            Finish::Leave => {}
        });
    }
}

impl Drop for Reply {
    /// The handler was dropped before it gave anything. Mostly it was stopped, because nobody waits for it any more; or its runtime goes down.
    fn drop(&mut self) {
        let Some(finish) = &self.finish else { return };
        let is_awaited = match finish {
            Finish::Verify { key, .. } | Finish::Give { key } => {
                let core = self.connection.lock();
                !core.is_closing && core.machine.is_waiting(*key)
            }
            Finish::Data { .. } => false,
            Finish::Leave => {
                static TOO_LONG: Seldom = Seldom::new();
                if let Some(times) = TOO_LONG.times(now()) {
                    tracing::warn!(service = &*self.service.name, times, "a goodbye took too long");
                }
                false
            }
        };
        if is_awaited {
            self.give(Err(Fail::internal("the handler was dropped before it was done")));
        } else {
            self.finish = None;
        }
    }
}

/// What the client is told of a failure, which is noted.
pub(super) fn told(
    shared: &Shared,
    service: &Runtime,
    endpoint: &dyn Endpoint,
    finish: &Finish,
    result: Result<Gift, Fail>,
) -> Result<Gift, Box<Failure>> {
    let result = result.and_then(|gift| {
        let bytes = gift.data.len() + gift.meta.as_ref().map_or(0, |meta| meta.as_bytes().len());
        let limit = shared.limits.largest_body();
        if bytes <= limit {
            return Ok(gift);
        }
        Err(too_large(bytes, limit))
    });
    result.map_err(|fail| {
        if matches!(finish, Finish::Give { .. }) {
            Totals::add(&shared.totals.failed);
        }
        fail.tell(&service.name, endpoint.name())
    })
}

/// A result is larger than one message may be.
#[cold]
pub(super) fn too_large(bytes: usize, limit: usize) -> Fail {
    Fail::new(code::TOO_LARGE, format!("Error: the result has {bytes} bytes, the limit is {limit}"))
}

/// What a panic comes to. What it said is for the log: it may be anything.
pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> Fail {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Fail::internal(format!("panicked: {}", said.unwrap_or("without words")))
}

/// A message was too large for its carrier. A client may say that it takes less than it asks for, and ask as often as it likes.
#[cold]
pub(super) fn unsent(connection: ConnectionId, error: &EncodeError) {
    static UNSENT: Seldom = Seldom::new();
    if let Some(times) = UNSENT.times(now()) {
        tracing::error!(connection = connection.0, %error, times, "a message was not sent");
    }
}
