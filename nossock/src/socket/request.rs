//! Asking the peer something.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Socket;
use super::encode::{self, Encoded};
use super::send::SendError;
use super::shared::{Core, On, Shared, Turn, Wakes, now};
use crate::session::{Answer, CloseReason, Due, Outcome, Reject, RequestId, Short};
use crate::wire::{Body, Kind, NameError};

/// Why a request got no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The request was not sent: its name or body does not fit, or the conversation is over.
    #[error(transparent)]
    NotSent(#[from] SendError),
    /// The peer answered with an error.
    #[error("`{name}` was rejected: {reject}")]
    Rejected {
        /// The request.
        name: String,
        /// What the peer said.
        reject: Reject,
    },
    /// No answer came in time.
    #[error("`{name}` got no answer within {after:?}{hint}")]
    TimedOut {
        /// The request.
        name: String,
        /// The time it had.
        after: Duration,
        /// What may have kept the answer, when this side did.
        hint: &'static str,
    },
    /// The conversation ended before the answer came. The peer may have handled the request.
    #[error("`{name}` got no answer: {reason}")]
    Closed {
        /// The request.
        name: String,
        /// Why.
        reason: CloseReason,
    },
    /// The peer's answer cannot be read as what the caller wants.
    #[error("the answer to `{name}` cannot be read")]
    BadAnswer {
        /// The request.
        name: String,
        /// What serde said.
        source: serde_json::Error,
    },
}

/// The value of an answer, not looked at yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value(Inner);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Inner {
    Short(Short),
    Body(Body),
}

impl Value {
    /// Reads a JSON value.
    ///
    /// # Errors
    /// When it is no JSON, or not a `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        match &self.0 {
            Inner::Short(short) => serde_json::from_slice(short.as_slice()),
            Inner::Body(body) => body.parse(),
        }
    }

    /// The bytes: of the JSON text, or of the raw answer.
    #[must_use]
    pub fn into_body(self) -> Body {
        match self.0 {
            Inner::Short(short) => Body::Json(Bytes::copy_from_slice(short.as_slice())),
            Inner::Body(body) => body,
        }
    }
}

/// The longest name of a request in bytes: `resp:`, a colon and an id of 16 letters have to fit beside it.
const MAX_NAME: usize = 255 - 5 - 1 - 16;

/// A request about to be queued.
struct Outgoing<'a> {
    kind: Kind,
    name: &'a str,
    timeout: Duration,
}

impl Outgoing<'_> {
    fn new(kind: Kind, name: &str, timeout: Duration) -> Result<Outgoing<'_>, SendError> {
        if name.len() > MAX_NAME {
            return Err(NameError::TooLongForRequest { len: name.len(), limit: MAX_NAME }.into());
        }
        Ok(Outgoing { kind, name, timeout })
    }

    /// Takes a slot and queues the request, or gives the body back to be tried again.
    fn push(
        &self,
        shared: &Shared,
        core: &mut Core,
        wakes: &mut Wakes,
        body: Encoded<'_>,
        turn: Turn,
        (due, waker): (Due, Option<Waker>),
    ) -> Result<Result<RequestId, Bytes>, SendError> {
        core.session.may_send().map_err(SendError::Closed)?;
        if let Some(reason) = core.session.reason() {
            return Err(SendError::Closed(reason.clone())); // no answer can come any more
        }
        let limits = &shared.config.limits;
        let limit = core.session.max_body(limits.max_body);
        if body.len() > limit as usize {
            return Err(SendError::TooLarge { name: self.name.to_owned(), size: body.len(), limit });
        }
        if turn == Turn::Behind || !core.has_room(limits.send_queue) {
            return Ok(Err(body.into_bytes()));
        }
        let Some(id) = core.session.request(due, waker, limits.requests_out) else {
            return Ok(Err(body.into_bytes()));
        };
        let text = id.text();
        let name = ["req:", self.name, ":", text.as_str()];
        let name_len =
            u8::try_from(name.iter().map(|part| part.len()).sum::<usize>()).expect("within MAX_NAME");
        core.frame(self.kind, name_len, &name, body.into());
        core.wake_driver(wakes);
        Ok(Ok(id))
    }

    /// Queues the request, with the waker of the task that polls: so the answer finds whom to wake, and the lock need
    /// not be taken again to say so.
    fn try_push(
        &self,
        shared: &Shared,
        body: Encoded<'_>,
        cx: &Context<'_>,
    ) -> Result<Result<RequestId, Bytes>, SendError> {
        shared.with(|core, wakes| {
            let turn = core.turn(On::Room);
            self.push(shared, core, wakes, body, turn, (Due::After(self.timeout), Some(cx.waker().clone())))
        })
    }

    async fn push_later(
        &self,
        shared: &Shared,
        body: Bytes,
        deadline: Instant,
    ) -> Result<RequestId, SendError> {
        let mut body = Some(body);
        shared
            .wait(On::Room, |core, wakes, turn| {
                let taken = Encoded::Owned(body.take().unwrap_or_default());
                match self.push(shared, core, wakes, taken, turn, (Due::At(deadline), None)) {
                    Ok(Ok(id)) => Some(Ok(id)),
                    Ok(Err(back)) => {
                        body = Some(back);
                        None
                    }
                    Err(error) => Some(Err(error)),
                }
            })
            .await
    }
}

