//! `mux`: `rawj`'s server, and a client with one awaited future a call. The limit for a library with such an API.
//!
//! Calls are written straight into a shared buffer under a short lock; the first into an empty buffer wakes the
//! connection's task, which then sends all of them at once. That task also reads: for every batch it takes the lock
//! once, copies each reply into the slot of its call, and wakes the callers when it has let go of it. Replies find
//! their call by the slot's number, which is the request's id.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::AbortHandle;

use crate::measure::Burst;
use crate::messages::{Answer, Ask, invalid};
use crate::net::{Door, Listener};

use super::by_hand::frame::{self, Frame};
use super::by_hand::pump::{Handler, Pump};
use super::rawj::Rawj;
use super::{Caller, Link, Part, Peer, calls_from_tasks};

/// The reference for requests.
#[derive(Debug)]
pub(crate) struct Mux;

impl Peer for Mux {
    const PART: Part = Part::Calls;

    type Link = Multiplexed;

    async fn serve(listener: Listener) -> io::Result<()> {
        Rawj::serve(listener).await
    }

    async fn connect(door: &Door) -> io::Result<Self::Link> {
        let shared = Arc::new(Shared::default());
        let mut pump =
            Pump::new(door.open().await?, Replies { shared: Arc::clone(&shared), ready: Vec::new() });
        let task = tokio::spawn(async move {
            let end = pump.run().await;
            pump.handler.shared.close(&end);
        });
        Ok(Multiplexed { calls: Calls(shared), task: task.abort_handle() })
    }
}

/// The client's end of a connection, and the task that drives it.
#[derive(Debug)]
pub(crate) struct Multiplexed {
    calls: Calls,
    task: AbortHandle,
}

impl Link for Multiplexed {
    async fn calls(&mut self, depth: usize, burst: &Arc<Burst>) -> io::Result<u64> {
        calls_from_tasks(&self.calls, depth, burst).await
    }
}

impl Drop for Multiplexed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone, Debug)]
struct Calls(Arc<Shared>);

impl Caller for Calls {
    async fn ask(&self, ask: Ask) -> io::Result<Answer> {
        self.request(b"req:add:", &ask).await
    }
}

impl Calls {
    async fn request<A: Serialize + Sync, T: DeserializeOwned>(
        &self,
        prefix: &[u8],
        body: &A,
    ) -> io::Result<T> {
        let mut call = self.0.begin(prefix, body)?;
        poll_fn(|cx| call.poll(cx)).await
    }
}

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Frames that wait to be sent.
    out: Vec<u8>,
    /// The connection's task.
    pump: Option<Waker>,
    slots: Vec<Slot>,
    /// Slots without a call. The last one freed is the next taken: its buffer is warm.
    free: Vec<usize>,
    /// Why there are no more replies.
    closed: Option<String>,
}

/// A call.
#[derive(Debug, Default)]
struct Slot {
    stage: Stage,
    caller: Option<Waker>,
    /// The body of the reply. Kept from call to call.
    reply: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Stage {
    #[default]
    Free,
    Waiting,
    /// The caller no longer waits; the slot is taken until its reply has come, or another call would get it.
    Abandoned,
    Replied,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics while holding the lock")
    }

    fn begin<A: Serialize>(&self, prefix: &[u8], body: &A) -> io::Result<Call<'_>> {
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(why) = &state.closed {
            return Err(io::Error::new(io::ErrorKind::NotConnected, why.clone()));
        }
        let slot = state.free.pop().unwrap_or_else(|| {
            state.slots.push(Slot::default());
            state.slots.len() - 1
        });
        let first = state.out.is_empty();
        frame::put_numbered(&mut state.out, prefix, slot as u64, |out| {
            Ok(serde_json::to_writer(out, body)?)
        })?;
        state.slots[slot].stage = Stage::Waiting;
        if first && let Some(pump) = &state.pump {
            pump.wake_by_ref();
        }
        Ok(Call { shared: self, slot, done: false })
    }

    fn close(&self, end: &io::Result<()>) {
        let mut state = self.lock();
        state.closed = Some(match end {
            Ok(()) => "the server closed the connection".to_owned(),
            Err(error) => error.to_string(),
        });
        let callers: Vec<Waker> = state.slots.iter_mut().filter_map(|slot| slot.caller.take()).collect();
        drop(state);
        callers.into_iter().for_each(Waker::wake);
    }
}

/// A call whose slot is free again when this is dropped.
struct Call<'a> {
    shared: &'a Shared,
    slot: usize,
    /// Whether the slot is free already.
    done: bool,
}

impl Call<'_> {
    fn poll<T: DeserializeOwned>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let mut state = self.shared.lock();
        let state = &mut *state;
        let slot = &mut state.slots[self.slot];
        if slot.stage == Stage::Replied {
            let value = frame::value(&slot.reply).and_then(|json| Ok(serde_json::from_slice(json)?));
            slot.stage = Stage::Free;
            state.free.push(self.slot);
            self.done = true;
            return Poll::Ready(value);
        }
        if let Some(why) = &state.closed {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why.clone())));
        }
        match &mut slot.caller {
            Some(caller) => caller.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut state = self.shared.lock();
        let slot = &mut state.slots[self.slot];
        if slot.stage == Stage::Waiting {
            slot.stage = Stage::Abandoned;
        } else {
            slot.stage = Stage::Free;
            state.free.push(self.slot);
        }
    }
}

/// Gives replies to the calls.
#[derive(Debug)]
struct Replies {
    shared: Arc<Shared>,
    /// Callers to wake; empty between batches.
    ready: Vec<Waker>,
}

impl Handler for Replies {
    fn take(&mut self, input: &[u8], _: &mut Vec<u8>) -> io::Result<usize> {
        let mut state = self.shared.lock();
        let State { slots, free, .. } = &mut *state;
        let taken = frame::each(input, |Frame { name, body, .. }| {
            let number = name.strip_prefix(b"resp:add:").and_then(frame::number);
            let number = number.ok_or_else(|| invalid("a frame that is no reply"))? as usize;
            let slot = slots.get_mut(number).ok_or_else(|| invalid("a reply to no request"))?;
            match slot.stage {
                Stage::Waiting => {
                    slot.reply.clear();
                    slot.reply.extend_from_slice(body);
                    slot.stage = Stage::Replied;
                    self.ready.extend(slot.caller.take());
                }
                Stage::Abandoned => {
                    slot.stage = Stage::Free;
                    free.push(number);
                }
                Stage::Free | Stage::Replied => return Err(invalid("a second reply to a request")),
            }
            Ok(())
        });
        drop(state);
        self.ready.drain(..).for_each(Waker::wake);
        taken
    }

    fn queued(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) {
        let mut state = self.shared.lock();
        if out.is_empty() {
            std::mem::swap(out, &mut state.out);
        }
        // Whoever finds the buffer empty wakes this task, so that nothing stays in it.
        match &mut state.pump {
            Some(pump) => pump.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}
