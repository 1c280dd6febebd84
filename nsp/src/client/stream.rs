use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use serde::de::DeserializeOwned;

use super::activity::Handle;
use super::inbox::{Found, Happening, StreamKey, Wanted};
use crate::proto::{Data, RawJson};

/// Something that a stream has to tell instead of a message. The stream goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// So many messages, the oldest of those that waited, were thrown away because they were not read in time.
    #[error("{0} messages were not read in time")]
    Missed(u64),
    /// The connection was lost, and the activity has been opened again: what was sent in between did not arrive.
    #[error("the connection was lost, and with it what was sent before the activity was open again")]
    Gap,
    /// A message is of another shape than the reader expects.
    #[error("a message is not what was expected: {0}")]
    Unreadable(#[source] serde_json::Error),
    /// A message is a blob where the reader expects JSON.
    #[error("a message is a blob of {0} bytes, not JSON")]
    Blob(usize),
}

/// The raw stream below all others. It keeps the activity alive.
pub(super) struct Source {
    handle: Arc<Handle>,
    key: Option<StreamKey>,
}

impl Source {
    pub(super) fn new(handle: Arc<Handle>, wanted: Wanted) -> Self {
        let key = handle.shared().inbox(handle.id(), |inbox| inbox.subscribe(wanted));
        Self { handle, key }
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Happening, EventError>>> {
        let Some(key) = self.key else { return Poll::Ready(None) };
        let found = self.handle.shared().inbox(self.handle.id(), |inbox| inbox.next(key, cx.waker()));
        match found.unwrap_or(Found::End) {
            Found::Nothing => Poll::Pending,
            Found::End => Poll::Ready(None),
            Found::Missed(missed) => Poll::Ready(Some(Err(EventError::Missed(missed)))),
            Found::Happening(happening) => Poll::Ready(Some(Ok(happening))),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.handle.shared().inbox(self.handle.id(), |inbox| inbox.unsubscribe(key));
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of activity {}", self.key, self.handle.id())
    }
}

macro_rules! stream {
    ($(#[$doc:meta])* $name:ident $(<$t:ident>)?, $item:ty, $read:expr) => {
        $(#[$doc])*
        ///
        /// It ends when the activity is closed, after what has come before.
        ///
        /// # Cancel safety
        /// Dropping the future of its next message loses nothing.
        #[must_use = "a stream does nothing unless it is read"]
        pub struct $name $(<$t>)? {
            source: Source,
            $(of: PhantomData<fn() -> $t>,)?
        }

        impl $(<$t>)? $name $(<$t>)? {
            pub(super) const fn new(source: Source) -> Self {
                Self { source, $(of: PhantomData::<fn() -> $t>)? }
            }
        }

        impl $(<$t: DeserializeOwned>)? Stream for $name $(<$t>)? {
            type Item = Result<$item, EventError>;

            fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
                Poll::Ready(ready!(self.source.poll_next(cx)).map(|found| found.and_then($read)))
            }
        }

        impl $(<$t>)? fmt::Debug for $name $(<$t>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), self.source)
            }
        }
    };
}

fn read<T: DeserializeOwned>(happening: Happening) -> Result<T, EventError> {
    match happening {
        Happening::Reopened => Err(EventError::Gap),
        Happening::Data(data) | Happening::Event { data, .. } | Happening::BlobEvent { data, .. } => {
            let json = data.into_json().map_err(|blob| EventError::Blob(blob.len()))?;
            json.to().map_err(EventError::Unreadable)
        }
    }
}

stream! {
    /// The events of one name: from [`Activity::events`](super::Activity::events).
    Events<T>, T, read
}

stream! {
    /// The data that a service sends: from [`Activity::data`](super::Activity::data).
    DataStream<T>, T, read
}

stream! {
    /// The blob events of one name: from [`Activity::blob_events`](super::Activity::blob_events).
    BlobEvents, BlobEvent, BlobEvent::read
}

stream! {
    /// Everything that a service sends: from [`Activity::happenings`](super::Activity::happenings).
    Happenings, Happening, Ok
}

/// An event with a blob.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BlobEvent {
    /// The blob; empty when the service gave JSON in its place, which is in `json` then.
    pub blob: Bytes,
    /// What the service says about it, `null` if nothing.
    pub meta: RawJson,
    /// What the service gave in the place of a blob.
    pub json: Option<RawJson>,
}

impl BlobEvent {
    fn read(happening: Happening) -> Result<Self, EventError> {
        let Happening::BlobEvent { meta, data, .. } = happening else { return Err(EventError::Gap) };
        let meta = meta.unwrap_or(RawJson::NULL);
        Ok(match data {
            Data::Blob(blob) => Self { blob, meta, json: None },
            Data::Json(json) => Self { blob: Bytes::new(), meta, json: Some(json) },
            Data::None => Self { blob: Bytes::new(), meta, json: None },
        })
    }
}
