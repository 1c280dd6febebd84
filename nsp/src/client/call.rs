use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::activity::Activity;
use super::error::CallError;
use super::outcome::{Outcome, Short};
use super::shared::{Begun, Shared};
use super::slots::Taken;
use crate::machine::client::{self as machine, ActivityKey, CallKey, RequestError};
use crate::proto::{Data, RawJson};

/// What is asked of a service.
#[derive(Debug)]
pub(super) enum Ask<'a> {
    Function { name: &'a str, data: Data },
    BlobFunction { name: &'a str, meta: RawJson, blob: Data },
    Data(Data),
}

impl Ask<'_> {
    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Function { name, data } => name.len() + data.len(),
            Self::BlobFunction { name, meta, blob } => name.len() + meta.as_bytes().len() + blob.len(),
            Self::Data(data) => data.len(),
        }
    }

    pub(super) fn begin(
        &self,
        machine: &mut machine::Client,
        activity: ActivityKey,
        timeout: Duration,
        now: Instant,
    ) -> Result<CallKey, RequestError> {
        match self {
            Self::Function { name, data } => machine.call(activity, name, data.clone(), timeout, now),
            Self::BlobFunction { name, meta, blob } => {
                machine.call_blob(activity, name, Some(meta.clone()), blob.clone(), timeout, now)
            }
            Self::Data(data) => machine.send(activity, data.clone(), timeout, now),
        }
    }
}

/// A call of a function with an argument and an answer in JSON, from its first poll to its end.
///
/// Written by hand for the common case, in which there is room for it and the activity is open: then it takes no timer, because the
/// deadline is the conversation's, and looks under the lock twice, once to begin, which leaves the task's waker there, and once for the answer.
#[derive(Debug)]
#[must_use = "a call does nothing unless it is awaited"]
pub(super) struct Calling<'a, A: ?Sized, R> {
    activity: &'a Activity,
    function: &'a str,
    argument: &'a A,
    stage: Stage<'a>,
    answer: PhantomData<fn() -> R>,
}

enum Stage<'a> {
    New,
    Begun(Answer<'a>),
    /// There is something to wait for first.
    Later(Pin<Box<dyn Future<Output = Result<Outcome, CallError>> + Send + 'a>>),
    Done,
}

impl<'a, A: ?Sized, R> Calling<'a, A, R> {
    pub(super) const fn new(activity: &'a Activity, function: &'a str, argument: &'a A) -> Self {
        Self { activity, function, argument, stage: Stage::New, answer: PhantomData }
    }
}

/// Whoever polls a future that has ended has a mistake, and is told as by an async function.
const AFTER_END: &str = "a call is not polled after its end";

/// How beginning a call with an argument that is only lent went; small, as [`Begun`] is.
enum Lent {
    Call(CallKey),
    /// Here is the argument, to be kept.
    Later(Box<RawJson>),
    Failed(Box<CallError>),
}

impl<A: Serialize + ?Sized, R: DeserializeOwned> Future for Calling<'_, A, R> {
    type Output = Result<R, CallError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (activity, function) = (this.activity, this.function);
        if let Stage::New = this.stage {
            match RawJson::lend(this.argument, |json| begin_lent(activity, function, json, cx)) {
                Ok(Lent::Call(call)) => {
                    // With the waker of this task, which the answer will find.
                    this.stage = Stage::Begun(Answer::permitted(activity.shared(), call));
                    return Poll::Pending;
                }
                Ok(Lent::Later(data)) => {
                    let ask = Ask::Function { name: function, data: Data::Json(*data) };
                    this.stage = Stage::Later(Box::pin(activity.call_later(ask, activity.deadline())));
                }
                Ok(Lent::Failed(error)) => {
                    this.stage = Stage::Done;
                    return Poll::Ready(Err(*error));
                }
                Err(error) => {
                    this.stage = Stage::Done;
                    return Poll::Ready(Err(CallError::Argument(error)));
                }
            }
        }
        let mut short = Short::default();
        let taken = match &mut this.stage {
            Stage::Begun(answer) => ready!(answer.poll_take(cx, &mut short)),
            Stage::Later(later) => {
                let outcome = ready!(later.as_mut().poll(cx));
                this.stage = Stage::Done;
                return Poll::Ready(outcome.and_then(Outcome::to));
            }
            Stage::New | Stage::Done => panic!("{AFTER_END}"),
        };
        Poll::Ready(match taken {
            Taken::Short => short.to(),
            Taken::Other(result) => outcome(*result, activity.timeout()).and_then(Outcome::to),
        })
    }
}

