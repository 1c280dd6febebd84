//! Whose the thing is that a call is about.

use std::future::Future;
use std::marker::PhantomData;

use futures_core::future::BoxFuture;

use super::call::Call;
use super::extract::FromCall;
use super::fail::Fail;
use super::handler::{each_number, handler};

/// An async function that tells whose the thing is that a call is about.
///
/// It takes up to six arguments, each a [`FromCall`], as the function does that is called, and gives the name of a user: `Option<String>`, or
/// `Result<Option<String>, Fail>`.
#[diagnostic::on_unimplemented(
    message = "this function cannot tell an owner",
    label = "not a function for `owner_of`",
    note = "it has to be an `async` function or closure that captures nothing, and what it holds across an `.await` has to be `Send`",
    note = "each of its arguments, six at most, is `FromCall`, as those of the function that is called",
    note = "it gives `Option<String>` or `Result<Option<String>, Fail>`"
)]
pub trait OwnerOf<S, Args>: Send + Sync + 'static {
    #[doc(hidden)]
    fn run(&self, call: &Call, state: &S) -> impl Future<Output = Result<Option<String>, Fail>> + Send;
}

/// What tells an owner.
#[diagnostic::on_unimplemented(
    message = "a function that tells an owner cannot give `{Self}`",
    note = "it gives `Option<String>` or `Result<Option<String>, Fail>`"
)]
pub trait IntoOwner {
    #[doc(hidden)]
    fn into_owner(self) -> Result<Option<String>, Fail>;
}

impl IntoOwner for Option<String> {
    fn into_owner(self) -> Result<Self, Fail> {
        Ok(self)
    }
}

impl IntoOwner for Result<Option<String>, Fail> {
    fn into_owner(self) -> Self {
        self
    }
}

each_number!(handler OwnerOf: IntoOwner::into_owner -> Option<String>);

/// One with its types forgotten.
pub(crate) trait Owners: Send + Sync {
    fn owner<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Option<String>, Fail>>;
}

pub(crate) struct OwnersOf<H, S, Args> {
    handler: H,
    state: S,
    args: PhantomData<fn(Args)>,
}

impl<H, S, Args> OwnersOf<H, S, Args> {
    pub(crate) const fn new(handler: H, state: S) -> Self {
        Self { handler, state, args: PhantomData }
    }
}

impl<H: OwnerOf<S, Args>, S: Send + Sync + 'static, Args: 'static> Owners for OwnersOf<H, S, Args> {
    fn owner<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Option<String>, Fail>> {
        Box::pin(self.handler.run(call, &self.state))
    }
}
