//! Methods of the user's own, beside the five of NSP.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::extract::Caller;
use super::fail::Fail;
use crate::machine::entities::ConnectionId;
use crate::proto::{Leg, Packet, Payload};

/// A packet of a method that was registered with a daemon.
#[derive(Debug)]
#[non_exhaustive]
pub struct CustomCall {
    /// What came.
    pub packet: Packet,
    /// By which connection. It may have no entity, and proves nothing.
    pub connection: ConnectionId,
    /// From where.
    pub caller: Caller,
}

type Answer = Pin<Box<dyn Future<Output = Result<Option<Payload>, Fail>> + Send>>;

/// What handles them.
pub(crate) type CustomHandler = Arc<dyn Fn(CustomCall) -> Answer + Send + Sync>;

/// Forgets the type of a handler.
pub(crate) fn erase<H, F>(handler: H) -> CustomHandler
where
    H: Fn(CustomCall) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Option<Payload>, Fail>> + Send + 'static,
{
    Arc::new(move |call| Box::pin(handler(call)))
}

/// The answer to a packet, if it was a question and there is one.
pub(crate) fn answer(question: &Packet, payload: Option<Payload>) -> Option<Packet> {
    let payload = payload.filter(|_| question.leg == Leg::Request)?;
    Some(Packet::new(question.method, Leg::Answer, payload))
}
