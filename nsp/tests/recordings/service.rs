//! The services that were running when the conversations were recorded, written for our daemon.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use nsp::Token;
use nsp::machine::check::{Demand, Step, Subject, Verdict};
use nsp::machine::daemon::{Event, Gift, QuestionKey, RequestKey};
use nsp::machine::entities::{Address, ConnectionId, Record};
use nsp::machine::{Check, Daemon, Entities};
use nsp::proto::{Data, EntityId, Failure, RawJson, ca, cs};
use serde_json::{Value, json};

/// What the only user is given for the right password.
pub(crate) const TOKEN: &str = "11111111-2222-4333-8444-555555555555";

/// Several connections to one daemon, and its services.
pub(crate) struct World {
    pub(crate) daemons: HashMap<ConnectionId, Daemon>,
    pub(crate) entities: Entities,
    checks: HashMap<(ConnectionId, QuestionKey), Checking>,
    pub(crate) now: Instant,
}

/// A check, and the call that waits for it.
struct Checking {
    check: Check,
    entity: EntityId,
    call: RequestKey,
}

impl World {
    pub(crate) fn new(now: Instant) -> Self {
        Self { daemons: HashMap::new(), entities: Entities::default(), checks: HashMap::new(), now }
    }

    /// Does what the services do, until nothing happens any more.
    pub(crate) fn run(&mut self) {
        let mut connections: Vec<_> = self.daemons.keys().copied().collect();
        connections.sort_unstable();
        for connection in connections {
            while let Some(event) = self.daemon(connection).poll_event() {
                self.act(connection, event);
            }
        }
    }

    fn daemon(&mut self, connection: ConnectionId) -> &mut Daemon {
        self.daemons.get_mut(&connection).unwrap()
    }

    fn act(&mut self, connection: ConnectionId, event: Event) {
        match event {
            Event::Create { key, create } => self.create(connection, key, &create),
            Event::Verify { key, entity } => {
                let result = match self.entities.get(&entity).unwrap().service.as_str() {
                    "NspTest2" => {
                        self.entities.remove(&entity);
                        Err(Box::default())
                    }
                    _ => Ok(()),
                };
                let now = self.now;
                self.daemon(connection).verify(key, result, now);
            }
            Event::Data { entity, data } => self.data(&entity, data),
            Event::Call { key, entity, function, data } => {
                self.call(connection, key, entity, &function, data);
            }
            Event::CallBlob { key, function, meta, data, .. } => {
                let result = blob_function(&function, meta, data);
                self.daemon(connection).give(key, result);
            }
            Event::Closed { entity } => {
                self.entities.remove(&entity);
            }
            Event::Token { key, user, password } => {
                let right = user.eq_ignore_ascii_case("admin")
                    && password.is_some_and(|password| password.reveal() == "admin");
                self.daemon(connection).token(key, right.then(|| Token::new(TOKEN)));
            }
            Event::Answer { key, value } => {
                if let Some(mut checking) = self.checks.remove(&(connection, key)) {
                    let step = checking.check.answered(value);
                    self.step(connection, checking, step);
                }
            }
            Event::Secured(_) | Event::Expired { .. } | Event::Ignored(_) => {}
            other => panic!("{other:?}"),
        }
    }

    fn create(&mut self, connection: ConnectionId, key: RequestKey, create: &cs::Create) {
        if !["NspTest", "NspTest2", "Peer"].contains(&&*create.service) {
            self.daemon(connection).create(key, Err(Box::default()));
            return;
        }
        let id = self.daemon(connection).create(key, Ok(())).unwrap();
        self.entities.insert(Record {
            id,
            connection,
            mode: create.mode,
            service: create.service.clone(),
            owner: create.owner.clone().filter(|owner| owner == "admin"),
            owner_domain: create.owner_domain.clone(),
            address: Some([127, 0, 0, 1].into()),
            carrier: "TCP/IP",
            description: None,
            trusted_daemon: create.key.as_ref().is_some_and(|key| key.reveal() == "WHATAKEY"),
        });
    }

