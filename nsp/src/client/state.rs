use tokio::time::Instant;

use super::error::{DownReason, OpenError};
use crate::proto::EntityId;

/// How a client is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClientState {
    /// It is not connected, because nobody needs it: a daemon would close a connection without an entity after a while. It connects
    /// when an activity or a token is asked for.
    Idle,
    /// It is trying to connect, or to secure the connection.
    Connecting,
    /// It is connected.
    Up,
    /// It is not connected, and will try again.
    Down {
        /// Why the connection ended, or none came about.
        reason: DownReason,
        /// When it tries again.
        retry_at: Instant,
    },
    /// It has ended: it was closed, or trying again would not help.
    Closed {
        /// Why, when it was not closed by its owner.
        reason: Option<DownReason>,
    },
}

/// How an activity is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ActivityState {
    /// It is being opened for the first time.
    Opening,
    /// It can be used.
    Open {
        /// What the daemon calls it.
        entity: EntityId,
    },
    /// The connection was lost, and it will be opened again in the next one. What the service sends meanwhile does not arrive, and what
    /// the service knew of the old entity, its groups for one, is gone. Calls wait, inside their deadlines.
    Reopening,
    /// It is over.
    Closed(ActivityEnd),
}

/// Why an activity is over.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ActivityEnd {
    /// Its owner closed it.
    #[error("closed by this side")]
    Local,
    /// The service, or the daemon for it, closed it.
    #[error("closed by the service")]
    Service,
    /// It could not be opened, the first time or again.
    #[error(transparent)]
    NotOpened(OpenError),
    /// The connection ended, and there will be no other.
    #[error("the connection ended{}", .0.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Disconnected(Option<DownReason>),
}

/// How a client comes back when its connection is lost.
///
/// | field | default | why |
/// |---|---|---|
/// | `first_delay` | 250 ms | the range of the first wait; doubled after each failure |
/// | `last_delay` | 30 s | where doubling ends |
///
/// Each wait is a random part of its range, from nothing to all of it, so that the clients of a daemon that was restarted do not come
/// back at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made to be written as a literal with ..Default::default()")]
pub struct Reconnect {
    /// The range of the first wait.
    pub first_delay: std::time::Duration,
    /// The largest range of a wait.
    pub last_delay: std::time::Duration,
}

impl Default for Reconnect {
    fn default() -> Self {
        let defaults = nossock::Reconnect::default();
        Self { first_delay: defaults.first_delay, last_delay: defaults.last_delay }
    }
}
