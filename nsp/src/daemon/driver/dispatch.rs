//! What is done because of what a client has sent.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use nossock::Seldom;
use tokio::task::AbortHandle;

use super::finish::{Finish, Reply, panicked, told};
use super::{CARRIER_QUEUE, Driver, Phase, send};
use crate::daemon::call::{Call, CallKind, Current};
use crate::daemon::connection::{Command, Secret, now};
use crate::daemon::custom::{self, CustomCall};
use crate::daemon::entity::Entity;
use crate::daemon::extract::Caller;
use crate::daemon::fail::{Fail, code};
use crate::daemon::handler::{CallFuture, CallSlot, Endpoint};
use crate::daemon::outbox::Made;
use crate::daemon::service::Runtime;
use crate::daemon::shared::Totals;
use crate::machine::daemon::{Event, Gift, RequestKey};
use crate::proto::cs::{Create, Mode};
use crate::proto::{Data, EntityId, Failure, Method, Packet, Payload, RawJson};
use crate::secret::{Password, Token};

/// An entity of this connection.
pub(super) struct Member {
    pub(super) entity: Entity,
    /// Its service has let it in, and is to say goodbye.
    pub(super) is_accepted: bool,
    /// The service's work on data, when it waits for something.
    data_task: Option<AbortHandle>,
    /// Data that waits for it.
    #[expect(
        clippy::box_collection,
        reason = "mostly there is none, and every connection has room for a few members"
    )]
    data: Option<Box<VecDeque<Data>>>,
}

/// Longest name of a function that is repeated to who has called it, in characters.
const REPEATED: usize = 64;

impl Driver {
    pub(super) fn handle(&mut self, event: Event, cx: &mut Context<'_>) {
        match event {
            Event::Create { key, create } => self.create(key, &create),
            Event::Verify { key, entity } => {
                let Some(member) = self.members.get(&entity) else { return };
                let endpoint = Arc::clone(&member.entity.0.service.on_connect);
                let call = Call::of(&member.entity, CallKind::Connect);
                self.start(&endpoint, call, Finish::Verify { key, entity }, cx);
            }
            Event::Call { key, entity, function, data } => {
                let asked = Asked { kind: CallKind::Function, function, meta: None, data };
                self.call(key, &entity, asked, cx);
            }
            Event::CallBlob { key, entity, function, meta, data } => {
                let asked = Asked { kind: CallKind::BlobFunction, function, meta, data };
                self.call(key, &entity, asked, cx);
            }
            Event::Data { entity, data } => self.data(&entity, data, cx),
            Event::Closed { entity } => self.take_leave(&entity),
            Event::Expired { key } => self.ended(key, cx),
            Event::Token { key, user, password } => self.token(key, user, password, cx),
            Event::Answer { key, value } => {
                let mut core = self.connection.lock();
                let asked = core.questions.iter().position(|(asked, _)| *asked == key);
                if let Some((_, waiting)) = asked.map(|at| core.questions.swap_remove(at)) {
                    let _ = waiting.send(value); // who asked may have gone
                }
            }
            Event::Custom(packet) => self.custom(packet, cx),
            Event::Secured(strength) => {
                tracing::debug!(connection = self.connection.id.0, ?strength, "secured");
            }
            Event::Ignored(why) => {
                Totals::add(&self.shared.totals.ignored);
                tracing::debug!(connection = self.connection.id.0, %why, "a message was ignored");
            }
        }
    }

    fn create(&mut self, key: RequestKey, create: &Create) {
        let service = self.shared.services.get(&*create.service).cloned();
        let failure = match &service {
            _ if self.is_leaving() => Some(Failure::new(code::CLOSING, "Error: the daemon stops")),
            None => Some(Failure::new(code::NO_SERVICE, "Error: no such service")),
            Some(_) => None,
        };
        let result = failure.map_or(Ok(()), |failure| Err(Box::new(failure)));
        let created = self.connection.with(|core| core.machine.create(key, result));
        let (Some(id), Some(service)) = (created, service) else { return };
        let trusted = self.is_trusted_daemon(create);
        let entity = Entity::new(id.clone(), create, &self.connection, &service, trusted);
        {
            let mut registry = self.shared.registry_mut();
            registry.entities.insert(entity.record(create));
            registry.handles.insert(id.clone(), entity.clone());
        }
        self.members.insert(id, Member { entity, is_accepted: false, data_task: None, data: None });
        self.seat.settle();
        self.may_be_idle = true;
        Totals::add(&self.shared.totals.created);
    }

