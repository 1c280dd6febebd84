//! The recorded daemons against our client, which is made to want what the recorded clients wanted.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use nsp::machine::client::{ActivityKey, CallError, Config, Event, Open, RequestError, Secrets};
use nsp::machine::{Client, Incoming, Outgoing, SpMode};
use nsp::proto::au::{self, Question};
use nsp::proto::{Data, EntityId, HEARTBEAT, Leg, Method, Methods, Packet, Status, ca, cs, gt, sp};
use nsp::secure::{Cipher, ServerKey, SystemRandom, WeakSeeds, accept};

use crate::ids::Ids;
use crate::testing::{Flow, Message, epoch, flows};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Recordings of what no client of ours does: nonsense, entities of others, wrong answers to SP. They are for the daemon.
const NOT_FOR_CLIENTS: [&str; 6] = [
    "malformed",
    "encrypted-garbage",
    "entity-shared",
    "handshake-wrong-a",
    "handshake-trigger-fails",
    "ce.",
];

struct Replay<'a> {
    flow: &'a Flow,
    client: Client,
    now: Instant,
    ids: Ids,
    /// The key of this replay: our client draws another seed than the recorded one.
    cipher: Option<Cipher>,
    /// The activities by the entity that the recorded daemon gave them.
    activities: HashMap<EntityId, ActivityKey>,
    question: Option<nsp::machine::client::QuestionKey>,
    said: VecDeque<Packet>,
}

impl<'a> Replay<'a> {
    fn new(flow: &'a Flow) -> Self {
        let mut config = Config::default();
        config.secrets = Secrets::Anywhere;
        // Recorded clients speak first, and are asked for SP then; but for the one that probes.
        config.sp =
            if flow.name.starts_with("handshake-probe") { SpMode::Required } else { SpMode::WhenAsked };
        Self {
            flow,
            client: Client::new(config, Box::new(SystemRandom), epoch()),
            now: epoch(),
            ids: Ids::default(),
            cipher: None,
            activities: HashMap::new(),
            question: None,
            said: VecDeque::new(),
        }
    }

    /// Wants what the recorded client wanted, and compares what we say.
    fn want(&mut self, message: &Message) -> Result<(), String> {
        let recorded = Packet::decode(message.plain.clone().unwrap(), &Methods::default()).unwrap();
        match (recorded.method, recorded.leg) {
            (Method::Cs, Leg::Request) => match self.call(cs::Request::decode(&recorded).unwrap()) {
                Ok(()) => {}
                // What the recorded client says to an entity that it has closed, ours does not say at all.
                Err(RequestError::NotOpen) if message.note == "call on a closed entity" => return Ok(()),
                Err(error) => return Err(format!("{}: {error}", message.note)),
            },
            (Method::Gt, Leg::Request) => match gt::Request::decode(&recorded) {
                Ok(request) => {
                    let password = request.password.unwrap();
                    self.client.token(&request.user, password, TIMEOUT, self.now).unwrap();
                }
                Err(_) => return Ok(()),
            },
            (Method::Au, Leg::Answer) => {
                let answer = au::Answer::decode(&recorded).unwrap();
                let question = self.question.take().ok_or("nobody has asked")?;
                self.client.answer(question, answer.value);
            }
            (Method::Sp, Leg::Answer) => return self.secure(),
            // The probe and the acknowledgements come by themselves.
            (Method::Gt | Method::Ca, Leg::Answer) => {}
            other => panic!("{other:?}"),
        }
        self.compare(&recorded)
    }

    fn call(&mut self, request: cs::Request) -> Result<(), RequestError> {
        let activity = |entity: &EntityId| self.activities.get(entity).copied().ok_or(RequestError::NotOpen);
        match request {
            cs::Request::Create(create) => {
                let mut open = Open::new(create.service);
                open.owner = create.owner;
                open.owner_domain = create.owner_domain;
                open.key = create.key;
                self.client.open(open, self.now)?;
            }
            // It follows by itself.
            cs::Request::Verify { .. } => {}
            cs::Request::Send { entity, data } => {
                self.client.send(activity(&entity)?, data, TIMEOUT, self.now)?;
            }
            cs::Request::Call { entity, function, data, .. } => {
                self.client.call(activity(&entity)?, &function, data, TIMEOUT, self.now)?;
            }
            cs::Request::CallBlob { entity, function, meta, data, .. } => {
                self.client.call_blob(activity(&entity)?, &function, meta, data, TIMEOUT, self.now)?;
            }
            cs::Request::Close { entity } => self.client.close(activity(&entity)?),
        }
        Ok(())
    }

