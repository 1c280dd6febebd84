//! SP, secure protocol: how the two sides agree on a key.
//!
//! ```text
//! daemon → client   SPrq {"p":"-----BEGIN PUBLIC KEY-----\n…"}
//! client → daemon   SPrs "base64 of RSA-OAEP( {"r":…,"a":"…"} )"
//! ```
//!
//! `5350727322 …22`: the answer is a JSON string and nothing else. The daemon asks when the first message has come, and confirms nothing;
//! from the answer on, everything is encrypted in both directions. What is inside the answer, and what follows from it, is
//! for [`secure`](crate::secure): this file only reads and writes the two messages.

use bytes::Bytes;

use super::fields::{Object, whole_text};
use super::json::{Writer, write_text};
use super::{DecodeError, Leg, Method, Packet};

/// The daemon sends its public key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire has this one key")]
pub struct Request {
    /// `p`: the key as PEM, to the byte: the session key depends on its line breaks, the last one included.
    pub public_key: String,
}

impl Request {
    /// Writes the request.
    #[must_use]
    pub fn encode(&self) -> Packet {
        let mut writer = Writer::object(self.public_key.len() + 64);
        writer.text("p", &self.public_key);
        Packet::new(Method::Sp, Leg::Request, writer.finish())
    }

    /// Reads the request.
    ///
    /// # Errors
    /// When it is another packet, not JSON, or without `p`.
    pub fn decode(packet: &Packet) -> Result<Self, DecodeError> {
        let payload = packet.expect(Method::Sp, Leg::Request, "SPrq")?;
        let object = Object::read(Method::Sp, "request", payload)?;
        let fields = object.fields();
        Ok(Self { public_key: fields.required_text("p")?.into_owned() })
    }
}

/// The client answers with a sealed session key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire has this one string")]
pub struct Answer {
    /// Base64 of what only the daemon's private key opens.
    pub sealed: String,
}

impl Answer {
    /// Writes the answer.
    #[must_use]
    pub fn encode(&self) -> Packet {
        let mut json = Vec::with_capacity(self.sealed.len() + 2);
        write_text(&self.sealed, &mut json);
        Packet::new(Method::Sp, Leg::Answer, Bytes::from(json))
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// When it is another packet, or not a JSON string.
    pub fn decode(packet: &Packet) -> Result<Self, DecodeError> {
        let payload = packet.expect(Method::Sp, Leg::Answer, "SPrs")?;
        whole_text(Method::Sp, "answer", payload).map(|sealed| Self { sealed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn recorded_exchanges_are_read_and_written_back() {
        let mut seen = 0;
        for flow in testing::flows() {
            for packet in testing::packets(&flow, Method::Sp) {
                match packet.leg {
                    Leg::Request => {
                        let request = Request::decode(&packet).unwrap();
                        assert_eq!(Some(&request.public_key), flow.rsa_public_pem.as_ref());
                        assert_eq!(request.encode(), packet);
                    }
                    Leg::Answer => {
                        let answer = Answer::decode(&packet).unwrap();
                        assert_eq!(answer.sealed.len(), 344);
                        assert_eq!(answer.encode(), packet);
                    }
                }
                seen += 1;
            }
        }
        assert!(seen >= 20, "only {seen}");
    }

    #[test]
    fn answer_that_is_no_string_is_refused() {
        for json in ["{}", "abc", "null", ""] {
            let packet = Packet::new(Method::Sp, Leg::Answer, Bytes::from_static(json.as_bytes()));
            assert!(Answer::decode(&packet).is_err(), "{json}");
        }
    }

    #[test]
    fn other_packets_are_not_taken_for_it() {
        let packet = Request { public_key: String::new() }.encode();
        assert_eq!(Answer::decode(&packet).unwrap_err().to_string(), "this is SPrq, not SPrs");
    }
}
