//! How packets are written: as bytes, which NSP 0.5 does, or as text, which NSP 0.4 did.

use bytes::{Bytes, BytesMut};

use crate::machine::{Ignored, Outgoing};
use crate::proto::text::{self, Dialect};
use crate::proto::{DecodeError, EncodeError, HEARTBEAT, Leg, Method, Methods, Packet};
use crate::secure::{Cipher, Random};

/// The form of all packets of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::machine) enum Form {
    Binary,
    Text {
        dialect: Dialect,
        /// Most bytes of a message. As text it may have twice as many as those that were looked at before.
        largest: usize,
    },
}

impl Form {
    /// A packet that the daemon does not take from a client: it wakes SP, and is dropped after it.
    pub(super) fn probe(self) -> Packet {
        let payload = match self {
            Self::Binary => Bytes::new(),
            Self::Text { .. } => Bytes::from_static(b"{}"),
        };
        Packet::new(Method::Gt, Leg::Answer, payload)
    }

    pub(super) fn is_heartbeat(self, message: &[u8]) -> bool {
        match self {
            Self::Binary => message == HEARTBEAT,
            Self::Text { .. } => message == text::HEARTBEAT,
        }
    }

    pub(super) const fn heartbeat(self) -> Outgoing {
        match self {
            Self::Binary => Outgoing::Heartbeat,
            Self::Text { .. } => Outgoing::Text(Bytes::from_static(text::HEARTBEAT)),
        }
    }

    /// Whether a packet can be written, encrypted if need be.
    pub(super) fn check(self, packet: &Packet, methods: &Methods) -> Result<(), EncodeError> {
        match self {
            Self::Binary => packet.check(methods),
            Self::Text { dialect, largest } => write(packet, dialect, largest).map(drop),
        }
    }

    /// A packet as it goes out in clear.
    pub(super) fn clear(self, packet: Packet, methods: &Methods) -> Result<Outgoing, EncodeError> {
        match self {
            Self::Binary => {
                packet.check(methods)?;
                Ok(Outgoing::Packet(packet))
            }
            Self::Text { dialect, largest } => write(&packet, dialect, largest).map(Outgoing::Text),
        }
    }

    /// A packet as it goes out encrypted.
    pub(super) fn seal(
        self,
        packet: &Packet,
        cipher: &Cipher,
        methods: &Methods,
        random: &mut dyn Random,
    ) -> Result<Outgoing, EncodeError> {
        match self {
            Self::Binary => {
                let length = packet.encoded_length(methods)?;
                let mut out = BytesMut::with_capacity(Cipher::sealed_length(length));
                cipher.seal(random, &mut out, |out| packet.encode(methods, out))?;
                Ok(Outgoing::Sealed(out.freeze()))
            }
            Self::Text { dialect, largest } => {
                let message = write(packet, dialect, largest)?;
                Ok(Outgoing::Text(cipher.seal_text(random, &message).into()))
            }
        }
    }

    /// Reads what came in clear.
    pub(super) fn read(self, message: Bytes, methods: &Methods) -> Result<Packet, DecodeError> {
        match self {
            Self::Binary => Packet::decode(message, methods),
            Self::Text { dialect, .. } => text::decode(&message, dialect),
        }
    }

    /// Reads what came encrypted.
    pub(super) fn open(self, message: Bytes, cipher: &Cipher, methods: &Methods) -> Result<Packet, Ignored> {
        let opened = match self {
            Self::Binary => cipher.open(message),
            Self::Text { .. } => cipher.open_text(&message),
        };
        Ok(self.read(opened.map_err(|_| Ignored::Unreadable)?, methods)?)
    }
}

/// Writes a packet as text, if it would fit encrypted too: so it does not depend on when it leaves whether it can.
fn write(packet: &Packet, dialect: Dialect, largest: usize) -> Result<Bytes, EncodeError> {
    let message = text::encode(packet, dialect)?;
    let size = Cipher::sealed_text_length(message.len());
    if size <= largest { Ok(message) } else { Err(EncodeError::TooLarge { size, limit: largest }) }
}
