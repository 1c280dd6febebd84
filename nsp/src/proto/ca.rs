//! CA, call activity: a service sends data and events to an entity.
//!
//! ```text
//! daemon → client  CArq  AS {i,d}                     client → daemon  CArs  {"m":"AS","d":{"i":…,"s":"OK"}}
//!                        EV {i,n,d}                                          EV alike
//!                        BE {i,n,d:null,m} + blob                            BE alike
//!                        CS {i}: the entity is closed                        (none)
//! ```
//!
//! Each request stands in `{"m":"EV","d":{…}}` in a [packed](super::packed) body: `CArq0000000000000056{"m":"EV","d":{"i":"_yoc0iy7y1","n":"Tick","d":{"n":1}}}`. The
//! acknowledgement is bare: `43417273 7b226d223a224556222c…` is `CArs{"m":"EV","d":{"i":"_yoc0iy7y1","s":"OK"}}`. No daemon
//! waits for it, the original initiator sends it, and so do we.

use super::fields::Operation;
use super::json::Writer;
use super::value::{Data, EntityId, Status};
use super::{DecodeError, Leg, Method, Packet, Payload, RawJson};

/// The daemon sends something to an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "CA has these four operations")]
pub enum Request {
    /// `AS`: data.
    Data {
        /// `i`
        entity: EntityId,
        /// `d`
        data: Data,
    },
    /// `EV`: an event.
    Event {
        /// `i`
        entity: EntityId,
        /// `n`: name of the event.
        event: String,
        /// `d`
        data: Data,
    },
    /// `BE`: an event with a blob.
    BlobEvent {
        /// `i`
        entity: EntityId,
        /// `n`: name of the event.
        event: String,
        /// `m`: what the service says about the blob.
        meta: Option<RawJson>,
        /// `d`: the blob.
        data: Data,
    },
    /// `CS`: the entity is closed. It is not answered.
    Close {
        /// `i`
        entity: EntityId,
    },
}

impl Request {
    /// The entity it is sent to.
    #[must_use]
    pub const fn entity(&self) -> &EntityId {
        match self {
            Self::Data { entity, .. }
            | Self::Event { entity, .. }
            | Self::BlobEvent { entity, .. }
            | Self::Close { entity } => entity,
        }
    }

    /// The acknowledgement that the original initiator would send.
    #[must_use]
    pub fn acknowledgement(&self) -> Option<Answer> {
        let of = match self {
            Self::Data { .. } => Acknowledged::Data,
            Self::Event { .. } => Acknowledged::Event,
            Self::BlobEvent { .. } => Acknowledged::BlobEvent,
            Self::Close { .. } => return None,
        };
        Some(Answer { of, entity: self.entity().clone(), status: Status::Ok })
    }

    /// Writes the request.
    #[must_use]
    pub fn encode(&self) -> Packet {
        let (json, blob) = match self {
            Self::Data { entity, data } => {
                let mut writer = Writer::operation("AS", 64 + data.json_length());
                writer.text("i", entity.as_str());
                let blob = data.write(&mut writer);
                (writer.finish(), blob)
            }
            Self::Event { entity, event, data } => {
                let mut writer = Writer::operation("EV", 64 + event.len() + data.json_length());
                writer.text("i", entity.as_str()).text("n", event);
                let blob = data.write(&mut writer);
                (writer.finish(), blob)
            }
            Self::BlobEvent { entity, event, meta, data } => {
                let capacity =
                    event.len() + data.json_length() + meta.as_ref().map_or(0, |meta| meta.as_bytes().len());
                let mut writer = Writer::operation("BE", 64 + capacity);
                writer.text("i", entity.as_str()).text("n", event);
                let blob = data.write(&mut writer);
                if let Some(meta) = meta {
                    writer.raw("m", meta);
                }
                (writer.finish(), blob)
            }
            Self::Close { entity } => (Writer::operation("CS", 64).text("i", entity.as_str()).finish(), None),
        };
        Packet::new(Method::Ca, Leg::Request, Payload { json, blob })
    }

