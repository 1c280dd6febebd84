//! Messages as they are received, and the way back to whoever asked.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::encode;
use super::shared::{Core, Shared};
use crate::session::{CloseReason, Phase, Reject, RejectCode};
use crate::wire::{Body, Kind, Name};

/// A message or a request, as [`recv`](crate::Socket::recv) gives it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Message {
    /// What it is called; for a request, what is asked for.
    pub name: Name,
    /// What it carries.
    pub body: Body,
    /// The way to answer, when it is a request.
    pub responder: Option<Responder>,
}

impl Message {
    pub(crate) const fn new(name: Name, body: Body, responder: Option<Responder>) -> Self {
        Self { name, body, responder }
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// When it is not JSON, or not a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        self.body.parse()
    }

    /// Bytes it is counted with while it waits.
    pub(crate) fn cost(&self) -> usize {
        self.name.len() + self.body.as_bytes().len() + 64
    }
}

/// Why [`recv`](crate::Socket::recv) has no message to give.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The conversation ended otherwise than by a clean close.
    #[error(transparent)]
    Closed(CloseReason),
    /// The peer sent a message that was refused. The connection lives on; receive again.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// A message that was not let in, although the connection goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Its body is over the limit.
    #[error("the peer sent `{name}` with a body of {size} bytes, the limit is {limit}")]
    TooLarge {
        /// What it is called.
        name: Name,
        /// Bytes of its body.
        size: u32,
        /// [`Limits::max_body`](crate::Limits::max_body)
        limit: u32,
    },
    /// Its name is no text.
    #[error("the peer sent a message whose name is not UTF-8")]
    BadName,
}

/// The way back to whoever sent a request. Goes to that request, on that connection, or to nobody.
///
/// Dropped without an answer it says `internal`, so that the peer need not wait for its deadline.
#[derive(Debug)]
pub struct Responder {
    shared: Arc<Shared>,
    tag: Tag,
    done: bool,
    /// It is counted in [`Core::owed`].
    owed: bool,
}

impl Responder {
    pub(crate) fn new(shared: &Arc<Shared>, name: &str, id: &str) -> Self {
        Self { shared: Arc::clone(shared), tag: Tag::new(name, id), done: false, owed: false }
    }

    /// Counts it, as a connection that the peer ends waits for those that are received by hand.
    pub(crate) const fn owe(&mut self, core: &mut Core) {
        core.owed += 1;
        self.owed = true;
    }

    /// Answers with a JSON value. Does not wait: while too many answers are queued, no more requests are read.
    ///
    /// # Errors
    /// When the value is no JSON or larger than the limits of either side: the peer is told `internal` or
    /// `too_large` instead.
    pub fn answer<T: Serialize + ?Sized>(mut self, value: &T) -> Result<(), AnswerError> {
        let result = encode::json_reply(value, |body| self.push(Kind::Json, body))
            .map_err(AnswerError::Json)
            .and_then(|pushed| pushed);
        self.done = true; // not before: a value that panics while it is written leaves the asker to be told
        if let Err(error) = &result {
            let code = if matches!(error, AnswerError::Json(_)) {
                RejectCode::Internal
            } else {
                RejectCode::TooLarge
            };
            self.push_reject(&Reject::of(code, error.to_string()));
        }
        result
    }

    /// Answers with bytes as they are: a frame of kind `b`. The npm package cannot read such an answer.
    ///
    /// # Errors
    /// When they are more than the limits of either side: the peer is told `too_large` instead.
    pub fn answer_raw(mut self, body: impl Into<Bytes>) -> Result<(), AnswerError> {
        self.done = true;
        let result = self.push(Kind::Raw, encode::Encoded::Owned(body.into()));
        if let Err(error) = &result {
            self.push_reject(&Reject::of(RejectCode::TooLarge, error.to_string()));
        }
        result
    }

    /// Answers with an error.
    pub fn reject(mut self, reject: &Reject) {
        self.done = true;
        self.push_reject(reject);
    }

    /// What was asked for.
    #[must_use]
    pub fn name(&self) -> &str {
        self.tag.name()
    }

    pub(crate) fn id(&self) -> &str {
        self.tag.id()
    }

    /// `<name>:<id>`, for somebody who answers in its place.
    pub(crate) fn into_tag(mut self) -> String {
        self.done = true;
        [self.tag.name(), ":", self.tag.id()].concat()
    }

