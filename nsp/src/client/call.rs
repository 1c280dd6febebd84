use std::pin::Pin;
use std::task::{Context, Poll};

use super::core::Outcome;
use super::shared::Shared;
use crate::machine::client::{self as machine, CallKey};

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
