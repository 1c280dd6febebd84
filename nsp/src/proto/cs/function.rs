//! A function is called, and has returned: the two messages that are nearly all there are, in the form in which programs write them.
//!
//! ```text
//! {"m":"SF","d":{"i":"_cc01wlaqg","n":"Hello","t":"_1","d":["I am client."]}}
//! └──────── the same in all calls ────┘
//! {"m":"SF","d":{"t":"_1","i":"_cc01wlaqg","s":"OK","d":["Hello."]}}
//!                         └ as in calls ─┘
//! ```
//!
//! Whatever looks different is left to [`Answer`](super::Answer): here nothing is an error.

use crate::proto::json::write_text;
use crate::proto::scan::is_one;
use crate::proto::value::VALUES;
use crate::proto::{Digits, EntityId};

/// What an entity is called with, and known by in answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Calls {
    /// What each call begins with, up to the name of the function.
    beginning: Box<[u8]>,
}

const BEFORE_ENTITY: &[u8] = br#"{"m":"SF","d":{"#;
const BEFORE_NAME: &[u8] = br#""n":"#;

impl Calls {
    pub(crate) fn of(entity: &EntityId) -> Self {
        let mut beginning = [BEFORE_ENTITY, br#""i":"#].concat();
        write_text(entity.as_str(), &mut beginning);
        beginning.push(b',');
        beginning.extend_from_slice(BEFORE_NAME);
        Self { beginning: beginning.into() }
    }

    /// Appends a call with this id and this argument, which is JSON.
    #[inline]
    pub(crate) fn write(&self, function: &str, id: &Digits, argument: &[u8], out: &mut Vec<u8>) {
        const BEFORE_ID: &[u8] = br#","t":"#;
        const BEFORE_ARGUMENT: &[u8] = br#","d":"#;
        const ROUND: usize = 2 + BEFORE_ID.len() + size_of::<Digits>() + BEFORE_ARGUMENT.len() + 2;
        out.reserve(ROUND + self.beginning.len() + function.len() + argument.len());
        out.extend_from_slice(&self.beginning);
        write_text(function, out);
        out.extend_from_slice(BEFORE_ID);
        id.write(out);
        out.extend_from_slice(BEFORE_ARGUMENT);
        out.extend_from_slice(argument);
        out.extend_from_slice(b"}}");
    }

    /// What each call begins with, up to the name of the function.
    pub(crate) const fn beginning(&self) -> &[u8] {
        &self.beginning
    }

    /// `"i":"_cc01wlaqg",`
    pub(crate) fn entity(&self) -> &[u8] {
        let entity = self.beginning.get(BEFORE_ENTITY.len()..self.beginning.len() - BEFORE_NAME.len());
        entity.unwrap_or_default()
    }
}

/// The beginning of an answer: for which call it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Returning<'a> {
    /// The number in its id, which is one of [ours](crate::proto::RequestId::numbered).
    pub(crate) number: u64,
    /// From the entity on.
    rest: &'a [u8],
}

/// Digits of an id that are read here: no number of so many is too large.
const MOST_DIGITS: usize = 12;

