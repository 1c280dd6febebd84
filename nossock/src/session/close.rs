use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::wire::{Unfinished, WireError};

/// Why a conversation ended. Everyone who waits on the socket learns the same one.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side closed.
    #[error("closed by this side")]
    Local,
    /// The server on this side is stopping.
    #[error("this side is stopping")]
    Stopped,
    /// The peer ended the stream between two frames, without a word.
    #[error("closed by the peer")]
    Peer,
    /// The peer closed and said why.
    #[error("closed by the peer: {code} ({})", message.escape_debug())]
    PeerSaid {
        /// For programs.
        code: CloseCode,
        /// For people; as it came, so escape it before a terminal sees it.
        message: String,
    },
    /// The peer ended the stream inside a frame.
    #[error("the peer's stream ended {0}")]
    Truncated(Unfinished),
    /// The peer sent what cannot be frames.
    #[error(transparent)]
    Protocol(#[from] WireError),
    /// The peer sent more control frames than [`Limits::controls`](crate::Limits::controls) allows.
    #[error("the peer sent more than {limit} control frames in 10 s")]
    Flooded {
        /// The limit.
        limit: u32,
    },
    /// Something took longer than its limit.
    #[error("{0}")]
    TimedOut(TimedOut),
    /// This side ended with the process or its runtime still running, for the reason given.
    #[error("aborted: {0}")]
    Aborted(&'static str),
    /// TLS failed after the handshake. Under TLS 1.3 this is how a client learns that its certificate was refused.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(Arc<crate::transport::tls::TlsError>),
    /// The transport failed.
    #[error("the connection failed: {0}")]
    Io(#[source] Arc<io::Error>),
}

/// Which limit of time was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimedOut {
    /// [`Limits::frame_time`](crate::Limits::frame_time)
    #[error("the peer did not finish a frame in time")]
    Frame,
    /// [`Limits::write_stall`](crate::Limits::write_stall)
    #[error("the peer stopped reading")]
    Write,
    /// [`Limits::ping_wait`](crate::Limits::ping_wait)
    #[error("the peer did not answer a ping")]
    Ping,
}

impl CloseReason {
    /// Whether both sides meant it, and nothing was cut.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        matches!(self, Self::Local | Self::Stopped | Self::Peer | Self::PeerSaid { .. })
    }

    /// Whether this side began it.
    pub(crate) const fn is_ours(&self) -> bool {
        matches!(self, Self::Local | Self::Stopped)
    }

    /// Whether it was found in what the peer sent, so that the transport still works.
    pub(crate) const fn is_decoded(&self) -> bool {
        matches!(self, Self::Protocol(_))
    }

    /// What to tell a peer that understands it.
    pub(crate) fn farewell(&self) -> super::Close {
        let code = match self {
            Self::Protocol(WireError::BodyTooLarge { .. }) => CloseCode::TooLarge,
            Self::Protocol(_) | Self::Truncated(_) => CloseCode::Protocol,
            Self::Flooded { .. } => CloseCode::Flooded,
            Self::TimedOut(TimedOut::Write) => CloseCode::SlowConsumer,
            Self::TimedOut(_) => CloseCode::Timeout,
            Self::Stopped | Self::Aborted(_) => CloseCode::GoingAway,
            _ => CloseCode::Normal,
        };
        let message = if code == CloseCode::Normal { String::new() } else { self.to_string() };
        super::Close { code, message }
    }
}

/// The code of a [close](super::Close) frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CloseCode {
    /// All is said.
    Normal,
    /// The sender stops; come again, perhaps elsewhere.
    GoingAway,
    /// The receiver of this sent what cannot be frames.
    Protocol,
    /// The receiver of this sent a body beyond all limits.
    TooLarge,
    /// The receiver of this sent too many control frames.
    Flooded,
    /// The receiver of this did not read.
    SlowConsumer,
    /// The receiver of this was too slow or silent.
    Timeout,
    /// The receiver of this may not be here.
    Refused,
    /// A code this version does not know.
    #[serde(untagged)]
    Other(String),
}

impl std::fmt::Display for CloseCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Normal => f.write_str("normal"),
            Self::GoingAway => f.write_str("going_away"),
            Self::Protocol => f.write_str("protocol"),
            Self::TooLarge => f.write_str("too_large"),
            Self::Flooded => f.write_str("flooded"),
            Self::SlowConsumer => f.write_str("slow_consumer"),
            Self::Timeout => f.write_str("timeout"),
            Self::Refused => f.write_str("refused"),
            Self::Other(code) => code.escape_debug().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_close_code_is_kept() {
        let code: CloseCode = serde_json::from_str(r#""coffee""#).unwrap();
        assert_eq!(code, CloseCode::Other("coffee".into()));
        assert_eq!(serde_json::to_string(&code).unwrap(), r#""coffee""#);
        assert_eq!(serde_json::to_string(&CloseCode::GoingAway).unwrap(), r#""going_away""#);
    }
}