impl Socket {
    /// Asks the peer, and reads its answer as an `R`; within
    /// [`Config::request_timeout`](crate::Config::request_timeout), queueing included.
    ///
    /// # Errors
    /// When the request was not sent, the peer answered with an error, or no answer came: at once when the
    /// connection ends.
    ///
    /// # Cancel safety
    /// Dropping it frees its slot, and a peer that understands it stops working on it; an answer that still comes
    /// is dropped, and never reaches another request.
    pub async fn request<R, B>(&self, name: &str, body: &B) -> Result<R, RequestError>
    where
        R: DeserializeOwned,
        B: Serialize + ?Sized,
    {
        self.request_within(self.shared.config.request_timeout, name, body).await
    }

    /// As [`request`](Self::request), with a time of its own.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    ///
    /// # Cancel safety
    /// As [`request`](Self::request).
    pub async fn request_within<R, B>(
        &self,
        timeout: Duration,
        name: &str,
        body: &B,
    ) -> Result<R, RequestError>
    where
        R: DeserializeOwned,
        B: Serialize + ?Sized,
    {
        let out = Outgoing::new(Kind::Json, name, timeout)?;
        let push = |cx: &mut Context<'_>| {
            let pushed = encode::json(body, |body| out.try_push(&self.shared, body, cx));
            Poll::Ready(pushed.map_err(|source| SendError::Json { name: name.to_owned(), source }))
        };
        let pushed = poll_fn(push).await??;
        let value = self.answer(&out, pushed).await?;
        value.parse().map_err(|source| RequestError::BadAnswer { name: name.to_owned(), source })
    }

    /// Asks the peer with a body of either kind, and gives the answer as it came.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    ///
    /// # Cancel safety
    /// As [`request`](Self::request).
    pub async fn request_raw(
        &self,
        timeout: Duration,
        name: &str,
        body: Body,
    ) -> Result<Value, RequestError> {
        let out = Outgoing::new(body.kind(), name, timeout)?;
        let mut body = Some(body.into_bytes());
        let push = |cx: &mut Context<'_>| {
            let body = Encoded::Owned(body.take().unwrap_or_default());
            Poll::Ready(out.try_push(&self.shared, body, cx))
        };
        let pushed = poll_fn(push).await?;
        self.answer(&out, pushed).await
    }

    async fn answer(
        &self,
        out: &Outgoing<'_>,
        pushed: Result<RequestId, Bytes>,
    ) -> Result<Value, RequestError> {
        let answered = match pushed {
            Ok(id) => Answered { shared: &self.shared, id: Some(id), known: true },
            Err(body) => {
                let deadline = now() + out.timeout;
                let later = out.push_later(&self.shared, body, deadline);
                match tokio::time::timeout_at(deadline.into(), later).await {
                    Ok(id) => Answered { shared: &self.shared, id: Some(id?), known: false },
                    Err(_) => return Err(timed_out(out, ": it waited for room to be sent")),
                }
            }
        };
        match answered.await {
            Answer::Reply(reply) => match reply.0 {
                Ok(Outcome::Short(short)) => Ok(Value(Inner::Short(short))),
                Ok(Outcome::Json(bytes)) => Ok(Value(Inner::Body(Body::Json(bytes)))),
                Ok(Outcome::Raw(bytes)) => Ok(Value(Inner::Body(Body::Raw(bytes)))),
                Ok(Outcome::Rejected(reject)) => {
                    Err(RequestError::Rejected { name: out.name.to_owned(), reject })
                }
                Err(source) => Err(RequestError::BadAnswer { name: out.name.to_owned(), source }),
            },
            Answer::TimedOut => {
                let stuck = self.shared.lock().inbox.bytes >= self.shared.config.limits.receive_queue;
                let hint = if stuck { ": the receive queue is full, and nobody receives" } else { "" };
                Err(timed_out(out, hint))
            }
            Answer::Closed => {
                let reason = self.close_reason().unwrap_or(CloseReason::Local);
                Err(RequestError::Closed { name: out.name.to_owned(), reason })
            }
        }
    }
}

fn timed_out(out: &Outgoing<'_>, hint: &'static str) -> RequestError {
    RequestError::TimedOut { name: out.name.to_owned(), after: out.timeout, hint }
}

/// The answer to a request that was sent. Dropping it cancels the request.
struct Answered<'a> {
    shared: &'a Shared,
    id: Option<RequestId>,
    /// The waker of this task has been noted when the request was queued.
    known: bool,
}

impl Future for Answered<'_> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let Some(id) = self.id else { return Poll::Ready(Answer::Closed) };
        if std::mem::take(&mut self.known) {
            return Poll::Pending; // the first poll, in the same breath as the queueing
        }
        let keep = |old: Option<Waker>| match old {
            Some(old) if old.will_wake(cx.waker()) => old,
            _ => cx.waker().clone(),
        };
        let answer = self.shared.with(|core, wakes| {
            let answer = core.session.pending().poll(id, keep)?;
            core.wake(On::Room, wakes);
            Some(answer)
        });
        match answer {
            Some(answer) => {
                self.id = None;
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // The slot is free before the peer hears of it: an answer on its way finds nobody and is counted.
            self.shared.with(|core, wakes| {
                if core.session.cancel(id) {
                    core.wake_driver(wakes);
                }
                core.wake(On::Room, wakes);
            });
        }
    }
}
