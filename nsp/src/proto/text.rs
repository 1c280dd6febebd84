//! NSP 0.4: the same packets as text.
//!
//! ```text
//! {"m":"CS","s":"rq","d":{"m":"SF","d":{"i":"_i6u9gt5xc","n":"Echo","j":{"a":1},"t":"_t1"}}}
//!       |        |       `-- payload, where NSP 0.5 has it bare or packed
//!       method   leg
//! ```
//!
//! The envelope is one thing, what changed inside is another. This file translates both, so that the typed messages know NSP 0.5 only:
//!
//! | | 0.4.0 | 0.4.1 | 0.4.2 | here |
//! |---|---|---|---|---|
//! | function call | `JF` | `JF` | `SF` | `SF` |
//! | its argument, its result | `j`, `r`: JSON in a string | `j`, `r` | `j`, `r` | `d` |
//! | entity refused | `{t,i:null}` | `{t,e:{}}` | `{t,e:{}}` | either |
//! | `u` in GT answers and AU questions, `i` in notices | no | no | no | optional |
//! | blobs | no | no | no | an error |
//!
//! The first byte of a message tells the two versions apart ([`Version::of`]): `{`, or an upper-case letter.

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::JsonFault;
use super::fields::text_of;
use super::json::Writer;
use super::packet::decode_letters;
use super::{DecodeError, EncodeError, Leg, Method, Packet, RawJson};

/// What a daemon of NSP 0.4 sends once a minute: not even JSON. It is never answered.
pub const HEARTBEAT: &[u8] = br#"{m:"HB"}"#;

/// Which NSP a message in clear is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Version {
    /// Text, this file.
    V0_4,
    /// Binary.
    V0_5,
}

impl Version {
    /// Tells from the first byte; `None` when it begins neither.
    #[must_use]
    pub fn of(message: &[u8]) -> Option<Self> {
        match message.first()? {
            b'{' => Some(Self::V0_4),
            b'A'..=b'Z' => Some(Self::V0_5),
            _ => None,
        }
    }
}

/// The three forms of NSP 0.4. They cannot be told apart by looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(clippy::exhaustive_enums, reason = "there will be no fourth")]
pub enum Dialect {
    /// `JF`, with arguments and results as JSON inside strings.
    V0_4_0,
    /// `JF`, with arguments and results as they are.
    V0_4_1,
    /// `SF`, with arguments and results as they are.
    #[default]
    V0_4_2,
}

impl Dialect {
    const fn function(self) -> &'static str {
        match self {
            Self::V0_4_0 | Self::V0_4_1 => "JF",
            Self::V0_4_2 => "SF",
        }
    }
}

/// Reads a text message as the packet that NSP 0.5 would have sent.
///
/// # Errors
/// A [`DecodeError`] when it is not the envelope, or names an unknown method or leg.
pub fn decode(message: &Bytes, dialect: Dialect) -> Result<Packet, DecodeError> {
    let fault = |error: serde_json::Error| DecodeError::Envelope(JsonFault::from(&error));
    let envelope: Object<'_> = serde_json::from_slice(message).map_err(fault)?;
    let (method, leg) = decode_letters(envelope.letters("m"), envelope.letters("s"))?;
    let json = match envelope.get("d") {
        None => Bytes::new(),
        Some(payload) if method == Method::Cs => {
            call_from_dialect(payload, dialect).unwrap_or_else(|| message.slice_ref(payload.get().as_bytes()))
        }
        Some(payload) => message.slice_ref(payload.get().as_bytes()),
    };
    Ok(Packet::new(method, leg, json))
}