    /// Reads the request.
    ///
    /// # Errors
    /// When it is another packet, not JSON, of an unknown operation, or without what the operation needs.
    pub fn decode(packet: &Packet) -> Result<Self, DecodeError> {
        let payload = packet.expect(Method::Ca, Leg::Request, "CArq")?;
        let mut operation = Operation::new(Method::Ca, payload);
        let operation = operation.read()?;
        Ok(match operation.name() {
            b"AS" => {
                let fields = operation.fields("AS")?;
                Self::Data { entity: fields.entity()?, data: fields.data() }
            }
            b"EV" => {
                let fields = operation.fields("EV")?;
                Self::Event {
                    entity: fields.entity()?,
                    event: fields.required_text("n")?.into_owned(),
                    data: fields.data(),
                }
            }
            b"BE" => {
                let fields = operation.fields("BE")?;
                Self::BlobEvent {
                    entity: fields.entity()?,
                    event: fields.required_text("n")?.into_owned(),
                    meta: fields.raw("m"),
                    data: fields.data(),
                }
            }
            b"CS" => Self::Close { entity: operation.fields("CS")?.entity()? },
            _ => return Err(operation.unknown()),
        })
    }
}

/// What an acknowledgement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "these three are acknowledged")]
pub enum Acknowledged {
    /// `AS`
    Data,
    /// `EV`
    Event,
    /// `BE`
    BlobEvent,
}

impl Acknowledged {
    const fn code(self) -> &'static str {
        match self {
            Self::Data => "AS",
            Self::Event => "EV",
            Self::BlobEvent => "BE",
        }
    }
}

/// The client has received something.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire has these keys")]
pub struct Answer {
    /// `m`: what it received.
    pub of: Acknowledged,
    /// `i`
    pub entity: EntityId,
    /// `s`
    pub status: Status,
}

impl Answer {
    /// Writes the answer.
    #[must_use]
    pub fn encode(&self) -> Packet {
        let mut writer = Writer::operation(self.of.code(), 64);
        writer.text("i", self.entity.as_str());
        self.status.write(&mut writer);
        Packet::new(Method::Ca, Leg::Answer, writer.finish())
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// When it is another packet, not JSON, of an unknown operation, or without an entity.
    pub fn decode(packet: &Packet) -> Result<Self, DecodeError> {
        let payload = packet.expect(Method::Ca, Leg::Answer, "CArs")?;
        let mut operation = Operation::new(Method::Ca, payload);
        let operation = operation.read()?;
        let of = match operation.name() {
            b"AS" => Acknowledged::Data,
            b"EV" => Acknowledged::Event,
            b"BE" => Acknowledged::BlobEvent,
            _ => return Err(operation.unknown()),
        };
        let fields = operation.fields(of.code())?;
        Ok(Self { of, entity: fields.entity()?, status: Status::read(&fields) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn recorded_pushes_and_acknowledgements_are_read_and_written_back() {
        let (mut pushes, mut acknowledged) = (0, 0);
        for flow in testing::flows() {
            for packet in testing::packets(&flow, Method::Ca) {
                if packet.leg == Leg::Request {
                    let request = Request::decode(&packet).unwrap();
                    assert_eq!(request.encode(), packet, "{}", flow.name);
                    pushes += 1;
                } else {
                    let answer = Answer::decode(&packet).unwrap();
                    assert_eq!(answer.status, Status::Ok);
                    assert_eq!(answer.encode(), packet, "{}", flow.name);
                    acknowledged += 1;
                }
            }
        }
        assert!(pushes >= 15 && acknowledged >= 10, "{pushes} {acknowledged}");
    }

    #[test]
    fn everything_but_a_close_is_acknowledged_by_its_own_letters() {
        let entity = EntityId::new("_a").unwrap();
        let event = Request::Event { entity: entity.clone(), event: "Tick".into(), data: Data::None };
        assert_eq!(
            event.acknowledgement().unwrap().encode().payload.json,
            &br#"{"m":"EV","d":{"i":"_a","s":"OK"}}"#[..]
        );
        assert_eq!(Request::Close { entity }.acknowledgement(), None);
    }
}
