//! What a daemon answers for its services.

use bytes::Bytes;

use crate::proto::fields::Operation;
use crate::proto::json::Writer;
use crate::proto::value::{Data, EntityId, RequestId, Status};
use crate::proto::{DecodeError, Failure, Leg, Method, Packet, Payload, RawJson};

/// The daemon answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "CS answers five of its six operations")]
pub enum Answer {
    /// `CE`: the entity exists now, or does not.
    Created {
        /// `t`
        id: RequestId,
        /// `i`, or why there is none (`e`). The original's reason is always empty; ours may hold a code and an id.
        result: Result<EntityId, Box<Failure>>,
    },
    /// `VE`: the service accepts the entity, or not.
    Verified {
        /// `i`
        entity: EntityId,
        /// `s`
        status: Status,
    },
    /// `SS`: the service has the data.
    Sent {
        /// `i`
        entity: EntityId,
        /// `s`
        status: Status,
    },
    /// `SF`: what the function returned.
    Returned {
        /// `t`
        id: RequestId,
        /// `i`
        entity: EntityId,
        /// `s`
        status: Status,
        /// `d`: the result.
        data: Data,
    },
    /// `BS`: what the blob function returned, a blob or JSON.
    ReturnedBlob {
        /// `t`
        id: RequestId,
        /// `i`
        entity: EntityId,
        /// `s`
        status: Status,
        /// `m`: what the service says about the blob.
        meta: Option<RawJson>,
        /// `d`: the result.
        data: Data,
    },
}