impl<'a> Returning<'a> {
    /// `None` when it is of another form, or no answer.
    #[inline]
    pub(crate) fn of(json: &'a [u8]) -> Option<Self> {
        let digits = json.strip_prefix(br#"{"m":"SF","d":{"t":"_"#)?;
        let (mut number, mut rest) = (0, digits);
        while let [digit, behind @ ..] = rest
            && let Some(value @ 0..36) = VALUES.get(usize::from(*digit))
        {
            number = 36_u64.wrapping_mul(number).wrapping_add(u64::from(*value));
            rest = behind;
        }
        let length = digits.len() - rest.len();
        let is_ours = (1..=MOST_DIGITS).contains(&length) && (length == 1 || digits.first() != Some(&b'0'));
        let rest = rest.strip_prefix(b"\",")?;
        is_ours.then_some(Self { number, rest })
    }

    /// What was returned to this entity, if it went well: the text of one value, which may yet be no JSON, or nothing.
    #[inline]
    pub(crate) fn to(self, calls: &Calls) -> Option<Option<&'a [u8]>> {
        match self.rest.strip_prefix(calls.entity())?.strip_prefix(br#""s":"OK""#)? {
            b"}}" => Some(None),
            [b',', b'"', b'd', b'"', b':', value @ .., b'}', b'}'] if is_one(value) => Some(Some(value)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Data, Leg, Method, Packet, RawJson, RequestId, Status, cs};
    use crate::testing;

    fn packet(leg: Leg, json: &[u8]) -> Packet {
        Packet::new(Method::Cs, leg, bytes::Bytes::copy_from_slice(json))
    }

    /// Reads an answer here, and holds it against how all others are read; says whether it was read.
    fn is_read(json: &[u8], entity: &EntityId) -> bool {
        let Some(returning) = Returning::of(json) else { return false };
        let Some(value) = returning.to(&Calls::of(entity)) else { return false };
        let Ok(data) = value.map(|value| RawJson::new(value.to_vec()).map(Data::from)).transpose() else {
            assert!(cs::Answer::decode(&packet(Leg::Answer, json)).is_err(), "{json:?}");
            return true;
        };
        let expected = cs::Answer::Returned {
            id: RequestId::numbered(returning.number),
            entity: entity.clone(),
            status: Status::Ok,
            data: data.unwrap_or_default(),
        };
        assert_eq!(cs::Answer::decode(&packet(Leg::Answer, json)).unwrap(), expected);
        true
    }

    #[test]
    fn calls_are_written_as_all_others_are() {
        for entity in ["_cc01wlaqg", "", "a\"b\\\u{1}é"] {
            for function in ["Hello", "", "a\"b\n", "é"] {
                for number in [0, 35, 36, u64::MAX] {
                    let entity = EntityId::new(entity).unwrap();
                    let (id, data) = (RequestId::numbered(number), RawJson::of(&["I am client."]).unwrap());
                    let mut written = b"before".to_vec();
                    Calls::of(&entity).write(
                        function,
                        &Digits::quoted(number),
                        data.as_bytes(),
                        &mut written,
                    );
                    let call = cs::Request::Call { entity, function: function.into(), id, data: data.into() };
                    assert_eq!(written.strip_prefix(b"before").unwrap(), call.encode().payload.json);
                }
            }
        }
    }

    #[test]
    fn answers_are_read_as_all_others_are() {
        let entity = EntityId::new("_a").unwrap();
        for (json, expected) in [
            (r#"{"m":"SF","d":{"t":"_1","i":"_a","s":"OK"}}"#, true),
            (r#"{"m":"SF","d":{"t":"_0","i":"_a","s":"OK","d":null}}"#, true),
            (r#"{"m":"SF","d":{"t":"_zzzzzzzzzzzz","i":"_a","s":"OK","d":-1.5e3}}"#, true),
            (r#"{"m":"SF","d":{"t":"_1z","i":"_a","s":"OK","d":"it's \"}}\" é"}}"#, true),
            (r#"{"m":"SF","d":{"t":"_1z","i":"_a","s":"OK","d":{"a":{"b":[{}]}}}}"#, true),
            (r#"{"m":"SF","d":{"t":"_1z","i":"_a","s":"OK","d":{"a":1}}}"#, true),
            // No JSON.
            (r#"{"m":"SF","d":{"t":"_1z","i":"_a","s":"OK","d":{"a"}}}"#, true),
            (r#"{"m":"SF","d":{"t":"_1z","i":"_a","s":"OK","d":{]}}}"#, true),
            // Somebody else's, or not for this entity.
            (r#"{"m":"SF","d":{"t":"_","i":"_a","s":"OK"}}"#, false),
            (r#"{"m":"SF","d":{"t":"_01","i":"_a","s":"OK"}}"#, false),
            (r#"{"m":"SF","d":{"t":"_1A","i":"_a","s":"OK"}}"#, false),
            (r#"{"m":"SF","d":{"t":"_zzzzzzzzzzzzz","i":"_a","s":"OK"}}"#, false),
            (r#"{"m":"SF","d":{"t":"1","i":"_a","s":"OK"}}"#, false),
            (r#"{"m":"SF","d":{"t":"_1","i":"_b","s":"OK"}}"#, false),
            (r#"{"m":"SF","d":{"t":"_1","i":"_ab","s":"OK"}}"#, false),
            // It did not go well.
            (r#"{"m":"SF","d":{"t":"_1","i":"_a","s":"Fail"}}"#, false),
            (r#"{"m":"SF","d":{"t":"_1","i":"_a","s":"OK!"}}"#, false),
            (r#"{"m":"SF","d":{"t":"_1","i":"_a"}}"#, false),
            // Another message, or another form.
            (r#"{"m":"BS","d":{"t":"_1","i":"_a","s":"OK","d":1}}"#, false),
            (r#"{"m":"SF","d":{"i":"_a","t":"_1","s":"OK","d":1}}"#, false),
            (r#"{"m":"SF","d":{"t":"_1","i":"_a","s":"OK","e":{},"d":1}}"#, false),
            (r#"{"m":"SF","d":{"t":"_1","i":"_a","s":"OK","d":1,"s":"Fail"}}"#, false),
            (r#"{"m":"SF","d":{"t":"_1","i":"_a","s":"OK","d":{"x":1},"d":{"y":2}}}"#, false),
            (r#"{"m":"SF","d":{"t":"_1","i":"_a","s":"OK","d":1},"m":"BS"}"#, false),
            (r#"{"m":"SF","d":{"t":"_1","i":"_a","s":"OK","d": 1}}"#, false),
            (r#"{"m":"SF","d":{"t":"_1","i":"_a","s":"OK","d":1}} "#, false),
            (r#"{"m":"SF","d":{"t":"_1","i":"_a","s":"OK","d":}}"#, false),
            (r#"{"m":"SF","d":{"t":"_1","i":"_a","s":"OK"}"#, false),
            (r#"{"m":"SF","d":{"t":"_1"#, false),
            ("", false),
        ] {
            assert_eq!(is_read(json.as_bytes(), &entity), expected, "{json}");
        }
    }

    #[test]
    fn answers_with_anything_wrong_in_them_are_read_as_all_others_are() {
        let entity = EntityId::new("_a").unwrap();
        let (mut read, mut others) = (0, 0);
        for json in testing::spoilt(
            &[
                br#"{"m":"SF","d":{"t":"_1z","i":"_a","s":"OK","d":{"x":1,"y":"z"}}}"#,
                br#"{"m":"SF","d":{"t":"_1","i":"_a","s":"OK","d":["a",{"b":{}}],"d":"c"}}"#,
                br#"{"m":"SF","d":{"t":"_1","i":"_a","s":"OK","d":"text"}}"#,
                br#"{"m":"SF","d":{"t":"_0","i":"_a","s":"OK"}}"#,
            ],
            100_000,
        ) {
            if is_read(&json, &entity) { read += 1 } else { others += 1 }
        }
        assert!(read > 2000 && others > 2000, "{read} were read, {others} were not");
    }

    #[test]
    fn recorded_answers_are_read_here_if_they_went_well() {
        let mut seen = 0;
        for flow in testing::flows() {
            for packet in testing::packets(&flow, Method::Cs).filter(|packet| packet.leg == Leg::Answer) {
                if let Ok(cs::Answer::Returned { id, entity, status: Status::Ok, .. }) =
                    cs::Answer::decode(&packet)
                    && id.number().is_some()
                    && packet.payload.blob.is_none()
                {
                    assert!(is_read(&packet.payload.json, &entity), "{:?}", packet.payload.json);
                    seen += 1;
                }
            }
        }
        assert!(seen > 20, "only {seen}");
    }
}
