//! From a whole frame to whoever waits for it.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Buf;

use super::super::Socket;
use super::super::batch::Batch;
use super::super::extract::Incoming;
use super::super::handler::Started;
use super::super::message::{Message, RecvError, Refused, Responder};
use super::super::shared::{On, now, wake};
use super::super::slot;
use super::start::{Ended, start};
use super::{AssertUnwindSafe, Driver, Work, catch_unwind};
use crate::router::{HandlerError, Route};
use crate::session::{CloseReason, Phase, Reject, RejectCode, RequestName};
use crate::wire::{Frame, FrameRef, Head, Kind, Name, Next};

impl<T> Driver<T> {
    /// Puts the handler of a new connection in place; it runs before any message is handled.
    fn greet(&mut self, route: &Route) {
        let name = Name::new("").expect("an empty name is short");
        let incoming = Incoming::new("", Kind::Json, b"null", 0, &self.shared);
        match catch_unwind(AssertUnwindSafe(|| route.endpoint.prepare(&incoming))) {
            Ok(Ok(future)) => self.ordered = Some((name, future)),
            Ok(Err(reject)) => self.report(&HandlerError::Rejected { name, reject }),
            Err(_) => self.report(&HandlerError::Panicked { name }),
        }
    }

    pub(super) fn report(&self, error: &HandlerError) {
        {
            let mut core = self.shared.lock();
            let stats = core.session.stats_mut();
            *match error {
                HandlerError::Refused(_) => &mut stats.refused,
                HandlerError::Unhandled { .. } => &mut stats.unhandled,
                _ => &mut stats.failed,
            } += 1;
        }
        if let Some(routes) = &self.routes {
            routes.report(&Socket::new(Arc::clone(&self.shared)), error);
        }
    }

    /// Handles frames until the input holds no whole one, or handling is held back.
    pub(super) fn decode(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let closing = {
            let mut core = self.shared.lock();
            core.session.heard(now());
            core.session.phase() != Phase::Open
        };
        self.undecoded = false;
        if self.slot.is_empty() {
            self.slot = slot::take();
        }
        loop {
            if !closing && self.run(cx) {
                self.undecoded = true;
                return Ok(());
            }
            self.short_answers();
            let answered = match self.next_but_answers()? {
                Next::Frame(head) if head.kind() == Kind::Control => {
                    self.control(&head);
                    true
                }
                Next::Frame(head) => self.frame(&head, closing, cx),
                Next::TooLarge { name, size, .. } => {
                    self.too_large(name, size);
                    true
                }
                Next::Incomplete => break,
            };
            // A few bytes may ask for a large answer: look after each that may have made one.
            if answered && (self.deaf || self.is_held_back()) {
                self.undecoded = !self.deaf;
                return Ok(());
            }
        }
        self.frame_since = match (self.decoder.in_frame(&self.input), self.frame_since) {
            (true, None) => Some(now()),
            (true, since) => since,
            (false, _) => None,
        };
        Ok(())
    }

    /// Takes bytes off the input. When nothing is left, the memory before is ready to be used again.
    fn consume(&mut self, bytes: usize) {
        if bytes == self.input.len() {
            self.input.clear();
        } else {
            self.input.advance(bytes);
        }
    }

    /// Gives the short answers that come next to those who wait for them, all under one lock.
    fn short_answers(&mut self) {
        let (mut at, mut core) = (0, None);
        while let Some((head, frame)) = self.input.get(at..).and_then(|input| self.decoder.peek(input)) {
            let (start, body) = frame.split_at(head.body_at());
            let name = start.get(2..start.len() - 4).unwrap_or_default();
            if !name.starts_with(b"resp:") {
                break;
            }
            let guard = core.get_or_insert_with(|| self.shared.lock());
            let Some(waker) = guard.session.answered_shortly(name, head.kind(), body) else { break };
            if let Some(waker) = waker {
                self.wakes.push(waker);
            }
            at += frame.len();
        }
        if at > 0 {
            drop(core);
            self.frame_since = None; // the time of a frame is its own
            self.consume(at);
            wake(self.wakes.drain(..));
        }
    }

