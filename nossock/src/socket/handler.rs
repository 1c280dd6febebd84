//! From a typed function to something a driver can start.

use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use serde::Serialize;

use super::answers::Asked;
use super::batch::Batch;
use super::extract::{FromMessage, Incoming};
use super::message::{AnswerError, Responder};
use super::shared::now;
use super::slot::{FutureSlot, Place, poll_place};
use crate::seldom::Seldom;
use crate::session::Reject;

/// An async function that handles messages.
///
/// It takes up to six arguments, each a [`FromMessage`], and gives `()` or a `Result<(), E>` whose error can be
/// displayed. The compiler says what is wrong with one that does not fit.
#[diagnostic::on_unimplemented(
    message = "this function cannot handle messages",
    label = "not a handler of messages",
    note = "it has to be an `async` function or closure, and what it holds across an `.await` has to be `Send`",
    note = "each of its arguments, six at most, is `FromMessage`: `Json<T>` with `T: DeserializeOwned`, `Bytes`, `Body`, `Name`, `Socket`, `Peer`, or `State<S>` with the `S` of the router",
    note = "it gives `()` or `Result<(), E>` with `E: Display`; what gives an answer belongs into `Router::on_request`"
)]
pub trait MessageHandler<S, Args>: Send + Sync + 'static {
    #[doc(hidden)]
    const KEEPS_BODY: bool;

    #[doc(hidden)]
    type Future: Future<Output: IntoOutcome> + Send + 'static;

    #[doc(hidden)]
    fn start<R>(
        &self,
        incoming: &Incoming<'_>,
        state: &S,
        go_on: impl FnOnce(Self::Future) -> R,
    ) -> Result<R, Reject>;
}

/// An async function that answers requests.
///
/// It takes up to six arguments, each a [`FromMessage`], and gives an [`IntoAnswer`].
#[diagnostic::on_unimplemented(
    message = "this function cannot answer requests",
    label = "not a handler of requests",
    note = "it has to be an `async` function or closure, and what it holds across an `.await` has to be `Send`",
    note = "each of its arguments, six at most, is `FromMessage`: `Json<T>` with `T: DeserializeOwned`, `Bytes`, `Body`, `Name`, `Socket`, `Peer`, or `State<S>` with the `S` of the router",
    note = "it gives a `T: Serialize`, a `Raw`, or `Result<_, Reject>` with one of these; another error becomes a `Reject` by `map_err`"
)]
pub trait RequestHandler<S, Args>: Send + Sync + 'static {
    #[doc(hidden)]
    const KEEPS_BODY: bool;

    #[doc(hidden)]
    type Future: Future<Output: IntoAnswer<Self::Shape>> + Send + 'static;

    #[doc(hidden)]
    type Shape;

    #[doc(hidden)]
    fn start<R>(
        &self,
        incoming: &Incoming<'_>,
        state: &S,
        go_on: impl FnOnce(Self::Future) -> R,
    ) -> Result<R, Reject>;
}

/// What a handler of messages gives.
#[diagnostic::on_unimplemented(
    message = "a handler of messages cannot give `{Self}`",
    note = "it gives `()` or `Result<(), E>` with `E: Display`; to answer, handle a request: `Router::on_request`"
)]
pub trait IntoOutcome {
    #[doc(hidden)]
    fn into_outcome(self) -> Result<(), String>;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Display> IntoOutcome for Result<(), E> {
    fn into_outcome(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

/// What a handler of requests gives: a value that is JSON, a [`Raw`], or a [`Reject`] in their place.
#[diagnostic::on_unimplemented(
    message = "a request cannot be answered with `{Self}`",
    note = "an answer is a `T: Serialize`, a `Raw`, or a `Result` of one of these with the error `Reject`"
)]
pub trait IntoAnswer<Shape> {
    #[doc(hidden)]
    fn answer(self, responder: Responder);

