//! A packet: method, leg, payload; and its binary form, NSP 0.5.
//!
//! ```text
//!  0        2        4
//!  +--------+--------+-------- ... --------+
//!  | method | leg    | payload, bare JSON  |
//!  | 2 A-Z  | rq|rs  | or packed           |
//!  +--------+--------+-------- ... --------+
//! ```
//!
//! `47547271 7b2275223a2261646d696e222c2270223a2261646d696e227d` is `GTrq{"u":"admin","p":"admin"}`. Which payloads are packed says
//! the table in [`method`](super::Methods). There is no length: the carrier knows where a message ends.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::{DecodeError, EncodeError, Form, Leg, Letters, Method, Methods, packed};

/// Length of method and leg, in bytes.
const LETTERS: usize = 4;

/// What one side says to the other in one message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "these three are what a packet is")]
pub struct Packet {
    /// What it is about.
    pub method: Method,
    /// Question or answer.
    pub leg: Leg,
    /// What it says.
    pub payload: Payload,
}

/// JSON and, for some packets, a blob.
///
/// The JSON has not been looked at: it is what came, until somebody reads it as a type. `Debug` shows lengths only, for there may be a
/// password inside.
#[derive(Clone, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a payload has these two parts")]
pub struct Payload {
    /// UTF-8 JSON text.
    pub json: Bytes,
    /// Bytes beside it, exactly as sent.
    pub blob: Option<Bytes>,
}

impl Payload {
    /// A payload of JSON alone.
    #[must_use]
    pub const fn json(json: Bytes) -> Self {
        Self { json, blob: None }
    }

    /// Length of both parts in bytes, without whatever a carrier adds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.json.len() + self.blob.as_ref().map_or(0, Bytes::len)
    }

    /// Whether both parts are empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Bytes> for Payload {
    fn from(json: Bytes) -> Self {
        Self::json(json)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload")
            .field("json_bytes", &self.json.len())
            .field("blob_bytes", &self.blob.as_ref().map(Bytes::len))
            .finish()
    }
}

impl Packet {
    /// Puts the three together.
    #[must_use]
    pub fn new(method: Method, leg: Leg, payload: impl Into<Payload>) -> Self {
        Self { method, leg, payload: payload.into() }
    }

    /// Length of the binary form in bytes.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encoded_length(&self, methods: &Methods) -> Result<usize, EncodeError> {
        let payload = match self.form(methods)? {
            Form::Bare => self.payload.json.len(),
            Form::Packed => packed::head_length(&self.payload),
        };
        Ok(LETTERS + payload + self.payload.blob.as_ref().map_or(0, Bytes::len))
    }

    /// Appends the binary form to `out`.
    ///
    /// # Errors
    /// [`EncodeError::UnknownMethod`] when nobody registered the method, [`EncodeError::BlobNotAllowed`] when there is a
    /// blob where the form has no room for one. `out` is as it was then.
    pub fn encode(&self, methods: &Methods, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.reserve(self.encoded_length(methods)?);
        if let Some(blob) = self.encode_head(methods, out)? {
            out.extend_from_slice(blob);
        }
        Ok(())
    }

    /// Appends the binary form up to the blob's own bytes, and returns the blob that belongs behind it.
    ///
    /// For who writes both in one vectored write, so that a large blob is not copied.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_head<'a>(
        &'a self,
        methods: &Methods,
        out: &mut impl BufMut,
    ) -> Result<Option<&'a Bytes>, EncodeError> {
        let form = self.form(methods)?;
        out.put_slice(&self.method.letters());
        out.put_slice(&self.leg.letters());
        match form {
            Form::Bare => out.put_slice(&self.payload.json),
            Form::Packed => packed::write_head(&self.payload, out),
        }
        Ok(self.payload.blob.as_ref())
    }

    /// Reads a whole binary message. JSON and blob are parts of it, nothing is copied.
    ///
    /// # Errors
    /// A [`DecodeError`] when the letters are unknown or the body is not packed as it should be. The JSON is not looked at.
    pub fn decode(mut message: Bytes, methods: &Methods) -> Result<Self, DecodeError> {
        let Some(&[m0, m1, l0, l1]) = message.first_chunk::<LETTERS>() else {
            return Err(DecodeError::TooShort { length: message.len() });
        };
        let (method, leg) = decode_letters([m0, m1], [l0, l1])?;
        let form = methods.rule(method)?.form(leg);
        let body = message.split_off(LETTERS);
        let payload = match form {
            Form::Bare => Payload::json(body),
            Form::Packed => packed::read(body)?,
        };
        Ok(Self { method, leg, payload })
    }

    /// This packet's JSON, provided it is the packet that the caller reads.
    pub(super) fn expect(
        &self,
        method: Method,
        leg: Leg,
        expected: &'static str,
    ) -> Result<&Payload, DecodeError> {
        if self.method == method && self.leg == leg {
            Ok(&self.payload)
        } else {
            Err(DecodeError::OtherPacket { expected, found_method: self.method, found_leg: self.leg })
        }
    }

    /// Whether it has a binary form.
    #[inline]
    pub(crate) fn check(&self, methods: &Methods) -> Result<(), EncodeError> {
        self.form(methods).map(drop)
    }

    #[inline]
    fn form(&self, methods: &Methods) -> Result<Form, EncodeError> {
        let form = match methods.rule(self.method) {
            Ok(rule) => rule.form(self.leg),
            Err(_) => return Err(EncodeError::UnknownMethod(self.method)),
        };
        if form == Form::Bare && self.payload.blob.is_some() {
            return Err(EncodeError::BlobNotAllowed { method: self.method, leg: self.leg });
        }
        Ok(form)
    }
}

