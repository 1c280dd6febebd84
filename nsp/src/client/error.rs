use std::sync::Arc;
use std::time::Duration;

use crate::carrier::{AddressError, CarrierEnd, ConnectError};
use crate::machine::{SpError, client as machine};
use crate::proto::{EncodeError, Failure};

use super::trust::TrustError;

/// Why a client has no connection.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DownReason {
    /// The caller's address cannot be understood.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// None came about.
    #[error(transparent)]
    NotConnected(Arc<ConnectError>),
    /// The daemon was reached, and it is not known to be the right one.
    #[error(transparent)]
    NotTrusted(#[from] TrustError),
    /// The daemon was reached, and the connection could not be secured.
    #[error(transparent)]
    NotSecured(#[from] SpError),
    /// It ended.
    #[error(transparent)]
    Ended(CarrierEnd),
    /// The runtime in which it lived has stopped.
    #[error("the runtime of the connection has stopped")]
    Stopped,
}

impl From<ConnectError> for DownReason {
    fn from(error: ConnectError) -> Self {
        Self::NotConnected(Arc::new(error))
    }
}

impl DownReason {
    /// Whether trying again would give the same, until somebody changes a setting or looks at the daemon.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::NotConnected(error) => error.is_permanent(),
            Self::Ended(_) => false,
            Self::Address(_) | Self::NotTrusted(_) | Self::NotSecured(_) | Self::Stopped => true,
        }
    }
}

/// Why an activity was not opened.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The daemon has no such service, or no room.
    #[error("the daemon did not create the entity: {0}")]
    NotCreated(Failure),
    /// The service does not want us.
    #[error("the service refused the entity: {0}")]
    Refused(Failure),
    /// The daemon, or the way to it, took too long.
    #[error("the daemon did not answer in time")]
    Timeout,
    /// This side has as many activities as it allows itself.
    #[error("{limit} activities exist already")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The daemon key would travel over a connection that others can read.
    #[error("a daemon key does not go over a connection that is not secured")]
    WouldLeak,
    /// The request cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The connection ended meanwhile.
    #[error("the connection ended before the activity was open")]
    Disconnected,
    /// There is no connection, and there will be none.
    #[error("not connected{}", because(.0.as_ref()))]
    NotConnected(Option<DownReason>),
}

impl OpenError {
    /// What the daemon or the service says, when it was they who refused.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::NotCreated(failure) | Self::Refused(failure) => Some(failure),
            _ => None,
        }
    }
}

impl From<machine::OpenError> for OpenError {
    fn from(error: machine::OpenError) -> Self {
        match error {
            machine::OpenError::NotCreated(failure) => Self::NotCreated(*failure),
            machine::OpenError::Refused(failure) => Self::Refused(*failure),
            machine::OpenError::Timeout => Self::Timeout,
            machine::OpenError::Disconnected => Self::Disconnected,
        }
    }
}

impl From<machine::RequestError> for OpenError {
    fn from(error: machine::RequestError) -> Self {
        match error {
            machine::RequestError::TooManyActivities { limit } => Self::TooMany { limit },
            machine::RequestError::WouldLeak => Self::WouldLeak,
            machine::RequestError::Encode(error) => Self::Encode(error),
            _ => Self::Disconnected,
        }
    }
}

/// Why a call, a send, or a request for a token brought nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The service, or the daemon for it, says that it failed.
    #[error("{0}")]
    Failed(Failure),
    /// There was no answer within the deadline. The service may have done it all the same.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The activity is closed. If it was closed while the call was under way, the service may have done it all the same.
    #[error("the activity is closed")]
    Closed,
    /// The connection ended while the call was under way. The service may have done it all the same.
    #[error("the connection ended before the answer came")]
    Disconnected,
    /// There is no connection, and there will be none. Nothing was sent.
    #[error("not connected{}", because(.0.as_ref()))]
    NotConnected(Option<DownReason>),
    /// As many calls as allowed wait for their answers. Nothing was sent.
    #[error("{limit} calls wait for their answers already")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// A token or a password would travel over a connection that others can read. Nothing was sent.
    #[error("a secret does not go over a connection that is not secured")]
    WouldLeak,
    /// The caller's argument cannot be written as JSON. Nothing was sent.
    #[error("the argument cannot be written as JSON: {0}")]
    Argument(#[source] serde_json::Error),
    /// The packet cannot be written, most often because it is too large. Nothing was sent.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The service answered with JSON of another shape than the caller expects.
    #[error("the answer is not what was expected: {0}")]
    Answer(#[source] serde_json::Error),
    /// The service answered with a blob where JSON was expected.
    #[error("the answer is a blob of {0} bytes, not JSON")]
    Blob(usize),
    /// The password or the user is wrong.
    #[error("the user or the password is wrong")]
    SignIn,
}

impl CallError {
    /// What the service says about its failure.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// The code of the service's failure, for programs.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.failure()?.code.as_deref()
    }

    /// Under which id the daemon's log has the details.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.failure()?.id.as_deref()
    }

    /// Whether the service may have done what was asked, although there is no answer.
    #[must_use]
    pub const fn may_be_done(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Closed | Self::Disconnected | Self::Answer(_) | Self::Blob(_))
    }

    /// What the machine's word for it means to the caller, who gave it that much time.
    pub(super) fn of(error: machine::CallError, timeout: Duration) -> Self {
        match error {
            machine::CallError::Failed(failure) => Self::Failed(*failure),
            machine::CallError::Timeout => Self::Timeout(timeout),
            machine::CallError::Closed => Self::Closed,
            machine::CallError::Disconnected => Self::Disconnected,
        }
    }
}

impl From<machine::RequestError> for CallError {
    fn from(error: machine::RequestError) -> Self {
        match error {
            machine::RequestError::TooManyCalls { limit } => Self::TooMany { limit },
            machine::RequestError::WouldLeak => Self::WouldLeak,
            machine::RequestError::Encode(error) => Self::Encode(error),
            machine::RequestError::NotOpen => Self::Closed,
            _ => Self::NotConnected(None),
        }
    }
}

fn because(reason: Option<&DownReason>) -> String {
    reason.map(|reason| format!(": {reason}")).unwrap_or_default()
}
