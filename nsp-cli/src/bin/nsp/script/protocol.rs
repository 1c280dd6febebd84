//! What the daemon and the process of a service say to each other: one JSON object a line, on standard input and output.
//!
//! ```text
//!   daemon → process                                                 when
//!   {"op":"hello","protocol":1,"service":"Chat"}                     first
//!   {"op":"call","id":1,"function":"Hello","data":…,                 somebody calls: answer with this id
//!    "entity":"…","user":"alice"|null}
//!   {"op":"cancel","id":1}                                           nobody waits for that answer any more
//!   {"op":"open","entity":"…","user":"alice"|null}                   an activity was opened
//!   {"op":"data","entity":"…","user":"alice"|null,"data":…}          it has sent data
//!   {"op":"close","entity":"…"}                                      it is gone
//!   {"op":"stop"}                                                    last; standard input ends after it
//!
//!   process → daemon
//!   {"op":"ready"}                                                   first: calls come after it
//!   {"op":"answer","id":1,"data":…}                                  data may be left out: null
//!   {"op":"answer","id":1,"error":{"code":"…","message":"…"}}
//!   {"op":"event","name":"message","data":…,"to":RECIPIENT}
//!   {"op":"data","data":…,"to":RECIPIENT}
//!   {"op":"join","entity":"…","groups":["room"]}   {"op":"leave","entity":"…","groups":["room"]}
//!
//!   RECIPIENT is "all", {"entity":"…"}, {"user":"…"}, {"any":["group",…]} or {"every":["group",…]}
//! ```
//!
//! `user` is the user that was proved; nobody's mere claim is handed on. Fields that are not known are to be read over by both
//! sides. Standard error is the log. A line that is none of these ends the process, for who misreads one line misreads the next.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What the daemon says.
#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(super) enum Says<'a> {
    Hello { protocol: u32, service: &'a str },
    Call { id: u64, function: &'a str, data: &'a RawValue, entity: &'a str, user: Option<&'a str> },
    Cancel { id: u64 },
    Open { entity: &'a str, user: Option<&'a str> },
    Data { entity: &'a str, user: Option<&'a str>, data: &'a RawValue },
    Close { entity: &'a str },
    Stop,
}

impl Says<'_> {
    /// As a line. A line break inside of JSON is only between its parts, where a space is as good.
    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("texts, numbers and JSON make JSON");
        for byte in &mut line {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        line.push(b'\n');
        line
    }
}

/// What the process says.
#[derive(Debug)]
pub(super) enum Heard {
    Ready,
    Answer { id: u64, data: Result<Box<RawValue>, super::Fault> },
    Said(Said),
}

/// What a service wants the daemon to do.
#[derive(Debug)]
pub(crate) enum Said {
    Event { name: String, data: Box<RawValue>, to: Recipient },
    Data { data: Box<RawValue>, to: Recipient },
    Join { entity: String, groups: Vec<String> },
    Leave { entity: String, groups: Vec<String> },
}

/// For whom something is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Recipient {
    All,
    Entity(String),
    User(String),
    /// Entities in any of the groups.
    Any(Vec<String>),
    /// Entities in all of the groups.
    Every(Vec<String>),
}

/// One shape for all lines: JSON in parts of a tagged enum would lose the text of its numbers.
#[derive(Deserialize)]
struct Line<'a> {
    op: String,
    id: Option<u64>,
    name: Option<String>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    error: Option<Told>,
    to: Option<Recipient>,
    entity: Option<String>,
    groups: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    code: Option<String>,
    message: String,
}

impl Heard {
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        fn need<T>(value: Option<T>, op: &str, field: &str) -> Result<T, String> {
            value.ok_or_else(|| format!("`{op}` without `{field}`"))
        }
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let data = || line.data.map_or_else(|| RawValue::NULL.to_owned(), ToOwned::to_owned);
        let op = line.op.as_str();
        Ok(match op {
            "ready" => Self::Ready,
            "answer" => {
                let data = match line.error {
                    None => Ok(data()),
                    Some(told) => {
                        Err(super::Fault::new(told.code.unwrap_or_else(|| "failed".into()), told.message))
                    }
                };
                Self::Answer { id: need(line.id, op, "id")?, data }
            }
            "event" => Self::Said(Said::Event {
                data: data(),
                name: need(line.name, op, "name")?,
                to: need(line.to, op, "to")?,
            }),
            "data" => Self::Said(Said::Data { data: data(), to: need(line.to, op, "to")? }),
            "join" | "leave" => {
                let (entity, groups) = (need(line.entity, op, "entity")?, need(line.groups, op, "groups")?);
                Self::Said(if op == "join" {
                    Said::Join { entity, groups }
                } else {
                    Said::Leave { entity, groups }
                })
            }
            other => return Err(format!("`{}` is no operation", other.escape_debug())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_documented() {
        let data = RawValue::from_string("{\n\"n\": 1.10}".to_owned()).unwrap();
        let call = Says::Call { id: 1, function: "Hello", data: &data, entity: "e", user: None };
        assert_eq!(
            String::from_utf8(call.line()).unwrap(),
            "{\"op\":\"call\",\"id\":1,\"function\":\"Hello\",\"data\":{ \"n\": 1.10},\"entity\":\"e\",\"user\":null}\n"
        );
        assert_eq!(Says::Stop.line(), b"{\"op\":\"stop\"}\n");
        assert_eq!(Says::Cancel { id: 7 }.line(), b"{\"op\":\"cancel\",\"id\":7}\n");
    }

    #[test]
    fn what_a_process_says_is_understood() {
        let parse = |text: &str| Heard::parse(text.as_bytes());
        assert!(matches!(parse(r#"{"op":"ready","more":1}"#), Ok(Heard::Ready)));
        let Ok(Heard::Answer { id: 3, data: Ok(data) }) = parse(r#"{"op":"answer","id":3,"data":1.10}"#)
        else {
            panic!("an answer");
        };
        assert_eq!(data.get(), "1.10", "numbers are handed on as they are written");
        assert!(
            matches!(parse(r#"{"op":"answer","id":3}"#), Ok(Heard::Answer { data: Ok(data), .. }) if data.get() == "null")
        );
        let Ok(Heard::Answer { data: Err(fault), .. }) =
            parse(r#"{"op":"answer","id":3,"error":{"code":"no","message":"never"}}"#)
        else {
            panic!("an error");
        };
        assert_eq!(fault, super::super::Fault::new("no", "never"));
        for (to, expected) in [
            ("\"all\"", Recipient::All),
            ("{\"user\":\"a\"}", Recipient::User("a".into())),
            ("{\"any\":[\"g\"]}", Recipient::Any(vec!["g".into()])),
            ("{\"every\":[]}", Recipient::Every(vec![])),
        ] {
            let Ok(Heard::Said(Said::Event { to, .. })) =
                parse(&format!("{{\"op\":\"event\",\"name\":\"n\",\"to\":{to}}}"))
            else {
                panic!("an event");
            };
            assert_eq!(to, expected);
        }
        for (text, said) in [
            ("{", "EOF"),
            (r#"{"op":"explode"}"#, "`explode` is no operation"),
            (r#"{"op":"answer"}"#, "`answer` without `id`"),
            (r#"{"op":"event","name":"n"}"#, "`event` without `to`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
