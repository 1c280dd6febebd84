use super::Calls;
use crate::proto::RequestId;
use crate::proto::scan::{is_one, plain};

/// A call of a function, where it stands in the text, in the form in which programs write it:
///
/// ```text
/// {"m":"SF","d":{"i":"_a","n":"Hello","t":"_1","d":{"name":"world"}}}
///                 entity   function    id       data, perhaps
/// ```
///
/// No blanks, no escapes, keys in the original's order. Nothing else is looked at here, so that this costs next to nothing. Where the argument ends is
/// certain; whether it is JSON is for who reads it to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsualCall<'a> {
    /// Without its quotes, and perhaps not UTF-8. `None` is the one that was likely.
    pub(crate) entity: Option<&'a [u8]>,
    /// The same.
    pub(crate) function: &'a [u8],
    /// With its quotes, in ASCII.
    pub(crate) id: &'a [u8],
    /// The argument, if there is one.
    pub(crate) data: Option<&'a [u8]>,
}

impl<'a> UsualCall<'a> {
    /// Reads a call, which is likely to be one of this entity. `None` when it is written differently, or is something else.
    #[inline]
    pub(crate) fn read(text: &'a [u8], likely: Option<&Calls>) -> Option<Self> {
        let (entity, rest) = match likely.and_then(|calls| text.strip_prefix(calls.beginning())) {
            Some(rest) => (None, rest.strip_prefix(b"\"")?),
            None => {
                let rest = text.strip_prefix(br#"{"m":"SF","d":{"i":""#)?;
                let entity = word(rest)?;
                (Some(entity), rest.get(entity.len()..)?.strip_prefix(br#"","n":""#)?)
            }
        };
        let function = word(rest)?;
        let rest = rest.get(function.len()..)?.strip_prefix(br#"","t":"#)?;
        let [b'"', id @ ..] = rest else { return None };
        let id = rest.get(..word(id)?.len() + 2)?;
        let data = match rest.get(id.len()..)? {
            b"}}" => None,
            [b',', b'"', b'd', b'"', b':', data @ .., b'}', b'}'] if is_one(data) => Some(data),
            _ => return None,
        };
        (id.is_ascii() && id.len() <= RequestId::MOST).then_some(Self { entity, function, id, data })
    }
}

/// What a string says that has begun, if it ends and holds no escapes.
#[inline(always)]
fn word(text: &[u8]) -> Option<&[u8]> {
    match text.split_at_checked(plain(text))? {
        (word, [b'"', ..]) => Some(word),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::cs::Request;
    use crate::proto::{Data, EntityId, Leg, Method, Packet, RawJson};
    use crate::testing;

    fn in_words(text: &str, likely: &str) -> Option<[String; 4]> {
        let calls = Calls::of(&EntityId::new(likely).unwrap());
        let call = UsualCall::read(text.as_bytes(), Some(&calls))?;
        assert_eq!(
            call.entity.is_none(),
            text.contains(&format!("{{\"i\":\"{likely}\",")),
            "{text} {likely}"
        );
        let entity = call.entity.unwrap_or(likely.as_bytes());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let data = call.data.map_or("-".into(), text);
        Some([text(entity), text(call.function), text(call.id), data])
    }

    #[test]
    fn calls_of_recordings_are_read_as_they_are_by_the_whole_reader() {
        let mut seen = 0;
        for flow in testing::flows() {
            for packet in testing::packets(&flow, Method::Cs).filter(|p| p.leg == Leg::Request) {
                let Some(call) = UsualCall::read(&packet.payload.json, None) else { continue };
                let Request::Call { entity, function, id, data } = Request::decode(&packet).unwrap() else {
                    panic!("{packet:?}")
                };
                assert_eq!(call.entity, Some(entity.as_str().as_bytes()));
                assert_eq!((call.function, call.id), (function.as_bytes(), &id.as_json().as_bytes()[..]));
                let whole = match &data {
                    Data::Json(json) => Some(&json.as_bytes()[..]),
                    _ => None,
                };
                assert_eq!(call.data, whole);
                seen += 1;
            }
        }
        assert!(seen > 20, "only {seen}");
    }

    #[test]
    fn calls_with_anything_wrong_in_them_are_read_as_they_are_by_the_whole_reader() {
        let calls = Calls::of(&EntityId::new("_a").unwrap());
        let (mut read, mut not_json) = (0, 0);
        for json in testing::spoilt(
            &[
                br#"{"m":"SF","d":{"i":"_a","n":"f","t":"_1","d":{"x":1,"y":"z"}}}"#,
                br#"{"m":"SF","d":{"i":"_a","n":"f","t":"_1","d":["a",{"b":{}}],"d":"c"}}"#,
                br#"{"m":"SF","d":{"i":"_b","n":"f","t":"_1","d":"text"}}"#,
                br#"{"m":"SF","d":{"i":"_a","n":"f","t":"_1"}}"#,
            ],
            100_000,
        ) {
            let Some(call) = UsualCall::read(&json, Some(&calls)) else { continue };
            let packet = Packet::new(Method::Cs, Leg::Request, json.clone());
            let Ok(whole) = Request::decode(&packet) else {
                // Only the parts that are not read here can be wrong.
                let is_text = |part: Option<&[u8]>| std::str::from_utf8(part.unwrap_or_default()).is_ok();
                let is_json = call.data.is_none_or(|data| RawJson::new(data.to_vec()).is_ok());
                let is_right = is_json && is_text(call.entity) && is_text(Some(call.function));
                assert!(!is_right, "{}", String::from_utf8_lossy(&json));
                not_json += 1;
                continue;
            };
            let Request::Call { entity, function, id, data } = whole else { panic!("{whole:?}") };
            assert_eq!(call.entity.unwrap_or(b"_a"), entity.as_str().as_bytes());
            assert_eq!((call.function, call.id), (function.as_bytes(), &id.as_json().as_bytes()[..]));
            let whole = match &data {
                Data::Json(json) => Some(&json.as_bytes()[..]),
                _ => None,
            };
            assert_eq!(call.data, whole);
            read += 1;
        }
        assert!(read > 1000 && not_json > 100, "{read} were read, {not_json} were no JSON");
    }

    #[test]
    fn what_is_written_in_another_way_is_left_to_others() {
        let usual = r#"{"m":"SF","d":{"i":"_a","n":"f","t":"_1","d":{"x":1}}}"#;
        let expected = Some(["_a", "f", "\"_1\"", r#"{"x":1}"#].map(String::from));
        for likely in ["", "_a", "_b", "_a\"", "_abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"] {
            assert_eq!(in_words(usual, likely), expected, "{likely}");
        }
        let without = r#"{"m":"SF","d":{"i":"_a","n":"f","t":"_1"}}"#;
        assert_eq!(in_words(without, "_a"), Some(["_a", "f", "\"_1\"", "-"].map(String::from)));
        for other in [
            r#" {"m":"SF","d":{"i":"_a","n":"f","t":"_1"}}"#,
            r#"{"m":"BS","d":{"i":"_a","n":"f","t":"_1"}}"#,
            r#"{"m":"SF","d":{"n":"f","i":"_a","t":"_1"}}"#,
            r#"{"m":"SF","d":{"i":"_a","n":"\u0066","t":"_1"}}"#,
            r#"{"m":"SF","d":{"i":"_a","n":"f","t":1}}"#,
            r#"{"m":"SF","d":{"i":"_a","n":"f","t":"é"}}"#,
            r#"{"m":"SF","d":{"i":"_a","n":"f","t":"_1","d":{"x":1}},"i":"_b"}"#,
            r#"{"m":"SF","d":{"i":"_a","n":"f","t":"_1","d":{"x":1},"i":"_b"}}"#,
            r#"{"m":"SF","d":{"i":"_a","n":"f","t":"_1","d":{"x":1},"i":{}}}"#,
            r#"{"m":"SF","d":{"i":"_a","n":"f","t":"_1","d":"x","i":"_b"}}"#,
            r#"{"m":"SF","d":{"i":"_a","n":"f","t":"_1","d":1,"i":2}}"#,
            r#"{"m":"SF","d":{"i":"_a","n":"f","t":"_1","d":}}"#,
            r#"{"m":"SF","d":{"i":"_a","n":"f","t":"_1","d":{"x":1}}"#,
            r#"{"m":"SF","d":{"i":"_a"#,
            "",
        ] {
            assert_eq!(in_words(other, "_a"), None, "{other}");
        }
        let not_text = b"{\"m\":\"SF\",\"d\":{\"i\":\"_a\",\"n\":\"f\",\"t\":\"\xff\"}}";
        assert_eq!(UsualCall::read(not_text, None), None);
    }
}
