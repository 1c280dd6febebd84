//! From a typed function to something a driver can start.

use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use nossock::slot::{FutureSlot, Place, poll_place};
use serde::Serialize;
use tokio_util::sync::ReusableBoxFuture;

use super::call::Arriving;
use super::extract::{Blob, FromCall, Json, Meta};
use super::guard::{Guard, Shown};
use super::here::Here;
use super::shared::Shared;
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
    type Future: Future<Output = Self::Given> + Send + 'static;
    #[doc(hidden)]
    type Given: IntoGift<Self::Shape>;
    #[doc(hidden)]
    type Shape;
    /// Whether it can be [started](Self::start).
    #[doc(hidden)]
    const AT_ONCE: bool;

    #[doc(hidden)]
    fn run(&self, call: &Call, state: &S) -> impl Future<Output = Result<Gift, Fail>> + Send;

    /// Hands on its future, if all its arguments can be taken out of the call at once. Handed on: a future that is given back is
    /// copied once more.
    #[doc(hidden)]
    fn start<R>(
        &self,
        call: &Arriving<'_>,
        state: &S,
        go_on: impl FnOnce(Self::Future) -> R,
    ) -> Option<Result<R, Fail>>;
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
pub trait IntoGift<Shape>: Sized {
    #[doc(hidden)]
    fn into_gift(self) -> Result<Gift, Fail>;

    /// Writes it to where it will leave from, or gives it back as what it is.
    #[doc(hidden)]
    fn answer(self, _: &mut Here<'_, '_>) -> Result<Option<Gift>, Fail> {
        self.into_gift().map(Some)
    }
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

    #[inline]
    fn answer(self, here: &mut Here<'_, '_>) -> Result<Option<Gift>, Fail> {
        if here.shows_all() { here.write(&self).map(|()| None) } else { self.into_gift().map(Some) }
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

    #[inline]
    fn answer(self, here: &mut Here<'_, '_>) -> Result<Option<Gift>, Fail> {
        self?.answer(here)
    }
}

/// Makes an `$each` for every number of arguments up to six.
macro_rules! each_number {
    ($each:ident $($more:tt)*) => {
        $each!($($more)*;);
        $each!($($more)*; A);
        $each!($($more)*; A, B);
        $each!($($more)*; A, B, C);
        $each!($($more)*; A, B, C, D);
        $each!($($more)*; A, B, C, D, E);
        $each!($($more)*; A, B, C, D, E, G);
    };
}
pub(super) use each_number;

/// Makes a handler of an async function: each argument is taken out of the call, and what the function gives is turned into `$out`.
macro_rules! handler {
    ($handler:ident: $gives:ident::$turn:ident -> $out:ty; $($arg:ident),*) => {
        impl<H, S, F, R, $($arg,)*> $handler<S, ($($arg,)*)> for H
        where
            H: Fn($($arg,)*) -> F + Send + Sync + 'static,
            F: Future<Output = R> + Send,
            R: $gives,
            S: Sync,
            $($arg: FromCall<S>,)*
        {
            #[allow(non_snake_case, unused_variables, reason = "one macro for every number of arguments")]
            async fn run(&self, call: &Call, state: &S) -> Result<$out, Fail> {
                $(let $arg = $arg::from_call(call, state).await?;)*
                self($($arg,)*).await.$turn()
            }
        }
    };
}
pub(super) use handler;

/// The same for functions, whose futures have to be named, and may be started at once.
macro_rules! function {
    (; $($arg:ident),*) => {
        impl<H, S, F, R, Shape, $($arg,)*> Function<S, (Shape, $($arg,)*)> for H
        where
            H: Fn($($arg,)*) -> F + Send + Sync + 'static,
            F: Future<Output = R> + Send + 'static,
            R: IntoGift<Shape>,
            S: Sync,
            $($arg: FromCall<S>,)*
        {
            type Future = F;
            type Given = R;
            type Shape = Shape;
            const AT_ONCE: bool = true $(&& $arg::AT_ONCE)*;

            #[allow(non_snake_case, unused_variables, reason = "one macro for every number of arguments")]
            async fn run(&self, call: &Call, state: &S) -> Result<Gift, Fail> {
                $(let $arg = $arg::from_call(call, state).await?;)*
                self($($arg,)*).await.into_gift()
            }

            #[allow(non_snake_case, unused_variables, reason = "one macro for every number of arguments")]
            #[inline(always)]
            fn start<Started>(
                &self,
                call: &Arriving<'_>,
                state: &S,
                go_on: impl FnOnce(F) -> Started,
            ) -> Option<Result<Started, Fail>> {
                $(let $arg = match $arg::at_once(call, state)? {
                    Ok(argument) => argument,
                    Err(fail) => return Some(Err(fail)),
                };)*
                Some(Ok(go_on(self($($arg,)*))))
            }
        }
    };
}

each_number!(function);
each_number!(handler Hook: IntoOutcome::into_outcome -> ());

/// A handler with its types forgotten.
pub(crate) trait Endpoint: Send + Sync {
    /// The function; empty for what is none.
    fn name(&self) -> &str;