    fn data(&mut self, entity: &EntityId, data: Data) {
        let record = self.entities.get(entity).unwrap();
        let to = [Address { connection: record.connection, entity: entity.clone() }];
        if record.service == "Peer" {
            self.push(&to, |entity| ca::Request::Data { entity, data: value(&json!({"back": 1})) });
            self.emit(&to, "Tick", &json!({"n": 1}));
            self.emit_blob(&to, &[0, 1, 254, 255]);
        } else {
            let data = to_value(data);
            self.push(&to, |entity| ca::Request::Data { entity, data: value(&json!({"echo": data})) });
        }
    }

    fn call(
        &mut self,
        connection: ConnectionId,
        key: RequestKey,
        entity: EntityId,
        function: &str,
        data: Data,
    ) {
        let me = [Address { connection, entity: entity.clone() }];
        let all = self.entities.of_service("NspTest");
        let raw = data.clone();
        let argument = to_value(data);
        let groups: Vec<String> = serde_json::from_value(argument["g"].clone()).unwrap_or_default();
        let result = match function {
            "Echo" => Ok(value(&json!({"got": argument, "type": js_type(&argument)}))),
            "Raw" => Ok(raw),
            "NoValue" => Ok(Data::None),
            "Err" => Err("Error: Error: boom".into()),
            // Errors that are no errors, as a service could give in JavaScript.
            "ErrStr" | "ErrTrue" => Err(String::new()),
            "Throw" => return,
            "EmitEvent" => {
                self.emit(&me, "Tick", &json!({"n": 1}));
                Ok(value(&json!({"s": "emitted"})))
            }
            "EmitAll" => {
                self.emit(&all, "All", &json!({"n": 2}));
                Ok(value(&json!({"s": "emitted"})))
            }
            "SendAll" => {
                self.push(&all, |entity| ca::Request::Data { entity, data: value(&json!({"n": 3})) });
                Ok(value(&json!({"s": "sent"})))
            }
            "EmitBlob" => {
                self.emit_blob(&me, &[0, 1, 2, 253, 254, 255]);
                Ok(value(&json!({"s": "emitted"})))
            }
            "Join" => {
                for group in &groups {
                    assert!(self.entities.join(&entity, group));
                }
                Ok(value(&json!({"e": null})))
            }
            "EmitGroups" => {
                let to = self.entities.in_any("NspTest", &groups);
                self.emit(&to, "Grp", &json!({"g": groups}));
                Ok(value(&json!({"s": "ok"})))
            }
            "EmitIncGroups" => {
                let to = self.entities.in_all("NspTest", &groups);
                self.emit(&to, "IncGrp", &json!({"g": groups}));
                Ok(value(&json!({"s": "ok"})))
            }
            "Meta" => {
                let metadata = self.entities.metadata(&entity).unwrap();
                Ok(Data::Json(RawJson::new(format!("{{\"m\":{}}}", metadata.as_str())).unwrap()))
            }
            "Relaunch2" => {
                let to = self.entities.of_service("NspTest2");
                self.push(&to, |entity| ca::Request::Close { entity });
                Ok(value(&json!({"s": "ok"})))
            }
            "Secure" => return self.check(connection, key, entity, Demand::Superuser),
            "Auth_Password" => return self.check(connection, key, entity, Demand::Password),
            "F" => Ok(value(&json!({"ok": 1}))),
            _ => Err(format!("Error: ServiceFunction {function} not exist")),
        };
        let result = result.map(Gift::from).map_err(failure);
        self.daemon(connection).give(key, result);
    }

    fn check(&mut self, connection: ConnectionId, call: RequestKey, entity: EntityId, demand: Demand) {
        let record = self.entities.get(&entity).unwrap();
        let subject = Subject {
            mode: record.mode,
            owner: record.owner.clone(),
            remembered: self.entities.remembered_token(&entity).cloned(),
            trusted_daemon: record.trusted_daemon,
        };
        let (check, step) = Check::begin(demand, subject);
        self.step(connection, Checking { check, entity, call }, step);
    }

