//! What a handler is started with, before its arguments are taken out of it.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;

use crate::machine::daemon::RequestKey;
use crate::machine::entities::ConnectionId;
use crate::proto::{Data, RawJson};

use super::Entity;

thread_local! {
    static CURRENT: Cell<Option<Current>> = const { Cell::new(None) };
}

/// The call that a function works on, wherever it goes on: what it does to its own caller is done after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) connection: ConnectionId,
    pub(crate) key: RequestKey,
}

impl Current {
    /// The one whose function is being polled.
    pub(crate) fn get() -> Option<Self> {
        CURRENT.get()
    }

    /// Polls a function that works on this call, or on none.
    pub(crate) fn poll<R>(current: Option<Self>, poll: impl FnOnce() -> R) -> R {
        /// Also when it panics.
        struct Before(Option<Current>);
        impl Drop for Before {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _before = Before(CURRENT.replace(current));
        poll()
    }
}

/// Lets a future go on with the call that is worked on here, in whatever task it runs.
///
/// A function that closes the entity that has called it, or ends the access of its own caller, is answered before the cut. The daemon
/// knows the function by its task; for what is spawned this says that it belongs to it. Outside of a function it changes nothing.
///
/// ```
/// # async fn change_password() {}
/// # async fn function() {
/// // The change goes on even if the caller hangs up.
/// let changed = tokio::spawn(nsp::daemon::in_this_call(change_password()));
/// # let _ = changed.await; }
/// ```
///
/// # Cancel safety
/// That of the future.
pub fn in_this_call<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let current = Current::get();
    async move {
        let mut future = pin!(future);
        poll_fn(|cx| match current {
            Some(_) => Current::poll(current, || future.as_mut().poll(cx)),
            None => future.as_mut().poll(cx),
        })
        .await
    }
}

/// Something that an entity wants of its service.
#[derive(Debug)]
pub struct Call {
    pub(crate) entity: Entity,
    pub(crate) kind: CallKind,
    pub(crate) name: String,
    pub(crate) data: Data,
    pub(crate) meta: Option<RawJson>,
}

/// What an entity wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallKind {
    /// To be let in.
    Connect,
    /// To say something.
    Data,
    /// The result of a service function.
    Function,
    /// The result of a blob function.
    BlobFunction,
    /// Nothing any more: it is gone.
    Close,
}

/// What is called, and by whom: all that stands before a handler asks for, mostly.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) entity: &'a Entity,
    pub(crate) kind: CallKind,
    pub(crate) name: &'a str,
}

/// A call whose parts are only lent, before it is known whether it has to wait for anything.
#[doc(hidden)]
pub struct Arriving<'a> {
    pub(crate) target: Target<'a>,
    /// The argument. That it is JSON has not been checked.
    pub(crate) data: Option<&'a [u8]>,
}

impl<'a> Arriving<'a> {
    /// Whose call it is.
    #[must_use]
    pub const fn entity(&self) -> &'a Entity {
        self.target.entity
    }
}

impl std::fmt::Debug for Arriving<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arriving").field("name", &self.target.name).finish_non_exhaustive()
    }
}

impl Call {
    pub(crate) fn target(&self) -> Target<'_> {
        Target { entity: &self.entity, kind: self.kind, name: &self.name }
    }

    /// One without argument.
    pub(crate) fn of(entity: &Entity, kind: CallKind) -> Self {
        Self { entity: entity.clone(), kind, name: String::new(), data: Data::None, meta: None }
    }

    /// Whose call it is.
    #[must_use]
    pub const fn entity(&self) -> &Entity {
        &self.entity
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> CallKind {
        self.kind
    }

    /// The function that is called; empty for what is no function.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &str {
        self.entity.service()
    }

    /// The argument, or the data.
    #[must_use]
    pub const fn data(&self) -> &Data {
        &self.data
    }

    /// What the caller says about its blob.
    #[must_use]
    pub const fn meta(&self) -> Option<&RawJson> {
        self.meta.as_ref()
    }
}
