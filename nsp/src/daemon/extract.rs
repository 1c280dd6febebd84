//! What a handler can ask for: each argument takes itself out of the call.

use std::future::Future;

use bytes::Bytes;
use nossock::Peer;
use serde::de::DeserializeOwned;

use super::call::Arriving;
use super::connection::Connection;
use super::{Call, Emitter, Entity, Fail};
use crate::carrier::CarrierKind;
use crate::proto::Data;
use crate::secure::Strength;

/// An argument of a handler.
///
/// Implement it for a type of your own, to check or translate in one place. It may take its time, and ask the client for something: the
/// [proof](Entity::prove) of who it is, for one. A refusal is the answer to the call.
///
/// Those of this crate are taken out of a call where it was read. For one of your own the call is kept first, which costs about as much again.
///
/// ```
/// use nsp::daemon::{Call, Fail, FromCall, Json};
///
/// struct Positive(i64);
///
/// impl<S: Sync> FromCall<S> for Positive {
///     async fn from_call(call: &Call, state: &S) -> Result<Self, Fail> {
///         match Json::from_call(call, state).await? {
///             Json(n) if n > 0 => Ok(Self(n)),
///             Json(n) => Err(Fail::bad_argument(format!("{n} is not positive"))),
///         }
///     }
/// }
/// ```
///
/// # Cancel safety
/// It is dropped when the caller is gone, or the call has taken too long.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler",
    label = "not something a call can be taken apart into",
    note = "arguments can be `Json<T>` (with `T: DeserializeOwned`), `Blob`, `Meta<T>`, `Data`, `Entity`, `Caller`, `Emitter`, `State<S>` (with the state of the service), or your own implementation of `FromCall`"
)]
pub trait FromCall<S: Sync>: Sized + Send {
    /// Takes itself out of a call.
    ///
    /// # Errors
    /// With what the caller is to be told.
    fn from_call(call: &Call, state: &S) -> impl Future<Output = Result<Self, Fail>> + Send;

    /// Whether it can take itself out of a call [at once](Self::at_once).
    #[doc(hidden)]
    const AT_ONCE: bool = false;

    /// The same where nothing has to be waited for, and no more of the call is looked at than that.
    #[doc(hidden)]
    fn at_once(_: &Arriving<'_>, _: &S) -> Option<Result<Self, Fail>> {
        None
    }
}

/// JSON as a `T`: the argument of a function, or data. A missing one is `null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(transparent)]
#[expect(clippy::exhaustive_structs, reason = "a pattern in handlers")]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + Send, S: Sync> FromCall<S> for Json<T> {
    async fn from_call(call: &Call, _: &S) -> Result<Self, Fail> {
        let text: &[u8] = match call.data() {
            Data::None => b"null",
            Data::Json(json) => json.as_bytes(),
            Data::Blob(_) => return Err(Fail::bad_argument("this takes JSON, and a blob was sent")),
        };
        read(text)
    }

    const AT_ONCE: bool = true;

    #[inline]
    fn at_once(call: &Arriving<'_>, _: &S) -> Option<Result<Self, Fail>> {
        Some(read(call.data.unwrap_or(b"null")))
    }
}

#[inline]
fn read<T: DeserializeOwned>(text: &[u8]) -> Result<Json<T>, Fail> {
    serde_json::from_slice(text).map(Json).map_err(|error| bad(&error))
}

#[cold]
fn bad(error: &serde_json::Error) -> Fail {
    Fail::bad_argument(format!("the argument cannot be read: {error}"))
}

/// Bytes as they came, not copied: the argument of a blob function, or data. A small one keeps alive what it was received in.
///
/// As a result, the bytes that a function gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_structs, reason = "a pattern in handlers")]
pub struct Blob(pub Bytes);

impl<S: Sync> FromCall<S> for Blob {
    async fn from_call(call: &Call, _: &S) -> Result<Self, Fail> {
        match call.data() {
            Data::Blob(blob) => Ok(Self(blob.clone())),
            Data::None | Data::Json(_) => Err(Fail::bad_argument("this takes a blob, and none was sent")),
        }
    }
}

/// What the caller says about its blob, as a `T`. A missing one is `null`.
///
/// As a result, beside a [`Blob`], what the service says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_structs, reason = "a pattern in handlers")]
pub struct Meta<T>(pub T);

impl<T: DeserializeOwned + Send, S: Sync> FromCall<S> for Meta<T> {
    async fn from_call(call: &Call, _: &S) -> Result<Self, Fail> {
        let text: &[u8] = call.meta().map_or(b"null", |meta| meta.as_bytes());
        serde_json::from_slice(text).map(Self).map_err(|error| {
            Fail::bad_argument(format!("what is said about the blob cannot be read: {error}"))
        })
    }
}

/// JSON or a blob, whichever it is.
impl<S: Sync> FromCall<S> for Data {
    async fn from_call(call: &Call, _: &S) -> Result<Self, Fail> {
        Ok(call.data().clone())
    }
}

/// Whose call it is.
impl<S: Sync> FromCall<S> for Entity {
    async fn from_call(call: &Call, _: &S) -> Result<Self, Fail> {
        Ok(call.entity().clone())
    }

    const AT_ONCE: bool = true;

    fn at_once(call: &Arriving<'_>, _: &S) -> Option<Result<Self, Fail>> {
        Some(Ok(call.target.entity.clone()))
    }
}

/// The way to all entities of the service.
impl<S: Sync> FromCall<S> for Emitter {
    async fn from_call(call: &Call, _: &S) -> Result<Self, Fail> {
        Ok(call.entity().emitter())
    }

    const AT_ONCE: bool = true;

    fn at_once(call: &Arriving<'_>, _: &S) -> Option<Result<Self, Fail>> {
        Some(Ok(call.target.entity.emitter()))
    }
}

/// The state that the [`Service`](super::Service) was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a pattern in handlers")]
pub struct State<S>(pub S);

impl<S: Clone + Send + Sync> FromCall<S> for State<S> {
    async fn from_call(_: &Call, state: &S) -> Result<Self, Fail> {
        Ok(Self(state.clone()))
    }

    const AT_ONCE: bool = true;

    fn at_once(_: &Arriving<'_>, state: &S) -> Option<Result<Self, Fail>> {
        Some(Ok(Self(state.clone())))
    }
}

/// From where a call comes, as far as the connection knows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Caller {
    /// Address, certificates or process.
    pub peer: Peer,
    /// By what it is connected.
    pub carrier: CarrierKind,
    /// Whether nobody on the way can read along without a key of SP: TLS, a Unix socket, this process.
    pub is_confidential: bool,
    /// What the key of SP is worth, if there is one.
    pub strength: Option<Strength>,
    /// The service of this daemon that has made the connection; see [`Entity::calling_service`] for when it speaks for itself.
    pub service: Option<String>,
}

impl Caller {
    pub(crate) fn of(connection: &Connection) -> Self {
        Self {
            peer: connection.peer.clone(),
            carrier: connection.kind,
            is_confidential: connection.is_confidential,
            strength: connection.strength(),
            service: connection.service.as_ref().map(|service| service.name.to_string()),
        }
    }
}

impl<S: Sync> FromCall<S> for Caller {
    async fn from_call(call: &Call, _: &S) -> Result<Self, Fail> {
        Ok(call.entity().caller())
    }

    const AT_ONCE: bool = true;

    fn at_once(call: &Arriving<'_>, _: &S) -> Option<Result<Self, Fail>> {
        Some(Ok(call.target.entity.caller()))
    }
}
