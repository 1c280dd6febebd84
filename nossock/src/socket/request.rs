//! Asking the peer something.

use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Socket;
use super::encode::{self, Encoded};
use super::send::SendError;
use super::shared::{Core, On, Shared, Turn, Wakes, now};
use crate::session::{Answer, CloseReason, Due, Outcome, Phase, Reject, RequestId, Short, Taken, after};
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
#[derive(Clone, Copy)]
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
        if name.is_empty() {
            return Err(NameError::EmptyRequest.into());
        }
        Ok(Outgoing { kind, name, timeout })
    }

    /// Makes the first attempt to queue the request.
    #[inline(always)]
    fn begin<B: Serialize + ?Sized>(
        &self,
        shared: &Shared,
        body: &B,
        cx: &Context<'_>,
    ) -> Result<Pushed, SendError> {
        let out = Outgoing::new(self.kind, self.name, self.timeout)?;
        let pushed = encode::json(body, |body| out.try_push(shared, body, cx));
        pushed.map_err(|source| SendError::Json { name: self.name.to_owned(), source })
    }

    /// Takes a slot and queues the request, or gives the body back to be tried again.
    #[inline]
    fn push(
        &self,
        shared: &Shared,
        core: &mut Core,
        wakes: &mut Wakes,
        body: &mut Encoded<'_>,
        turn: Turn,
        (due, waker): (Due, Option<Waker>),
    ) -> Pushed {
        if core.session.phase() != Phase::Open {
            // Even while messages still go: no answer can come any more.
            let reason = core.session.reason().cloned().unwrap_or(CloseReason::Local);
            return Pushed::Failed(Box::new(SendError::Closed(reason)));
        }
        let limits = &shared.config.limits;
        let limit = core.session.max_body(limits.max_body);
        if body.len() > limit as usize {
            let name = self.name.to_owned();
            return Pushed::Failed(Box::new(SendError::TooLarge { name, size: body.len(), limit }));
        }
        if turn == Turn::Behind || !core.has_room(limits.send_queue) {
            return Pushed::Full(Box::new(body.take_bytes()));
        }
        let Some(id) = core.session.request(due, waker, limits.requests_out) else {
            return Pushed::Full(Box::new(body.take_bytes()));
        };
        shared.request(core, self.kind, self.name, id, body.payload());
        core.wake_driver(wakes);
        Pushed::Sent(id)
    }

    /// Queues the request, with the waker of the task that polls: so the answer finds whom to wake, and the lock need
    /// not be taken again to say so.
    #[inline]
    fn try_push(&self, shared: &Shared, mut body: Encoded<'_>, cx: &Context<'_>) -> Pushed {
        shared.with(|core, wakes| {
            let turn = core.turn(On::Room);
            self.push(
                shared,
                core,
                wakes,
                &mut body,
                turn,
                (Due::After(self.timeout), Some(cx.waker().clone())),
            )
        })
    }

    async fn push_later(
        &self,
        shared: &Shared,
        body: Bytes,
        deadline: Instant,
    ) -> Result<RequestId, SendError> {
        let mut body = Encoded::Owned(body);
        shared
            .wait(On::Room, |core, wakes, turn| {
                match self.push(shared, core, wakes, &mut body, turn, (Due::At(deadline), None)) {
                    Pushed::Sent(id) => Some(Ok(id)),
                    Pushed::Full(back) => {
                        body = Encoded::Owned(*back);
                        None
                    }
                    Pushed::Failed(error) => Some(Err(*error)),
                }
            })
            .await
    }

    /// Waits for room when there was none, and then for the answer to begin.
    async fn sent<'s>(self, shared: &'s Shared, pushed: Pushed) -> Result<Answered<'s>, RequestError> {
        match pushed {
            Pushed::Sent(id) => Ok(Answered { shared, id: Some(id), known: true }),
            Pushed::Failed(error) => Err(RequestError::NotSent(*error)),
            Pushed::Full(body) => {
                let deadline = after(now(), self.timeout);
                let later = Box::pin(self.push_later(shared, *body, deadline));
                match tokio::time::timeout_at(deadline.into(), later).await {
                    Ok(id) => Ok(Answered { shared, id: Some(id?), known: false }),
                    Err(_) => Err(self.timed_out(": it waited for room to be sent")),
                }
            }
        }
    }

    /// What an answer that is not a short value comes to.
    #[cold]
    fn read(&self, shared: &Shared, answer: Answer) -> Result<Body, RequestError> {
        match answer {
            Answer::Reply(reply) => match reply.0 {
                Ok(Outcome::Json(bytes)) => Ok(Body::Json(bytes)),
                Ok(Outcome::Raw(bytes)) => Ok(Body::Raw(bytes)),
                Ok(Outcome::Rejected(reject)) => {
                    Err(RequestError::Rejected { name: self.name.to_owned(), reject })
                }
                Err(source) => Err(self.bad_answer(source)),
            },
            Answer::TimedOut => {
                let stuck = shared.lock().inbox.bytes >= shared.config.limits.receive_queue;
                Err(self.timed_out(if stuck {
                    ": the receive queue is full, and nobody receives"
                } else {
                    ""
                }))
            }
            Answer::Closed => {
                let reason = shared.lock().session.reason().cloned().unwrap_or(CloseReason::Local);
                Err(RequestError::Closed { name: self.name.to_owned(), reason })
            }
        }
    }

    #[cold]
    fn timed_out(&self, hint: &'static str) -> RequestError {
        RequestError::TimedOut { name: self.name.to_owned(), after: self.timeout, hint }
    }

    #[cold]
    fn bad_answer(&self, source: serde_json::Error) -> RequestError {
        RequestError::BadAnswer { name: self.name.to_owned(), source }
    }
}