/// Reads the two letters of a method and the two of a leg.
pub(super) fn decode_letters(method: [u8; 2], leg: [u8; 2]) -> Result<(Method, Leg), DecodeError> {
    let method = Method::from_letters(method).ok_or(DecodeError::UnknownMethod(Letters::from(method)))?;
    let leg = Leg::from_letters(leg).ok_or(DecodeError::UnknownLeg(Letters::from(leg)))?;
    Ok((method, leg))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Asker, CustomMethod, Rule, Side};
    use crate::testing;

    #[test]
    fn every_recorded_message_is_read_and_written_back_byte_for_byte() {
        let methods = Methods::default();
        let mut seen = 0;
        for flow in testing::flows() {
            for message in flow.messages.iter().filter(|m| !testing::is_malformed(&flow, m)) {
                let Some(plain) = message.plain.clone() else { continue };
                if plain == "HB" {
                    continue;
                }
                let packet = Packet::decode(plain.clone(), &methods)
                    .unwrap_or_else(|error| panic!("{}: {error}: {plain:?}", flow.name));
                let mut out = BytesMut::new();
                packet.encode(&methods, &mut out).unwrap();
                assert_eq!(out, plain, "{}", flow.name);
                assert_eq!(out.len(), packet.encoded_length(&methods).unwrap());
                seen += 1;
            }
        }
        assert!(seen > 250, "only {seen} messages");
    }

    #[test]
    fn short_and_unknown_messages_are_refused_by_name() {
        let methods = Methods::default();
        let decode = |text: &'static str| Packet::decode(Bytes::from_static(text.as_bytes()), &methods);
        assert_eq!(decode("").unwrap_err(), DecodeError::TooShort { length: 0 });
        assert_eq!(decode("HB").unwrap_err(), DecodeError::TooShort { length: 2 });
        assert_eq!(decode("ZZrq{}").unwrap_err().to_string(), "unknown method \"ZZ\"");
        assert_eq!(decode("GTzz{}").unwrap_err().to_string(), "unknown leg \"zz\", expected rq or rs");
        assert_eq!(decode("gtrq{}").unwrap_err().to_string(), "unknown method \"gt\"");
    }

    #[test]
    fn blob_has_no_room_in_a_bare_leg() {
        let payload = Payload { json: Bytes::from_static(b"{}"), blob: Some(Bytes::new()) };
        let packet = Packet::new(Method::Ca, Leg::Answer, payload.clone());
        let mut out = BytesMut::new();
        let error = packet.encode(&Methods::default(), &mut out).unwrap_err();
        assert_eq!(error.to_string(), "CArs cannot carry a blob");
        assert!(out.is_empty());
        Packet::new(Method::Ca, Leg::Request, payload).encode(&Methods::default(), &mut out).unwrap();
    }

    #[test]
    fn custom_methods_are_spoken_by_those_who_registered_them() {
        let method = Method::Custom(CustomMethod::new("WX").unwrap());
        let packet = Packet::new(method, Leg::Request, Bytes::from_static(b"1"));
        let mut out = BytesMut::new();
        let none = Methods::default();
        assert_eq!(packet.encode(&none, &mut out).unwrap_err(), EncodeError::UnknownMethod(method));
        let rule =
            Rule { method, asker: Asker::Only(Side::Client), request: Form::Packed, answer: Form::Bare };
        let methods = Methods::default().with(rule);
        packet.encode(&methods, &mut out).unwrap();
        assert_eq!(&out[..], b"WXrq00000000000000011");
        assert_eq!(Packet::decode(out.clone().freeze(), &methods).unwrap(), packet);
        assert!(Packet::decode(out.freeze(), &none).is_err());
    }

    #[test]
    fn payloads_are_not_printed() {
        let packet = Packet::new(Method::Gt, Leg::Request, Bytes::from_static(br#"{"p":"hunter2"}"#));
        assert!(!format!("{packet:?}").contains("hunter2"));
    }
}
