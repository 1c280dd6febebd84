//! What a handler is started with, before its arguments are taken out of it.

use std::cell::Cell;

use crate::machine::daemon::RequestKey;
use crate::machine::entities::ConnectionId;
use crate::proto::{Data, RawJson};

use super::Entity;

thread_local! {
    static CURRENT: Cell<Option<Current>> = const { Cell::new(None) };
}

/// The call that a function works on, wherever it goes on: who closes the entity that has called closes it after the answer.
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

impl Call {
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
