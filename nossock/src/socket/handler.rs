//! From a typed function to something a driver can start.

use std::fmt::Display;
use std::future::Future;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;
use tokio_util::sync::ReusableBoxFuture;

use super::extract::{FromMessage, Incoming};
use super::message::Responder;
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
    fn start(&self, incoming: &Incoming<'_>, state: &S) -> Result<Self::Future, Reject>;
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
    fn start(&self, incoming: &Incoming<'_>, state: &S) -> Result<Self::Future, Reject>;
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
            tracing::warn!(%error, "an answer was replaced");
        }
    }
}

/// Bytes as an answer: a frame of kind `b`, as it is. The npm package cannot read such an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made by handlers")]
pub struct Raw(pub Bytes);

impl IntoAnswer<Self> for Raw {
    fn answer(self, responder: Responder) {
        if let Err(error) = responder.answer_raw(self.0) {
            tracing::warn!(%error, "an answer was replaced");
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
            fn start(&self, incoming: &Incoming<'_>, state: &S) -> Result<F, Reject> {
                $(let $arg = $arg::from_message(incoming, state)?;)*
                Ok(self($($arg,)*))
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
            fn start(&self, incoming: &Incoming<'_>, state: &S) -> Result<F, Reject> {
                $(let $arg = $arg::from_message(incoming, state)?;)*
                Ok(self($($arg,)*))
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

    /// Takes the message apart and puts the handler's future into the slot.
    fn start(
        &self,
        incoming: &Incoming<'_>,
        responder: Option<Responder>,
        slot: &mut FutureSlot,
    ) -> Result<(), Reject>;
}

/// A place for the future of a handler, used again by the next one if that is of the same shape.
#[derive(Default)]
pub(crate) struct FutureSlot(pub(crate) Option<ReusableBoxFuture<'static, Result<(), String>>>);

impl FutureSlot {
    #[inline]
    fn fill(&mut self, future: impl Future<Output = Result<(), String>> + Send + 'static) {
        match &mut self.0 {
            Some(slot) => slot.set(future),
            None => self.0 = Some(ReusableBoxFuture::new(future)),
        }
    }
}

pub(crate) struct OnMessage<H, S, Args>(H, S, PhantomData<fn(Args)>);

impl<H, S, Args> OnMessage<H, S, Args> {
    pub(crate) const fn new(handler: H, state: S) -> Self {
        Self(handler, state, PhantomData)
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
        _: Option<Responder>,
        slot: &mut FutureSlot,
    ) -> Result<(), Reject> {
        let future = self.0.start(incoming, &self.1)?;
        slot.fill(async move { future.await.into_outcome() });
        Ok(())
    }
}

pub(crate) struct OnRequest<H, S, Args>(H, S, PhantomData<fn(Args)>);

impl<H, S, Args> OnRequest<H, S, Args> {
    pub(crate) const fn new(handler: H, state: S) -> Self {
        Self(handler, state, PhantomData)
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
        responder: Option<Responder>,
        slot: &mut FutureSlot,
    ) -> Result<(), Reject> {
        let Some(responder) = responder else { return Ok(()) };
        match self.0.start(incoming, &self.1) {
            Ok(future) => {
                slot.fill(async move {
                    future.await.answer(responder);
                    Ok(())
                });
                Ok(())
            }
            Err(reject) => {
                responder.reject(&reject);
                Err(reject)
            }
        }
    }
}