    /// Tells an error. Our own limit is about values, and does not keep an error from being told; that of the peer
    /// shortens it.
    fn push_reject(&mut self, reject: &Reject) {
        let encode = |reject: &Reject| {
            let body = serde_json::to_vec(&(reject.as_value(), ())).expect("a Value is JSON");
            encode::Encoded::Owned(body.into())
        };
        if self.push_within(u32::MAX, Kind::Json, encode(reject)).is_err() {
            let short = Reject::value(&RejectCode::TooLarge.as_str());
            let _ = self.push_within(u32::MAX, Kind::Json, encode(&short));
        }
    }

    fn push(&mut self, kind: Kind, body: encode::Encoded<'_>) -> Result<(), AnswerError> {
        self.push_within(self.shared.config.limits.max_body, kind, body)
    }

    fn push_within(
        &mut self,
        limit: u32,
        kind: Kind,
        mut body: encode::Encoded<'_>,
    ) -> Result<(), AnswerError> {
        let name = self.tag.parts();
        let Ok(name_len) = u8::try_from(name.iter().map(|part| part.len()).sum::<usize>()) else {
            // `resp:` is longer than `req:`; nobody can be told.
            tracing::debug!(name = self.tag.name(), "a request has a name too long to be answered");
            return Ok(());
        };
        self.shared.with(|core, wakes| {
            if core.session.phase() > Phase::Draining {
                return Ok(()); // the asker has learned of the close
            }
            let limit = core.session.max_body(limit);
            if body.len() > limit as usize {
                return Err(AnswerError::TooLarge { size: body.len(), limit });
            }
            // With its name, which may be thirty times as long as a short answer.
            self.shared.count_answer(core, 6 + usize::from(name_len) + body.len());
            self.shared.frame(core, kind, name_len, &name, body.payload());
            core.owed -= usize::from(std::mem::take(&mut self.owed));
            core.wake_driver(wakes);
            Ok(())
        })
    }
}

impl Responder {
    /// Whether whoever asked has cancelled it, and is not to be told anything.
    fn is_cancelled(&self) -> bool {
        let mut core = self.shared.lock();
        let before = core.cancelled.len();
        core.cancelled.retain(|id| &**id != self.tag.id());
        core.cancelled.len() < before
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.done && !self.is_cancelled() {
            self.push_reject(&Reject::of(RejectCode::Internal, "the handler ended without an answer"));
        }
        if self.owed {
            // Nothing of it could be queued, which is no reason to wait for it.
            self.shared.with(|core, wakes| {
                core.owed -= 1;
                core.wake_driver(wakes);
            });
        }
    }
}

/// Why an answer was replaced by an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The value is no JSON.
    #[error("the answer cannot be written as JSON")]
    Json(#[source] serde_json::Error),
    /// It is larger than the smaller of both sides' limits.
    #[error("the answer has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Bytes of the body.
        size: usize,
        /// Bytes allowed.
        limit: u32,
    },
}

/// Name and id of a request, kept without an allocation when they are short.
#[derive(Debug)]
enum Tag {
    Short { bytes: [u8; Self::SHORT], name: u8, len: u8 },
    Long { text: Box<str>, name: usize },
}

impl Tag {
    const SHORT: usize = 46;

    fn new(name: &str, id: &str) -> Self {
        let len = name.len() + id.len();
        let mut bytes = [0; Self::SHORT];
        if let (Some(room), Ok(name_len), Ok(len)) =
            (bytes.get_mut(..len), u8::try_from(name.len()), u8::try_from(len))
        {
            let (front, back) = room.split_at_mut(name.len());
            front.copy_from_slice(name.as_bytes());
            back.copy_from_slice(id.as_bytes());
            return Self::Short { bytes, name: name_len, len };
        }
        Self::Long { text: [name, id].concat().into(), name: name.len() }
    }

    fn split(&self) -> (&str, &str) {
        match self {
            Self::Short { bytes, name, len } => {
                let text = bytes.get(..usize::from(*len)).and_then(|bytes| std::str::from_utf8(bytes).ok());
                text.and_then(|text| text.split_at_checked(usize::from(*name))).unwrap_or_default()
            }
            Self::Long { text, name } => text.split_at_checked(*name).unwrap_or_default(),
        }
    }

    fn name(&self) -> &str {
        self.split().0
    }

    fn id(&self) -> &str {
        self.split().1
    }

    fn parts(&self) -> [&str; 4] {
        let (name, id) = self.split();
        ["resp:", name, ":", id]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_keeps_name_and_id_at_every_length() {
        for len in [0, 1, 20, 45, 46, 47, 200] {
            let name = "é".repeat(len / 2);
            let tag = Tag::new(&name, "id-_9");
            assert_eq!(tag.parts(), ["resp:", &name, ":", "id-_9"]);
        }
    }
}