    /// Puts the future of a call into the slot.
    fn start(self: Arc<Self>, call: Call, slot: &mut CallSlot);

    /// Handles a call here, if nothing has to be asked for before.
    fn start_here(
        &self,
        _daemon: &Shared,
        _call: &Arriving<'_>,
        _here: &mut Here<'_, '_>,
        _slot: &mut FutureSlot,
        _now: Instant,
        _cx: &mut Context<'_>,
    ) -> Handled {
        Handled::NotHere
    }
}

/// What handling a call here came to. Small, to be given back in registers: so what is rare is boxed.
pub(crate) enum Handled {
    /// Nothing: it has to be [started](Endpoint::start).
    NotHere,
    /// Its answer is written.
    Answered,
    /// There is a result, which is yet to be written.
    Given(Box<Result<Gift, Fail>>),
    /// It waits.
    Waits(Box<CallFuture>),
}

/// The future of a call.
pub(crate) type CallFuture = ReusableBoxFuture<'static, Result<Gift, Fail>>;

/// A place for the future of a call, used again by the next one if that is of the same shape.
#[derive(Default)]
pub(crate) struct CallSlot(pub(crate) Option<CallFuture>);

impl CallSlot {
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

    fn start(self: Arc<Self>, call: Call, slot: &mut CallSlot) {
        slot.fill(async move {
            let shows = self.guard.admit(&call).await?;
            let gift = self.handler.run(&call, &self.state).await?;
            Ok(shows.apply(gift))
        });
    }

    fn start_here(
        &self,
        daemon: &Shared,
        call: &Arriving<'_>,
        here: &mut Here<'_, '_>,
        slot: &mut FutureSlot,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Handled {
        if !H::AT_ONCE {
            return Handled::NotHere;
        }
        if self.guard.stands(daemon) {
            match self.guard.admit_now(daemon, call.target, now) {
                Some(Ok(shown)) => here.shown = shown,
                Some(Err(fail)) => return Handled::Given(Box::new(Err(fail))),
                None => return Handled::NotHere,
            }
        }
        let mut place = slot.take();
        let started = self.handler.start(call, &self.state, |future| match place.poll(future, cx) {
            Poll::Ready(given) => match given.answer(here) {
                Ok(None) => Poll::Ready(Handled::Answered),
                Ok(Some(gift)) => Poll::Ready(Handled::Given(Box::new(Ok(here.shown.apply(gift))))),
                Err(fail) => Poll::Ready(Handled::Given(Box::new(Err(fail)))),
            },
            Poll::Pending => Poll::Pending,
        });
        let handled = match started {
            Some(Ok(Poll::Ready(handled))) => handled,
            Some(Ok(Poll::Pending)) => {
                return Self::later(*place, std::mem::replace(&mut here.shown, Shown::ALL));
            }
            Some(Err(fail)) => Handled::Given(Box::new(Err(fail))),
            None => Handled::NotHere,
        };
        slot.keep(place);
        handled
    }
}

impl<H, S, Args> FunctionEndpoint<H, S, Args>
where
    H: Function<S, Args>,
    S: Send + Sync + 'static,
    Args: 'static,
{
    #[cold]
    fn later(Place(mut place): Place<H::Future>, shown: Shown) -> Handled {
        Handled::Waits(Box::new(ReusableBoxFuture::new(async move {
            let given = poll_fn(|cx| poll_place(&mut place, cx)).await;
            Ok(shown.apply(given.into_gift()?))
        })))
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

    fn start(self: Arc<Self>, call: Call, slot: &mut CallSlot) {
        slot.fill(async move {
            let _ = self.guard.admit(&call).await?;
            self.handler.run(&call, &self.state).await?;
            Ok(Gift::default())
        });
    }
}
