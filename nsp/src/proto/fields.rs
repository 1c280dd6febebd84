//! The first look into a payload: which keys are there, and where their values stand.
//!
//! One pass over the text, by the [scanner](super::scan), and by serde_json where that is not sure. Values stay text; the method's own file reads those it needs. Unknown keys are skipped, of a repeated
//! key the last counts (as in JavaScript), and an array is not taken for an object.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::JsonFault;
use super::scan::{Scanner, Value, usual};
use super::value::{Data, EntityId, RequestId};
use super::{DecodeError, Letters, Method, Payload, RawJson};

/// A payload `{"m":operation,"d":{…}}`, before it is known what the operation needs.
pub(crate) struct Operation<'a> {
    method: Method,
    payload: &'a Payload,
    name: Name<'a>,
    outer: Outer<'a>,
}

/// What an operation is called.
enum Name<'a> {
    Letters([u8; 2]),
    Other(Cow<'a, str>),
}

impl<'a> Operation<'a> {
    /// One that is to be [read](Self::read), in its place: it is too large to be moved.
    #[inline(always)]
    pub(crate) fn new(method: Method, payload: &'a Payload) -> Self {
        Self { method, payload, name: Name::Letters([0; 2]), outer: Outer::default() }
    }

    /// Looks where its values stand.
    #[inline(always)]
    pub(crate) fn read(&mut self) -> Result<&Self, DecodeError> {
        if let Some(name) = self.outer.d.usual(&self.payload.json) {
            self.outer.has_d = true;
            self.name = Name::Letters(name);
        } else {
            self.read_unusual()?;
        }
        Ok(self)
    }

    #[cold]
    fn read_unusual(&mut self) -> Result<(), DecodeError> {
        let Self { method, payload, name, outer } = self;
        *outer = Outer::default();
        if !outer.scan(&payload.json) {
            *outer = parse(*method, &payload.json)?;
        }
        let missing = DecodeError::MissingField { method: *method, operation: "operation", field: "m" };
        *name = Name::Other(outer.m.and_then(Value::said).ok_or(missing)?);
        Ok(())
    }

    #[inline]
    pub(crate) fn name(&self) -> &[u8] {
        match &self.name {
            Name::Letters(letters) => letters,
            Name::Other(name) => name.as_bytes(),
        }
    }

    /// The error for an operation that the method does not have.
    pub(super) fn unknown(&self) -> DecodeError {
        DecodeError::UnknownOperation { method: self.method, operation: Letters::of(self.name()) }
    }

    /// The entity that stands beside `m`, where it does.
    pub(super) fn entity_beside(&self) -> Option<EntityId> {
        self.outer.i.and_then(Value::said).and_then(|id| EntityId::new(&id))
    }

    /// What `d` holds, for the operation of that name.
    #[inline]
    pub(super) fn fields(&self, operation: &'static str) -> Result<Fields<'_>, DecodeError> {
        let (method, payload) = (self.method, self.payload);
        if !self.outer.has_d {
            return Err(DecodeError::MissingField { method, operation, field: "d" });
        }
        Ok(Fields { method, operation, payload, keys: &self.outer.d })
    }
}

/// A payload that is one object without an operation.
pub(super) struct Object<'a> {
    method: Method,
    operation: &'static str,
    payload: &'a Payload,
    keys: Keys<'a>,
}

impl<'a> Object<'a> {
    pub(super) fn read(
        method: Method,
        operation: &'static str,
        payload: &'a Payload,
    ) -> Result<Self, DecodeError> {
        let mut keys = Keys::default();
        if Scanner::whole(&payload.json, |scanner| keys.scan(scanner)).is_none() {
            keys = parse(method, &payload.json)?;
        }
        Ok(Self { method, operation, payload, keys })
    }

    pub(super) fn fields(&self) -> Fields<'_> {
        let Self { method, operation, payload, keys } = self;
        Fields { method: *method, operation, payload, keys }
    }
}

/// The keys of one object, and who asks for them.
pub(super) struct Fields<'a> {
    method: Method,
    operation: &'static str,
    payload: &'a Payload,
    keys: &'a Keys<'a>,
}

