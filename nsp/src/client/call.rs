use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::SemaphorePermit;

use super::activity::{Activity, Deadline};
use super::error::CallError;
use super::outcome::Outcome;
use super::shared::{Begun, Shared};
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

/// A call that has been begun, or will be.
///
/// Written by hand for the common case, in which there is room for it and the activity is open: then it takes no timer, because the
/// deadline is the conversation's, and looks under the lock twice, once to begin, which leaves the task's waker there, and once for the answer.
#[derive(Debug)]
#[must_use = "a call does nothing unless it is awaited"]
pub(super) struct Calling<'a> {
    stage: Stage<'a>,
    timeout: Duration,
}

enum Stage<'a> {
    /// There is something to wait for first.
    Later(Pin<Box<dyn Future<Output = Result<Outcome, CallError>> + Send + 'a>>),
    /// The waker of the task is known already: it was left there a moment ago.
    Begun {
        answer: Answer<'a>,
        just_now: bool,
        _permit: SemaphorePermit<'a>,
    },
    Done,
}

impl<'a> Calling<'a> {
    /// Calls a function with an argument that is only lent.
    #[inline]
    pub(super) fn lent(
        activity: &'a Activity,
        name: &'a str,
        json: &[u8],
        cx: &Context<'_>,
    ) -> Result<Self, CallError> {
        let timeout = activity.timeout();
        let call = |machine: &mut machine::Client, key, now| machine.call_lent(key, name, json, timeout, now);
        let begun = Self::try_begin(activity, name.len() + json.len(), cx, call)?;
        Ok(begun.unwrap_or_else(|| {
            let data = RawJson::written(Bytes::copy_from_slice(json)).into();
            Self::later(activity, Ask::Function { name, data })
        }))
    }

    /// Begins a call, or what has to come before.
    pub(super) fn begin(activity: &'a Activity, ask: Ask<'a>, cx: &Context<'_>) -> Result<Self, CallError> {
        let (timeout, size, mut ask) = (activity.timeout(), ask.size(), Some(ask));
        let begun = Self::try_begin(activity, size, cx, |machine, key, now| match ask.take() {
            Some(ask) => ask.begin(machine, key, timeout, now),
            None => Err(RequestError::NotOpen),
        })?;
        Ok(match (begun, ask) {
            (None, Some(ask)) => Self::later(activity, ask),
            (begun, _) => begun.unwrap_or(Self { stage: Stage::Done, timeout }),
        })
    }

    /// Begins a call if that can be done now.
    #[inline]
    fn try_begin(
        activity: &'a Activity,
        size: usize,
        cx: &Context<'_>,
        call: impl FnOnce(&mut machine::Client, ActivityKey, Instant) -> Result<CallKey, RequestError>,
    ) -> Result<Option<Self>, CallError> {
        let shared = activity.shared();
        let Ok(permit) = shared.permits.try_acquire() else { return Ok(None) };
        match shared.begin(activity.id(), size, Some(cx.waker()), call) {
            Begun::Call(call) => {
                let answer = Answer::new(shared, call);
                let stage = Stage::Begun { answer, just_now: true, _permit: permit };
                Ok(Some(Self { stage, timeout: activity.timeout() }))
            }
            Begun::Failed(error) => Err(*error),
            Begun::NotYet(_) => Ok(None),
        }
    }

    fn later(activity: &'a Activity, ask: Ask<'a>) -> Self {
        let timeout = activity.timeout();
        let deadline = Deadline { until: None, timeout };
        Self { stage: Stage::Later(Box::pin(activity.call_later(ask, deadline))), timeout }
    }
}

impl Future for Calling<'_> {
    type Output = Result<Outcome, CallError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match &mut this.stage {
            Stage::Begun { answer, just_now, .. } => {
                if std::mem::take(just_now) {
                    return Poll::Pending;
                }
                let answer = ready!(Pin::new(answer).poll(cx));
                this.stage = Stage::Done;
                Poll::Ready(answer.map_err(|error| CallError::of(error, this.timeout)))
            }
            Stage::Later(later) => later.as_mut().poll(cx),
            Stage::Done => Poll::Pending,
        }
    }
}

impl std::fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Later(_) => "Later",
            Self::Begun { .. } => "Begun",
            Self::Done => "Done",
        })
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
        let answer = self.shared.lock().slots.poll(self.call, cx.waker());
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