    /// Gathers what our client says.
    fn collect(&mut self) {
        while let Some(outgoing) = self.client.poll_outgoing() {
            let packet = match outgoing {
                Outgoing::Packet(packet) => packet,
                Outgoing::Sealed(message) => {
                    let plain = self.cipher.as_ref().unwrap().open(message).unwrap();
                    Packet::decode(plain, &Methods::default()).unwrap()
                }
                Outgoing::Heartbeat | Outgoing::Text(_) => panic!("a client of NSP 0.5 has neither"),
            };
            self.said.push_back(packet);
        }
    }

    /// The next packet of that kind: acknowledgements may overtake calls.
    fn next(&mut self, method: Method, leg: Leg) -> Option<Packet> {
        self.collect();
        let at = self.said.iter().position(|packet| packet.method == method && packet.leg == leg)?;
        self.said.remove(at)
    }

    fn compare(&mut self, recorded: &Packet) -> Result<(), String> {
        let ours = self.next(recorded.method, recorded.leg).ok_or_else(|| {
            format!("recorded {}, we said nothing", String::from_utf8_lossy(&recorded.payload.json))
        })?;
        let mut recorded = recorded.clone();
        // The programs that were recorded left out what the original initiator writes as `false`; ours writes it, as the original.
        if let Ok(cs::Request::Create(_)) = cs::Request::decode(&recorded)
            && !recorded.payload.json.windows(4).any(|four| four == b"\"k\":")
        {
            let text = String::from_utf8(recorded.payload.json.to_vec()).unwrap();
            let (front, _) = text.split_at(text.len() - 2);
            recorded.payload.json = format!("{front},\"k\":false}}}}").into();
        }
        self.ids.compare(&recorded, &ours)
    }

    /// Our answer to SP holds another seed than the recorded one, but the recorded daemon's key has to open it.
    fn secure(&mut self) -> Result<(), String> {
        let ours = self.next(Method::Sp, Leg::Answer).ok_or("we did not answer SP")?;
        let key = ServerKey::from_pem(self.flow.rsa_private_pem.as_ref().unwrap()).unwrap();
        let agreed = accept(&key, &sp::Answer::decode(&ours).unwrap(), WeakSeeds::Refuse)
            .map_err(|error| error.to_string())?;
        self.cipher = Some(Cipher::new(&agreed.key));
        Ok(())
    }

    /// Hears what the recorded daemon said, and learns from it what it means.
    fn hear(&mut self, message: &Message) -> Result<(), String> {
        let Some(plain) = &message.plain else { return self.hear_nothing(message) };
        if plain == HEARTBEAT {
            self.client.receive(Incoming::Message(plain.clone()), self.now).unwrap();
            return self.expect_no_event();
        }
        let recorded = Packet::decode(plain.clone(), &Methods::default()).unwrap();
        let packet = self.ids.translate(&recorded);
        let incoming = self.incoming(&packet);
        self.client.receive(Incoming::Message(incoming), self.now).map_err(|error| error.to_string())?;
        self.check_event(&packet)
    }

    fn incoming(&self, packet: &Packet) -> Bytes {
        let mut out = BytesMut::new();
        let write = |out: &mut BytesMut| packet.encode(&Methods::default(), out);
        match &self.cipher {
            Some(cipher) => cipher.seal(&mut SystemRandom, &mut out, write).unwrap(),
            None => write(&mut out).unwrap(),
        }
        out.freeze()
    }

    fn hear_nothing(&mut self, message: &Message) -> Result<(), String> {
        if message.note != "NO ANSWER: no answer ever comes" {
            return self.expect_no_event();
        }
        self.now += TIMEOUT;
        self.client.handle_timeout(self.now).unwrap();
        match self.client.poll_event() {
            Some(Event::Answered { result: Err(CallError::Timeout), .. }) => Ok(()),
            other => Err(format!("the call should have timed out: {other:?}")),
        }
    }