impl<'a> Fields<'a> {
    #[inline]
    pub(super) fn get(&self, key: &'static str) -> Option<&'a str> {
        self.keys.get(key).map(|value| value.text)
    }

    /// A string, or nothing when there is none of that type.
    pub(super) fn text(&self, key: &'static str) -> Option<Cow<'a, str>> {
        self.keys.get(key).and_then(Value::said)
    }

    /// A string that has to be there.
    #[inline]
    pub(super) fn required_text(&self, key: &'static str) -> Result<Cow<'a, str>, DecodeError> {
        self.required(key)?.said().ok_or_else(|| self.bad(key, "a string"))
    }

    /// The entity `i` that has to be there.
    pub(super) fn entity(&self) -> Result<EntityId, DecodeError> {
        self.entity_of(|_| None)
    }

    /// The same, which `known` may have already.
    #[inline]
    pub(super) fn entity_of(
        &self,
        known: impl Fn(&str) -> Option<EntityId>,
    ) -> Result<EntityId, DecodeError> {
        let id = self.required_text("i")?;
        known(&id)
            .or_else(|| EntityId::new(&id))
            .ok_or_else(|| self.bad("i", "an entity id of at most 255 bytes"))
    }

    /// The request id `t`; who sent none gets `null` back.
    pub(super) fn request_id(&self) -> Result<RequestId, DecodeError> {
        let Some(value) = self.get("t") else { return Ok(RequestId::none()) };
        RequestId::new(RawJson::within(value, &self.payload.json))
            .ok_or_else(|| self.bad("t", "a request id of at most 255 bytes"))
    }

    /// Any value, as it stands in the text.
    pub(super) fn raw(&self, key: &'static str) -> Option<RawJson> {
        self.get(key).map(|value| RawJson::within(value, &self.payload.json))
    }

    /// `d`, in whose place the blob steps when there is one.
    pub(super) fn data(&self) -> Data {
        match (&self.payload.blob, self.raw("d")) {
            (Some(blob), _) => Data::Blob(blob.clone()),
            (None, Some(json)) => Data::Json(json),
            (None, None) => Data::None,
        }
    }

    #[inline]
    fn required(&self, key: &'static str) -> Result<Value<'a>, DecodeError> {
        let missing =
            DecodeError::MissingField { method: self.method, operation: self.operation, field: key };
        self.keys.get(key).ok_or(missing)
    }

    fn bad(&self, field: &'static str, expected: &'static str) -> DecodeError {
        DecodeError::BadField { method: self.method, operation: self.operation, field, expected }
    }
}

/// Reads a string that makes up a whole payload.
pub(super) fn whole_text(
    method: Method,
    operation: &'static str,
    payload: &Payload,
) -> Result<String, DecodeError> {
    let value: &RawValue = parse(method, &payload.json)?;
    let bad = DecodeError::BadField { method, operation, field: "body", expected: "a string" };
    Value::from(value).said().map(Cow::into_owned).ok_or(bad)
}

fn parse<'a, T: Deserialize<'a>>(method: Method, text: &'a Bytes) -> Result<T, DecodeError> {
    serde_json::from_slice(text).map_err(|error| DecodeError::Json { method, fault: JsonFault::from(&error) })
}

/// The string that a value is, borrowed where it holds no escapes.
pub(super) fn text_of(text: &str) -> Option<Cow<'_, str>> {
    Value { text, is_plain: false }.said()
}

macro_rules! fields {
    ($($key:ident = $text:literal),*) => {
        /// The keys that NSP's messages are made of. Their meaning depends on the message.
        #[derive(Default)]
        struct Keys<'a> { $($key: Option<Value<'a>>),* }

        impl<'a> Keys<'a> {
            #[inline]
            fn slot(&mut self, key: &[u8]) -> Option<&mut Option<Value<'a>>> {
                // As bytes: then it is one jump for all that are one letter.
                match key {
                    $($text => Some(&mut self.$key),)*
                    _ => None,
                }
            }

            #[inline]
            fn get(&self, key: &str) -> Option<Value<'a>> {
                match key {
                    $(stringify!($key) => self.$key,)*
                    _ => None,
                }
            }
        }
    };
}

fields!(
    a = b"a",
    d = b"d",
    e = b"e",
    i = b"i",
    k = b"k",
    m = b"m",
    n = b"n",
    o = b"o",
    od = b"od",
    p = b"p",
    r = b"r",
    s = b"s",
    t = b"t",
    u = b"u",
    v = b"v"
);

impl<'a> Keys<'a> {
    /// Takes those of `d` out of a message in its usual form, and gives its operation.
    #[inline(always)]
    fn usual(&mut self, text: &'a [u8]) -> Option<[u8; 2]> {
        usual(text, |key, value| {
            if let Some(slot) = self.slot(&[key]) {
                *slot = Some(value);
            }
        })
    }

    fn scan(&mut self, scanner: &mut Scanner<'a>) -> Option<()> {
        scanner.object(|scanner, key| {
            let value = scanner.value()?;
            if let Some(slot) = self.slot(key) {
                *slot = Some(value);
            }
            Some(())
        })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Keys<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeysVisitor<'a>(PhantomData<Keys<'a>>);

        impl<'de: 'a, 'a> Visitor<'de> for KeysVisitor<'a> {
            type Value = Keys<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Keys<'a>, M::Error> {
                let mut keys = Keys::default();
                while let Some(Key(key)) = map.next_key()? {
                    match keys.slot(key.as_bytes()) {
                        Some(slot) => *slot = Some(map.next_value::<&RawValue>()?.into()),
                        None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(keys)
            }
        }

