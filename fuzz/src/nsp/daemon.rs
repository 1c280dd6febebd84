//! Three connections to one daemon, with what they share, and a model of who may do what.
//!
//! Whatever comes, and in whatever order: an event names only entities that its connection has created, what a service is asked
//! ends once (answered or expired), an answer goes to who asked, once; and the entities of all connections are those of the model, in the
//! model's groups.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use nsp::machine::daemon::{Config, Event, Gift, RequestKey};
use nsp::machine::entities::{ConnectionId, Record};
use nsp::machine::{Daemon, Entities, Incoming, Outgoing};
use nsp::proto::{
    Data, EntityId, Failure, Leg, Method, Methods, Packet, Payload, RawJson, RequestId, au, ca, cs, gt,
};
use nsp::secure::Random;
use nsp::{Password, Token};

const CONNECTIONS: usize = 3;

/// Most messages that one message makes.
const ECHOES: usize = 24;

pub fn run(data: &[u8]) {
    let mut world = World::new();
    let mut input = Input(data);
    for n in 0..300 {
        let Some(what) = input.byte() else { break };
        world.step(what, &mut input);
        if n % 16 == 0 {
            world.compare();
        }
    }
    world.compare();
    world.end();
}

/// Bytes that decide what happens.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> usize {
        usize::from(self.byte().unwrap_or(0))
    }

    /// As many bytes as the next one says.
    fn text(&mut self) -> &'a [u8] {
        let n = self.number().min(self.0.len());
        let (text, rest) = self.0.split_at(n);
        self.0 = rest;
        text
    }
}

/// Bytes that are never the same.
#[derive(Debug)]
struct Unique(u64);

impl Random for Unique {
    fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).to_le_bytes();
            piece.copy_from_slice(&mixed[..piece.len()]);
        }
    }
}

