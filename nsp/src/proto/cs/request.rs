//! What a client asks of a service.

use bytes::Bytes;

use crate::proto::fields::{Fields, Operation};
use crate::proto::json::Writer;
use crate::proto::value::{Data, EntityId, RequestId};
use crate::proto::{DecodeError, Leg, Method, Packet, Payload, RawJson};
use crate::secret::DaemonKey;

/// The client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "CS has these six operations")]
pub enum Request {
    /// `CE`: create an entity.
    Create(Box<Create>),
    /// `VE`: verify an entity, on which the service's connect handler runs.
    Verify {
        /// `i`
        entity: EntityId,
    },
    /// `SS`: send data to the service.
    Send {
        /// `i`
        entity: EntityId,
        /// `d`
        data: Data,
    },
    /// `SF`: call a service function.
    Call {
        /// `i`
        entity: EntityId,
        /// `n`: name of the function.
        function: String,
        /// `t`
        id: RequestId,
        /// `d`: the argument.
        data: Data,
    },
    /// `BS`: call a blob function.
    CallBlob {
        /// `i`
        entity: EntityId,
        /// `n`: name of the function.
        function: String,
        /// `t`
        id: RequestId,
        /// `m`: what the caller says about the blob.
        meta: Option<RawJson>,
        /// `d`: the blob.
        data: Data,
    },
    /// `CS`: close the entity. It is not answered.
    Close {
        /// `i`
        entity: EntityId,
    },
}

/// What a client says about the entity it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire has these keys")]
pub struct Create {
    /// `t`
    pub id: RequestId,
    /// `o`: the user for whom the entity speaks: a claim, proved by nothing yet.
    pub owner: Option<String>,
    /// `m`
    pub mode: Mode,
    /// `s`: name of the service.
    pub service: String,
    /// `od`: domain of the owner.
    pub owner_domain: Option<String>,
    /// `k`: key of the daemon that stands behind a daemon-mode entity. Written as `false` when there is none.
    pub key: Option<DaemonKey>,
    /// `d`: a description. The original reads it and never sends it.
    pub description: Option<RawJson>,
}

/// On whose behalf an entity acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(clippy::exhaustive_enums, reason = "the original knows normal, and calls all else daemon")]
pub enum Mode {
    /// `normal`: for a user, who will have to prove it.
    #[default]
    Normal,
    /// `daemon`, and whatever else is not `normal`: for a daemon, which has a key.
    Daemon,
}

impl Mode {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Daemon => "daemon",
        }
    }
}

impl Request {
    /// The entity that is asked for something; `None` when it is yet to be created.
    #[must_use]
    pub const fn entity(&self) -> Option<&EntityId> {
        match self {
            Self::Create(_) => None,
            Self::Verify { entity }
            | Self::Send { entity, .. }
            | Self::Call { entity, .. }
            | Self::CallBlob { entity, .. }
            | Self::Close { entity } => Some(entity),
        }
    }

    /// Writes the request.
    #[must_use]
    pub fn encode(&self) -> Packet {
        let (json, blob) = match self {
            Self::Create(create) => (create.encode(), None),
            Self::Verify { entity } => {
                (Writer::operation("VE", 64).text("i", entity.as_str()).finish(), None)
            }
            Self::Close { entity } => (Writer::operation("CS", 64).text("i", entity.as_str()).finish(), None),
            Self::Send { entity, data } => {
                let mut writer = Writer::operation("SS", 64 + data.json_length());
                let blob = write_send(&mut writer, entity, data);
                (writer.finish(), blob)
            }
            Self::Call { entity, function, id, data } => {
                let mut writer = Writer::operation("SF", 96 + function.len() + data.json_length());
                let id = id.as_json().as_bytes();
                let blob = write_call(&mut writer, entity, function, id, None, data);
                (writer.finish(), blob)
            }
            Self::CallBlob { entity, function, id, meta, data } => {
                let capacity = data.json_length() + meta.as_ref().map_or(0, |meta| meta.as_bytes().len());
                let mut writer = Writer::operation("BS", 96 + function.len() + capacity);
                let id = id.as_json().as_bytes();
                let blob = write_call(&mut writer, entity, function, id, meta.as_ref(), data);
                (writer.finish(), blob)
            }
        };
        Packet::new(Method::Cs, Leg::Request, Payload { json, blob })
    }

