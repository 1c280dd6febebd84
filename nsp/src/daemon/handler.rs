//! From a typed function to something a driver can start.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::ReusableBoxFuture;

use super::extract::{Blob, FromCall, Json, Meta};
use super::guard::Guard;
use super::{Call, Fail};
use crate::machine::daemon::Gift;
use crate::proto::{Data, RawJson};

/// An async function that a service offers.
///
/// It takes up to six arguments, each a [`FromCall`], and gives an [`IntoGift`].
#[diagnostic::on_unimplemented(
    message = "this function cannot be a service function",
    label = "not a service function",
    note = "it has to be an `async` function or closure that captures nothing, and what it holds across an `.await` has to be `Send`",
    note = "each of its arguments, six at most, is `FromCall`: `Json<T>` with `T: DeserializeOwned`, `Blob`, `Meta<T>`, `Data`, `Entity`, `Caller`, `Emitter`, or `State<S>` with the `S` of the service",
    note = "it gives a `T: Serialize`, a `Blob`, a `(Blob, Meta<T>)`, a `(Json<T>, Meta<M>)`, or `Result<_, Fail>` with one of these; another error becomes a `Fail` by `?`"
)]
pub trait Function<S, Args>: Send + Sync + 'static {
    #[doc(hidden)]
    fn run(&self, call: &Call, state: &S) -> impl Future<Output = Result<Gift, Fail>> + Send;
}

/// An async function that hears of an entity: that it comes, says something, or goes.
///
/// It takes up to six arguments, each a [`FromCall`], and gives `()` or `Result<(), Fail>`.
#[diagnostic::on_unimplemented(
    message = "this function cannot hear of entities",
    label = "not a function for `on_connect`, `on_data` or `on_close`",
    note = "it has to be an `async` function or closure that captures nothing, and what it holds across an `.await` has to be `Send`",
    note = "each of its arguments, six at most, is `FromCall`: `Json<T>` with `T: DeserializeOwned`, `Blob`, `Data`, `Entity`, `Caller`, `Emitter`, or `State<S>` with the `S` of the service",
    note = "it gives `()` or `Result<(), Fail>`; what gives an answer is a function: `Service::function`"
)]
pub trait Hook<S, Args>: Send + Sync + 'static {
    #[doc(hidden)]
    fn run(&self, call: &Call, state: &S) -> impl Future<Output = Result<(), Fail>> + Send;
}

/// What a function gives: a value that is JSON, a [`Blob`], either with [`Meta`], or a [`Fail`] in their place.
#[diagnostic::on_unimplemented(
    message = "a service function cannot give `{Self}`",
    note = "it gives a `T: Serialize`, a `Blob`, a `(Blob, Meta<T>)` or `(Json<T>, Meta<M>)` with `T: Serialize`, or a `Result` of one of these with the error `Fail`"
)]
pub trait IntoGift<Shape> {
    #[doc(hidden)]
    fn into_gift(self) -> Result<Gift, Fail>;
}

/// What a hook gives.
#[diagnostic::on_unimplemented(
    message = "a function that hears of entities cannot give `{Self}`",
    note = "it gives `()` or `Result<(), Fail>`"
)]
pub trait IntoOutcome {
    #[doc(hidden)]
    fn into_outcome(self) -> Result<(), Fail>;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Result<(), Fail> {
        Ok(())
    }
}

impl IntoOutcome for Result<(), Fail> {
    fn into_outcome(self) -> Self {
        self
    }
}

/// Tells the implementations of [`IntoGift`] apart; inferred.
#[doc(hidden)]
#[derive(Debug)]
pub enum Plain {}

/// Tells the implementations of [`IntoGift`] apart; inferred.
#[doc(hidden)]
#[derive(Debug)]
pub struct Fallible<Shape>(PhantomData<Shape>);

fn json<T: Serialize>(value: &T) -> Result<RawJson, Fail> {
    RawJson::of(value).map_err(Fail::from)
}

impl<T: Serialize> IntoGift<Plain> for T {
    fn into_gift(self) -> Result<Gift, Fail> {
        json(&self).map(|json| Data::Json(json).into())
    }
}

impl IntoGift<Self> for Blob {
    fn into_gift(self) -> Result<Gift, Fail> {
        Ok(Data::Blob(self.0).into())
    }
}

impl<T: Serialize> IntoGift<Blob> for (Blob, Meta<T>) {
    fn into_gift(self) -> Result<Gift, Fail> {
        let (Blob(blob), Meta(meta)) = self;
        Ok(Gift { meta: Some(json(&meta)?), data: Data::Blob(blob) })
    }
}

