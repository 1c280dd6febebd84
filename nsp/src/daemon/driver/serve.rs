//! The short way of a call: from where it stands in what was read, through its function, to where its answer leaves from.
//!
//! ```text
//!  read ─▶ entity and function found ─▶ admitted, polled once ─▶ answer written      nothing is moved, and nothing remembered
//!    │          │                          │            └ waits ─▶ remembered, and a task of its own
//!    └──────────┴──────────────────────────┴─ anything unusual ─▶ the long way, as if it had never been here
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use nossock::slot;

use super::finish::{Finish, panicked, told, too_large, unsent};
use super::{CARRIER_QUEUE, Driver, Phase};
use crate::carrier::{CarrierKind, Lent};
use crate::daemon::call::{Arriving, CallKind, Current, Target};
use crate::daemon::connection::EndReason;
use crate::daemon::entity::Entity;
use crate::daemon::handler::{Endpoint, Handled};
use crate::daemon::here::Here;
use crate::daemon::outbox::Made;
use crate::daemon::shared::Totals;
use crate::machine::Outgoing;
use crate::proto::cs::{Calls, UsualCall};
use crate::proto::{Leg, Method, Packet};

impl Driver {
    /// Receives what has arrived, as long as that is wanted; says whether that was all.
    pub(super) fn receive_all(
        &mut self,
        cx: &mut Context<'_>,
        budget: &mut usize,
    ) -> Result<bool, EndReason> {
        let lends = self.connection.kind == CarrierKind::Frames;
        while *budget > 0 && self.listens() {
            let mut served = if lends { self.serve(cx) } else { Served::Not };
            if served != Served::Done && self.is_held_back() {
                break;
            }
            if served == Served::Nothing {
                if self.carrier.poll_arrived(cx).is_pending() {
                    return Ok(true);
                }
                served = self.serve(cx);
            }
            if served != Served::Done {
                match self.carrier.poll_receive(cx) {
                    Poll::Pending => return Ok(true),
                    Poll::Ready(incoming) => self.receive(incoming?, cx),
                }
            }
            *budget -= 1;
        }
        Ok(false)
    }

    /// Serves the message that is to be received next, if it is a call in its usual form whose function can begin here. Otherwise it is as it was.
    fn serve(&mut self, cx: &mut Context<'_>) -> Served {
        if !matches!(self.phase, Phase::Open) || self.data_bytes > 0 || self.shared.is_draining() {
            return Served::Not;
        }
        let queued = self.carrier.queued();
        // Looked at where it is given: moving it costs more than looking.
        let mut lent = self.carrier.lend();
        let Some(Lent { leg, json, sheet }) = &mut lent else { return Served::Nothing };
        if *leg != Leg::Request {
            return Served::Not;
        }
        let likely = self.latest.as_ref().map(|latest| &latest.calls);
        let Some(call) = UsualCall::read(json, likely) else { return Served::Not };
        if let Some(entity) = call.entity {
            let member = std::str::from_utf8(entity).ok().and_then(|id| self.members.get(id));
            let Some(member) = member.filter(|member| member.is_accepted) else { return Served::Not };
            let calls = Calls::of(member.entity.id());
            self.latest = Some(Box::new(Latest { entity: member.entity.clone(), calls, endpoint: None }));
        }
        let Some(Latest { entity, calls, endpoint }) = self.latest.as_deref_mut() else { return Served::Not };
        let service = &entity.0.service;
        let endpoint = match endpoint {
            Some(endpoint) if endpoint.name().as_bytes() == call.function => endpoint,
            _ => {
                let function = std::str::from_utf8(call.function).ok();
                let Some(found) = function.and_then(|name| service.find_here(name)) else {
                    return Served::Not;
                };
                endpoint.insert(Arc::clone(found))
            }
        };
        let key = {
            let mut core = self.connection.lock();
            // What waits already goes first.
            if !core.outbox.is_empty() || queued > CARRIER_QUEUE.min(self.shared.limits.answers) {
                return Served::Not;
            }
            let Some(key) = core.machine.reserve(json.len()) else { return Served::Not };
            key
        };
        let mut here = Here::new(sheet, calls, call.id);
        let target = Target { entity, kind: CallKind::Function, name: endpoint.name() };
        let arriving = Arriving { target, data: call.data };
        let current = Current { connection: self.connection.id, key };
        if self.place.is_empty() {
            self.place = slot::take();
        }
        let (shared, slot, now) = (&self.shared, &mut self.place, self.now);
        let mut handled = Handled::NotHere;
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let start = || endpoint.start_here(shared, &arriving, &mut here, slot, now, cx);
            handled = Current::poll(Some(current), start);
        }));
        if let Err(panic) = caught {
            handled = Handled::Given(Box::new(Err(panicked(&*panic))));
        }
        let (bytes, limit) = (here.value_len(), shared.limits.largest_body());
        match handled {
            Handled::NotHere => return Served::Not,
            Handled::Answered if bytes <= limit => {
                if self.is_filled.load(Ordering::Acquire) {
                    // The function has sent something before it has answered.
                    let answer = Packet::new(Method::Cs, Leg::Answer, Bytes::copy_from_slice(sheet.json()));
                    sheet.discard();
                    self.connection.lock().outbox.push(Outgoing::Packet(answer), Made::Answer);
                } else if let Err(error) = sheet.complete() {
                    unsent(self.connection.id, &error);
                }
                self.carrier.taken();
            }
            other => {
                sheet.discard();
                let (service, endpoint) = (Arc::clone(service), Arc::clone(endpoint));
                self.connection.lock().machine.hold(key, entity.id(), call.id, json.len(), self.now);
                self.carrier.taken();
                let finish = Finish::Give { key };
                let result = match other {
                    Handled::Waits(future) => {
                        Totals::add(&self.shared.totals.calls);
                        self.spawn(service, endpoint, finish, *future);
                        return Served::Done;
                    }
                    Handled::Given(result) => *result,
                    Handled::NotHere | Handled::Answered => Err(too_large(bytes, limit)),
                };
                let result = told(&self.shared, &service, &*endpoint, &finish, result);
                self.give(key, result);
            }
        }
        Totals::add(&self.shared.totals.calls);
        Served::Done
    }
}

/// What was served last: the next call is likely to be one of the same entity, and of the same function.
pub(super) struct Latest {
    entity: Entity,
    calls: Calls,
    endpoint: Option<Arc<dyn Endpoint>>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    Done,
    /// It is for the long way.
    Not,
    /// There is nothing in what has been read.
    Nothing,
}
