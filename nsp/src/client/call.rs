use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::SemaphorePermit;

use super::activity::Activity;
use super::core::Outcome;
use super::error::CallError;
use super::shared::{Begun, Shared};
use crate::machine::client::{self as machine, ActivityKey, CallKey, Reply, RequestError};
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
        self,
        machine: &mut machine::Client,
        activity: ActivityKey,
        timeout: Duration,
        now: Instant,
    ) -> Result<CallKey, RequestError> {
        match self {
            Self::Function { name, data } => machine.call(activity, name, data, timeout, now),
            Self::BlobFunction { name, meta, blob } => {
                machine.call_blob(activity, name, Some(meta), blob, timeout, now)
            }
            Self::Data(data) => machine.send(activity, data, timeout, now),
        }
    }
}

/// A call, from its first poll to its answer.
///
/// Written by hand for the common case, in which there is room for it and the activity is open: then it takes no timer, because the
/// deadline is the conversation's, and looks under the lock twice, once to begin, which leaves the task's waker there, and once for the answer.
#[derive(Debug)]
#[must_use = "a call does nothing unless it is awaited"]
pub(super) struct Calling<'a> {
    activity: &'a Activity,
    stage: Stage<'a>,
}

enum Stage<'a> {
    Begin(Ask<'a>),
    /// There is something to wait for first.
    Later(Pin<Box<dyn Future<Output = Result<Reply, CallError>> + Send + 'a>>),
    /// Calls under way have a permit each.
    Begun {
        answer: Answer<'a>,
        _permit: SemaphorePermit<'a>,
    },
    Done,
}

impl<'a> Calling<'a> {
    pub(super) const fn new(activity: &'a Activity, ask: Ask<'a>) -> Self {
        Self { activity, stage: Stage::Begin(ask) }
    }

    /// Begins the call, or what has to come before.
    fn begin(&self, ask: Ask<'a>, cx: &Context<'_>) -> Result<Stage<'a>, CallError> {
        let (activity, shared) = (self.activity, self.activity.shared());
        let mut ask = Some(ask);
        if let Ok(permit) = shared.permits.try_acquire() {
            match shared.begin(activity.id(), activity.timeout(), &mut ask, Some(cx.waker())) {
                Begun::Call(call) => {
                    return Ok(Stage::Begun { answer: Answer::new(shared, call), _permit: permit });
                }
                Begun::Failed(error) => return Err(*error),
                Begun::NotYet(_) => {}
            }
        }
        Ok(match ask {
            Some(ask) => Stage::Later(Box::pin(activity.call_later(ask))),
            None => Stage::Done,
        })
    }
}

impl Future for Calling<'_> {
    type Output = Result<Reply, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Stage::Begin(_) = this.stage
            && let Stage::Begin(ask) = std::mem::replace(&mut this.stage, Stage::Done)
        {
            this.stage = this.begin(ask, cx)?;
            if let Stage::Begun { .. } = this.stage {
                return Poll::Pending;
            }
        }
        match &mut this.stage {
            Stage::Begun { answer, .. } => {
                let answer = ready!(Pin::new(answer).poll(cx));
                this.stage = Stage::Done;
                Poll::Ready(reply(answer, this.activity.timeout()))
            }
            Stage::Later(later) => later.as_mut().poll(cx),
            Stage::Begin(_) | Stage::Done => Poll::Pending,
        }
    }
}

impl std::fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Begin(_) => "Begin",
            Self::Later(_) => "Later",
            Self::Begun { .. } => "Begun",
            Self::Done => "Done",
        })
    }
}

/// What a call has brought to who made it.
pub(super) fn reply(
    answer: Result<Outcome, machine::CallError>,
    timeout: Duration,
) -> Result<Reply, CallError> {
    match answer {
        Ok(Outcome::Reply(reply)) => Ok(reply),
        Ok(Outcome::Token(_)) => Err(CallError::Closed),
        Err(error) => Err(CallError::of(error, timeout)),
    }
}

/// Waits for the answer to a call, and gives it up when dropped.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    shared: &'a Shared,
    call: CallKey,
    taken: bool,
}

impl<'a> Answer<'a> {
    pub(super) const fn new(shared: &'a Shared, call: CallKey) -> Self {
        Self { shared, call, taken: false }
    }
}

impl Future for Answer<'_> {
    type Output = Result<Outcome, machine::CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = self.shared.lock().poll_slot(self.call, cx.waker());
        match answer {
            Some(answer) => {
                self.taken = true;
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Answer<'_> {
    // An answer that comes later finds nobody, and is counted: its id is not used again.
    fn drop(&mut self) {
        if !self.taken {
            self.shared.with(|core, wakes| core.give_up(self.call, wakes));
        }
    }
}