impl<T: Serialize, M: Serialize> IntoGift<Json<()>> for (Json<T>, Meta<M>) {
    fn into_gift(self) -> Result<Gift, Fail> {
        let (Json(value), Meta(meta)) = self;
        Ok(Gift { meta: Some(json(&meta)?), data: Data::Json(json(&value)?) })
    }
}

/// What is JSON or a blob already.
impl IntoGift<Self> for Data {
    fn into_gift(self) -> Result<Gift, Fail> {
        Ok(self.into())
    }
}

/// What is JSON already.
impl IntoGift<Self> for RawJson {
    fn into_gift(self) -> Result<Gift, Fail> {
        Ok(Data::Json(self).into())
    }
}

impl<T: IntoGift<Shape>, Shape> IntoGift<Fallible<Shape>> for Result<T, Fail> {
    fn into_gift(self) -> Result<Gift, Fail> {
        self?.into_gift()
    }
}

macro_rules! handlers {
    ($($arg:ident),*) => {
        impl<H, S, F, R, Shape, $($arg,)*> Function<S, (Shape, $($arg,)*)> for H
        where
            H: Fn($($arg,)*) -> F + Send + Sync + 'static,
            F: Future<Output = R> + Send,
            R: IntoGift<Shape>,
            S: Sync,
            $($arg: FromCall<S>,)*
        {
            #[allow(non_snake_case, unused_variables, reason = "one macro for every number of arguments")]
            async fn run(&self, call: &Call, state: &S) -> Result<Gift, Fail> {
                $(let $arg = $arg::from_call(call, state).await?;)*
                self($($arg,)*).await.into_gift()
            }
        }

        impl<H, S, F, R, $($arg,)*> Hook<S, ($($arg,)*)> for H
        where
            H: Fn($($arg,)*) -> F + Send + Sync + 'static,
            F: Future<Output = R> + Send,
            R: IntoOutcome,
            S: Sync,
            $($arg: FromCall<S>,)*
        {
            #[allow(non_snake_case, unused_variables, reason = "one macro for every number of arguments")]
            async fn run(&self, call: &Call, state: &S) -> Result<(), Fail> {
                $(let $arg = $arg::from_call(call, state).await?;)*
                self($($arg,)*).await.into_outcome()
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
    /// The function; empty for what is none.
    fn name(&self) -> &str;

    /// Puts the future of a call into the slot.
    fn start(self: Arc<Self>, call: Call, slot: &mut FutureSlot);
}

/// The future of a call.
pub(crate) type CallFuture = ReusableBoxFuture<'static, Result<Gift, Fail>>;

/// A place for the future of a call, used again by the next one if that is of the same shape.
#[derive(Default)]
pub(crate) struct FutureSlot(pub(crate) Option<CallFuture>);

impl FutureSlot {
    fn fill(&mut self, future: impl Future<Output = Result<Gift, Fail>> + Send + 'static) {
        match &mut self.0 {
            Some(slot) => slot.set(future),
            None => self.0 = Some(ReusableBoxFuture::new(future)),
        }
    }
}

pub(crate) struct FunctionEndpoint<H, S, Args> {
    name: Box<str>,
    handler: H,
    state: S,
    guard: Guard,
    args: PhantomData<fn(Args)>,
}

impl<H, S, Args> FunctionEndpoint<H, S, Args> {
    pub(crate) fn new(name: &str, handler: H, state: S, guard: Guard) -> Self {
        Self { name: name.into(), handler, state, guard, args: PhantomData }
    }
}

impl<H, S, Args> Endpoint for FunctionEndpoint<H, S, Args>
where
    H: Function<S, Args>,
    S: Send + Sync + 'static,
    Args: 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn start(self: Arc<Self>, call: Call, slot: &mut FutureSlot) {
        slot.fill(async move {
            let shows = self.guard.admit(&call).await?;
            let gift = self.handler.run(&call, &self.state).await?;
            Ok(shows.apply(gift))
        });
    }
}

pub(crate) struct HookEndpoint<H, S, Args> {
    handler: H,
    state: S,
    guard: Guard,
    args: PhantomData<fn(Args)>,
}

impl<H, S, Args> HookEndpoint<H, S, Args> {
    pub(crate) const fn new(handler: H, state: S, guard: Guard) -> Self {
        Self { handler, state, guard, args: PhantomData }
    }
}

impl<H, S, Args> Endpoint for HookEndpoint<H, S, Args>
where
    H: Hook<S, Args>,
    S: Send + Sync + 'static,
    Args: 'static,
{
    fn name(&self) -> &str {
        ""
    }

    fn start(self: Arc<Self>, call: Call, slot: &mut FutureSlot) {
        slot.fill(async move {
            let _ = self.guard.admit(&call).await?;
            self.handler.run(&call, &self.state).await?;
            Ok(Gift::default())
        });
    }
}