        deserializer.deserialize_map(KeysVisitor(PhantomData))
    }
}

/// `{"m":operation,"d":{…}}`, with the `i` that stands beside `m` in the notices of AU.
#[derive(Default)]
struct Outer<'a> {
    m: Option<Value<'a>>,
    i: Option<Value<'a>>,
    d: Keys<'a>,
    has_d: bool,
}

impl<'a> Outer<'a> {
    /// Whether it could be read. If not, it holds parts.
    fn scan(&mut self, text: &'a [u8]) -> bool {
        let read = Scanner::whole(text, |scanner| {
            scanner.object(|scanner, key| {
                match key {
                    b"m" => self.m = Some(scanner.value()?),
                    b"i" => self.i = Some(scanner.value()?),
                    // Seldom twice, and then the keys of the first must not shine through.
                    b"d" if self.has_d => return None,
                    b"d" if scanner.null() => {}
                    b"d" => {
                        self.has_d = true;
                        self.d.scan(scanner)?;
                    }
                    _ => {
                        scanner.value()?;
                    }
                }
                Some(())
            })
        });
        read.is_some()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Outer<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OuterVisitor<'a>(PhantomData<Outer<'a>>);

        impl<'de: 'a, 'a> Visitor<'de> for OuterVisitor<'a> {
            type Value = Outer<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Outer<'a>, M::Error> {
                let mut outer = Outer::default();
                while let Some(Key(key)) = map.next_key()? {
                    match &*key {
                        "m" => outer.m = Some(map.next_value::<&RawValue>()?.into()),
                        "i" => outer.i = Some(map.next_value::<&RawValue>()?.into()),
                        "d" => {
                            let keys: Option<Keys<'a>> = map.next_value()?;
                            outer.has_d = keys.is_some();
                            outer.d = keys.unwrap_or_default();
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(outer)
            }
        }

        deserializer.deserialize_map(OuterVisitor(PhantomData))
    }
}

/// The name of a key, borrowed where it holds no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor<'a>(PhantomData<Key<'a>>);

        impl<'de: 'a, 'a> Visitor<'de> for KeyVisitor<'a> {
            type Value = Key<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'a>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'a>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }

        deserializer.deserialize_str(KeyVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(json: &'static str) -> Result<String, DecodeError> {
        let payload = Payload::json(Bytes::from_static(json.as_bytes()));
        let mut operation = Operation::new(Method::Cs, &payload);
        let fields = operation.read()?.fields("SF")?;
        fields.required_text("n").map(Cow::into_owned)
    }

    #[test]
    fn keys_come_in_any_order_and_the_last_of_two_counts() {
        assert_eq!(operation(r#"{"d":{"n":"a"},"m":"SF"}"#).unwrap(), "a");
        assert_eq!(operation(r#"{"m":"XX","d":{"x":{"n":"no"},"n":"a","n":"b"},"m":"SF"}"#).unwrap(), "b");
        assert_eq!(operation(r#"{"d":{"n":"a"},"m":"SF","d":{"n":"b"}}"#).unwrap(), "b");
        assert!(operation(r#"{"d":{"n":"a"},"m":"SF","d":{}}"#).is_err());
        assert!(operation(r#"{"d":{"n":"a"},"m":"SF","d":null}"#).is_err());
        assert_eq!(operation(r#"{"d":null,"m":"SF","d":{"n":"b"}}"#).unwrap(), "b");
        assert_eq!(operation(r#"{"m":"SF","d":{"\u006e":"\u00e9\n"}}"#).unwrap(), "é\n");
    }

    #[test]
    fn arrays_and_numbers_are_not_objects() {
        for text in [r#"["SF",{"n":"a"}]"#, r#"{"m":"SF","d":["a"]}"#, "5", r#"{"m":"SF","d":"n"}"#] {
            let error = operation(text).unwrap_err();
            assert!(matches!(error, DecodeError::Json { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn missing_and_mistyped_keys_are_named() {
        let message = |text| operation(text).unwrap_err().to_string();
        assert_eq!(message("{}"), r#"CS operation has no "m""#);
        assert_eq!(message(r#"{"m":"SF"}"#), r#"CS SF has no "d""#);
        assert_eq!(message(r#"{"m":"SF","d":null}"#), r#"CS SF has no "d""#);
        assert_eq!(message(r#"{"m":"SF","d":{}}"#), r#"CS SF has no "n""#);
        assert_eq!(message(r#"{"m":"SF","d":{"n":5}}"#), r#""n" of CS SF is not a string"#);
        assert_eq!(message(r#"{"m":"SF","d":{"n":"\ud800"}}"#), r#""n" of CS SF is not a string"#);
    }
}
