//! An entity, as far as its connection has to know it.

use crate::machine::held::Held;
use crate::proto::cs;

/// Whether its service has seen it.
#[derive(Debug, Default)]
pub(super) struct Entity {
    pub(super) stage: Stage,
}

#[derive(Debug, Default)]
pub(super) enum Stage {
    /// No VE yet.
    #[default]
    Created,
    /// The service is looking at it. What it asks for meanwhile is held, so that a client need not wait for the answer to VE.
    Verifying { held: Box<Held<(cs::Request, usize)>> },
    /// The service has accepted it.
    Verified,
}

impl Entity {
    /// The service has accepted it: what was held is to be served.
    pub(super) fn end_verification(&mut self) -> Vec<(cs::Request, usize)> {
        match std::mem::replace(&mut self.stage, Stage::Verified) {
            Stage::Verifying { mut held } => held.take(),
            Stage::Created | Stage::Verified => Vec::new(),
        }
    }
}
