//! Conversations, without knowing where their bytes come from and what time it is.
//!
//! ```text
//!            carrier                 machine                     above
//!
//!   bytes ──▶ Incoming ──▶ receive ─▶ Link ─▶ Client | Daemon ─▶ poll_event ──▶ Event
//!   bytes ◀── Outgoing ◀── poll_outgoing ◀────────── │ ◀──────── call, open, returned, push …
//!   timer ───────────────▶ handle_timeout            └ poll_timeout ──▶ when to come back
//! ```
//!
//! Both sides of a connection are here: [`Client`] and [`Daemon`], each for one connection; below them a link that knows SP. Neither does anything by
//! itself: it is told what has arrived and what time it is, and then asked, until there is no more, what is to be sent, what has happened, and when it
//! wants to be called again. So a test runs both against each other at every split and in any order, with time as a number.
//!
//! What is shared between connections is in [`Entities`]: who is there, in which groups, and who is meant by a [`Filter`]. What a daemon asks before it lets somebody
//! do something is a [`Check`].
//!
//! Everything a peer can make grow has a limit in [`client::Limits`] and [`daemon::Limits`].

pub mod check;
pub mod client;
pub mod daemon;
pub mod entities;

mod held;
mod link;
pub(crate) mod numbered;
mod timers;
mod waiting;

use bytes::{Bytes, BytesMut};

use crate::proto::{
    DecodeError, EncodeError, HEARTBEAT, Leg, Method, Methods, Packet, chunk, frame::Received,
};

pub use check::Check;
pub use client::Client;
pub use daemon::Daemon;
pub use entities::{Entities, Filter};
pub(crate) use link::{Next, Texts};
pub use link::{SpError, SpMode, SpPolicy};

/// Places that a queue keeps at rest: a call and its answer need one each, and a queue that begins with none makes four at once.
const AT_REST: usize = 1;

/// What a carrier hands over.
#[derive(Debug, Clone)]
#[expect(clippy::exhaustive_enums, reason = "carriers know these")]
pub enum Incoming {
    /// A whole message of a binary carrier, which only the state of the connection can tell to be clear or encrypted.
    Message(Bytes),
    /// A packet in clear, from a carrier that tells the two apart.
    Packet(Packet),
    /// An encrypted message, from a carrier that tells the two apart.
    Sealed(Bytes),
}

impl Incoming {
    /// Bytes that it keeps, without whatever a carrier adds.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Message(message) | Self::Sealed(message) => message.len(),
            Self::Packet(packet) => packet.payload.len(),
        }
    }
}

impl From<Received> for Incoming {
    fn from(received: Received) -> Self {
        match received {
            Received::Packet(packet) => Self::Packet(packet),
            Received::Sealed(message) => Self::Sealed(message),
        }
    }
}

/// What a carrier is to send.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "carriers have to know these")]
pub enum Outgoing {
    /// A packet in clear.
    Packet(Packet),
    /// An encrypted message.
    Sealed(Bytes),
    /// A message of NSP 0.4, in clear or encrypted: text, to be sent as it is.
    Text(Bytes),
    /// The heartbeat of binary carriers.
    Heartbeat,
}

impl Outgoing {
    /// Appends it as one message of a binary carrier.
    ///
    /// # Errors
    /// As [`Packet::encode`].
    pub fn encode(&self, methods: &Methods, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::Packet(packet) => return packet.encode(methods, out),
            Self::Sealed(message) | Self::Text(message) => out.extend_from_slice(message),
            Self::Heartbeat => out.extend_from_slice(HEARTBEAT),
        }
        Ok(())
    }

    /// Appends it as one NoService chunk.
    ///
    /// # Errors
    /// As [`Packet::encode`].
    pub fn encode_chunk(&self, methods: &Methods, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::Packet(packet) => return chunk::encode(packet, methods, out),
            Self::Sealed(message) | Self::Text(message) => chunk::encode_bytes(message, out),
            Self::Heartbeat => chunk::encode_bytes(HEARTBEAT, out),
        }
        Ok(())
    }
}

/// Why something that arrived was not acted upon. The connection goes on; somebody who counts will want to know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ignored {
    /// It cannot be read.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// The carrier has passed over it: no packet, or too large for one.
    #[error("a message that is no packet")]
    NoPacket,
    /// It cannot be decrypted.
    #[error("a message that cannot be decrypted")]
    Unreadable,
    /// It came in clear where everything has to be encrypted.
    #[error("a message in clear on an encrypted connection")]
    InClear,
    /// It came encrypted before there was a key.
    #[error("an encrypted message before a key was agreed on")]
    NoKeyYet,
    /// It is for the other side to send.
    #[error("{method}{leg} from the side that may not send it")]
    WrongDirection {
        /// The method of the packet.
        method: Method,
        /// The leg of the packet.
        leg: Leg,
    },
    /// More of it waits than is kept. It was refused all the same.
    #[error("too many {method} questions at once")]
    TooMany {
        /// The method of the packet.
        method: Method,
    },
    /// It came before SP was done.
    #[error("{method}{leg} before the connection is secured")]
    NotSecured {
        /// The method of the packet.
        method: Method,
        /// The leg of the packet.
        leg: Leg,
    },
    /// It answers a question that nobody asked, or that was answered, or given up.
    #[error("{method} answer that nobody waits for")]
    Unasked {
        /// The method of the packet.
        method: Method,
    },
    /// It names an entity that this connection does not have.
    #[error("{method} message for an entity that is not of this connection")]
    UnknownEntity {
        /// The method of the packet.
        method: Method,
    },
}

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) u64);
    };
}
use key;