    /// As `answer`, where the request was read; without a responder, which costs more than many a handler does.
    #[doc(hidden)]
    fn answer_here(self, asked: Asked<'_>)
    where
        Self: Sized,
    {
        self.answer(asked.later());
    }
}

/// Tells the implementations of [`IntoAnswer`] apart; inferred.
#[doc(hidden)]
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "never made")]
pub enum Plain {}

/// Tells the implementations of [`IntoAnswer`] apart; inferred.
#[doc(hidden)]
#[derive(Debug)]
pub struct Fallible<Shape>(PhantomData<Shape>);

impl<T: Serialize> IntoAnswer<Plain> for T {
    fn answer(self, responder: Responder) {
        if let Err(error) = responder.answer(&self) {
            replaced(&error);
        }
    }

    #[inline]
    fn answer_here(self, asked: Asked<'_>) {
        if let Err(error) = asked.json(&self) {
            replaced(&error);
        }
    }
}

#[cold]
fn replaced(error: &AnswerError) {
    // Whoever asks for what is too large for it does so as often as it likes.
    static REPLACED: Seldom = Seldom::new();
    if let Some(times) = REPLACED.times(now()) {
        tracing::warn!(%error, times, "an answer was replaced");
    }
}

/// Bytes as an answer: a frame of kind `b`, as it is. The npm package cannot read such an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made by handlers")]
pub struct Raw(pub Bytes);

impl IntoAnswer<Self> for Raw {
    fn answer(self, responder: Responder) {
        if let Err(error) = responder.answer_raw(self.0) {
            replaced(&error);
        }
    }

    fn answer_here(self, asked: Asked<'_>) {
        if let Err(error) = asked.raw(self.0) {
            replaced(&error);
        }
    }
}

impl<T: IntoAnswer<Shape>, Shape> IntoAnswer<Fallible<Shape>> for Result<T, Reject> {
    fn answer(self, responder: Responder) {
        match self {
            Ok(value) => value.answer(responder),
            Err(reject) => responder.reject(&reject),
        }
    }

    #[inline]
    fn answer_here(self, asked: Asked<'_>) {
        match self {
            Ok(value) => value.answer_here(asked),
            Err(reject) => asked.later().reject(&reject),
        }
    }
}

macro_rules! handlers {
    ($($arg:ident),*) => {
        impl<H, S, F, R, $($arg,)*> MessageHandler<S, ($($arg,)*)> for H
        where
            H: Fn($($arg,)*) -> F + Send + Sync + 'static,
            F: Future<Output = R> + Send + 'static,
            R: IntoOutcome,
            $($arg: FromMessage<S>,)*
        {
            const KEEPS_BODY: bool = false $(|| $arg::KEEPS_BODY)*;
            type Future = F;

            #[allow(non_snake_case, unused_variables, reason = "one macro for every number of arguments")]
            #[inline(always)]
            fn start<Started>(
                &self,
                incoming: &Incoming<'_>,
                state: &S,
                go_on: impl FnOnce(F) -> Started,
            ) -> Result<Started, Reject> {
                $(let $arg = $arg::from_message(incoming, state)?;)*
                Ok(go_on(self($($arg,)*)))
            }
        }

        impl<H, S, F, R, Shape, $($arg,)*> RequestHandler<S, (Shape, $($arg,)*)> for H
        where
            H: Fn($($arg,)*) -> F + Send + Sync + 'static,
            F: Future<Output = R> + Send + 'static,
            R: IntoAnswer<Shape>,
            $($arg: FromMessage<S>,)*
        {
            const KEEPS_BODY: bool = false $(|| $arg::KEEPS_BODY)*;
            type Future = F;
            type Shape = Shape;

            #[allow(non_snake_case, unused_variables, reason = "one macro for every number of arguments")]
            #[inline(always)]
            fn start<Started>(
                &self,
                incoming: &Incoming<'_>,
                state: &S,
                go_on: impl FnOnce(F) -> Started,
            ) -> Result<Started, Reject> {
                $(let $arg = $arg::from_message(incoming, state)?;)*
                Ok(go_on(self($($arg,)*)))
            }
        }
    };
}