    /// Reads the request.
    ///
    /// # Errors
    /// When it is another packet, not JSON, of an unknown operation, or without what the operation needs.
    pub fn decode(packet: &Packet) -> Result<Self, DecodeError> {
        Self::decode_of(packet, |_| None)
    }

    /// As [`decode`](Self::decode), with ids that `known` has already.
    pub(crate) fn decode_of(
        packet: &Packet,
        known: impl Fn(&str) -> Option<EntityId>,
    ) -> Result<Self, DecodeError> {
        let mut operation = Operation::new(Method::Cs, packet.expect(Method::Cs, Leg::Request, "CSrq")?);
        let operation = operation.read()?;
        Ok(match operation.name() {
            b"CE" => Self::Create(Box::new(Create::decode(&operation.fields("CE")?)?)),
            b"VE" => Self::Verify { entity: operation.fields("VE")?.entity_of(&known)? },
            b"SS" => {
                let fields = operation.fields("SS")?;
                Self::Send { entity: fields.entity_of(&known)?, data: fields.data() }
            }
            b"SF" => {
                let fields = operation.fields("SF")?;
                Self::Call {
                    entity: fields.entity_of(&known)?,
                    function: fields.required_text("n")?.into_owned(),
                    id: fields.request_id()?,
                    data: fields.data(),
                }
            }
            b"BS" => {
                let fields = operation.fields("BS")?;
                Self::CallBlob {
                    entity: fields.entity_of(&known)?,
                    function: fields.required_text("n")?.into_owned(),
                    id: fields.request_id()?,
                    meta: fields.raw("m"),
                    data: fields.data(),
                }
            }
            b"CS" => Self::Close { entity: operation.fields("CS")?.entity_of(&known)? },
            _ => return Err(operation.unknown()),
        })
    }
}

/// Writes a call of a function, or of a blob function, from parts that belong to who calls. Gives the blob that belongs beside it.
#[inline]
pub(crate) fn write_call(
    writer: &mut Writer,
    entity: &EntityId,
    function: &str,
    id: &[u8],
    meta: Option<&RawJson>,
    data: &Data,
) -> Option<Bytes> {
    let blob = data.write(write_call_of(writer, entity, function, id));
    if let Some(meta) = meta {
        writer.raw("m", meta);
    }
    blob
}

/// Writes what a call says before its argument.
#[inline]
pub(crate) fn write_call_of<'w>(
    writer: &'w mut Writer,
    entity: &EntityId,
    function: &str,
    id: &[u8],
) -> &'w mut Writer {
    writer.text("i", entity.as_str()).text("n", function).literal("t", id)
}

/// Writes data for the service, from parts that belong to who sends. Gives the blob that belongs beside it.
pub(crate) fn write_send(writer: &mut Writer, entity: &EntityId, data: &Data) -> Option<Bytes> {
    writer.text("i", entity.as_str());
    data.write(writer)
}

impl Create {
    fn encode(&self) -> Bytes {
        let mut writer = Writer::operation("CE", 192);
        writer.raw("t", self.id.as_json());
        optional(&mut writer, "o", self.owner.as_deref());
        writer.text("m", self.mode.as_str()).text("s", &self.service);
        optional(&mut writer, "od", self.owner_domain.as_deref());
        match &self.key {
            Some(key) => writer.text("k", key.reveal()),
            None => writer.literal("k", b"false"),
        };
        if let Some(description) = &self.description {
            writer.raw("d", description);
        }
        writer.finish()
    }

    fn decode(fields: &Fields<'_>) -> Result<Self, DecodeError> {
        let mode = match fields.get("m") {
            // Missing, or empty in JavaScript's sense, is the default; any other word is the other mode.
            None | Some("\"normal\"" | "\"\"" | "null" | "false" | "0") => Mode::Normal,
            Some(_) => Mode::Daemon,
        };
        let text = |key| fields.text(key).filter(|text| !text.is_empty()).map(Into::into);
        Ok(Self {
            id: fields.request_id()?,
            owner: text("o"),
            mode,
            service: fields.required_text("s")?.into_owned(),
            owner_domain: text("od"),
            key: fields.text("k").map(|key| DaemonKey::new(key.into_owned())),
            description: fields.raw("d"),
        })
    }
}