/// What became of the attempt to queue a request. Small, to be given back in registers: so what is rare is boxed.
enum Pushed {
    Sent(RequestId),
    /// There was no room; the body comes back.
    Full(Box<Bytes>),
    Failed(Box<SendError>),
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
    pub fn request<'a, R, B>(
        &'a self,
        name: &'a str,
        body: &'a B,
    ) -> impl Future<Output = Result<R, RequestError>>
    where
        R: DeserializeOwned,
        B: Serialize + ?Sized,
    {
        self.request_within(self.shared.config.request_timeout, name, body)
    }

    /// As [`request`](Self::request), with a time of its own.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    ///
    /// # Cancel safety
    /// As [`request`](Self::request).
    pub fn request_within<'a, R, B>(
        &'a self,
        timeout: Duration,
        name: &'a str,
        body: &'a B,
    ) -> impl Future<Output = Result<R, RequestError>>
    where
        R: DeserializeOwned,
        B: Serialize + ?Sized,
    {
        let out = Outgoing { kind: Kind::Json, name, timeout };
        Asking { shared: &self.shared, out, body, stage: Stage::Begin, answer: PhantomData }
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
        let pushed = poll_fn(push).await;
        let mut answered = Box::pin(out.sent(&self.shared, pushed)).await?;
        poll_fn(|cx| {
            let mut short = Short::default();
            Poll::Ready(Ok(Value(match ready!(answered.poll(cx, &mut short)) {
                Taken::Short => Inner::Short(short),
                Taken::Other(answer) => Inner::Body(out.read(&self.shared, *answer)?),
            })))
        })
        .await
    }
}

/// A request with a JSON body, from its first poll to its answer.
///
/// Written by hand: as three async functions, one in the other, it is twice as large, and whoever awaits it moves it
/// into its place twice.
struct Asking<'a, B: ?Sized, R> {
    shared: &'a Shared,
    out: Outgoing<'a>,
    body: &'a B,
    stage: Stage<'a>,
    answer: PhantomData<fn() -> R>,
}

enum Stage<'a> {
    Begin,
    /// There was no room at first.
    Later(Pin<Box<dyn Future<Output = Result<Answered<'a>, RequestError>> + Send + 'a>>),
    Sent(Answered<'a>),
    /// It was not sent.
    Over,
}

/// Whoever polls a future that has ended has a mistake, and is told as by an async function: asked again would be worse.
const AFTER_END: &str = "a request is not polled after its end";

impl<B: Serialize + ?Sized, R: DeserializeOwned> Future for Asking<'_, B, R> {
    type Output = Result<R, RequestError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (shared, out) = (this.shared, this.out);
        if let Stage::Begin = this.stage {
            match out.begin(shared, this.body, cx) {
                Ok(Pushed::Sent(id)) => {
                    // With the waker of this task, which the answer will find.
                    this.stage = Stage::Sent(Answered { shared, id: Some(id), known: false });
                    return Poll::Pending;
                }
                Ok(other) => this.stage = Stage::Later(Box::pin(out.sent(shared, other))),
                Err(error) => {
                    this.stage = Stage::Over;
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
        if let Stage::Later(later) = &mut this.stage {
            this.stage = Stage::Sent(ready!(later.as_mut().poll(cx))?);
        }
        let Stage::Sent(answered) = &mut this.stage else { panic!("{AFTER_END}") };
        let mut short = Short::default();
        let value = match ready!(answered.poll(cx, &mut short)) {
            Taken::Short => serde_json::from_slice(short.as_slice()),
            Taken::Other(answer) => out.read(shared, *answer)?.parse(),
        };
        Poll::Ready(value.map_err(|source| out.bad_answer(source)))
    }
}

/// The answer to a request that was sent. Dropping it cancels the request.
struct Answered<'a> {
    shared: &'a Shared,
    id: Option<RequestId>,
    /// The waker of this task has been noted when the request was queued.
    known: bool,
}

impl Answered<'_> {
    #[inline]
    fn poll(&mut self, cx: &Context<'_>, short: &mut Short) -> Poll<Taken> {
        let id = self.id.expect(AFTER_END);
        if std::mem::take(&mut self.known) {
            return Poll::Pending; // the first poll, in the same breath as the queueing
        }
        let mut other = None; // of another task, and dropped without the lock
        let keep = |old: Option<Waker>| match old {
            Some(old) if old.will_wake(cx.waker()) => old,
            old => {
                other = old;
                cx.waker().clone()
            }
        };
        let taken = self.shared.with(|core, wakes| {
            let taken = core.session.pending().take(id, short, keep)?;
            core.wake(On::Room, wakes);
            Some(taken)
        });
        match taken {
            Some(taken) => {
                self.id = None;
                Poll::Ready(taken)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // The slot is free before the peer hears of it: an answer on its way finds nobody and is counted.
            let waker = self.shared.with(|core, wakes| {
                let waker = core.session.pending().forget_waker(id);
                if core.session.cancel(id) {
                    core.wake_driver(wakes);
                }
                core.wake(On::Room, wakes);
                waker
            });
            drop(waker); // which may be the last of its task, and drop what that holds
        }
    }
}