    /// Gives the answers that come next to those who wait for them, all under one lock; then says what is next.
    fn next_but_answers(&mut self) -> Result<Next, CloseReason> {
        let mut core = None;
        let next = loop {
            let next = self.decoder.next(&mut self.input);
            if !matches!(next, Ok(Next::Incomplete)) {
                self.frame_since = None; // the time of a frame is its own
            }
            let next = match next {
                Ok(Next::Frame(head)) if head.kind() != Kind::Control => Next::Frame(head),
                other => break other,
            };
            let Next::Frame(head) = &next else { break Ok(next) };
            // Most frames are not answers, and then their names are looked at elsewhere, and only once.
            if !self.input.get(2..).is_some_and(|rest| rest.starts_with(b"resp:")) {
                break Ok(next);
            }
            let name = self.input.get(2..head.body_at() - 4).unwrap_or_default();
            let guard = core.get_or_insert_with(|| self.shared.lock());
            let Some(id) = guard.session.pending().waits_for(name) else {
                // Not ours: another's, late, or no answer at all in spite of its name.
                let frame = FrameRef::new(&self.input, head).map(|frame| RequestName::parse(frame.name));
                if !matches!(frame, Ok(Some(RequestName::Answer { .. }))) {
                    break Ok(next);
                }
                guard.session.stats_mut().stray_answers += 1;
                self.input.advance(head.frame_len());
                continue;
            };
            let mut body = self.input.split_to(head.frame_len());
            body.advance(head.body_at());
            self.wakes.extend(guard.session.answered(id, head.kind(), body.freeze()));
        };
        drop(core);
        if !self.wakes.is_empty() {
            wake(self.wakes.drain(..));
        }
        Ok(next?)
    }

    fn control(&mut self, head: &Head) {
        let frame = self.input.split_to(head.frame_len());
        let body = frame.get(head.body_at()..).unwrap_or_default();
        let (cancelled, phase) = {
            let mut core = self.shared.lock();
            core.session.asked_by_peer(self.answers.take_unnoted());
            let before = core.session.queue_len();
            let cancelled = core.session.control_received(body, &self.shared.config, now());
            let made = core.session.queue_len() - before;
            self.shared.count_answer(&mut core, made); // a pong is an answer too
            self.answers.limit = core.session.max_body(self.limits().max_body);
            (cancelled, core.session.phase())
        };
        if let Some(id) = cancelled {
            self.cancel(&id);
        }
        let peer_ends = |reason| matches!(reason, CloseReason::PeerSaid { .. } | CloseReason::Flooded { .. });
        if phase == Phase::Draining && self.close_reason().is_some_and(peer_ends) {
            let reason = CloseReason::Peer; // the session has noted a better one
            self.peer_ended(reason);
        }
    }

    fn close_reason(&self) -> Option<CloseReason> {
        self.shared.lock().session.reason().cloned()
    }

    /// Stops working on a request that the peer no longer waits for.
    fn cancel(&mut self, id: &str) {
        let running =
            self.running.as_ref().and_then(|running| running.requests.iter().find(|work| *work.id == *id));
        let waiting = self.requests.iter().position(|m| m.responder.as_ref().is_some_and(|r| r.id() == id));
        if running.is_none() && waiting.is_none() {
            return;
        }
        self.shared.lock().cancelled.push(id.into());
        if let Some(work) = running {
            work.task.abort();
        }
        if let Some(message) = waiting.and_then(|at| self.requests.remove(at)) {
            self.backlog_bytes -= message.cost();
            self.answers.count(); // it is never started, which is when others are counted
        }
    }

    fn too_large(&mut self, name: Name, size: u32) {
        let limit = self.limits().max_body;
        let refused = match RequestName::parse(&name) {
            Some(RequestName::Request { name: asked, id }) => {
                self.answers.count();
                let text = format!("the body has {size} bytes, the limit is {limit}");
                Responder::new(&self.shared, asked, id).reject(&Reject::of(RejectCode::TooLarge, text));
                Refused::TooLarge { name: Name::new(asked).unwrap_or(name), size, limit }
            }
            Some(RequestName::Answer { name: asked, id }) => {
                let asked = Name::new(asked).ok();
                let waker = {
                    let mut core = self.shared.lock();
                    let text = format!("the answer has {size} bytes, the limit is {limit}");
                    let id = core.session.pending().waits(id.as_bytes());
                    id.and_then(|id| core.session.refused(id, Reject::of(RejectCode::TooLarge, text)))
                };
                wake(waker);
                Refused::TooLarge { name: asked.unwrap_or(name), size, limit }
            }
            None => Refused::TooLarge { name, size, limit },
        };
        self.refuse(refused);
    }

    fn refuse(&self, refused: Refused) {
        self.report(&HandlerError::Refused(refused.clone()));
        if self.shared.by_hand {
            self.shared.with(|core, wakes| {
                core.inbox.push(Err(RecvError::Refused(refused)));
                core.wake(On::Receive, wakes);
            });
        }
    }