impl Answer {
    /// Writes the answer.
    #[must_use]
    pub fn encode(&self) -> Packet {
        let (json, blob) = match self {
            Self::Created { id, result } => {
                let mut writer = Writer::operation("CE", 96);
                writer.raw("t", id.as_json());
                match result {
                    Ok(entity) => writer.text("i", entity.as_str()).literal("e", b"false"),
                    Err(failure) => writer.literal("e", &failure.more()),
                };
                (writer.finish(), None)
            }
            Self::Verified { entity, status } => (encode_status("VE", entity, status), None),
            Self::Sent { entity, status } => (encode_status("SS", entity, status), None),
            Self::Returned { id, entity, status, data } => {
                return encode_return("SF", id.as_json().as_bytes(), entity, status, None, data);
            }
            Self::ReturnedBlob { id, entity, status, meta, data } => {
                return encode_return("BS", id.as_json().as_bytes(), entity, status, meta.as_ref(), data);
            }
        };
        Packet::new(Method::Cs, Leg::Answer, Payload { json, blob })
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// When it is another packet, not JSON, of an unknown operation, or without what the operation needs.
    pub fn decode(packet: &Packet) -> Result<Self, DecodeError> {
        Self::decode_of(packet, &|_| None)
    }

    /// As [`decode`](Self::decode), with ids that `known` has already.
    pub(crate) fn decode_of(
        packet: &Packet,
        known: &dyn Fn(&str) -> Option<EntityId>,
    ) -> Result<Self, DecodeError> {
        let payload = packet.expect(Method::Cs, Leg::Answer, "CSrs")?;
        let operation = Operation::read(Method::Cs, payload)?;
        Ok(match operation.name() {
            "CE" => {
                let fields = operation.fields("CE")?;
                // NSP 0.4.0 refuses with `i` null, later ones without `i`.
                let result = match fields.get("i") {
                    None | Some("null" | "false") => Err(Box::new(Failure::beside(&fields))),
                    Some(_) => Ok(fields.entity_of(known)?),
                };
                Self::Created { id: fields.request_id()?, result }
            }
            "VE" => {
                let fields = operation.fields("VE")?;
                Self::Verified { entity: fields.entity_of(known)?, status: Status::read(&fields) }
            }
            "SS" => {
                let fields = operation.fields("SS")?;
                Self::Sent { entity: fields.entity_of(known)?, status: Status::read(&fields) }
            }
            "SF" => {
                let fields = operation.fields("SF")?;
                Self::Returned {
                    id: fields.request_id()?,
                    entity: fields.entity_of(known)?,
                    status: Status::read(&fields),
                    data: fields.data(),
                }
            }
            "BS" => {
                let fields = operation.fields("BS")?;
                Self::ReturnedBlob {
                    id: fields.request_id()?,
                    entity: fields.entity_of(known)?,
                    status: Status::read(&fields),
                    meta: fields.raw("m"),
                    data: fields.data(),
                }
            }
            _ => return Err(operation.unknown()),
        })
    }
}

fn encode_status(operation: &str, entity: &EntityId, status: &Status) -> Bytes {
    let mut writer = Writer::operation(operation, 64);
    writer.text("i", entity.as_str());
    status.write(&mut writer);
    writer.finish()
}

/// Writes what a function, or a blob function, has returned, from parts that belong to who answers.
pub(crate) fn encode_return(
    operation: &str,
    id: &[u8],
    entity: &EntityId,
    status: &Status,
    meta: Option<&RawJson>,
    data: &Data,
) -> Packet {
    let capacity = data.json_length() + meta.map_or(0, |meta| meta.as_bytes().len());
    let mut writer = Writer::operation(operation, 96 + capacity);
    writer.literal("t", id).text("i", entity.as_str());
    status.write(&mut writer);
    if let Some(meta) = meta {
        writer.raw("m", meta);
    }
    let blob = data.write(&mut writer);
    Packet::new(Method::Cs, Leg::Answer, Payload { json: writer.finish(), blob })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn decode(json: &str) -> Result<Answer, DecodeError> {
        let json = Bytes::copy_from_slice(json.as_bytes());
        Answer::decode(&Packet::new(Method::Cs, Leg::Answer, json))
    }

    #[test]
    fn recorded_answers_are_read_and_written_back_byte_for_byte() {
        let mut seen = 0;
        for flow in testing::flows() {
            for packet in testing::packets(&flow, Method::Cs).filter(|p| p.leg == Leg::Answer) {
                let answer = Answer::decode(&packet).unwrap();
                assert_eq!(answer.encode(), packet, "{}: {:?}", flow.name, packet.payload.json);
                assert_eq!(answer.encode().payload.json, packet.payload.json);
                seen += 1;
            }
        }
        assert!(seen > 100, "only {seen}");
    }

    #[test]
    fn only_ok_is_success() {
        for (s, ok) in [
            (r#","s":"OK""#, true),
            (r#","s":"ok""#, false),
            (r#","s":"Fail""#, false),
            ("", false),
            (r#","s":true"#, false),
            (r#","s":["OK"]"#, false),
            (r#","s":"Error: boom""#, false),
        ] {
            let answer = decode(&format!(r#"{{"m":"SF","d":{{"t":"_1","i":"_a"{s}}}}}"#)).unwrap();
            let Answer::Returned { status, .. } = answer else { panic!("{answer:?}") };
            assert_eq!(status == Status::Ok, ok, "{s}");
        }
    }

    #[test]
    fn failure_travels_with_code_and_id() {
        let failure = Failure {
            text: Some("Error: no such channel".into()),
            code: Some("not_found".into()),
            id: Some("7f3a".into()),
        };
        let answer = Answer::Returned {
            id: RequestId::numbered(1),
            entity: EntityId::new("_a").unwrap(),
            status: Status::Failed(Box::new(failure)),
            data: Data::None,
        };
        let packet = answer.encode();
        assert_eq!(
            packet.payload.json,
            &br#"{"m":"SF","d":{"t":"_1","i":"_a","s":"Error: no such channel","e":{"code":"not_found","id":"7f3a"}}}"#[..]
        );
        assert_eq!(Answer::decode(&packet).unwrap(), answer);
    }

    #[test]
    fn all_forms_of_a_refused_entity_are_understood() {
        for json in [r#"{"m":"CE","d":{"t":"a","e":{}}}"#, r#"{"m":"CE","d":{"t":"a","i":null}}"#] {
            let expected = Answer::Created { id: RequestId::text("a").unwrap(), result: Err(Box::default()) };
            assert_eq!(decode(json).unwrap(), expected);
        }
        let json = r#"{"m":"CE","d":{"t":"a","e":{"code":"no_service"}}}"#;
        let Answer::Created { result: Err(failure), .. } = decode(json).unwrap() else { panic!() };
        assert_eq!(failure.code.as_deref(), Some("no_service"));
    }
}
