//! Packets in, packets out, and SP between: one side of one connection.
//!
//! ```text
//!  client                                        daemon
//!
//!  Clear ◀─────────────┐                         Clear        (SP is off)
//!    │ SPrq            │ waited long enough
//!    ▼                 │                         Fresh
//!  Judging ◀─ SPrq ─ Waiting ◀── start             │ any message: it is held, SPrq goes out
//!    │ the key is trusted                          ▼
//!    ▼                                           Pending ── too long, too much held, wrong answer ──▶ closed
//!  Secured                                         │ SPrs
//!                                                  ▼
//!                                                Secured: what was held is served
//! ```
//!
//! A packet comes out of here only if it is of a registered method and may come from that side.

mod client;
mod daemon;
mod form;
mod queue;

use std::sync::Arc;
use std::time::Duration;

pub(super) use client::{Arrived, ClientLink, SendError};
pub(super) use daemon::DaemonLink;
pub(super) use form::Form;
pub(crate) use queue::{Next, Texts};

use super::Ignored;
use super::held::Held;
use crate::proto::{Methods, Packet, Side};
use crate::secure::{KeyError, ServerKey, WeakSeeds};

/// What a client wants of SP.
///
/// Whatever it is, a daemon that asks for SP gets it: it would be deaf otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(clippy::exhaustive_enums, reason = "these are the three ways to want it")]
pub enum SpMode {
    /// Nothing is sent but a harmless probe until the connection is secured; if the daemon does not ask for SP in time, the connection fails.
    #[default]
    Required,
    /// As [`Required`](Self::Required), but if the daemon does not ask in time, things go on in clear.
    Preferred,
    /// Things go in clear from the beginning, for there is TLS below or nobody between.
    WhenAsked,
}

/// What a daemon demands on a listener.
#[derive(Debug, Clone, Default)]
#[expect(clippy::exhaustive_enums, reason = "it demands SP or it does not")]
pub enum SpPolicy {
    /// No SP.
    #[default]
    Off,
    /// SP with every client, before anything is served.
    Required {
        /// The key that is sent to clients.
        key: Arc<ServerKey>,
        /// What to do with clients whose seed can be guessed.
        weak: WeakSeeds,
        /// How long a client may take to answer; the original waits for ever.
        timeout: Duration,
    },
}

/// Why a connection cannot be secured. It has to be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpError {
    /// The daemon did not ask for SP, and the client goes nowhere without.
    #[error("the daemon did not offer SP within {} ms", .waited.as_millis())]
    NotOffered {
        /// How long the client waited.
        waited: Duration,
    },
    /// The daemon's key is none that can be used.
    #[error("the key of the daemon: {0}")]
    BadKey(KeyError),
    /// Whoever judged the daemon's key does not trust it.
    #[error("the key of the daemon is not trusted")]
    NotTrusted,
    /// The client's answer is wrong, or its seed is weak and such are not allowed.
    #[error("the client's answer to SP is not accepted")]
    NotAccepted,
    /// The client did not answer in time.
    #[error("the client did not answer SP in time")]
    NotAnswered,
    /// More was sent than is held until the connection is secured.
    #[error("too much was sent before SP was done")]
    TooMuchHeld,
}

/// Whether a packet is for this side to receive.
fn admit(packet: Packet, methods: &Methods, from: Side) -> Result<Packet, Ignored> {
    if methods.rule(packet.method)?.allows(packet.leg, from) {
        Ok(packet)
    } else {
        Err(Ignored::WrongDirection { method: packet.method, leg: packet.leg })
    }
}

/// The same of one that is only looked at.
#[inline]
fn is_admitted(packet: &Packet, methods: &Methods, from: Side) -> bool {
    methods.rule(packet.method).is_ok_and(|rule| rule.allows(packet.leg, from))
}
