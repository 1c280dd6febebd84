//! Why a program fails, and with which status.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use nossock::transport::tls::{IdentityError, TlsSetupError};
use nossock::{BindError, CloseReason, ConnectError, RecvError, RequestError, SendError, Unsent};

/// Why a program fails. Its text is the one line that is printed.
#[expect(clippy::exhaustive_enums, reason = "both programs and this library come as one package")]
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// 1: the remote handler said no. The answer itself has been printed.
    #[error("{0}")]
    Remote(String),
    /// 2
    #[error("{0}")]
    Usage(String),
    /// 3
    #[error("{0}")]
    Connect(String),
    /// 4
    #[error("{0}")]
    Trust(String),
    /// 5
    #[error("{0}")]
    NotAuthenticated(String),
    /// 6
    #[error("{0}")]
    NotAuthorized(String),
    /// 7
    #[error("{0}")]
    NoHandler(String),
    /// 8
    #[error("{0}")]
    TimedOut(String),
    /// 9
    #[error("{0}")]
    Disconnected(String),
    /// 10
    #[error("{0}")]
    Protocol(String),
    /// 11
    #[error("{0}")]
    Partial(String),
    /// 1: the machine this runs on said no.
    #[error("{0}")]
    Other(String),
    /// It has been said already.
    #[error("")]
    Said {
        /// With which status the program ends.
        status: u8,
    },
    /// 0: whoever read our output has had enough.
    #[error("nobody reads the output")]
    OutputClosed,
}

impl Failure {
    /// The status of the program.
    #[must_use]
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.status())
    }

    /// The same as a number.
    #[must_use]
    pub const fn status(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Said { status } => *status,
            Self::Remote(_) | Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::Connect(_) => 3,
            Self::Trust(_) => 4,
            Self::NotAuthenticated(_) => 5,
            Self::NotAuthorized(_) => 6,
            Self::NoHandler(_) => 7,
            Self::TimedOut(_) => 8,
            Self::Disconnected(_) => 9,
            Self::Protocol(_) => 10,
            Self::Partial(_) => 11,
        }
    }

    /// Whether there is nothing to say about it.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        matches!(self, Self::OutputClosed | Self::Said { .. })
    }

    /// The same failure, with something more to say about it.
    #[must_use]
    pub fn and(mut self, more: &str) -> Self {
        match &mut self {
            Self::Said { .. } | Self::OutputClosed => {}
            Self::Remote(text)
            | Self::Usage(text)
            | Self::Connect(text)
            | Self::Trust(text)
            | Self::NotAuthenticated(text)
            | Self::NotAuthorized(text)
            | Self::NoHandler(text)
            | Self::TimedOut(text)
            | Self::Disconnected(text)
            | Self::Protocol(text)
            | Self::Partial(text)
            | Self::Other(text) => {
                text.push_str(": ");
                text.push_str(more);
            }
        }
        self
    }

    /// A file that cannot be read or written.
    #[must_use]
    pub fn file(path: &Path, error: &std::io::Error) -> Self {
        Self::Other(format!("{}: {error}", path.display()))
    }
}

/// An error with what caused it, in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let text = chain(&error);
        match error {
            ConnectError::Address(_) | ConnectError::Unsupported { .. } => Self::Usage(text),
            ConnectError::Tls(_) | ConnectError::TlsSetup(_) => Self::Trust(text),
            ConnectError::TimedOut { .. } => Self::TimedOut(text),
            _ => Self::Connect(text),
        }
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        let text = chain(&error);
        match error {
            BindError::Address(_) | BindError::Unsupported { .. } | BindError::NoIdentity { .. } => {
                Self::Usage(text)
            }
            _ => Self::Connect(text),
        }
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Self::Trust(chain(&error))
    }
}

impl From<TlsSetupError> for Failure {
    fn from(error: TlsSetupError) -> Self {
        Self::Trust(chain(&error))
    }
}

impl From<CloseReason> for Failure {
    fn from(reason: CloseReason) -> Self {
        let text = chain(&reason);
        match reason {
            CloseReason::Protocol(_) => Self::Protocol(text),
            CloseReason::Tls(error) if error.is_permanent() => Self::Trust(text),
            CloseReason::TimedOut(_) => Self::TimedOut(text),
            _ => Self::Disconnected(text),
        }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Closed(reason) => reason.into(),
            SendError::Name(_) | SendError::Json { .. } => Self::Usage(chain(&error)),
            error => Self::Protocol(chain(&error)),
        }
    }
}

impl From<Unsent> for Failure {
    fn from(unsent: Unsent) -> Self {
        let text = unsent.to_string();
        match Self::from(unsent.reason) {
            Self::Trust(_) => Self::Trust(text),
            _ => Self::Disconnected(text),
        }
    }
}

impl From<RecvError> for Failure {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Closed(reason) => reason.into(),
            error => Self::Protocol(chain(&error)),
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::NotSent(error) => error.into(),
            RequestError::Rejected { reject, .. } => match reject.code() {
                Some("no_handler") => Self::NoHandler(reject.to_string()),
                Some("too_large") => Self::Protocol(reject.to_string()),
                _ => Self::Remote(reject.to_string()),
            },
            RequestError::Closed { reason, .. } => reason.into(),
            RequestError::TimedOut { .. } => Self::TimedOut(chain(&error)),
            error => Self::Protocol(chain(&error)),
        }
    }
}