struct Connection {
    daemon: Daemon,
    alive: bool,
    /// What services were asked and have not ended.
    waiting: BTreeMap<RequestKey, Asked>,
    questions: BTreeSet<nsp::machine::daemon::QuestionKey>,
    /// Ids of requests that were sent and not answered.
    ids: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Asked {
    Create { service: String },
    Verify(EntityId),
    Call(EntityId),
    Token,
}

/// What the model knows of an entity.
#[derive(Debug)]
struct Known {
    connection: usize,
    service: String,
    verified: bool,
    groups: BTreeSet<&'static str>,
}

struct World {
    now: Instant,
    connections: Vec<Connection>,
    entities: Entities,
    known: BTreeMap<EntityId, Known>,
    /// Ids that were given to entities at any time.
    given: Vec<EntityId>,
    last: usize,
}

const GROUPS: [&str; 3] = ["a", "b", ""];

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let connection = |n: usize| {
            let mut config = Config::default();
            config.limits.requests = 8;
            config.limits.entities = 3;
            config.limits.request_bytes = 2000;
            config.limits.faults = 20;
            config.heartbeat = Some(Duration::from_secs(60));
            Connection {
                daemon: Daemon::new(config, Box::new(Unique(n as u64)), now),
                alive: true,
                waiting: BTreeMap::new(),
                questions: BTreeSet::new(),
                ids: BTreeSet::new(),
            }
        };
        let connections = (0..CONNECTIONS).map(connection).collect();
        let (entities, known) = (Entities::default(), BTreeMap::new());
        Self { now, connections, entities, known, given: Vec::new(), last: 0 }
    }

    fn step(&mut self, what: u8, input: &mut Input<'_>) {
        let on = usize::from(what) % CONNECTIONS;
        match what / 3 {
            0..=39 => self.packet(on, input),
            40..=43 => {
                let message = Bytes::copy_from_slice(input.text());
                self.receive(on, Incoming::Message(message));
            }
            44..=47 => {
                let method = [Method::Sp, Method::Gt, Method::Au, Method::Cs, Method::Ca][input.number() % 5];
                let leg = if input.number().is_multiple_of(4) { Leg::Answer } else { Leg::Request };
                let json = Bytes::copy_from_slice(input.text());
                let blob = input.text();
                let blob = (!blob.is_empty()).then(|| Bytes::copy_from_slice(blob));
                self.receive(on, Incoming::Packet(Packet::new(method, leg, Payload { json, blob })));
            }
            48..=66 => self.serve(on, input.number(), input.number()),
            67..=70 => self.push(on, input),
            71..=74 => {
                self.group(input);
                self.compare();
            }
            75..=79 => self.wait(input.number()),
            80..=82 => self.ask(on, input.number()),
            _ => self.disconnect(on),
        }
    }

    /// Any entity that ever was, of whatever connection; or nobody.
    fn entity(&self, which: usize) -> EntityId {
        if which >= 250 || self.given.is_empty() {
            return EntityId::new("_nobody").unwrap();
        }
        self.given[which % self.given.len()].clone()
    }

    fn id(&mut self, on: usize) -> RequestId {
        self.last += 1;
        let text = format!("id-{on}-{}-9fz3k1", self.last);
        self.connections[on].ids.insert(text.clone());
        RequestId::text(&text).unwrap()
    }

    /// A packet that makes sense, of whichever entity.
    fn packet(&mut self, on: usize, input: &mut Input<'_>) {
        let what = input.number();
        let entity = self.entity(input.number());
        let size = input.number();
        let data = match size % 3 {
            0 => Data::None,
            1 => Data::Json(RawJson::of(&"x".repeat(size * 4)).unwrap()),
            _ => Data::Blob(Bytes::from(vec![7; size * 4])),
        };
        let packet = match what % 9 {
            0 => {
                let id = self.id(on);
                let service = ["Chat", "Other", ""][size % 3].to_owned();
                let create = cs::Create {
                    id,
                    owner: size.is_multiple_of(2).then(|| "ann".to_owned()),
                    mode: cs::Mode::Normal,
                    service,
                    owner_domain: None,
                    key: None,
                    description: None,
                };
                cs::Request::Create(Box::new(create)).encode()
            }
            1 | 2 => cs::Request::Verify { entity }.encode(),
            3 => cs::Request::Send { entity, data }.encode(),
            4 | 5 => {
                let id = self.id(on);
                cs::Request::Call { entity, function: "f".into(), id, data }.encode()
            }
            6 => {
                let id = self.id(on);
                cs::Request::CallBlob { entity, function: "f".into(), id, meta: None, data }.encode()
            }
            7 => cs::Request::Close { entity }.encode(),
            _ => gt::Request { user: "ann".into(), password: Some(Password::new("x")) }.encode(),
        };
        let incoming = if size.is_multiple_of(2) {
            let mut message = BytesMut::new();
            packet.encode(&Methods::default(), &mut message).unwrap();
            Incoming::Message(message.freeze())
        } else {
            Incoming::Packet(packet)
        };
        self.receive(on, incoming);
    }

    fn receive(&mut self, on: usize, incoming: Incoming) {
        if !self.connections[on].alive {
            return;
        }
        let received = self.connections[on].daemon.receive(incoming, self.now);
        self.listen(on);
        if received.is_err() {
            self.disconnect(on);
        }
    }

    /// A service answers one of the things that it was asked.
    fn serve(&mut self, on: usize, which: usize, how: usize) {
        let now = self.now;
        let connection = &mut self.connections[on];
        let n = connection.waiting.len();
        let Some(at) = which.checked_rem(n) else { return };
        let (key, asked) = connection.waiting.iter().nth(at).map(|(k, a)| (*k, a.clone())).unwrap();
        connection.waiting.remove(&key);
        let failure = || Box::new(Failure::new("no", "Error: no"));
        let well = !how.is_multiple_of(4);
        match asked {
            Asked::Create { service } => {
                let result = if well { Ok(()) } else { Err(failure()) };
                let created = connection.daemon.create(key, result);
                assert_eq!(created.is_some(), well);
                if let Some(id) = created {
                    self.insert(on, id, service);
                }
            }
            Asked::Verify(entity) => {
                connection.daemon.verify(key, if well { Ok(()) } else { Err(failure()) }, now);
                if well {
                    self.known.get_mut(&entity).unwrap().verified = true;
                } else {
                    self.forget(&entity);
                }
            }
            Asked::Call(_) => {
                let gift = Gift { meta: None, data: Data::Json(RawJson::of(&how).unwrap()) };
                connection.daemon.give(key, if well { Ok(gift) } else { Err(failure()) });
            }
            Asked::Token => connection.daemon.token(key, well.then(|| Token::new("t"))),
        }
        self.listen(on);
        // A second answer under the same key goes nowhere.
        let daemon = &mut self.connections[on].daemon;
        assert!(daemon.create(key, Ok(())).is_none());
        daemon.verify(key, Ok(()), now);
        daemon.give(key, Ok(Gift::default()));
        daemon.token(key, None);
        assert!(daemon.poll_outgoing().is_none() && daemon.poll_event().is_none());
    }

    fn insert(&mut self, on: usize, id: EntityId, service: String) {
        let record = Record {
            id: id.clone(),
            connection: ConnectionId(on as u64),
            mode: cs::Mode::Normal,
            service: service.clone(),
            owner: None,
            owner_domain: None,
            address: None,
            carrier: "Local",
            description: None,
            trusted_daemon: false,
        };
        self.entities.insert(record);
        let known = Known { connection: on, service, verified: false, groups: BTreeSet::new() };
        assert!(self.known.insert(id.clone(), known).is_none(), "an id is given once");
        self.given.push(id);
    }

    fn forget(&mut self, entity: &EntityId) {
        assert!(self.known.remove(entity).is_some(), "nobody goes twice");
        assert!(self.entities.remove(entity).is_some());
    }

    fn push(&mut self, on: usize, input: &mut Input<'_>) {
        let (what, which) = (input.number(), input.number());
        let entity = self.entity(which);
        let push = match what % 4 {
            0 => ca::Request::Data { entity: entity.clone(), data: Data::None },
            1 => ca::Request::Event { entity: entity.clone(), event: "e".into(), data: Data::None },
            2 => ca::Request::BlobEvent {
                entity: entity.clone(),
                event: "e".into(),
                meta: None,
                data: Data::Blob(Bytes::from_static(b"b")),
            },
            _ => ca::Request::Close { entity: entity.clone() },
        };
        let own = self.known.get(&entity).is_some_and(|known| known.connection == on);
        let pushed = self.connections[on].daemon.push(&push);
        assert_eq!(pushed.is_ok(), own, "only to one's own");
        if own && matches!(push, ca::Request::Close { .. }) {
            self.forget(&entity);
        }
        self.listen(on);
    }

    fn group(&mut self, input: &mut Input<'_>) {
        let (what, which, group) = (input.number(), input.number(), input.number());
        let (entity, group) = (self.entity(which), GROUPS[group % GROUPS.len()]);
        let known = self.known.get_mut(&entity);
        match what % 3 {
            0 => {
                let joined = self.entities.join(&entity, group);
                assert_eq!(joined, known.is_some());
                if let Some(known) = known {
                    known.groups.insert(group);
                }
            }
            1 => {
                self.entities.leave(&entity, group);
                if let Some(known) = known {
                    known.groups.remove(group);
                }
            }
            _ => {
                self.entities.clear_groups(&entity);
                if let Some(known) = known {
                    known.groups.clear();
                }
            }
        }
    }

    fn ask(&mut self, on: usize, which: usize) {
        let question = if which.is_multiple_of(2) { au::Question::Token } else { au::Question::Password };
        let now = self.now;
        let connection = &mut self.connections[on];
        if !connection.alive {
            return;
        }
        if let Ok(key) = connection.daemon.ask(question, "ann", now) {
            assert!(connection.questions.insert(key));
        }
        let entity = self.entity(which);
        let own = self.known.get(&entity).is_some_and(|known| known.connection == on);
        let told = self.connections[on].daemon.tell(au::Notice::SignIn, &entity);
        assert_eq!(told.is_ok(), own, "only to one's own");
        self.listen(on);
    }

    fn wait(&mut self, seconds: usize) {
        self.now += Duration::from_secs(seconds as u64);
        for on in 0..CONNECTIONS {
            if !self.connections[on].alive {
                continue;
            }
            let due = self.connections[on].daemon.poll_timeout().is_some_and(|at| at <= self.now);
            let result = self.connections[on].daemon.handle_timeout(self.now);
            assert!(due || result.is_ok(), "it said when it had to be called");
            self.listen(on);
            if result.is_err() {
                self.disconnect(on);
            }
            let connection = &self.connections[on];
            let later = connection.daemon.poll_timeout().is_none_or(|at| at > self.now);
            assert!(later, "what is to be waited for lies in the future");
        }
    }

    fn disconnect(&mut self, on: usize) {
        let connection = &mut self.connections[on];
        if !std::mem::replace(&mut connection.alive, false) {
            return;
        }
        connection.daemon.disconnect();
        self.listen(on);
        let connection = &self.connections[on];
        assert!(connection.waiting.is_empty() && connection.questions.is_empty(), "all has ended");
        assert!(self.known.values().all(|known| known.connection != on), "nobody stays");
        assert!(connection.daemon.poll_timeout().is_none());
    }

    /// Takes what a connection has to say, and holds it against the model.
    fn listen(&mut self, on: usize) {
        let mut said = 0;
        while let Some(event) = self.connections[on].daemon.poll_event() {
            self.event(on, event);
            said += 1;
        }
        while let Some(outgoing) = self.connections[on].daemon.poll_outgoing() {
            let Outgoing::Packet(packet) = &outgoing else { continue };
            said += 1;
            self.answer(on, packet);
        }
        assert!(said <= ECHOES * 3, "for one message in, there are never more than a few out");
    }

    fn event(&mut self, on: usize, event: Event) {
        let own = |entity: &EntityId| {
            let known = self.known.get(entity).unwrap_or_else(|| panic!("{entity} is nobody"));
            assert_eq!(known.connection, on, "{entity} is of another connection");
            known
        };
        let connection = &mut self.connections[on];
        match event {
            Event::Create { key, create } => {
                let asked = Asked::Create { service: create.service.clone() };
                assert_eq!(connection.waiting.insert(key, asked), None);
            }
            Event::Verify { key, entity } => {
                assert!(!own(&entity).verified, "nobody is looked at twice");
                assert_eq!(connection.waiting.insert(key, Asked::Verify(entity)), None);
            }
            Event::Data { entity, .. } => assert!(own(&entity).verified, "nobody is served unseen"),
            Event::Call { key, entity, .. } | Event::CallBlob { key, entity, .. } => {
                assert!(own(&entity).verified, "nobody is served unseen");
                assert_eq!(connection.waiting.insert(key, Asked::Call(entity)), None);
            }
            Event::Token { key, .. } => {
                assert_eq!(connection.waiting.insert(key, Asked::Token), None);
            }
            Event::Closed { entity } => {
                own(&entity);
                let left = connection.waiting.values();
                let left =
                    left.filter(|asked| matches!(asked, Asked::Call(e) | Asked::Verify(e) if *e == entity));
                assert_eq!(left.count(), 0, "requests end before their entity");
                self.forget(&entity);
            }
            Event::Expired { key } => {
                assert!(connection.waiting.remove(&key).is_some(), "nothing ends twice");
            }
            Event::Answer { key, .. } => assert!(connection.questions.remove(&key), "nothing ends twice"),
            Event::Ignored(ignored) => assert!(!ignored.to_string().contains(char::is_control)),
            Event::Secured(_) | Event::Custom(_) => panic!("there is no SP here, and no such method"),
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, on: usize, packet: &Packet) {
        assert!(packet.method != Method::Sp);
        if (packet.method, packet.leg) != (Method::Cs, Leg::Answer) {
            return;
        }
        let answer = cs::Answer::decode(packet).unwrap_or_else(|error| panic!("{error}"));
        if let cs::Answer::Created { id, .. }
        | cs::Answer::Returned { id, .. }
        | cs::Answer::ReturnedBlob { id, .. } = answer
            && let Ok(text) = id.as_json().read::<String>()
            && text.starts_with("id-")
            && text.ends_with("-9fz3k1")
        {
            assert!(self.connections[on].ids.remove(&text), "{text} was not asked here, or twice answered");
        }
    }

    fn compare(&self) {
        assert_eq!(self.entities.len(), self.known.len());
        for (id, known) in &self.known {
            assert!(self.connections[known.connection].daemon.has(id));
            assert_eq!(self.entities.get(id).map(|record| &record.service), Some(&known.service));
            let groups: BTreeSet<&str> = self.entities.groups_of(id).collect();
            assert_eq!(groups, known.groups);
        }
        for service in ["Chat", "Other", ""] {
            for groups in [&GROUPS[..1], &GROUPS[1..], &GROUPS[..], &[]] {
                let of = |meant: fn(&BTreeSet<&'static str>, &[&'static str]) -> bool| {
                    let known = self.known.iter();
                    let known =
                        known.filter(|(_, known)| known.service == service && meant(&known.groups, groups));
                    known.map(|(id, _)| id.clone()).collect::<BTreeSet<_>>()
                };
                let ids = |addresses: Vec<nsp::machine::entities::Address>| {
                    let n = addresses.len();
                    let ids: BTreeSet<_> = addresses.into_iter().map(|address| address.entity).collect();
                    assert_eq!(ids.len(), n, "each once");
                    ids
                };
                let any = of(|own, groups| groups.iter().any(|group| own.contains(group)));
                assert_eq!(ids(self.entities.in_any(service, groups)), any);
                let all =
                    of(|own, groups| !groups.is_empty() && groups.iter().all(|group| own.contains(group)));
                assert_eq!(ids(self.entities.in_all(service, groups)), all);
            }
        }
    }

    /// Everybody goes, and nothing is left.
    fn end(mut self) {
        (0..CONNECTIONS).for_each(|on| self.disconnect(on));
        assert!(self.entities.is_empty() && self.known.is_empty());
    }
}
