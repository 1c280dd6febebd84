use std::error::Error;
use std::io;
use std::time::Duration;

use crate::session::CloseCode;
#[cfg(feature = "tls")]
use crate::transport::tls::{TlsError, explain};
use crate::wire::{NameError, WireError};

/// Why two sides were not introduced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IntroductionError {
    /// The peer refused us. It does not say why.
    #[error("the peer refused us")]
    RefusedByPeer,
    /// We refused the peer, for a reason that it does not learn.
    #[error("the peer was refused: {0}")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
    /// The peer began its conversation without an introduction: it has none, or ours is not its.
    #[error("the peer was refused: it did not introduce itself")]
    NotIntroduced,
    /// The peer ended the connection, with this code if it said one.
    #[error(
        "the peer ended the connection before it was introduced{}",
        .0.as_ref().map(|code| format!(": {code}")).unwrap_or_default()
    )]
    Ended(Option<CloseCode>),
    /// The peer took too long.
    #[error("the peer was not introduced within {after:?}")]
    TimedOut {
        /// What it had.
        after: Duration,
    },
    /// The peer sent what cannot be frames.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The peer sent a frame whose name is no text.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The peer's frame is larger than frames are before it is known.
    #[error("the peer announced a frame of {size} bytes, and {limit} are accepted before it is known")]
    TooLarge {
        /// Bytes announced.
        size: usize,
        /// Bytes accepted.
        limit: usize,
    },
    /// TLS failed after the handshake. Under TLS 1.3 this is how a client learns that its certificate was refused.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(TlsError),
    /// The transport failed.
    #[error("the connection failed before the peer was introduced: {0}")]
    Io(#[source] io::Error),
}

impl IntroductionError {
    /// The peer is to be refused, for this reason.
    pub fn refused(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Refused(reason.into())
    }

    /// Whether trying again would give the same: one of the two does not want the other.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        match self {
            Self::RefusedByPeer | Self::Refused(_) | Self::NotIntroduced => true,
            #[cfg(feature = "tls")]
            Self::Tls(error) => error.is_permanent(),
            _ => false,
        }
    }

    /// What the peer hears, if there is any sense in telling it something.
    pub(super) const fn farewell(&self) -> Option<CloseCode> {
        match self {
            Self::RefusedByPeer | Self::Ended(_) | Self::Io(_) => None,
            #[cfg(feature = "tls")]
            Self::Tls(_) => None,
            // No secret, and worth another try.
            Self::TimedOut { .. } => Some(CloseCode::Timeout),
            _ => Some(CloseCode::Refused),
        }
    }
}

impl From<io::Error> for IntroductionError {
    fn from(error: io::Error) -> Self {
        #[cfg(feature = "tls")]
        if let Some(error) = explain(&error) {
            return Self::Tls(error);
        }
        Self::Io(error)
    }
}
