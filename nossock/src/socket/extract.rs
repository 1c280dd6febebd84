//! What a handler can ask for: each argument takes itself out of the message.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::Socket;
use super::peer::Peer;
use super::shared::Shared;
use crate::session::{Reject, RejectCode};
use crate::wire::{Body, Kind, Name};

/// A message on its way to a handler, borrowed from the buffer it came in.
#[derive(Debug)]
pub struct Incoming<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: Kind,
    /// The bytes that end with the body, and where it begins. Two numbers to be added rather than a slice to be copied:
    /// a copy in one piece, right after its halves were written, makes the processor wait.
    bytes: &'a [u8],
    body_at: usize,
    /// The same body as a slice of the buffer, when the handler said that it keeps it.
    pub(crate) owned: Option<&'a Bytes>,
    pub(crate) shared: &'a Arc<Shared>,
}

impl<'a> Incoming<'a> {
    #[inline]
    pub(crate) const fn new(
        name: &'a str,
        kind: Kind,
        bytes: &'a [u8],
        body_at: usize,
        shared: &'a Arc<Shared>,
    ) -> Self {
        Self { name, kind, bytes, body_at, owned: None, shared }
    }

    /// With its body as a slice of the buffer.
    pub(crate) fn owned(name: &'a str, kind: Kind, body: &'a Bytes, shared: &'a Arc<Shared>) -> Self {
        Self { owned: Some(body), ..Self::new(name, kind, body, 0, shared) }
    }

    /// What the message is called; for a request, what is asked for.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// [`Kind::Json`] or [`Kind::Raw`].
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The body's bytes.
    #[must_use]
    #[inline]
    pub const fn body(&self) -> &'a [u8] {
        match self.bytes.split_at_checked(self.body_at) {
            Some((_, body)) => body,
            None => &[],
        }
    }

    /// The body's bytes, to keep. Not copied when the extractor's
    /// [`KEEPS_BODY`](FromMessage::KEEPS_BODY) says so.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.owned.cloned().unwrap_or_else(|| Bytes::copy_from_slice(self.body()))
    }

    /// The socket it came by.
    #[must_use]
    pub fn socket(&self) -> Socket {
        Socket::new(Arc::clone(self.shared))
    }

    /// Who sent it.
    #[must_use]
    pub fn peer(&self) -> &'a Peer {
        &self.shared.peer
    }
}

/// An argument of a handler.
///
/// Implement it for a type of your own, to check or translate in one place; a refusal is the answer to a request,
/// and the error of a message.
///
/// ```
/// use nossock::{FromMessage, Incoming, Json, Reject};
///
/// struct Positive(i64);
///
/// impl<S> FromMessage<S> for Positive {
///     fn from_message(incoming: &Incoming<'_>, state: &S) -> Result<Self, Reject> {
///         match Json::from_message(incoming, state)? {
///             Json(n) if n > 0 => Ok(Self(n)),
///             Json(n) => Err(Reject::new("bad_body", format!("{n} is not positive"))),
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler",
    label = "not something a message can be taken apart into",
    note = "arguments can be `Json<T>` (with `T: DeserializeOwned`), `Bytes`, `Body`, `Name`, `Socket`, `Peer`, `State<S>` (with the router's state), or your own implementation of `FromMessage`"
)]
pub trait FromMessage<S>: Sized {
    /// Whether this keeps the body beyond the call; then it is given as a slice of the receive buffer.
    const KEEPS_BODY: bool = false;

    /// Takes itself out of a message.
    ///
    /// # Errors
    /// With what the peer is to be told.
    fn from_message(incoming: &Incoming<'_>, state: &S) -> Result<Self, Reject>;
}

/// A JSON body as a `T`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a pattern in handlers")]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S> FromMessage<S> for Json<T> {
    #[inline(always)]
    fn from_message(incoming: &Incoming<'_>, _: &S) -> Result<Self, Reject> {
        if incoming.kind == Kind::Raw {
            return Err(Reject::of(RejectCode::BadBody, "the body is raw, and this handler reads JSON"));
        }
        match serde_json::from_slice(incoming.body()) {
            Ok(value) => Ok(Self(value)),
            Err(error) => Err(Reject::of(RejectCode::BadBody, format!("the body cannot be read: {error}"))),
        }
    }
}

/// A raw body as it came: a slice of the receive buffer, not copied.
///
/// A small slice keeps the whole buffer of up to 64 KiB alive; copy it, if it is to be kept long.
impl<S> FromMessage<S> for Bytes {
    const KEEPS_BODY: bool = true;

    fn from_message(incoming: &Incoming<'_>, _: &S) -> Result<Self, Reject> {
        if incoming.kind == Kind::Raw {
            return Ok(incoming.bytes());
        }
        Err(Reject::of(RejectCode::BadBody, "the body is JSON, and this handler reads raw bytes"))
    }
}

/// A body of either kind.
impl<S> FromMessage<S> for Body {
    const KEEPS_BODY: bool = true;

    fn from_message(incoming: &Incoming<'_>, _: &S) -> Result<Self, Reject> {
        let bytes = incoming.bytes();
        Ok(if incoming.kind == Kind::Raw { Self::Raw(bytes) } else { Self::Json(bytes) })
    }
}

impl<S> FromMessage<S> for Name {
    fn from_message(incoming: &Incoming<'_>, _: &S) -> Result<Self, Reject> {
        Self::new(incoming.name).map_err(|error| Reject::of(RejectCode::Internal, error.to_string()))
    }
}

impl<S> FromMessage<S> for Socket {
    fn from_message(incoming: &Incoming<'_>, _: &S) -> Result<Self, Reject> {
        Ok(incoming.socket())
    }
}

impl<S> FromMessage<S> for Peer {
    fn from_message(incoming: &Incoming<'_>, _: &S) -> Result<Self, Reject> {
        Ok(incoming.peer().clone())
    }
}

/// The state that the [`Router`](crate::Router) was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a pattern in handlers")]
pub struct State<S>(pub S);

impl<S: Clone> FromMessage<S> for State<S> {
    fn from_message(_: &Incoming<'_>, state: &S) -> Result<Self, Reject> {
        Ok(Self(state.clone()))
    }
}