fn optional(writer: &mut Writer, key: &str, value: Option<&str>) {
    match value {
        Some(value) => writer.text(key, value),
        None => writer.literal(key, b"null"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn decode(json: &str) -> Result<Request, DecodeError> {
        let json = bytes::Bytes::copy_from_slice(json.as_bytes());
        Request::decode(&Packet::new(Method::Cs, Leg::Request, json))
    }

    #[test]
    fn recorded_requests_are_read_and_written_back_byte_for_byte() {
        let mut seen = 0;
        for flow in testing::flows() {
            for packet in testing::packets(&flow, Method::Cs).filter(|p| p.leg == Leg::Request) {
                let request = Request::decode(&packet).unwrap();
                let original = packet.payload.json.clone();
                let mut ours = request.encode();
                if let Request::Create(create) = &request {
                    // The recording client left out what the original initiator writes as `false`, and once all but two keys.
                    assert_eq!(Request::decode(&ours).unwrap(), request);
                    if !String::from_utf8_lossy(&original).contains("\"k\":") {
                        let text = String::from_utf8(ours.payload.json.to_vec()).unwrap();
                        ours.payload.json = text.replace(",\"k\":false", "").into();
                    }
                    if create.owner.is_none() {
                        continue;
                    }
                }
                assert_eq!(ours, packet, "{}: {original:?}", flow.name);
                seen += 1;
            }
        }
        assert!(seen > 100, "only {seen}");
    }

    #[test]
    fn original_initiator_is_read_with_all_it_writes() {
        let json = r#"{"m":"CE","d":{"t":"2d401f32","o":"admin","m":"normal","s":"Peer","od":"127.0.0.1","k":false}}"#;
        let request = decode(json).unwrap();
        let Request::Create(create) = &request else { panic!("{request:?}") };
        assert_eq!(create.owner.as_deref(), Some("admin"));
        assert_eq!((create.mode, create.key.clone()), (Mode::Normal, None));
        assert_eq!(request.encode().payload.json, json.as_bytes());
    }

    #[test]
    fn any_mode_but_normal_is_daemon() {
        let mode = |text: &str| match decode(&format!(r#"{{"m":"CE","d":{{"t":1,"s":"S"{text}}}}}"#)).unwrap()
        {
            Request::Create(create) => create.mode,
            other => panic!("{other:?}"),
        };
        assert_eq!(mode(""), Mode::Normal);
        assert_eq!(mode(r#","m":null"#), Mode::Normal);
        assert_eq!(mode(r#","m":"daemon""#), Mode::Daemon);
        assert_eq!(mode(r#","m":"Normal""#), Mode::Daemon);
        assert_eq!(mode(r#","m":["normal"]"#), Mode::Daemon);
    }

    #[test]
    fn blob_takes_the_place_of_d_in_every_operation() {
        for json in [
            r#"{"m":"SS","d":{"i":"_a","d":null}}"#,
            r#"{"m":"SF","d":{"i":"_a","n":"f","t":1}}"#,
            r#"{"m":"BS","d":{"i":"_a","n":"f","t":1,"d":null}}"#,
        ] {
            let payload = Payload { json: json.into(), blob: Some("xyz".into()) };
            match Request::decode(&Packet::new(Method::Cs, Leg::Request, payload)).unwrap() {
                Request::Send { data, .. } | Request::Call { data, .. } | Request::CallBlob { data, .. } => {
                    assert_eq!(data, Data::Blob("xyz".into()));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn missing_d_is_not_null() {
        let data = |json: &str| match decode(json).unwrap() {
            Request::Call { data, .. } => data,
            other => panic!("{other:?}"),
        };
        assert_eq!(data(r#"{"m":"SF","d":{"i":"_a","n":"f","t":1}}"#), Data::None);
        assert_eq!(data(r#"{"m":"SF","d":{"i":"_a","n":"f","t":1,"d":null}}"#), Data::Json(RawJson::NULL));
    }

    #[test]
    fn what_the_original_ignores_is_an_error_with_a_name() {
        let message = |json: &str| decode(json).unwrap_err().to_string();
        assert_eq!(message(r#"{"m":"QQ","d":{"i":"x"}}"#), "unknown CS operation \"QQ\"");
        assert_eq!(message(r#"{"m":"CE"}"#), "CS CE has no \"d\"");
        assert_eq!(message(r#"{"m":"VE","d":{}}"#), "CS VE has no \"i\"");
        assert_eq!(message(r#"{"m":"SF","d":{"i":"_a","t":1}}"#), "CS SF has no \"n\"");
        let long = format!(r#"{{"m":"CS","d":{{"i":"{}"}}}}"#, "x".repeat(256));
        assert_eq!(message(&long), "\"i\" of CS CS is not an entity id of at most 255 bytes");
    }
}
