//! What a daemon learns from a client, and why a connection has to end.

use std::time::Duration;

use crate::machine::{Ignored, SpError, key};
use crate::proto::{Data, EntityId, Packet, RawJson, cs};
use crate::secret::{Password, Proof};
use crate::secure::Strength;

key! {
    /// A request of a client that waits for us to answer it.
    RequestKey
}
key! {
    /// A question to a client that waits for its answer.
    QuestionKey
}

/// What has happened. Whatever has a [`RequestKey`] has to be answered under it, and is answered with a failure if that takes too long.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// SP is done.
    Secured(Strength),
    /// The client wants an entity: [`create`](super::Daemon::create) it.
    Create {
        /// Under which to answer.
        key: RequestKey,
        /// What it wants. The owner is a claim.
        create: Box<cs::Create>,
    },
    /// The service is to look at an entity: [`verify`](super::Daemon::verify) it.
    Verify {
        /// Under which to answer.
        key: RequestKey,
        /// Which.
        entity: EntityId,
    },
    /// An entity has sent data, and was told that it arrived.
    Data {
        /// Which.
        entity: EntityId,
        /// What.
        data: Data,
    },
    /// An entity calls a service function: [`give`](super::Daemon::give) it the result.
    Call {
        /// Under which to answer.
        key: RequestKey,
        /// Which entity.
        entity: EntityId,
        /// Name of the function.
        function: String,
        /// Its argument.
        data: Data,
    },
    /// An entity calls a blob function: [`give`](super::Daemon::give) it the result.
    CallBlob {
        /// Under which to answer.
        key: RequestKey,
        /// Which entity.
        entity: EntityId,
        /// Name of the function.
        function: String,
        /// What the caller says about the blob.
        meta: Option<RawJson>,
        /// The blob.
        data: Data,
    },
    /// The client has closed an entity, or is gone with it. Its requests have expired before.
    Closed {
        /// Which.
        entity: EntityId,
    },
    /// Nobody waits for the answer to a request any more: it took too long, or its entity is gone. Whoever works on it may stop.
    Expired {
        /// Which.
        key: RequestKey,
    },
    /// The client wants a token: [`token`](super::Daemon::token).
    Token {
        /// Under which to answer.
        key: RequestKey,
        /// For whom.
        user: String,
        /// The password it knows; a missing one is a wrong one.
        password: Option<Password>,
    },
    /// The client has answered a question, or declined, or let it expire (both are `None`).
    Answer {
        /// Which.
        key: QuestionKey,
        /// Its answer.
        value: Option<Proof>,
    },
    /// A packet of a method that was registered by the user.
    Custom(Packet),
    /// Something was not acted upon.
    Ignored(Ignored),
}

/// Why the daemon ends a connection. The client is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Offence {
    /// The connection could not be secured.
    #[error(transparent)]
    Sp(#[from] SpError),
    /// It was connected and did nothing.
    #[error("no entity was created within {} s", .within.as_secs())]
    NoEntity {
        /// How long it had.
        within: Duration,
    },
    /// It sent too much that makes no sense.
    #[error("{count} messages made no sense, the last one: {last}")]
    TooManyFaults {
        /// How many.
        count: u32,
        /// What was wrong with the last.
        last: Ignored,
    },
}