handlers!();
handlers!(A);
handlers!(A, B);
handlers!(A, B, C);
handlers!(A, B, C, D);
handlers!(A, B, C, D, E);
handlers!(A, B, C, D, E, G);

/// A handler with its types forgotten.
pub(crate) trait Endpoint: Send + Sync {
    /// Whether the body is to be given as a slice of the receive buffer.
    fn keeps_body(&self) -> bool;

    /// Takes the message apart and polls the handler once, here: most end without waiting, and then no task is made
    /// for them. There is somebody to answer when it is a request.
    fn start(
        &self,
        incoming: &Incoming<'_>,
        asked: Option<Asked<'_>>,
        slot: &mut FutureSlot,
        cx: &mut Context<'_>,
    ) -> Started;

    /// Does so with one message after the other, until one does not simply end, no more are there, or too many answers
    /// are.
    fn start_all(&self, batch: &mut Batch<'_>, slot: &mut FutureSlot, cx: &mut Context<'_>) -> Started;

    /// Takes the message apart, to be handled when the future is polled. Not for requests.
    fn prepare(&self, incoming: &Incoming<'_>) -> Result<HandlerFuture, Reject>;
}

/// What is left of a handler that waits. One of a request answers by itself.
pub(crate) type HandlerFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// What starting a handler came to.
pub(crate) enum Started {
    /// It has ended.
    Done,
    /// It waits.
    Waits(HandlerFuture),
    /// An argument was refused; an asker has been told.
    Rejected(Reject),
    /// It has ended with an error.
    Failed(String),
}

/// What one message came to. Small, to be given back in registers.
enum Step {
    Done,
    /// The future is in its place.
    Waits,
    /// An argument was refused, or the handler failed.
    Other(Box<Started>),
}

impl Step {
    #[cold]
    fn rejected(reject: Reject) -> Self {
        Self::Other(Box::new(Started::Rejected(reject)))
    }

    #[cold]
    fn failed(error: String) -> Self {
        Self::Other(Box::new(Started::Failed(error)))
    }
}

/// Whether a step is one of many. Code of its own for each of the two: then it is at the place of its only call, and
/// the future is made where it stays.
const ALONE: bool = false;
const OF_MANY: bool = true;

pub(crate) struct OnMessage<H, S, Args>(H, S, PhantomData<fn(Args)>);

impl<H, S, Args> OnMessage<H, S, Args> {
    pub(crate) const fn new(handler: H, state: S) -> Self {
        Self(handler, state, PhantomData)
    }
}

impl<H: MessageHandler<S, Args>, S, Args> OnMessage<H, S, Args> {
    #[inline(always)]
    fn step<const MANY: bool>(
        &self,
        incoming: &Incoming<'_>,
        place: &mut Place<H::Future>,
        cx: &mut Context<'_>,
    ) -> Step {
        // Handed on at once: a future that is given back is copied once more.
        let step = self.0.start(incoming, &self.1, |future| match place.poll(future, cx) {
            Poll::Ready(output) => match output.into_outcome() {
                Ok(()) => Step::Done,
                Err(error) => Step::failed(error),
            },
            Poll::Pending => Step::Waits,
        });
        match step {
            Ok(step) => step,
            Err(reject) => Step::rejected(reject),
        }
    }