    fn step(&mut self, connection: ConnectionId, mut checking: Checking, step: Step) {
        let judged = match step {
            Step::Ask { question, user } => {
                let now = self.now;
                let key = self.daemon(connection).ask(question, &user, now).unwrap();
                self.checks.insert((connection, key), checking);
                return;
            }
            Step::JudgeToken { user, token } => user == "admin" && token.reveal() == TOKEN,
            Step::JudgePassword { user, password } => user == "admin" && password.reveal() == "admin",
            Step::JudgePrivilege { user } => user == "admin",
            Step::Done(verdict) => return self.decide(connection, &checking, verdict),
        };
        let step = checking.check.judged(judged);
        self.step(connection, checking, step);
    }

    fn decide(&mut self, connection: ConnectionId, checking: &Checking, verdict: Verdict) {
        let entity = &checking.entity;
        let passed = match verdict {
            Verdict::Passed { user, remember } => {
                if let Some(token) = remember {
                    self.entities.prove(entity, &user.unwrap(), Some(token));
                    "granted"
                } else if user.is_some() {
                    "password"
                } else {
                    "granted"
                }
            }
            Verdict::Refused { notice } => {
                if let Some(notice) = notice {
                    self.daemon(connection).tell(notice, entity).unwrap();
                }
                "denied"
            }
        };
        // The recorded services say it in two forms; which one, the demand would tell as well.
        let is_password = checking.check.demand() == Demand::Password;
        let said = match (is_password, passed) {
            (true, "password") => json!({"err": null, "pass": true}),
            (true, _) => json!({"err": null, "pass": null}),
            (false, word) => json!({"s": word}),
        };
        self.daemon(connection).give(checking.call, Ok(value(&said).into()));
    }

    fn emit(&mut self, to: &[Address], event: &str, data: &Value) {
        self.push(to, |entity| ca::Request::Event { entity, event: event.into(), data: value(data) });
    }

    fn emit_blob(&mut self, to: &[Address], bytes: &[u8]) {
        self.push(to, |entity| ca::Request::BlobEvent {
            entity,
            event: "Pic".into(),
            meta: Some(RawJson::new(r#"{"mime":"x/test"}"#).unwrap()),
            data: Data::Blob(Bytes::copy_from_slice(bytes)),
        });
    }

    fn push(&mut self, to: &[Address], request: impl Fn(EntityId) -> ca::Request) {
        for Address { connection, entity } in to {
            self.daemon(*connection).push(&request(entity.clone())).unwrap();
        }
    }
}

fn blob_function(function: &str, meta: Option<RawJson>, data: Data) -> Result<Gift, Box<Failure>> {
    let Data::Blob(blob) = data else { panic!("{data:?}") };
    let meta = meta.map_or(Value::Null, |meta| meta.to().unwrap());
    let (meta, data) = match function {
        "BlobEcho" => {
            let text = format!(r#"{{"isBuffer":true,"meta":{meta},"len":{}}}"#, blob.len());
            (text, Data::Blob(blob))
        }
        "BlobJson" => (r#"{"m":1}"#.into(), value(&json!({"not": "a buffer"}))),
        "B" => {
            let reversed: Bytes = blob.iter().rev().copied().collect();
            (format!(r#"{{"len":{}}}"#, reversed.len()), Data::Blob(reversed))
        }
        "BlobErr" => return Err(failure("Error: Error: blob boom".into())),
        _ => return Err(failure(format!("Error: BlobServiceFunction {function} not exist"))),
    };
    Ok(Gift { meta: Some(RawJson::new(meta).unwrap()), data })
}

fn failure(text: String) -> Box<Failure> {
    Box::new(Failure { text: (!text.is_empty()).then_some(text), ..Failure::default() })
}

fn value(value: &Value) -> Data {
    Data::Json(RawJson::of(value).unwrap())
}

fn to_value(data: Data) -> Value {
    data.into_json().unwrap().to().unwrap()
}

pub(crate) fn js_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) | Value::Object(_) => "object",
    }
}
