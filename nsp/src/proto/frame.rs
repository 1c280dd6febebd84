//! Packets as nossock frames: named messages of JSON, or of bytes.
//!
//! ```text
//! packet                          frame: name   kind  body
//! CS request, JSON alone       ⇄         CSrq   j     {"m":"SF","d":{…}}
//! CS request, JSON and blob    ⇄         CSrq   b     packed: 16 digits, JSON, 16 digits, blob
//! any packet, once SP is done  ⇄         NSPS   b     the encrypted message
//! ```
//!
//! `6a 04 43417273 0000002a 7b226d22…` is the acknowledgement `{"m":"AS","d":{"i":"_cc01wlaqg","s":"OK"}}` under the name `CArs`. The kind says
//! alone whether a body is packed, so that a program with the npm package needs nothing but `send` and `on`.
//!
//! This is only the mapping: name, kind and body, without knowing how a frame is written.

use bytes::{Bytes, BytesMut};

use super::packet::decode_letters;
use super::{DecodeError, Packet, Payload, packed};

/// The name of frames that hold an encrypted message.
pub const SEALED: &str = "NSPS";

/// The two kinds of nossock frames that a packet can become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "frames for users are of these two kinds")]
pub enum Kind {
    /// `j`: the body is JSON.
    Json,
    /// `b`: the body is bytes.
    Bytes,
}

/// A packet, made ready for a nossock frame.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacketFrame {
    /// Method and leg: four ASCII letters.
    pub name: [u8; 4],
    /// What the body is.
    pub kind: Kind,
    /// The body up to the blob's own bytes.
    pub head: Bytes,
    /// The rest of the body.
    pub blob: Option<Bytes>,
}

impl PacketFrame {
    /// The name as text.
    #[must_use]
    pub fn name(&self) -> &str {
        std::str::from_utf8(&self.name).unwrap_or_default()
    }
}

impl From<&Packet> for PacketFrame {
    fn from(packet: &Packet) -> Self {
        let [m0, m1] = packet.method.letters();
        let [l0, l1] = packet.leg.letters();
        let (kind, head) = match &packet.payload.blob {
            // A packet may say nothing, a JSON frame may not: the npm package would fail to read it.
            None if packet.payload.json.is_empty() => (Kind::Json, Bytes::from_static(b"null")),
            None => (Kind::Json, packet.payload.json.clone()),
            Some(_) => {
                let mut head = BytesMut::with_capacity(packed::head_length(&packet.payload));
                packed::write_head(&packet.payload, &mut head);
                (Kind::Bytes, head.freeze())
            }
        };
        Self { name: [m0, m1, l0, l1], kind, head, blob: packet.payload.blob.clone() }
    }
}

/// What a frame turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// A packet in clear.
    Packet(Packet),
    /// An encrypted message, to be opened with the session's key.
    Sealed(Bytes),
}

impl Received {
    /// Reads a frame.
    ///
    /// # Errors
    /// [`DecodeError::UnknownName`] when the name is neither a method and a leg nor [`SEALED`], and whatever is wrong with a packed
    /// body. Whether the method is registered, and may come from that side, is for the table to say.
    pub fn from_frame(name: &str, kind: Kind, body: Bytes) -> Result<Self, DecodeError> {
        match name.as_bytes().try_into() {
            Ok(name) => Self::from_letters(name, kind, body),
            Err(_) => Err(DecodeError::UnknownName { length: name.len() }),
        }
    }

    /// Reads a frame with a name of four letters.
    #[inline]
    pub(crate) fn from_letters(name: [u8; 4], kind: Kind, body: Bytes) -> Result<Self, DecodeError> {
        if name == *SEALED.as_bytes() && kind == Kind::Bytes {
            return Ok(Self::Sealed(body));
        }
        let [m0, m1, l0, l1] = name;
        let (method, leg) = decode_letters([m0, m1], [l0, l1])?;
        let payload = match kind {
            Kind::Json => Payload::json(body),
            Kind::Bytes => packed::read(body)?,
        };
        Ok(Self::Packet(Packet { method, leg, payload }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Leg, Method, Methods};
    use crate::testing;

    #[test]
    fn every_recorded_packet_survives_as_a_frame() {
        let methods = Methods::default();
        for flow in testing::flows() {
            for plain in flow
                .messages
                .iter()
                .filter(|m| !testing::is_malformed(&flow, m))
                .filter_map(|m| m.plain.clone())
            {
                // A probe says nothing, and becomes null on the way.
                if plain == "HB" || plain == "GTrs" {
                    continue;
                }
                let packet = Packet::decode(plain, &methods).unwrap();
                let frame = PacketFrame::from(&packet);
                let body: Vec<u8> = frame.head.iter().chain(frame.blob.iter().flatten()).copied().collect();
                let received = Received::from_frame(frame.name(), frame.kind, body.into()).unwrap();
                assert_eq!(received, Received::Packet(packet));
            }
        }
    }

    #[test]
    fn frame_of_a_call_is_json_and_of_a_blob_call_packed() {
        let json = Bytes::from_static(br#"{"m":"SS","d":{"i":"_a","d":1}}"#);
        let frame = PacketFrame::from(&Packet::new(Method::Cs, Leg::Request, json.clone()));
        assert_eq!((frame.name(), frame.kind, &frame.head), ("CSrq", Kind::Json, &json));

        let payload = Payload { json: Bytes::from_static(b"{}"), blob: Some(Bytes::from_static(b"abc")) };
        let frame = PacketFrame::from(&Packet::new(Method::Ca, Leg::Request, payload));
        assert_eq!((frame.name(), frame.kind), ("CArq", Kind::Bytes));
        assert_eq!(&frame.head[..], b"0000000000000002{}0000000000000003");
        assert_eq!(frame.blob.as_deref(), Some(&b"abc"[..]));
    }

    #[test]
    fn packet_that_says_nothing_becomes_null() {
        let frame = PacketFrame::from(&Packet::new(Method::Gt, Leg::Answer, Bytes::new()));
        assert_eq!((frame.name(), frame.kind, &frame.head[..]), ("GTrs", Kind::Json, &b"null"[..]));
    }

    #[test]
    fn sealed_frames_are_bytes_under_their_own_name() {
        let body = Bytes::from_static(b"0123456789abcdef");
        let sealed = Received::from_frame(SEALED, Kind::Bytes, body.clone()).unwrap();
        assert_eq!(sealed, Received::Sealed(body.clone()));
        assert!(Received::from_frame(SEALED, Kind::Json, body).is_err());
    }

    #[test]
    fn foreign_names_are_refused() {
        let read = |name| Received::from_frame(name, Kind::Json, Bytes::new()).unwrap_err();
        assert_eq!(read("hello"), DecodeError::UnknownName { length: 5 });
        assert_eq!(read("CSxx").to_string(), "unknown leg \"xx\", expected rq or rs");
        assert_eq!(read("").to_string(), "frame name of 0 bytes is not a method and a leg");
    }
}