    /// Whether an entity speaks for a daemon that is trusted: by its address, and by the key.
    fn is_trusted_daemon(&self, create: &Create) -> bool {
        let authority = &self.shared.authority;
        create.mode == Mode::Daemon
            && self.connection.origin().address.is_some_and(|address| authority.trusts(address))
            && create.key.as_ref().is_some_and(|key| authority.is_daemon_key(key))
    }

    fn call(&mut self, key: RequestKey, entity: &EntityId, asked: Asked, cx: &mut Context<'_>) {
        Totals::add(&self.shared.totals.calls);
        let Some(Member { entity, .. }) = self.members.get(entity) else { return };
        let service = &entity.0.service;
        let found = match service.find(asked.kind, &asked.function) {
            _ if self.is_leaving() => Err(Fail::new(code::CLOSING, "Error: the daemon stops")),
            Some(endpoint) => Ok(Arc::clone(endpoint)),
            None => Err(no_function(asked.kind, &asked.function)),
        };
        match found {
            Ok(endpoint) => {
                let Asked { kind, function, meta, data } = asked;
                let call = Call { entity: entity.clone(), kind, name: function, data, meta };
                self.start(&endpoint, call, Finish::Give { key }, cx);
            }
            Err(fail) => {
                Totals::add(&self.shared.totals.failed);
                let failure = fail.tell(&service.name, &asked.function);
                self.give(key, Err(failure));
            }
        }
    }

    /// Runs a handler: here, and in a task of its own if it has to wait. Says whether it waits.
    fn start(
        &mut self,
        endpoint: &Arc<dyn Endpoint>,
        call: Call,
        finish: Finish,
        cx: &mut Context<'_>,
    ) -> bool {
        let service = Arc::clone(&call.entity.0.service);
        let (slot, current) = (&mut self.slot, finish.current(&self.connection));
        let polled = catch_unwind(AssertUnwindSafe(|| {
            Arc::clone(endpoint).start(call, slot);
            let poll = |future: &mut CallFuture| Current::poll(current, || future.poll(cx));
            slot.0.as_mut().map_or(Poll::Pending, poll)
        }));
        let result = match polled {
            Ok(Poll::Ready(result)) => result,
            Ok(Poll::Pending) => {
                let Some(future) = self.slot.0.take() else { return false };
                self.spawn(service, Arc::clone(endpoint), finish, future);
                return true;
            }
            Err(panic) => {
                self.slot.0 = None; // what is left of a future that panicked must not be polled again
                Err(panicked(&*panic))
            }
        };
        let result = told(&self.shared, &service, &**endpoint, &finish, result);
        match finish {
            Finish::Give { key } => self.give(key, result),
            Finish::Verify { key, entity } => self.verified(key, &entity, result.map(drop), cx),
            Finish::Data { .. } | Finish::Leave => {}
        }
        false
    }

    /// Answers a call. If nothing waits to leave before, the answer goes to the carrier at once.
    pub(super) fn give(&mut self, key: RequestKey, result: Result<Gift, Box<Failure>>) {
        let mut core = self.connection.lock();
        core.machine.give(key, result);
        if core.outbox.is_empty() {
            while self.carrier.queued() < CARRIER_QUEUE
                && let Some(next) = core.machine.next_outgoing()
            {
                send(&mut *self.carrier, self.connection.id, next);
            }
        }
        core.collect(Made::Answer);
    }

    pub(super) fn spawn(
        &mut self,
        service: Arc<Runtime>,
        endpoint: Arc<dyn Endpoint>,
        finish: Finish,
        future: CallFuture,
    ) {
        let (key, data_of) = match &finish {
            Finish::Verify { key, .. } | Finish::Give { key } => (Some(*key), None),
            Finish::Data { entity } => (None, Some(entity.clone())),
            Finish::Leave => (None, None),
        };
        let reply = Reply::new(&self.connection, &self.shared, service, endpoint, finish);
        let task = self.shared.tasks.spawn(reply.wait_for(future)).abort_handle();
        if let Some(key) = key {
            self.track(key, task);
        } else if let Some(member) = data_of.and_then(|entity| self.members.get_mut(&entity)) {
            self.data_running += 1;
            member.data_task = Some(task);
        }
    }