/// Writes a packet as text.
///
/// # Errors
/// [`EncodeError::NotInDialect`] when it has a blob, is a blob operation, or its payload is not JSON.
pub fn encode(packet: &Packet, dialect: Dialect) -> Result<Bytes, EncodeError> {
    let (method, leg) = (packet.method, packet.leg);
    let refuse = |reason| EncodeError::NotInDialect { method, leg, reason };
    if packet.payload.blob.is_some() {
        return Err(refuse("there are no blobs before NSP 0.5"));
    }
    let payload: &RawValue = match serde_json::from_slice(&packet.payload.json) {
        Ok(payload) => payload,
        Err(_) => return Err(refuse("the payload is not JSON")),
    };
    let translated = match method {
        Method::Cs | Method::Ca | Method::Au => match serde_json::from_str::<Object<'_>>(payload.get()) {
            Ok(object) => Some(operation_to_dialect(&object, method, leg, dialect).map_err(refuse)?),
            Err(_) => None,
        },
        Method::Gt if leg == Leg::Answer => {
            serde_json::from_str::<Object<'_>>(payload.get()).ok().map(|object| object.without("u"))
        }
        _ => None,
    };
    let payload = translated.as_deref().unwrap_or(payload.get().as_bytes());

    let mut out = BytesMut::with_capacity(payload.len() + 28);
    out.put_slice(br#"{"m":""#);
    out.put_slice(&method.letters());
    out.put_slice(br#"","s":""#);
    out.put_slice(&leg.letters());
    out.put_slice(br#"","d":"#);
    out.put_slice(payload);
    out.put_u8(b'}');
    Ok(out.freeze())
}

/// The payload of a function call, either leg, as NSP 0.5 writes it; `None` when it is another operation.
fn call_from_dialect(payload: &RawValue, dialect: Dialect) -> Option<Bytes> {
    let object: Object<'_> = serde_json::from_str(payload.get()).ok()?;
    let operation = text_of(object.get("m")?.get())?;
    if operation != "SF" && operation != "JF" {
        return None;
    }
    let body: Object<'_> = serde_json::from_str(object.get("d")?.get()).ok()?;
    let mut writer = Writer::operation("SF", payload.get().len());
    for (key, value) in &body.entries {
        match &**key {
            "j" | "r" if dialect == Dialect::V0_4_0 => {
                let inner = text_of(value.get()).and_then(|text| RawJson::new(text.into_owned()).ok());
                match inner {
                    Some(inner) => writer.raw("d", &inner),
                    None => writer.literal("d", value.get().as_bytes()),
                }
            }
            "j" | "r" => writer.literal("d", value.get().as_bytes()),
            key => writer.member(key, value.get().as_bytes()),
        };
    }
    Some(writer.finish())
}

/// The payload of CS, CA or AU as the dialect writes it, or why it cannot.
fn operation_to_dialect(
    object: &Object<'_>,
    method: Method,
    leg: Leg,
    dialect: Dialect,
) -> Result<Bytes, &'static str> {
    let operation = object.get("m").map(RawValue::get).and_then(text_of).unwrap_or_default();
    let body = object.get("d").and_then(|body| serde_json::from_str::<Object<'_>>(body.get()).ok());
    match (method, &*operation, body) {
        (_, "BS" | "BE", _) => Err("there are no blob operations before NSP 0.5"),
        (Method::Au, _, None) => Ok(object.without("i")),
        (Method::Au, _, Some(body)) if leg == Leg::Request => Ok(wrap(&operation, &body.without("u"))),
        (Method::Cs, "SF", Some(body)) => Ok(wrap(dialect.function(), &call_to_dialect(&body, leg, dialect))),
        (Method::Cs, "CE", Some(body)) if leg == Leg::Answer && dialect == Dialect::V0_4_0 => {
            let mut writer = Writer::object(96);
            writer.literal("t", body.get("t").map_or("null", RawValue::get).as_bytes());
            writer.literal("i", body.get("i").map_or("null", RawValue::get).as_bytes());
            Ok(wrap("CE", &writer.finish()))
        }
        _ => Ok(object.without("")),
    }
}

/// The body of a function call: `i,n,j,t` to ask, `t,i,s,r` to answer.
fn call_to_dialect(body: &Object<'_>, leg: Leg, dialect: Dialect) -> Bytes {
    let (order, data) = match leg {
        Leg::Request => (["i", "n", "d", "t"], "j"),
        Leg::Answer => (["t", "i", "s", "d"], "r"),
    };
    let mut writer = Writer::object(128);
    for key in order {
        match body.get(key) {
            None => {}
            Some(value) if key == "d" && dialect == Dialect::V0_4_0 => {
                writer.text(data, value.get());
            }
            Some(value) => {
                writer.literal(if key == "d" { data } else { key }, value.get().as_bytes());
            }
        }
    }
    for (key, value) in body.entries.iter().filter(|(key, _)| !order.contains(&&**key)) {
        writer.member(key, value.get().as_bytes());
    }
    writer.finish()
}

fn wrap(operation: &str, body: &[u8]) -> Bytes {
    let mut writer = Writer::object(body.len() + 24);
    writer.text("m", operation).literal("d", body);
    writer.finish()
}

/// An object whose keys stay in their order and whose values stay text.
struct Object<'a> {
    entries: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// The value of a key; of several the last, as in JavaScript.
    fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// Two letters under a key; those of no method when there are not two.
    fn letters(&self, key: &str) -> [u8; 2] {
        let text = self.get(key).map(RawValue::get).and_then(text_of).unwrap_or_default();
        text.as_bytes().try_into().unwrap_or(*b"??")
    }

    fn without(&self, dropped: &str) -> Bytes {
        let mut writer = Writer::object(128);
        for (key, value) in self.entries.iter().filter(|(key, _)| key != dropped || dropped.is_empty()) {
            writer.member(key, value.get().as_bytes());
        }
        writer.finish()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object<'de>, M::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    entries.push((text_of(key.get()).unwrap_or_default(), value));
                }
                Ok(Object { entries })
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Data, Payload, Status, au, ca, cs, gt};

    /// What a daemon 0.5.8 and its client said, in the order of the conversation.
    const SPOKEN: [&str; 14] = [
        r#"{"m":"CS","s":"rq","d":{"m":"CE","d":{"t":"tmp1","o":"admin","m":"normal","s":"NspTest","od":"127.0.0.1"}}}"#,
        r#"{"m":"CS","s":"rs","d":{"m":"CE","d":{"t":"tmp1","i":"_i6u9gt5xc","e":false}}}"#,
        r#"{"m":"CS","s":"rq","d":{"m":"VE","d":{"i":"_i6u9gt5xc"}}}"#,
        r#"{"m":"CS","s":"rs","d":{"m":"VE","d":{"i":"_i6u9gt5xc","s":"OK"}}}"#,
        r#"{"m":"CS","s":"rq","d":{"m":"SS","d":{"i":"_i6u9gt5xc","d":{"x":1}}}}"#,
        r#"{"m":"CS","s":"rq","d":{"m":"SF","d":{"i":"_i6u9gt5xc","n":"Echo","j":{"a":1},"t":"_t1"}}}"#,
        r#"{"m":"CS","s":"rs","d":{"m":"SF","d":{"t":"_t1","i":"_i6u9gt5xc","s":"OK","r":{"got":{"a":1}}}}}"#,
        r#"{"m":"CA","s":"rq","d":{"m":"AS","d":{"i":"_i6u9gt5xc","d":{"echo":{"x":1}}}}}"#,
        r#"{"m":"CA","s":"rs","d":{"m":"AS","d":{"i":"_i6u9gt5xc","s":"OK"}}}"#,
        r#"{"m":"CA","s":"rq","d":{"m":"EV","d":{"i":"_i6u9gt5xc","n":"Tick","d":{"n":1}}}}"#,
        r#"{"m":"GT","s":"rs","d":{"s":"Fail"}}"#,
        r#"{"m":"AU","s":"rq","d":{"m":"TK","d":{"t":"9f1f72f5"}}}"#,
        r#"{"m":"AU","s":"rq","d":{"m":"TF"}}"#,
        r#"{"m":"CS","s":"rq","d":{"m":"CS","d":{"i":"_i6u9gt5xc"}}}"#,
    ];

    /// A key is a text like any other: what stands in it must not become members of its own.
    #[test]
    fn keys_of_the_peer_stay_keys() {
        let said = r#"{"m":"CS","s":"rq","d":{"m":"SF","d":{"i":"_a","n":"Echo","j":1,"t":"_t","x\",\"i\":\"_b":2,"\"":3,"\n":4}}}"#;
        for dialect in [Dialect::V0_4_1, Dialect::V0_4_2] {
            let packet = decode(&Bytes::from_static(said.as_bytes()), dialect).unwrap();
            let read: serde_json::Value = serde_json::from_slice(&packet.payload.json).unwrap();
            let body = serde_json::json!({
                "i": "_a", "n": "Echo", "d": 1, "t": "_t", "x\",\"i\":\"_b": 2, "\"": 3, "\n": 4,
            });
            assert_eq!(read, serde_json::json!({"m": "SF", "d": body}));
            let written: serde_json::Value =
                serde_json::from_slice(&encode(&packet, dialect).unwrap()).unwrap();
            assert_eq!(written["d"]["d"]["i"], "_a", "{written}");
            assert_eq!(written["d"]["d"]["x\",\"i\":\"_b"], 2, "{written}");
        }
    }

    #[test]
    fn spoken_text_is_read_and_written_back() {
        for text in SPOKEN {
            let packet = decode(&Bytes::from_static(text.as_bytes()), Dialect::V0_4_2).unwrap();
            assert_eq!(encode(&packet, Dialect::V0_4_2).unwrap(), text);
        }
    }

    #[test]
    fn spoken_text_means_what_the_typed_messages_say() {
        let packet = |at: usize| decode(&Bytes::from_static(SPOKEN[at].as_bytes()), Dialect::V0_4_2).unwrap();
        let cs::Request::Call { function, data, .. } = cs::Request::decode(&packet(5)).unwrap() else {
            panic!()
        };
        assert_eq!((&*function, data), ("Echo", Data::Json(RawJson::new(r#"{"a":1}"#).unwrap())));
        let cs::Answer::Returned { status, data, .. } = cs::Answer::decode(&packet(6)).unwrap() else {
            panic!()
        };
        assert_eq!((status, data), (Status::Ok, Data::Json(RawJson::new(r#"{"got":{"a":1}}"#).unwrap())));
        assert!(ca::Request::decode(&packet(9)).is_ok());
        assert_eq!(gt::Answer::decode(&packet(10)).unwrap(), gt::Answer { user: None, token: None });
        assert!(matches!(au::Request::decode(&packet(11)).unwrap(), au::Request::Ask { user: None, .. }));
        let notice = au::Request::Tell { notice: au::Notice::TokenFailed, entity: None };
        assert_eq!(au::Request::decode(&packet(12)).unwrap(), notice);
    }

    #[test]
    fn oldest_dialect_encodes_arguments_and_results_twice() {
        let text =
            r#"{"m":"CS","s":"rq","d":{"m":"JF","d":{"i":"_a","n":"Echo","j":"{\"a\":\"b\"}","t":"_1"}}}"#;
        let packet = decode(&Bytes::from_static(text.as_bytes()), Dialect::V0_4_0).unwrap();
        assert_eq!(
            packet.payload.json,
            &br#"{"m":"SF","d":{"i":"_a","n":"Echo","d":{"a":"b"},"t":"_1"}}"#[..]
        );
        assert_eq!(encode(&packet, Dialect::V0_4_0).unwrap(), text);
        assert_eq!(
            encode(&packet, Dialect::V0_4_1).unwrap(),
            &br#"{"m":"CS","s":"rq","d":{"m":"JF","d":{"i":"_a","n":"Echo","j":{"a":"b"},"t":"_1"}}}"#[..]
        );
    }

    #[test]
    fn oldest_dialect_answers_creation_with_two_keys() {
        for (ours, theirs) in [
            (r#"{"t":"a","e":{}}"#, r#"{"t":"a","i":null}"#),
            (r#"{"t":"a","i":"_b","e":false}"#, r#"{"t":"a","i":"_b"}"#),
        ] {
            let json = Bytes::from(format!(r#"{{"m":"CE","d":{ours}}}"#));
            let text = encode(&Packet::new(Method::Cs, Leg::Answer, json), Dialect::V0_4_0).unwrap();
            assert_eq!(text, format!(r#"{{"m":"CS","s":"rs","d":{{"m":"CE","d":{theirs}}}}}"#));
        }
    }

    #[test]
    fn what_came_later_is_left_out_or_refused() {
        let json = |text: &'static str| Bytes::from_static(text.as_bytes());
        let token = Packet::new(Method::Gt, Leg::Answer, json(r#"{"t":"x","u":"a","s":"OK"}"#));
        assert_eq!(encode(&token, Dialect::V0_4_2).unwrap(), r#"{"m":"GT","s":"rs","d":{"t":"x","s":"OK"}}"#);
        let notice = Packet::new(Method::Au, Leg::Request, json(r#"{"m":"TF","i":"_a"}"#));
        assert_eq!(encode(&notice, Dialect::V0_4_2).unwrap(), r#"{"m":"AU","s":"rq","d":{"m":"TF"}}"#);

        let blob = Payload { json: json("{}"), blob: Some(Bytes::new()) };
        let error = encode(&Packet::new(Method::Cs, Leg::Request, blob), Dialect::V0_4_2).unwrap_err();
        assert_eq!(error.to_string(), "text form of CSrq: there are no blobs before NSP 0.5");
        let blob_call = Packet::new(Method::Cs, Leg::Request, json(r#"{"m":"BS","d":{}}"#));
        assert!(encode(&blob_call, Dialect::V0_4_2).is_err());
    }

    #[test]
    fn first_byte_tells_the_version() {
        assert_eq!(Version::of(SPOKEN[0].as_bytes()), Some(Version::V0_4));
        assert_eq!(Version::of(b"GTrq{}"), Some(Version::V0_5));
        assert_eq!(Version::of(b"\x16\x03"), None);
        assert_eq!(Version::of(b""), None);
    }

    #[test]
    fn envelopes_of_nothing_are_refused() {
        for text in ["", "{", "[]", "{}", r#"{"m":"CS"}"#, r#"{"m":"C","s":"rq"}"#, r#"{m:"HB"}"#, "\"x\""] {
            assert!(decode(&Bytes::from_static(text.as_bytes()), Dialect::V0_4_2).is_err(), "{text}");
        }
    }
}
