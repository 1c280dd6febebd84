//! What a driver does for somebody else.

use std::sync::atomic::Ordering;
use std::task::Context;

use super::{Driver, Phase};
use crate::daemon::connection::Command;
use crate::machine::daemon::RequestKey;
use crate::proto::{EntityId, ca};

impl Driver {
    /// Whether it is this entity that has called.
    fn is_of(&self, key: RequestKey, entity: &EntityId) -> bool {
        self.connection.lock().machine.caller(key) == Some(entity)
    }

    pub(super) fn close_entity(&mut self, entity: &EntityId, cx: &mut Context<'_>) {
        let close = ca::Request::Close { entity: entity.clone() };
        if self.connection.with(|core| core.machine.push(&close)).is_ok() {
            self.handle_events(cx);
            self.take_leave(entity);
        }
    }

    /// A call that waited has ended, or is stopped.
    pub(super) fn ended(&mut self, key: RequestKey, cx: &mut Context<'_>) {
        let Some(task) = self.running.remove(&key) else { return };
        task.abort(); // does nothing to one that has ended
        self.shared.totals.calls_running.fetch_sub(1, Ordering::Relaxed);
        while let Some(at) = self.leaving.iter().position(|(after, _)| *after == key) {
            let (_, entity) = self.leaving.swap_remove(at);
            self.close_entity(&entity, cx);
        }
    }

    pub(super) fn obey(&mut self, command: Command, cx: &mut Context<'_>) {
        match command {
            Command::Close(reason) => self.close(reason),
            Command::Revoked { by } => self.revoked(by),
            Command::Drain { until } => {
                if matches!(self.phase, Phase::Open) {
                    self.phase = Phase::Draining { until };
                }
            }
            Command::CloseEntity { entity, after } => match after {
                Some(key) if self.running.contains_key(&key) && self.is_of(key, &entity) => {
                    self.leaving.push((key, entity));
                }
                _ => self.close_entity(&entity, cx),
            },
            Command::Verified { key, entity, result } => self.verified(key, &entity, result, cx),
            Command::Finished(key) => self.ended(key, cx),
            Command::DataTaken(entity) => self.data_taken(&entity, cx),
        }
    }
}
