//! What a daemon answers for its services.

use bytes::Bytes;

use crate::proto::fields::{Fields, Operation};
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
                let mut writer = Writer::operation("SF", 96 + data.json_length());
                writer.raw("t", id.as_json()).text("i", entity.as_str());
                let blob = write_return(&mut writer, status, None, data);
                (writer.finish(), blob)
            }
            Self::ReturnedBlob { id, entity, status, meta, data } => {
                let capacity = data.json_length() + meta.as_ref().map_or(0, |meta| meta.as_bytes().len());
                let mut writer = Writer::operation("BS", 96 + capacity);
                writer.raw("t", id.as_json()).text("i", entity.as_str());
                let blob = write_return(&mut writer, status, meta.as_ref(), data);
                (writer.finish(), blob)
            }
        };
        Packet::new(Method::Cs, Leg::Answer, Payload { json, blob })
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// When it is another packet, not JSON, of an unknown operation, or without what the operation needs.
    pub fn decode(packet: &Packet) -> Result<Self, DecodeError> {
        Self::of(Self::operation(packet)?.read()?)
    }

    /// What stands in an answer, to be read.
    #[inline(always)]
    pub(crate) fn operation(packet: &Packet) -> Result<Operation<'_>, DecodeError> {
        Ok(Operation::new(Method::Cs, packet.expect(Method::Cs, Leg::Answer, "CSrs")?))
    }

    /// Reads the answer out of what stands in it.
    pub(crate) fn of(operation: &Operation<'_>) -> Result<Self, DecodeError> {
        Ok(match operation.name() {
            b"CE" => {
                let fields = operation.fields("CE")?;
                // NSP 0.4.0 refuses with `i` null, later ones without `i`.
                let result = match fields.get("i") {
                    None | Some("null" | "false") => Err(Box::new(Failure::beside(&fields))),
                    Some(_) => Ok(fields.entity()?),
                };
                Self::Created { id: fields.request_id()?, result }
            }
            b"VE" => {
                let fields = operation.fields("VE")?;
                Self::Verified { entity: fields.entity()?, status: Status::read(&fields) }
            }
            b"SS" => {
                let fields = operation.fields("SS")?;
                Self::Sent { entity: fields.entity()?, status: Status::read(&fields) }
            }
            b"SF" => {
                let fields = operation.fields("SF")?;
                Self::Returned {
                    id: fields.request_id()?,
                    entity: fields.entity()?,
                    status: Status::read(&fields),
                    data: fields.data(),
                }
            }
            b"BS" => {
                let fields = operation.fields("BS")?;
                Self::ReturnedBlob {
                    id: fields.request_id()?,
                    entity: fields.entity()?,
                    status: Status::read(&fields),
                    meta: fields.raw("m"),
                    data: fields.data(),
                }
            }
            _ => return Err(operation.unknown()),
        })
    }
}

/// What a function, or a blob function, has returned, as it stands in its answer: nothing of it is taken out that nobody asks for.
pub(crate) struct Returned<'a> {
    fields: Fields<'a>,
    /// Whether it was a blob function.
    pub(crate) is_blob: bool,
}

impl<'a> Returned<'a> {
    /// `None` when it is another answer, or none.
    #[inline]
    pub(crate) fn of(operation: &'a Operation<'a>) -> Option<Self> {
        let (name, is_blob) = match operation.name() {
            b"SF" => ("SF", false),
            b"BS" => ("BS", true),
            _ => return None,
        };
        Some(Self { fields: operation.fields(name).ok()?, is_blob })
    }

    /// The number of its id, if it is one of [ours](RequestId::numbered).
    #[inline]
    pub(crate) fn number(&self) -> Option<u64> {
        RequestId::number_in(self.fields.get("t")?.as_bytes())
    }

    #[inline]
    pub(crate) fn is_of(&self, entity: &EntityId) -> bool {
        self.fields.text("i").is_some_and(|id| *id == *entity.as_str())
    }

    /// What is said about the blob, and the result; or how it failed.
    #[inline]
    pub(crate) fn result(&self) -> Result<(Option<RawJson>, Data), Box<Failure>> {
        Status::read(&self.fields).into_result()?;
        Ok((if self.is_blob { self.fields.raw("m") } else { None }, self.fields.data()))
    }
}

fn encode_status(operation: &str, entity: &EntityId, status: &Status) -> Bytes {
    let mut writer = Writer::operation(operation, 64);
    writer.text("i", entity.as_str());
    status.write(&mut writer);
    writer.finish()
}

/// Writes what a function, or a blob function, has returned, behind its id and its entity. Gives the blob that belongs beside it.
#[inline]
pub(crate) fn write_return(
    writer: &mut Writer,
    status: &Status,
    meta: Option<&RawJson>,
    data: &Data,
) -> Option<Bytes> {
    status.write(writer);
    if let Some(meta) = meta {
        writer.raw("m", meta);
    }
    data.write(writer)
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
