//! AU, authorization: the daemon asks who somebody is, or says that the answer was wrong.
//!
//! ```text
//! daemon → client   AUrq {"m":"TK","d":{"t":"a2fe30d3-…","u":"admin"}}      token?    PW: password?
//! client → daemon   AUrs {"m":"TK","d":{"t":"a2fe30d3-…","v":"569d2e5f-…"}}  "v":null: no
//! daemon → client   AUrq {"m":"TF","i":"_xyshm3lcq"}                         token failed; PF: password failed;
//!                                                                            SI: please sign in. No answer
//! ```
//!
//! `41557271 7b226d223a225446222c2269223a225f787973686d336c6371227d` is the notice. Notices carry their entity beside `m`, not in `d`.
//! NSP 0.4 sends neither `u` nor `i`.

use super::fields::Operation;
use super::json::Writer;
use super::value::{EntityId, RequestId};
use super::{DecodeError, Leg, Method, Packet};
use crate::secret::Proof;

/// What the daemon asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "NSP asks for these two")]
pub enum Question {
    /// `TK`: the token of the user.
    Token,
    /// `PW`: the password of the user.
    Password,
}

impl Question {
    const fn code(self) -> &'static str {
        match self {
            Self::Token => "TK",
            Self::Password => "PW",
        }
    }
}

/// What the daemon tells an entity without wanting an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "NSP knows these three")]
pub enum Notice {
    /// `TF`: the token was wrong.
    TokenFailed,
    /// `PF`: the password was wrong.
    PasswordFailed,
    /// `SI`: the entity has no owner, or a service wants one that is signed in.
    SignIn,
}

impl Notice {
    const fn code(self) -> &'static str {
        match self {
            Self::TokenFailed => "TF",
            Self::PasswordFailed => "PF",
            Self::SignIn => "SI",
        }
    }
}

/// The daemon asks, or notifies.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "AU asks or tells")]
pub enum Request {
    /// A question; the answer carries its id.
    Ask {
        /// What for.
        question: Question,
        /// `t`: the id of the question.
        id: RequestId,
        /// `u`: whose token or password. NSP 0.4 leaves it out.
        user: Option<String>,
    },
    /// A notice.
    Tell {
        /// What happened.
        notice: Notice,
        /// `i`: to which entity. NSP 0.4 leaves it out.
        entity: Option<EntityId>,
    },
}

impl Request {
    /// Writes the request.
    #[must_use]
    pub fn encode(&self) -> Packet {
        let json = match self {
            Self::Ask { question, id, user } => {
                let mut writer = Writer::operation(question.code(), 96);
                writer.raw("t", id.as_json());
                if let Some(user) = user {
                    writer.text("u", user);
                }
                writer.finish()
            }
            Self::Tell { notice, entity } => {
                let mut writer = Writer::object(64);
                writer.text("m", notice.code());
                if let Some(entity) = entity {
                    writer.text("i", entity.as_str());
                }
                writer.finish()
            }
        };
        Packet::new(Method::Au, Leg::Request, json)
    }

    /// Reads the request.
    ///
    /// # Errors
    /// When it is another packet, not JSON, of an unknown operation, or a question without `d`.
    pub fn decode(packet: &Packet) -> Result<Self, DecodeError> {
        let payload = packet.expect(Method::Au, Leg::Request, "AUrq")?;
        let mut operation = Operation::new(Method::Au, payload);
        let operation = operation.read()?;
        let notice = match operation.name() {
            b"TK" => return Self::ask(Question::Token, operation),
            b"PW" => return Self::ask(Question::Password, operation),
            b"TF" => Notice::TokenFailed,
            b"PF" => Notice::PasswordFailed,
            b"SI" => Notice::SignIn,
            _ => return Err(operation.unknown()),
        };
        Ok(Self::Tell { notice, entity: operation.entity_beside() })
    }

    fn ask(question: Question, operation: &Operation<'_>) -> Result<Self, DecodeError> {
        let fields = operation.fields(question.code())?;
        Ok(Self::Ask { question, id: fields.request_id()?, user: fields.text("u").map(Into::into) })
    }
}

/// The client answers a question.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire has these keys")]
pub struct Answer {
    /// What was asked. It is echoed for the original; only `id` tells which question is meant.
    pub question: Question,
    /// `t`: the id of the question.
    pub id: RequestId,
    /// `v`: token or password; `None` when the client does not want to say.
    pub value: Option<Proof>,
}

impl Answer {
    /// Writes the answer.
    #[must_use]
    pub fn encode(&self) -> Packet {
        let mut writer = Writer::operation(self.question.code(), 128);
        writer.raw("t", self.id.as_json());
        match &self.value {
            Some(value) => writer.text("v", value.reveal()),
            None => writer.literal("v", b"null"),
        };
        Packet::new(Method::Au, Leg::Answer, writer.finish())
    }

    /// Reads the answer. A value that is empty or no string is none.
    ///
    /// # Errors
    /// When it is another packet, not JSON, of an unknown operation, or without `d`.
    pub fn decode(packet: &Packet) -> Result<Self, DecodeError> {
        let payload = packet.expect(Method::Au, Leg::Answer, "AUrs")?;
        let mut operation = Operation::new(Method::Au, payload);
        let operation = operation.read()?;
        let question = match operation.name() {
            b"TK" => Question::Token,
            b"PW" => Question::Password,
            _ => return Err(operation.unknown()),
        };
        let fields = operation.fields(question.code())?;
        let value = fields.text("v").filter(|value| !value.is_empty());
        Ok(Self {
            question,
            id: fields.request_id()?,
            value: value.map(|value| Proof::new(value.into_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn recorded_questions_notices_and_answers_are_read_and_written_back() {
        let (mut asked, mut told, mut answered) = (0, 0, 0);
        for flow in testing::flows() {
            for packet in testing::packets(&flow, Method::Au) {
                if packet.leg == Leg::Answer {
                    let answer = Answer::decode(&packet).unwrap();
                    assert_eq!(answer.encode(), packet);
                    answered += 1;
                } else {
                    let request = Request::decode(&packet).unwrap();
                    assert_eq!(request.encode(), packet);
                    match request {
                        Request::Ask { user, .. } => {
                            assert_eq!(user.as_deref(), Some("admin"));
                            asked += 1;
                        }
                        Request::Tell { entity, .. } => {
                            assert!(entity.is_some());
                            told += 1;
                        }
                    }
                }
            }
        }
        assert!(asked >= 8 && told >= 2 && answered >= 8, "{asked} {told} {answered}");
    }

    #[test]
    fn value_that_is_no_text_is_a_refusal() {
        for value in ["null", "false", "0", "\"\"", "{}", "12345678901234"] {
            let json = format!(r#"{{"m":"PW","d":{{"t":"x","v":{value}}}}}"#);
            let packet = Packet::new(Method::Au, Leg::Answer, bytes::Bytes::from(json));
            assert_eq!(Answer::decode(&packet).unwrap().value, None, "{value}");
        }
    }

    #[test]
    fn answers_do_not_print_what_they_hold() {
        let answer =
            Answer { question: Question::Token, id: RequestId::none(), value: Some(Proof::new("s3cret")) };
        assert!(!format!("{answer:?}").contains("s3cret"));
    }
}
