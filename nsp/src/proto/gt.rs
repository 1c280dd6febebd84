//! GT, get token: a password is exchanged for a token.
//!
//! ```text
//! client → daemon   GTrq {"u":"admin","p":"admin"}
//! daemon → client   GTrs {"t":"569d2e5f-…","u":"admin","s":"OK"}
//!               or  GTrs {"u":"admin","s":"Fail"}
//! ```
//!
//! `47547273 7b2275223a2261646d696e222c2273223a224661696c227d` is the second answer. There is no request id: answers come in the
//! order of the questions, so ask one at a time. A wrong password and an unknown user look the same.

use super::fields::Object;
use super::json::Writer;
use super::{DecodeError, Leg, Method, Packet};
use crate::secret::{Password, Token};

/// The client asks for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire has these two keys")]
pub struct Request {
    /// `u`: name of the user.
    pub user: String,
    /// `p`: the password. `None` when it is missing or no string, on which an original daemon crashes: it is a wrong one.
    pub password: Option<Password>,
}

impl Request {
    /// Writes the request.
    #[must_use]
    pub fn encode(&self) -> Packet {
        let password = self.password.as_ref().map_or("", Password::reveal);
        let mut writer = Writer::object(self.user.len() + password.len() + 24);
        writer.text("u", &self.user).text("p", password);
        Packet::new(Method::Gt, Leg::Request, writer.finish())
    }

    /// Reads the request.
    ///
    /// # Errors
    /// When it is another packet, not JSON, or without a user.
    pub fn decode(packet: &Packet) -> Result<Self, DecodeError> {
        let payload = packet.expect(Method::Gt, Leg::Request, "GTrq")?;
        let object = Object::read(Method::Gt, "request", payload)?;
        let fields = object.fields();
        Ok(Self {
            user: fields.required_text("u")?.into_owned(),
            password: fields.text("p").map(|password| Password::new(password.into_owned())),
        })
    }
}

/// The daemon answers with a token, or refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire has these keys")]
pub struct Answer {
    /// `u`: the name as it was sent. NSP 0.4 leaves it out.
    pub user: Option<String>,
    /// `t`: the token; `None` when the password or the user is wrong.
    pub token: Option<Token>,
}

impl Answer {
    /// Writes the answer.
    #[must_use]
    pub fn encode(&self) -> Packet {
        let mut writer = Writer::object(96);
        if let Some(token) = &self.token {
            writer.text("t", token.reveal());
        }
        if let Some(user) = &self.user {
            writer.text("u", user);
        }
        writer.text("s", if self.token.is_some() { "OK" } else { "Fail" });
        Packet::new(Method::Gt, Leg::Answer, writer.finish())
    }

    /// Reads the answer. A token counts only beside `"s":"OK"`.
    ///
    /// # Errors
    /// When it is another packet or not JSON, or says `OK` without a token.
    pub fn decode(packet: &Packet) -> Result<Self, DecodeError> {
        let payload = packet.expect(Method::Gt, Leg::Answer, "GTrs")?;
        let object = Object::read(Method::Gt, "answer", payload)?;
        let fields = object.fields();
        let token = match fields.text("s").as_deref() {
            Some("OK") => Some(Token::new(fields.required_text("t")?.into_owned())),
            _ => None,
        };
        Ok(Self { user: fields.text("u").map(Into::into), token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn recorded_exchanges_are_read_and_written_back() {
        let (mut granted, mut refused) = (0, 0);
        for flow in testing::flows() {
            for packet in testing::packets(&flow, Method::Gt) {
                if packet.leg == Leg::Request {
                    let Ok(request) = Request::decode(&packet) else {
                        assert_eq!(packet.payload.json, &br#"{"p":"admin"}"#[..]);
                        continue;
                    };
                    assert_eq!(request.encode(), packet);
                } else {
                    let answer = Answer::decode(&packet).unwrap();
                    assert_eq!(answer.encode(), packet);
                    if answer.token.is_some() { granted += 1 } else { refused += 1 }
                }
            }
        }
        assert!(granted >= 8 && refused >= 8, "{granted} granted, {refused} refused");
    }

    #[test]
    fn missing_password_is_a_wrong_one() {
        for json in [r#"{"u":"admin"}"#, r#"{"u":"admin","p":5}"#] {
            let packet = Packet::new(Method::Gt, Leg::Request, bytes::Bytes::from(json));
            assert_eq!(Request::decode(&packet).unwrap().password, None);
        }
    }

    #[test]
    fn token_beside_a_failure_does_not_count() {
        let json = bytes::Bytes::from_static(br#"{"t":"x","s":"Fail"}"#);
        let answer = Answer::decode(&Packet::new(Method::Gt, Leg::Answer, json)).unwrap();
        assert_eq!(answer.token, None);
    }
}