    /// Handles the frames that come next, as long as they are for the handler of the one before: then they are known
    /// to be text, and whose they are. Says whether handling is held back.
    fn run(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(route) = self.last.take() else { return false };
        if route.endpoint.keeps_body() || self.must_wait(route.is_request) {
            self.last = Some(route);
            return false;
        }
        let mut batch = Batch::new(&route, &self.decoder, &self.input, &mut self.answers, &self.shared);
        // Caught around all of them, as that costs something; a panic is that of the handler that was started last.
        let polled =
            catch_unwind(AssertUnwindSafe(|| route.endpoint.start_all(&mut batch, &mut self.slot, cx)));
        if polled.is_err() {
            batch.recover();
        }
        let (taken, tag, held) = batch.end();
        let ended = match polled.ok() {
            Some(Started::Done) => None,
            how => Some(Ended::new(&route.name, tag, how)),
        };
        if taken > 0 {
            self.frame_since = None; // the time of a frame is its own
            self.consume(taken);
        }
        self.last = Some(route);
        if let Some(ended) = ended {
            self.conclude(ended);
        }
        held
    }

    /// Handles the message or request at the front of the input: starts its handler, or puts it where it waits. Says
    /// whether it may have been answered.
    fn frame(&mut self, head: &Head, closing: bool, cx: &mut Context<'_>) -> bool {
        let Ok(frame) = FrameRef::new(&self.input, head) else {
            self.input.advance(head.frame_len());
            self.refuse(Refused::BadName);
            return true;
        };
        let (name, is_request) = match RequestName::parse(frame.name) {
            Some(RequestName::Request { name, .. }) => (name, true),
            _ => (frame.name, false),
        };
        let route = self.routes.as_ref().and_then(|routes| routes.find(name, is_request).cloned());
        let Some(route) = route.filter(|_| !closing && !self.must_wait(is_request)) else {
            if let Some(message) = self.split(head) {
                self.set_aside(message, closing);
            }
            return true;
        };
        self.last = Some(Arc::clone(&route));
        let before = self.input.len();
        let held = self.run(cx);
        if self.input.len() < before {
            return held;
        }
        let whole = self.input.split_to(head.frame_len()).freeze();
        let frame = FrameRef::new(&whole, head).expect("the name has been looked at");
        let (name, tag) = match RequestName::parse(frame.name) {
            Some(RequestName::Request { name, .. }) => (name, frame.name.strip_prefix("req:")),
            _ => (frame.name, None),
        };
        let body = whole.slice(head.body_at()..);
        let incoming = Incoming::owned(name, frame.kind, &body, &self.shared);
        let ended = start(&route, &incoming, tag.map(str::as_bytes), &mut self.answers, &mut self.slot, cx);
        if let Some(ended) = ended {
            self.conclude(ended);
        }
        is_request
    }

    /// Keeps what is left of a handler that waits, or tells what went wrong.
    fn conclude(&mut self, ended: Ended) {
        let Ended { name, id, how } = ended;
        match (how, id) {
            (Some(Started::Done), _) => {}
            (Some(Started::Waits(future)), None) => self.ordered = Some((name, future)),
            (Some(Started::Waits(future)), Some(id)) => {
                let running = self.running.get_or_insert_default();
                let task = running.tasks.spawn(async move {
                    let _ = future.await; // a request's future has answered by itself
                });
                running.requests.push(Work { name, id, task });
            }
            (Some(Started::Rejected(reject)), _) => self.report(&HandlerError::Rejected { name, reject }),
            (Some(Started::Failed(error)), _) => self.report(&HandlerError::Failed { name, error }),
            (None, _) => self.report(&HandlerError::Panicked { name }),
        }
    }

    fn split(&mut self, head: &Head) -> Option<Message> {
        let frame = Frame::split(&mut self.input, head).ok()?;
        let (name, responder) = match RequestName::parse(&frame.name) {
            Some(RequestName::Request { name, id }) => {
                (Name::new(name).ok()?, Some(Responder::new(&self.shared, name, id)))
            }
            _ => (frame.name, None),
        };
        Some(Message::new(name, frame.body, responder))
    }

