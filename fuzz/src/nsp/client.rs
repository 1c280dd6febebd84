//! A client whose daemon says whatever it likes: each thing the client wanted ends once, and never as another one's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nsp::machine::client::{ActivityKey, CallKey, Config, Event, Open, QuestionKey, Secrets};
use nsp::machine::{Client, Incoming, Outgoing, SpMode};
use nsp::proto::{Data, EntityId, Leg, Method, Packet, Payload, RawJson, RequestId, Status, au, ca, cs, gt};
use nsp::secure::SystemRandom;
use nsp::{Password, Proof, Token};

pub fn run(data: &[u8]) {
    let mut world = World::new();
    let mut input = data;
    for _ in 0..500 {
        let Some((what, rest)) = input.split_first() else { break };
        input = rest;
        world.step(*what, &mut input);
    }
    world.client.disconnect();
    world.listen();
    assert!(
        world.activities.is_empty() && world.calls.is_empty() && world.tokens.is_empty(),
        "all has ended"
    );
}

fn number(input: &mut &[u8]) -> usize {
    let Some((first, rest)) = input.split_first() else { return 0 };
    *input = rest;
    usize::from(*first)
}

fn text<'a>(input: &mut &'a [u8]) -> &'a [u8] {
    let n = number(input).min(input.len());
    let (text, rest) = input.split_at(n);
    *input = rest;
    text
}

struct World {
    now: Instant,
    client: Client,
    /// By activity: whether it is open, and what the daemon calls it.
    activities: BTreeMap<ActivityKey, Option<EntityId>>,
    calls: BTreeMap<CallKey, ActivityKey>,
    tokens: BTreeSet<CallKey>,
    questions: BTreeSet<QuestionKey>,
    /// What was asked of the daemon, for it to answer: ids and functions.
    asked: Vec<cs::Request>,
    made: u8,
}

impl World {
    fn new() -> Self {
        let mut config = Config::default();
        config.sp = SpMode::WhenAsked;
        config.secrets = Secrets::Anywhere;
        config.limits.calls = 8;
        config.limits.activities = 4;
        config.limits.questions = 3;
        let now = Instant::now();
        Self {
            now,
            client: Client::new(config, Box::new(SystemRandom), now),
            activities: BTreeMap::new(),
            calls: BTreeMap::new(),
            tokens: BTreeSet::new(),
            questions: BTreeSet::new(),
            asked: Vec::new(),
            made: 0,
        }
    }

    fn step(&mut self, what: u8, input: &mut &[u8]) {
        match what {
            0..=29 => {
                if let Ok(activity) = self.client.open(Open::new("Chat"), self.now) {
                    assert_eq!(self.activities.insert(activity, None), None);
                }
            }
            30..=79 => self.call(number(input), number(input)),
            80..=149 => self.answer(number(input), number(input)),
            150..=169 => self.push(number(input), number(input)),
            170..=179 => {
                let method = [Method::Sp, Method::Gt, Method::Au, Method::Cs, Method::Ca][number(input) % 5];
                let leg = if number(input).is_multiple_of(2) { Leg::Answer } else { Leg::Request };
                let payload = Payload { json: Bytes::copy_from_slice(text(input)), blob: None };
                self.receive(Incoming::Packet(Packet::new(method, leg, payload)));
            }
            180..=189 => {
                let message = Bytes::copy_from_slice(text(input));
                self.receive(Incoming::Message(message));
            }
            190..=209 => self.token(number(input)),
            210..=224 => {
                self.now += Duration::from_millis(number(input) as u64 * 300);
                // A connection that cannot be secured is closed; here it goes on.
                let _ = self.client.handle_timeout(self.now);
                self.listen();
                assert!(self.client.poll_timeout().is_none_or(|at| at > self.now));
            }
            225..=234 => {
                let which = number(input);
                let Some(at) = which.checked_rem(self.calls.len()) else { return };
                let call = *self.calls.keys().nth(at).unwrap();
                self.calls.remove(&call);
                self.client.give_up(call);
                self.listen();
            }
            235..=244 => {
                let which = number(input);
                let Some(at) = which.checked_rem(self.questions.len()) else { return };
                let key = *self.questions.iter().nth(at).unwrap();
                self.questions.remove(&key);
                self.client.answer(key, which.is_multiple_of(2).then(|| Proof::new("p")));
                self.listen();
            }
            _ => {
                let which = number(input);
                let Some(at) = which.checked_rem(self.activities.len()) else { return };
                let activity = *self.activities.keys().nth(at).unwrap();
                self.client.close(activity);
                self.activities.remove(&activity);
                self.listen();
                assert!(self.calls.values().all(|of| *of != activity), "its calls have failed at once");
            }
        }
        self.listen();
    }

    fn call(&mut self, what: usize, which: usize) {
        let Some(at) = which.checked_rem(self.activities.len()) else { return };
        let activity = *self.activities.keys().nth(at).unwrap();
        let timeout = Duration::from_secs(which as u64 % 20);
        let data = Data::Json(RawJson::of(&which).unwrap());
        let begun = match what % 3 {
            0 => self.client.call(activity, "f", data, timeout, self.now),
            1 => self.client.call_blob(activity, "f", None, data, timeout, self.now),
            _ => self.client.send(activity, data, timeout, self.now),
        };
        if let Ok(call) = begun {
            assert!(self.activities[&activity].is_some(), "only what is open is used");
            assert_eq!(self.calls.insert(call, activity), None);
            assert!(self.calls.len() <= 8, "calls have a limit");
        }
    }

