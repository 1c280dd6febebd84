//! Between two turns: what wakes a driver, and when it has to wake by itself.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::task::unconstrained;

use super::super::shared::{On, now};
use super::super::{memory, slot};
use super::{Driver, SMALL_OUTPUT};
use crate::session::{CloseReason, Phase, TimedOut, after, earlier};

/// When to sleep, as far as that depends on the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Only while it is open: closing has not been looked at.
    Open,
    Always,
}

impl<T> Driver<T> {
    /// When the driver itself has something due, at the earliest.
    fn next_timeout(&self) -> Option<Instant> {
        let frame = self.frame_since.map(|since| after(since, self.frame_time()));
        let write = self.write_since.map(|since| after(since, self.limits().write_stall));
        earlier(frame, write)
    }

    /// How long the frame that is arriving may take.
    fn frame_time(&self) -> Duration {
        let bytes = self.decoder.outstanding(&self.input);
        self.limits().frame_time.max(Duration::from_secs(bytes / u64::from(self.limits().frame_rate.max(1))))
    }

    fn timed_out(&mut self, now: Instant) -> Result<(), CloseReason> {
        if self.write_since.is_some_and(|since| after(since, self.limits().write_stall) <= now) {
            return Err(CloseReason::TimedOut(TimedOut::Write));
        }
        if self.frame_since.is_some_and(|since| after(since, self.frame_time()) <= now) {
            self.frame_since = None;
            self.peer_ended(CloseReason::TimedOut(TimedOut::Frame));
        }
        self.late = self.shared.with(|core, wakes| {
            if self.held {
                core.session.heard(now); // it may have said much, and it is us who do not read
            }
            wakes.extend(core.session.timed_out(&self.shared.config, now));
            if core.session.phase() > Phase::Draining {
                wakes.extend(core.session.pending().close());
                core.wake(On::Room, wakes); // there will be none
            }
            core.session.phase() > Phase::Draining
        });
        Ok(())
    }

    /// Goes to sleep and sets the timer; ready when there is something to do after all.
    pub(super) fn poll_sleep(&mut self, cx: &mut Context<'_>, when: When) -> Result<Poll<()>, CloseReason> {
        let blocked = self.write_since.is_some();
        let startable = !self.requests.is_empty() && self.may_start_request();
        let mut core = self.shared.lock();
        if when == When::Open && core.session.phase() != Phase::Open {
            return Ok(Poll::Ready(()));
        }
        let released = self.held
            && self.backlog_bytes < self.limits().receive_queue
            && !core.is_held_back(&self.shared.config.limits, self.shared.by_hand);
        if released || startable || (core.session.has_output() && !blocked) {
            return Ok(Poll::Ready(()));
        }
        if core.session.pending().wants_stamp() {
            let now = now(); // queued while this was at work
            core.session.pending().stamp(now);
        }
        core.awake = false;
        let same_waker = core.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker()));
        let other = if same_waker { None } else { core.driver.replace(cx.waker().clone()) };
        let spare = if blocked { Vec::new() } else { core.session.outbox().take_buffer() };
        let due = core.session.next_timeout(&self.shared.config);
        drop(core);
        drop(other);
        memory::give_back_output(spare);
        if self.output.is_empty() {
            memory::give_back_output(self.output.take_buffer());
        }
        memory::give_back_output(std::mem::take(self.answers.take()));
        slot::give_back(std::mem::take(&mut self.slot));
        let due = earlier(due, self.next_timeout());
        if self.poll_timer(cx, due, same_waker).is_pending() {
            return Ok(Poll::Pending);
        }
        self.shared.lock().awake = true;
        self.timed_out(now())?;
        Ok(Poll::Ready(()))
    }

    /// Sets the timer to `due`; ready when that has come.
    fn poll_timer(&mut self, cx: &mut Context<'_>, due: Option<Instant>, same_waker: bool) -> Poll<()> {
        let Some(due) = due else {
            (self.timer, self.armed) = (None, None);
            return Poll::Pending;
        };
        // A timer that is set to an earlier time stays: it fires once for nothing and is set anew then, which is
        // cheaper than setting it for every request.
        let stays = self.armed.is_some_and(|armed| armed <= due);
        if !stays {
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(due.into()),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(due.into()))),
            }
            self.armed = Some(due);
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        if stays && same_waker && !timer.is_elapsed() {
            return Poll::Pending; // it knows whom to wake
        }
        // Past tokio's budget for a turn: a timer that is put off because that is used up knows nobody to wake, and is
        // taken for one that does as long as its time stays.
        ready!(Pin::new(&mut unconstrained(timer.as_mut())).poll(cx));
        self.armed = None;
        Poll::Ready(())
    }

    /// Wakes up; says whether to let other tasks go first: calls that were answered a moment ago are about to queue
    /// their next ones, and then all leave in one write.
    pub(super) fn wake_up(&mut self) -> bool {
        let running = self.running.as_ref().map_or(0, |running| running.requests.len());
        let mut core = self.shared.lock();
        core.awake = true;
        if core.session.pending().wants_stamp() {
            let now = now();
            core.session.pending().stamp(now);
        }
        if std::mem::take(&mut self.yielded) {
            return false;
        }
        let queued = core.session.queue_len();
        self.yielded = queued > 0 && queued < SMALL_OUTPUT && core.session.pending().len().max(running) > 1;
        self.yielded
    }
}