/// Begins a call if that can be done now.
#[inline]
fn begin_lent(activity: &Activity, name: &str, json: &[u8], cx: &Context<'_>) -> Lent {
    let timeout = activity.timeout();
    let call = |machine: &mut machine::Client, key, now| machine.call_lent(key, name, json, timeout, now);
    match activity.shared().begin(activity.handle(), name.len() + json.len(), Some(cx.waker()), call) {
        Begun::Call(call) => Lent::Call(call),
        Begun::Failed(error) => Lent::Failed(error),
        Begun::NotYet(_) | Begun::Full => {
            Lent::Later(Box::new(RawJson::written(Bytes::copy_from_slice(json))))
        }
    }
}

/// Begins what is asked, if that can be done now.
pub(super) fn begin<'a>(
    activity: &'a Activity,
    ask: &Ask<'_>,
    cx: &Context<'_>,
) -> Result<Option<Answer<'a>>, CallError> {
    let (shared, timeout) = (activity.shared(), activity.timeout());
    let call = |machine: &mut machine::Client, key, now| ask.begin(machine, key, timeout, now);
    match shared.begin(activity.handle(), ask.size(), Some(cx.waker()), call) {
        Begun::Call(call) => Ok(Some(Answer::permitted(shared, call))),
        Begun::Failed(error) => Err(*error),
        Begun::NotYet(_) | Begun::Full => Ok(None),
    }
}

/// What came of a call, as its maker is told who gave it that much time.
#[cold]
pub(super) fn outcome(
    result: Result<Outcome, machine::CallError>,
    timeout: Duration,
) -> Result<Outcome, CallError> {
    result.map_err(|error| CallError::of(error, timeout))
}

impl std::fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::New => "New",
            Self::Later(_) => "Later",
            Self::Begun(_) => "Begun",
            Self::Done => "Done",
        })
    }
}

/// Waits for the answer to a call, and gives it up when dropped.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    shared: &'a Shared,
    /// Gone once it is answered.
    call: Option<CallKey>,
    /// Whether it was [begun](Shared::begin) with a permit, which has to be given back.
    permitted: bool,
}

impl<'a> Answer<'a> {
    pub(super) const fn new(shared: &'a Shared, call: CallKey) -> Self {
        Self { shared, call: Some(call), permitted: false }
    }

    /// The answer to a call that was begun with a permit.
    const fn permitted(shared: &'a Shared, call: CallKey) -> Self {
        Self { shared, call: Some(call), permitted: true }
    }

    /// Takes the answer, with a place for what is short.
    #[inline]
    fn poll_take(&mut self, cx: &Context<'_>, short: &mut Short) -> Poll<Taken> {
        let Some(call) = self.call else { panic!("{AFTER_END}") };
        let mut core = self.shared.lock();
        let taken = ready!(core.slots.poll(call, cx.waker(), short));
        self.call = None;
        let is_next = self.permitted && core.give_back_permit();
        drop(core);
        if is_next {
            self.shared.permits.add_permits(1);
        }
        Poll::Ready(taken)
    }
}

impl Future for Answer<'_> {
    type Output = Result<Outcome, machine::CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut short = Short::default();
        Poll::Ready(match ready!(self.poll_take(cx, &mut short)) {
            Taken::Short => Ok(short.into()),
            Taken::Other(result) => *result,
        })
    }
}

impl Drop for Answer<'_> {
    // An answer that comes later finds nobody, and is counted: its id is not used again.
    #[inline]
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            self.shared.give_up(call, self.permitted);
        }
    }
}