    fn track(&mut self, key: RequestKey, task: AbortHandle) {
        self.running.insert(key, task);
        self.shared.totals.calls_running.fetch_add(1, Ordering::Relaxed);
    }

    /// The service has looked at an entity.
    pub(super) fn verified(
        &mut self,
        key: RequestKey,
        entity: &EntityId,
        result: Result<(), Box<Failure>>,
        cx: &mut Context<'_>,
    ) {
        let is_refused = result.is_err();
        self.may_be_idle = true;
        if let Some(member) = self.members.get_mut(entity) {
            member.is_accepted = !is_refused;
        }
        let now = self.now;
        self.connection.with(|core| core.machine.verify(key, result, now));
        if is_refused {
            self.take_leave(entity);
        }
        self.handle_events(cx); // what was held until now
    }

    /// Data is handled in order: what comes while a service works on what came before waits for it.
    fn data(&mut self, entity: &EntityId, data: Data, cx: &mut Context<'_>) {
        Totals::add(&self.shared.totals.data);
        let Some(member) = self.members.get_mut(entity) else { return };
        if member.data_task.is_some() {
            self.data_bytes += cost(&data);
            member.data.get_or_insert_default().push_back(data);
        } else {
            self.hear(entity, data, cx);
        }
    }

    fn hear(&mut self, entity: &EntityId, data: Data, cx: &mut Context<'_>) -> bool {
        let Some(member) = self.members.get(entity) else { return false };
        let endpoint = Arc::clone(&member.entity.0.service.on_data);
        let call = Call { data, ..Call::of(&member.entity, CallKind::Data) };
        self.start(&endpoint, call, Finish::Data { entity: entity.clone() }, cx)
    }

    /// A service has done its work on data: here is more, until it has to wait again.
    pub(super) fn data_taken(&mut self, entity: &EntityId, cx: &mut Context<'_>) {
        let Some(member) = self.members.get_mut(entity) else { return };
        if member.data_task.take().is_some() {
            self.data_running -= 1;
        }
        loop {
            let Some(member) = self.members.get_mut(entity) else { return };
            let Some(data) = member.data.as_mut().and_then(|waiting| waiting.pop_front()) else {
                member.data = None;
                return;
            };
            self.data_bytes -= cost(&data);
            if self.hear(entity, data, cx) {
                return;
            }
        }
    }

    /// An entity is gone. Its service says goodbye if it has let it in.
    pub(super) fn take_leave(&mut self, entity: &EntityId) {
        let Some(member) = self.members.remove(entity) else { return };
        self.latest = None;
        self.may_be_idle = true;
        let Member { entity, is_accepted, data, data_task } = member;
        self.data_bytes -= data.iter().flat_map(|waiting| waiting.iter()).map(cost).sum::<usize>();
        if let Some(task) = data_task {
            task.abort();
            self.data_running -= 1;
        }
        {
            let mut registry = self.shared.registry_mut();
            entity.took_leave(registry.entities.groups_of(entity.id()).map(str::to_owned).collect());
            registry.entities.remove(entity.id());
            registry.handles.remove(entity.id());
        }
        let service = Arc::clone(&entity.0.service);
        let Some(on_close) = service.on_close.clone().filter(|_| is_accepted) else { return };
        let mut slot = CallSlot::default();
        Arc::clone(&on_close).start(Call::of(&entity, CallKind::Close), &mut slot);
        let Some(future) = slot.0 else { return };
        let reply = Reply::new(&self.connection, &self.shared, service, on_close, Finish::Leave);
        let mut until = now() + self.shared.limits.close_time;
        if let Some(end) = self.shared.drain_end.get() {
            until = until.min(*end);
        }
        self.shared.tasks.spawn(async move {
            // What takes too long is dropped, and noted by that.
            let _ = tokio::time::timeout_at(until.into(), reply.wait_for(future)).await;
        });
    }

