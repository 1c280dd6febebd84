//! What a handler is started with, before its arguments are taken out of it.

use std::future::Future;

use crate::machine::daemon::RequestKey;
use crate::proto::{Data, EntityId, RawJson};

use super::Entity;

tokio::task_local! {
    /// The call that a function works on, wherever it goes on: what it does to its own caller is done after the answer.
    pub(crate) static CURRENT: (EntityId, Option<RequestKey>);
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
    let current = CURRENT.try_with(Clone::clone).ok();
    async move {
        match current {
            Some(current) => CURRENT.scope(current, future).await,
            None => future.await,
        }
    }
}

/// Something that an entity wants of its service.
#[derive(Debug)]
pub struct Call {
    pub(crate) entity: Entity,
    /// Under which it is answered, if it is.
    pub(crate) key: Option<RequestKey>,
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

impl Call {
    /// One without argument.
    pub(crate) fn of(entity: &Entity, kind: CallKind) -> Self {
        Self { entity: entity.clone(), key: None, kind, name: String::new(), data: Data::None, meta: None }
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