    #[cold]
    fn ended(step: Step, Place(mut place): Place<H::Future>) -> Started {
        match step {
            Step::Done => Started::Done,
            Step::Other(started) => *started,
            Step::Waits => Started::Waits(Box::pin(async move {
                poll_fn(move |cx| poll_place(&mut place, cx)).await.into_outcome()
            })),
        }
    }
}

impl<H, S, Args> Endpoint for OnMessage<H, S, Args>
where
    H: MessageHandler<S, Args>,
    S: Send + Sync,
{
    fn keeps_body(&self) -> bool {
        H::KEEPS_BODY
    }

    fn start(
        &self,
        incoming: &Incoming<'_>,
        _: Option<Asked<'_>>,
        slot: &mut FutureSlot,
        cx: &mut Context<'_>,
    ) -> Started {
        let mut place = slot.take();
        match self.step::<ALONE>(incoming, &mut place, cx) {
            Step::Done => slot.keep(place),
            other => return Self::ended(other, *place),
        }
        Started::Done
    }

    fn start_all(&self, batch: &mut Batch<'_>, slot: &mut FutureSlot, cx: &mut Context<'_>) -> Started {
        let mut place = slot.take();
        while let Some(incoming) = batch.next() {
            match self.step::<OF_MANY>(&incoming, &mut place, cx) {
                Step::Done => {}
                other => return Self::ended(other, *place),
            }
        }
        slot.keep(place);
        Started::Done
    }

    fn prepare(&self, incoming: &Incoming<'_>) -> Result<HandlerFuture, Reject> {
        self.0.start(incoming, &self.1, |future| -> HandlerFuture {
            Box::pin(async move { future.await.into_outcome() })
        })
    }
}

pub(crate) struct OnRequest<H, S, Args>(H, S, PhantomData<fn(Args)>);

impl<H, S, Args> OnRequest<H, S, Args> {
    pub(crate) const fn new(handler: H, state: S) -> Self {
        Self(handler, state, PhantomData)
    }
}

impl<H: RequestHandler<S, Args>, S, Args> OnRequest<H, S, Args> {
    /// Answers, if it comes to that.
    #[inline(always)]
    fn step<const MANY: bool>(
        &self,
        incoming: &Incoming<'_>,
        asked: Asked<'_>,
        place: &mut Place<H::Future>,
        cx: &mut Context<'_>,
    ) -> Step {
        let step = self.0.start(incoming, &self.1, |future| match place.poll(future, cx) {
            Poll::Ready(value) => {
                value.answer_here(asked);
                Step::Done
            }
            Poll::Pending => Step::Waits,
        });
        match step {
            Ok(step) => step,
            Err(reject) => Step::rejected(reject),
        }
    }

    #[cold]
    fn ended(step: Step, asked: Asked<'_>, Place(mut place): Place<H::Future>) -> Started {
        match step {
            Step::Done => Started::Done,
            Step::Other(started) => {
                if let Started::Rejected(reject) = &*started {
                    asked.later().reject(reject);
                }
                *started
            }
            Step::Waits => {
                let responder = asked.later();
                Started::Waits(Box::pin(async move {
                    let value = poll_fn(move |cx| poll_place(&mut place, cx)).await;
                    value.answer(responder);
                    Ok(())
                }))
            }
        }
    }
}

impl<H, S, Args> Endpoint for OnRequest<H, S, Args>
where
    H: RequestHandler<S, Args>,
    S: Send + Sync,
{
    fn keeps_body(&self) -> bool {
        H::KEEPS_BODY
    }

    fn start(
        &self,
        incoming: &Incoming<'_>,
        asked: Option<Asked<'_>>,
        slot: &mut FutureSlot,
        cx: &mut Context<'_>,
    ) -> Started {
        let Some(mut asked) = asked else { return Started::Done };
        let mut place = slot.take();
        match self.step::<ALONE>(incoming, asked.again(), &mut place, cx) {
            Step::Done => slot.keep(place),
            other => return Self::ended(other, asked, *place),
        }
        Started::Done
    }

    fn start_all(&self, batch: &mut Batch<'_>, slot: &mut FutureSlot, cx: &mut Context<'_>) -> Started {
        let mut place = slot.take();
        while let Some(incoming) = batch.next() {
            match self.step::<OF_MANY>(&incoming, batch.asked(), &mut place, cx) {
                Step::Done if batch.is_held_back() => break,
                Step::Done => {}
                other => return Self::ended(other, batch.asked(), *place),
            }
        }
        slot.keep(place);
        Started::Done
    }

    fn prepare(&self, _: &Incoming<'_>) -> Result<HandlerFuture, Reject> {
        Ok(Box::pin(std::future::ready(Ok(()))))
    }
}