    fn token(&mut self, key: RequestKey, user: String, password: Option<Password>, cx: &mut Context<'_>) {
        if !self.connection.is_safe_for(Secret::Password) {
            static UNSAFE: Seldom = Seldom::new();
            if let Some(times) = UNSAFE.times(self.now) {
                let connection = self.connection.id.0;
                tracing::warn!(connection, times, "a password came over a connection that is not safe");
            }
            self.connection.with(|core| core.machine.token(key, None));
            return;
        }
        let (shared, origin) = (Arc::clone(&self.shared), self.connection.origin());
        let signing_in = async move {
            let signed_in = shared.authority.sign_in(&user, password, origin).await;
            signed_in.inspect_err(|why| tracing::debug!(%why, "no token was given")).ok()
        };
        let mut signing_in = Box::pin(AssertUnwindSafe(signing_in).catch_unwind());
        let given = |token: Result<Option<Token>, _>| token.unwrap_or_default();
        match signing_in.poll_unpin(cx) {
            Poll::Ready(token) => self.connection.with(|core| core.machine.token(key, given(token))),
            Poll::Pending => {
                let connection = Arc::clone(&self.connection);
                let task = self.shared.tasks.spawn(async move {
                    let token = given(signing_in.await);
                    connection.with(|core| {
                        core.machine.token(key, token);
                        core.commands.push(Command::Finished(key));
                    });
                });
                self.track(key, task.abort_handle());
            }
        }
    }

    fn custom(&mut self, packet: Packet, cx: &mut Context<'_>) {
        let Method::Custom(method) = packet.method else { return };
        let Some(handler) = self.shared.custom.get(&method) else { return };
        let customs = self.customs.get_or_insert_default();
        while customs.try_join_next().is_some() {}
        if customs.len() >= self.shared.limits.connection.requests {
            static TOO_MANY: Seldom = Seldom::new();
            if let Some(times) = TOO_MANY.times(self.now) {
                let (connection, method) = (self.connection.id.0, packet.method);
                tracing::warn!(connection, %method, times, "too many packets of a custom method at once");
            }
            return;
        }
        let connection = Arc::clone(&self.connection);
        let caller = Caller::of(&connection);
        let (service, question) =
            (method_name(&packet), Packet::new(packet.method, packet.leg, Payload::default()));
        let call = CustomCall { packet, connection: connection.id, caller };
        let handled = catch_unwind(AssertUnwindSafe(|| handler(call)));
        let work = async move {
            let answered = match handled {
                Ok(future) => AssertUnwindSafe(future).catch_unwind().await,
                Err(panic) => Err(panic),
            };
            // There is no form for a failure that all methods have: who wants to tell one puts it into an answer.
            let payload = answered.unwrap_or_else(|panic| Err(panicked(&*panic))).unwrap_or_else(|fail| {
                let _ = fail.tell(&service, "");
                None
            });
            if let Some(answer) = custom::answer(&question, payload)
                && let Err(error) = connection.with(|core| core.machine.send_custom(answer))
            {
                static UNSENT: Seldom = Seldom::new();
                if let Some(times) = UNSENT.times(now()) {
                    tracing::error!(%error, method = service, times, "an answer was not sent");
                }
            }
        };
        let mut work = Box::pin(work);
        if work.poll_unpin(cx).is_pending() {
            customs.spawn(work);
        }
    }

    /// Whether nothing new is begun.
    fn is_leaving(&self) -> bool {
        !matches!(self.phase, Phase::Open) || self.shared.is_draining()
    }
}

/// What is called, and with what.
struct Asked {
    kind: CallKind,
    function: String,
    meta: Option<RawJson>,
    data: Data,
}

/// Bytes that waiting data takes.
fn cost(data: &Data) -> usize {
    size_of::<Data>() + data.len()
}

fn method_name(packet: &Packet) -> String {
    packet.method.to_string()
}

/// As the original says it, in the first line; it goes on with its stack.
fn no_function(kind: CallKind, function: &str) -> Fail {
    let kind = if kind == CallKind::BlobFunction { "BlobServiceFunction" } else { "ServiceFunction" };
    let function: String = function.chars().take(REPEATED).collect();
    Fail::new(code::NO_FUNCTION, format!("Error: {kind} {function} not exist"))
}
