//! The activities of one client, and how they are found again.

use std::collections::VecDeque;
use std::time::Instant;

use super::{ActivityKey, CallKey};
use crate::machine::numbered::NameMap;
use crate::proto::{EntityId, cs};

/// One activity.
#[derive(Debug)]
pub(super) struct Activity {
    pub(super) stage: Stage,
    /// Until when it has to be open, whatever the daemon asks meanwhile.
    pub(super) last: Instant,
    /// Its sends in the order in which they went out; `None` where one was given up.
    pub(super) sends: VecDeque<Option<CallKey>>,
}

/// How far an activity has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// CE is out.
    Creating { until: Instant },
    /// VE is out.
    Verifying { entity: EntityId, until: Instant },
    /// It can be used.
    Open { entity: EntityId, calls: cs::Calls },
}

impl Stage {
    pub(super) const fn entity(&self) -> Option<&EntityId> {
        match self {
            Self::Creating { .. } => None,
            Self::Verifying { entity, .. } | Self::Open { entity, .. } => Some(entity),
        }
    }

    pub(super) const fn until(&self) -> Option<Instant> {
        match self {
            Self::Creating { until } | Self::Verifying { until, .. } => Some(*until),
            Self::Open { .. } => None,
        }
    }
}

/// All of them, by key and by entity.
#[derive(Debug, Default)]
pub(super) struct Activities {
    /// In the order of their keys, which is that in which they were begun: there are few, and they are looked for more often than anything.
    by_key: Vec<(ActivityKey, Activity)>,
    by_entity: NameMap<EntityId, ActivityKey>,
}

impl Activities {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Begins one; each has a key above those before it.
    pub(super) fn begin(&mut self, key: ActivityKey, until: Instant, last: Instant) {
        let activity = Activity { stage: Stage::Creating { until }, last, sends: VecDeque::new() };
        self.by_key.push((key, activity));
    }

    #[inline]
    fn place(&self, key: ActivityKey) -> Option<usize> {
        self.by_key.binary_search_by_key(&key, |(key, _)| *key).ok()
    }

    pub(super) fn get_mut(&mut self, key: ActivityKey) -> Option<&mut Activity> {
        let place = self.place(key)?;
        self.by_key.get_mut(place).map(|(_, activity)| activity)
    }

    /// The entity of an activity, once it is open, and how it is called.
    #[inline]
    pub(super) fn open(&self, key: ActivityKey) -> Option<(&EntityId, &cs::Calls)> {
        match &self.by_key.get(self.place(key)?)?.1.stage {
            Stage::Open { entity, calls } => Some((entity, calls)),
            _ => None,
        }
    }

    /// The activity of an entity.
    pub(super) fn of(&self, entity: &EntityId) -> Option<ActivityKey> {
        self.by_entity.get(entity).copied()
    }

    pub(super) fn of_mut(&mut self, entity: &EntityId) -> Option<(ActivityKey, &mut Activity)> {
        let key = self.of(entity)?;
        self.get_mut(key).map(|activity| (key, activity))
    }

    /// Moves an activity on. `false` when it is gone, or its entity belongs to another one already.
    pub(super) fn set_stage(&mut self, key: ActivityKey, stage: Stage) -> bool {
        let Some(place) = self.place(key) else { return false };
        if let Some(entity) = stage.entity() {
            let owner = *self.by_entity.entry(entity.clone()).or_insert(key);
            if owner != key {
                return false;
            }
        }
        if let Some((_, activity)) = self.by_key.get_mut(place) {
            activity.stage = stage;
        }
        true
    }

    pub(super) fn remove(&mut self, key: ActivityKey) -> Option<Activity> {
        let (_, activity) = self.by_key.remove(self.place(key)?);
        if let Some(entity) = activity.stage.entity() {
            self.by_entity.remove(entity);
        }
        Some(activity)
    }

    /// Those that are being opened, with their deadlines and the last ones that these may have.
    pub(super) fn opening_mut(&mut self) -> impl Iterator<Item = (ActivityKey, &mut Instant, Instant)> {
        self.by_key.iter_mut().filter_map(|(key, activity)| match &mut activity.stage {
            Stage::Creating { until } | Stage::Verifying { until, .. } => Some((*key, until, activity.last)),
            Stage::Open { .. } => None,
        })
    }

    pub(super) fn drain(&mut self) -> Vec<(ActivityKey, Activity)> {
        self.by_entity.clear();
        std::mem::take(&mut self.by_key)
    }
}