    /// Keeps a message until it can be handled or received, or tells why it will not be.
    fn set_aside(&mut self, mut message: Message, closing: bool) {
        if closing {
            self.shared.lock().session.stats_mut().refused += 1;
            if let Some(responder) = message.responder {
                responder.reject(&Reject::of(RejectCode::Busy, "this side is closing"));
            }
            return;
        }
        if self.shared.by_hand {
            if message.responder.is_some() {
                self.answers.count();
            }
            self.shared.with(|core, wakes| {
                if let Some(responder) = &mut message.responder {
                    responder.owe(core);
                }
                core.inbox.push(Ok(message));
                core.wake(On::Receive, wakes);
            });
            return;
        }
        let is_request = message.responder.is_some();
        let found =
            self.routes.as_ref().is_some_and(|routes| routes.find(&message.name, is_request).is_some());
        // That nobody handles a request is an answer, too.
        let answers = is_request && self.answers_held();
        if !found && !answers {
            self.unhandled(message);
            return;
        }
        self.backlog_bytes += message.cost();
        if is_request { self.requests.push_back(message) } else { self.messages.push_back(message) }
    }

    fn unhandled(&mut self, Message { name, responder, .. }: Message) {
        if let Some(responder) = responder {
            self.answers.count();
            let text = format!("nobody handles `{name}` here");
            responder.reject(&Reject::of(RejectCode::NoHandler, text));
        }
        self.report(&HandlerError::Unhandled { name });
    }

    /// Whether something that came earlier has to end first, or answers have to leave.
    fn must_wait(&self, is_request: bool) -> bool {
        if !is_request {
            return self.ordered.is_some();
        }
        let running = self.running.as_ref().map_or(0, |running| running.requests.len());
        running >= self.limits().requests_in || !self.requests.is_empty() || self.answers_held()
    }

    /// Goes on with the handlers that waited, and starts those that waited for them.
    pub(super) fn poll_handlers(&mut self, cx: &mut Context<'_>) {
        if let Some(route) = self.greeting.take() {
            self.greet(&route);
        }
        loop {
            if let Some((name, mut future)) = self.ordered.take() {
                let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
                match polled {
                    Ok(Poll::Pending) => {
                        self.ordered = Some((name, future));
                        break;
                    }
                    Ok(Poll::Ready(Ok(()))) => {}
                    Ok(Poll::Ready(Err(error))) => self.report(&HandlerError::Failed { name, error }),
                    Err(_) => self.report(&HandlerError::Panicked { name }),
                }
            }
            if self.late {
                break;
            }
            let Some(message) = self.messages.pop_front() else { break };
            self.backlog_bytes -= message.cost();
            self.start_waiting(message, cx);
        }
        self.reap(cx);
        while self.may_start_request() {
            let Some(message) = self.requests.pop_front() else { break };
            self.backlog_bytes -= message.cost();
            self.start_waiting(message, cx);
        }
        if self.messages.is_empty() && self.messages.capacity() > 0 {
            self.messages = std::collections::VecDeque::new();
        }
    }

    /// Whether a request that waits may be started.
    pub(super) fn may_start_request(&self) -> bool {
        let running = self.running.as_ref().map_or(0, |running| running.requests.len());
        running < self.limits().requests_in && !self.answers_held() && !self.late
    }

    /// Forgets the tasks that have ended.
    fn reap(&mut self, cx: &mut Context<'_>) {
        let Some(running) = &mut self.running else { return };
        let mut panicked = Vec::new();
        while let Poll::Ready(Some(ended)) = running.tasks.poll_join_next_with_id(cx) {
            let id = match &ended {
                Ok((id, ())) => *id,
                Err(error) => error.id(),
            };
            let at = running.requests.iter().position(|work| work.task.id() == id);
            if let Some(Work { name, id, .. }) = at.map(|at| running.requests.swap_remove(at)) {
                // It may have answered before it heard of being cancelled.
                self.shared.lock().cancelled.retain(|cancelled| *cancelled != id);
                if ended.is_err_and(|error| error.is_panic()) {
                    panicked.push(name);
                }
            }
        }
        if running.requests.is_empty() {
            self.running = None;
        }
        for name in panicked {
            self.report(&HandlerError::Panicked { name });
        }
    }

    fn start_waiting(&mut self, message: Message, cx: &mut Context<'_>) {
        let is_request = message.responder.is_some();
        let found = self.routes.as_ref().and_then(|routes| routes.find(&message.name, is_request).cloned());
        let Some(route) = found else { return self.unhandled(message) };
        let Message { name, body, responder } = message;
        let tag = responder.map(Responder::into_tag);
        let (kind, bytes) = (body.kind(), body.into_bytes());
        let incoming = Incoming::owned(&name, kind, &bytes, &self.shared);
        let tag = tag.as_ref().map(String::as_bytes);
        let ended = start(&route, &incoming, tag, &mut self.answers, &mut self.slot, cx);
        if let Some(ended) = ended {
            self.conclude(ended);
        }
    }
}