    /// Whether our client has learned what the packet says.
    fn check_event(&mut self, packet: &Packet) -> Result<(), String> {
        let event = self.client.poll_event();
        let understood = match (packet.method, packet.leg) {
            (Method::Cs, Leg::Answer) => self.is_answer(cs::Answer::decode(packet).unwrap(), event.as_ref()),
            (Method::Ca, Leg::Request) => is_push(ca::Request::decode(packet).unwrap(), event.as_ref()),
            (Method::Au, Leg::Request) => match (au::Request::decode(packet).unwrap(), &event) {
                (
                    au::Request::Ask { question, user, .. },
                    Some(Event::Question { key, question: asked, user: of }),
                ) => {
                    self.question = Some(*key);
                    question == *asked && user == *of && matches!(asked, Question::Token | Question::Password)
                }
                (au::Request::Tell { notice, .. }, Some(Event::Notice { notice: told, activity })) => {
                    notice == *told && activity.is_some()
                }
                _ => false,
            },
            (Method::Gt, Leg::Answer) => {
                let expected = gt::Answer::decode(packet).unwrap().token;
                matches!(&event, Some(Event::Token { result: Ok(token), .. }) if *token == expected)
            }
            (Method::Sp, Leg::Request) => {
                let offered = matches!(event, Some(Event::KeyOffered));
                let pem = self.client.offered_key().map(|key| key.pem().to_owned());
                self.client.judge(true).unwrap();
                offered
                    && pem == self.flow.rsa_public_pem
                    && matches!(self.client.poll_event(), Some(Event::Secured))
            }
            _ => false,
        };
        if !understood {
            return Err(format!(
                "heard {}, learned {event:?}",
                String::from_utf8_lossy(&packet.payload.json)
            ));
        }
        self.expect_no_event()
    }

    fn is_answer(&mut self, answer: cs::Answer, event: Option<&Event>) -> bool {
        match (answer, event) {
            (cs::Answer::Created { result: Ok(_), .. }, None) => true,
            (
                cs::Answer::Verified { entity, status: Status::Ok },
                Some(Event::Opened { activity, entity: opened }),
            ) => {
                self.activities.insert(entity.clone(), *activity);
                entity == *opened
            }
            (cs::Answer::Verified { status: Status::Failed(_), .. }, Some(Event::NotOpened { .. })) => {
                // An original initiator keeps what its service has refused; ours closes it.
                self.next(Method::Cs, Leg::Request).is_some()
            }
            (cs::Answer::Sent { status, .. }, Some(Event::Answered { result, .. })) => {
                (status == Status::Ok) == result.is_ok()
            }
            (cs::Answer::Returned { status, data, .. }, Some(Event::Answered { result, .. })) => {
                is_result(status, data, result.as_ref().map(|reply| &reply.data))
            }
            (cs::Answer::ReturnedBlob { status, meta, data, .. }, Some(Event::Answered { result, .. })) => {
                let same_meta = result.as_ref().is_ok_and(|reply| reply.meta == meta) || result.is_err();
                same_meta && is_result(status, data, result.as_ref().map(|reply| &reply.data))
            }
            _ => false,
        }
    }

    fn expect_no_event(&mut self) -> Result<(), String> {
        self.client.poll_event().map_or(Ok(()), |event| Err(format!("learned {event:?} as well")))
    }
}

fn is_result(status: Status, data: Data, result: Result<&Data, &CallError>) -> bool {
    match (status.into_result(), result) {
        (Ok(()), Ok(seen)) => data == *seen,
        (Err(failure), Err(CallError::Failed(seen))) => failure == *seen,
        _ => false,
    }
}

fn is_push(push: ca::Request, event: Option<&Event>) -> bool {
    match (push, event) {
        (ca::Request::Data { data, .. }, Some(Event::Data { data: seen, .. })) => data == *seen,
        (ca::Request::Event { event, data, .. }, Some(Event::Event { event: name, data: seen, .. })) => {
            event == *name && data == *seen
        }
        (
            ca::Request::BlobEvent { event, meta, data, .. },
            Some(Event::BlobEvent { event: name, meta: about, data: seen, .. }),
        ) => event == *name && meta == *about && data == *seen,
        // The one that is recorded is for an entity that the service had refused, so ours is gone already.
        (ca::Request::Close { .. }, Some(Event::Ignored(_))) => true,
        _ => false,
    }
}

fn replay(flow: &Flow) -> Vec<String> {
    let mut replay = Replay::new(flow);
    let mut differences = Vec::new();
    for (step, message) in flow.messages.iter().enumerate() {
        let result = if message.from_client { replay.want(message) } else { replay.hear(message) };
        if let Err(difference) = result {
            differences.push(format!("{} step {step} ({}):\n{difference}", flow.name, message.note));
        }
    }
    replay.collect();
    // The recorded programs did not acknowledge everything, as the original initiator and ours do.
    replay.said.retain(|packet| (packet.method, packet.leg) != (Method::Ca, Leg::Answer));
    if !replay.said.is_empty() {
        differences.push(format!("{}: we said more: {:?}", flow.name, replay.said));
    }
    differences
}

#[test]
fn our_client_says_what_the_recorded_ones_said_and_understands_what_they_heard() {
    let (mut replayed, mut differences) = (0, Vec::new());
    for flow in flows() {
        if NOT_FOR_CLIENTS.iter().any(|name| flow.name.starts_with(name)) {
            continue;
        }
        differences.extend(replay(&flow));
        replayed += 1;
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    assert_eq!(replayed, 19);
}