    /// The daemon answers something that it was asked, now or earlier, well or badly.
    fn answer(&mut self, which: usize, how: usize) {
        let Some(at) = which.checked_rem(self.asked.len()) else { return };
        let status = if how.is_multiple_of(3) { Status::fail() } else { Status::Ok };
        let data = Data::Json(RawJson::of(&how).unwrap());
        let any_other = |entity: EntityId| {
            if how.is_multiple_of(7) { EntityId::new("_1").unwrap() } else { entity }
        };
        let answer = match self.asked[at].clone() {
            cs::Request::Create(create) => {
                self.made = self.made.wrapping_add(1);
                let entity =
                    EntityId::new(&format!("_{}", if how.is_multiple_of(5) { 1 } else { self.made }))
                        .unwrap();
                let result = if how.is_multiple_of(3) { Err(Box::default()) } else { Ok(entity) };
                cs::Answer::Created { id: create.id, result }
            }
            cs::Request::Verify { entity } => cs::Answer::Verified { entity, status },
            cs::Request::Send { entity, .. } => cs::Answer::Sent { entity, status },
            cs::Request::Call { entity, id, .. } => {
                cs::Answer::Returned { id, entity: any_other(entity), status, data }
            }
            cs::Request::CallBlob { entity, id, .. } => {
                cs::Answer::ReturnedBlob { id, entity: any_other(entity), status, meta: None, data }
            }
            cs::Request::Close { .. } => return,
        };
        if !how.is_multiple_of(11) {
            self.asked.swap_remove(at); // otherwise it will be answered again
        }
        self.receive(Incoming::Packet(answer.encode()));
    }

    fn push(&mut self, what: usize, which: usize) {
        let entity = EntityId::new(&format!("_{}", which % 8)).unwrap();
        let packet = match what % 8 {
            0 => ca::Request::Data { entity, data: Data::None }.encode(),
            1 => ca::Request::Event { entity, event: "e".into(), data: Data::None }.encode(),
            2 => ca::Request::Close { entity }.encode(),
            3 | 4 => {
                let question =
                    if what.is_multiple_of(2) { au::Question::Token } else { au::Question::Password };
                au::Request::Ask { question, id: RequestId::numbered(which as u64), user: None }.encode()
            }
            5 => au::Request::Tell { notice: au::Notice::SignIn, entity: Some(entity) }.encode(),
            _ => gt::Answer { user: Some("ann".into()), token: Some(Token::new("t")) }.encode(),
        };
        self.receive(Incoming::Packet(packet));
    }

    fn token(&mut self, millis: usize) {
        let timeout = Duration::from_millis(millis as u64 * 10);
        if let Ok(call) = self.client.token("ann", Password::new("p"), timeout, self.now) {
            assert!(self.tokens.insert(call));
        }
    }

    fn receive(&mut self, incoming: Incoming) {
        let _ = self.client.receive(incoming, self.now);
        self.listen();
    }

    fn listen(&mut self) {
        while let Some(event) = self.client.poll_event() {
            self.event(event);
        }
        let mut said = 0;
        while let Some(outgoing) = self.client.poll_outgoing() {
            said += 1;
            let Outgoing::Packet(packet) = outgoing else { continue };
            if (packet.method, packet.leg) == (Method::Cs, Leg::Request) && self.asked.len() < 200 {
                self.asked.push(cs::Request::decode(&packet).unwrap());
            }
        }
        assert!(said <= 20, "for one message in, there are never more than a few out");
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Opened { activity, entity } => {
                let known = self.activities.get_mut(&activity).expect("it was wanted");
                assert_eq!(known.replace(entity), None, "nothing is opened twice");
            }
            Event::NotOpened { activity, .. } => {
                assert_eq!(self.activities.remove(&activity), Some(None), "it was wanted, and not open");
            }
            Event::Closed { activity } => {
                assert!(self.activities.remove(&activity).is_some(), "nothing is closed twice");
            }
            Event::Answered { call, .. } => {
                assert!(self.calls.remove(&call).is_some(), "nothing ends twice");
            }
            Event::Token { call, .. } => assert!(self.tokens.remove(&call), "nothing ends twice"),
            Event::Data { activity, .. }
            | Event::Event { activity, .. }
            | Event::BlobEvent { activity, .. } => assert!(self.activities.contains_key(&activity)),
            Event::Question { key, .. } => {
                assert!(self.questions.insert(key) && self.questions.len() <= 3);
            }
            Event::QuestionExpired { key } => assert!(self.questions.remove(&key), "nothing ends twice"),
            Event::Notice { activity, .. } => {
                assert!(activity.is_none_or(|activity| self.activities.contains_key(&activity)));
            }
            Event::Ignored(ignored) => assert!(!ignored.to_string().contains(char::is_control)),
            Event::KeyOffered | Event::QuestionDeclined { .. } => {}
            Event::Secured | Event::Custom(_) => panic!("nobody has judged a key, or registered a method"),
            other => panic!("{other:?}"),
        }
    }
}
