//! The recorded clients against our daemon.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nsp::machine::daemon::Config;
use nsp::machine::entities::ConnectionId;
use nsp::machine::{Daemon, Incoming, Outgoing, SpPolicy};
use nsp::proto::{HEARTBEAT, Leg, Method, Methods, Packet, sp};
use nsp::secure::{Cipher, ServerKey, SystemRandom, WeakSeeds, accept};

use crate::ids::Ids;
use crate::service::World;
use crate::testing::{Flow, Message, epoch, flows};

/// Where our daemon says something else than was recorded, and what. Each line belongs to one of the page on compatibility.
pub(crate) struct Deviation {
    /// Beginning of the name of the recording.
    pub(crate) flow: &'static str,
    /// The step, counted from 0.
    pub(crate) step: usize,
    /// What ours says in its place, with the recorded ids; nothing if it is silent.
    pub(crate) ours: &'static [&'static str],
}

const fn deviation(flow: &'static str, step: usize, ours: &'static [&'static str]) -> Deviation {
    Deviation { flow, step, ours }
}

pub(crate) const DEVIATIONS: &[Deviation] = &[
    // Metadata without the daemon's key and the ids of users and listeners.
    deviation(
        "ce.",
        7,
        &[
            r#"CSrs{"m":"SF","d":{"t":"_7h2kq9xz1","i":"_7hlm9tkhw","s":"OK","d":{"m":{"id":"_7hlm9tkhw","mode":"daemon","service":"NspTest","type":"Activity","spawndomain":"127.0.0.1","owner":"admin","ownerdomain":"127.0.0.1","connectiontype":"TCP/IP","groups":[]}}}}"#,
        ],
    ),
    deviation(
        "ce.",
        31,
        &[
            r#"CSrs{"m":"SF","d":{"t":"_7h2kq9xz1","i":"_8j5141rur","s":"OK","d":{"m":{"id":"_8j5141rur","mode":"normal","service":"NspTest","type":"Activity","spawndomain":"127.0.0.1","owner":null,"ownerdomain":"127.0.0.1","connectiontype":"TCP/IP","groups":[]}}}}"#,
        ],
    ),
    // Entities that their service has not seen, or has refused, are of no use.
    deviation(
        "ce.",
        39,
        &[
            r#"CSrs{"m":"SF","d":{"t":"_7h2kq9xz1","i":"_matsoom9i","s":"Error: the entity was not verified","e":{"code":"not_verified"}}}"#,
        ],
    ),
    deviation(
        "ce.",
        45,
        &[
            r#"CSrs{"m":"SF","d":{"t":"_7h2kq9xz1","i":"_dl6m38duh","s":"Error: no such entity","e":{"code":"no_entity"}}}"#,
        ],
    ),
    deviation(
        "service-close.",
        9,
        &[r#"CSrs{"m":"SF","d":{"t":"_7h2kq9xz1","i":"_9p1ll19fw","s":"OK","d":{"s":"ok"}}}"#],
    ),
    deviation("service-close.", 10, &[]),
    // An entity belongs to its connection, and so does a question.
    deviation(
        "entity-shared.",
        11,
        &[
            r#"CSrs{"m":"SF","d":{"t":"_7h2kq9xz1","i":"_nae85mbhl","s":"Error: no such entity","e":{"code":"no_entity"}}}"#,
        ],
    ),
    deviation(
        "entity-shared.",
        13,
        &[r#"CSrs{"m":"SS","d":{"i":"_nae85mbhl","s":"Fail","e":{"code":"no_entity"}}}"#],
    ),
    deviation("entity-shared.", 14, &[]),
    deviation("entity-shared.", 18, &[]),
    // A first message that cannot be served is ignored like any other.
    deviation("handshake-trigger-fails.", 3, &[]),
    // Unknown entities are answered.
    deviation("malformed.", 29, &[r#"CSrs{"m":"VE","d":{"i":"_nope","s":"Fail","e":{"code":"no_entity"}}}"#]),
    deviation("malformed.", 31, &[r#"CSrs{"m":"SS","d":{"i":"_nope","s":"Fail","e":{"code":"no_entity"}}}"#]),
    deviation(
        "malformed.",
        33,
        &[r#"CSrs{"m":"SF","d":{"t":"q","i":"_nope","s":"Error: no such entity","e":{"code":"no_entity"}}}"#],
    ),
    deviation(
        "malformed.",
        35,
        &[r#"CSrs{"m":"BS","d":{"t":"q","i":"_nope","s":"Error: no such entity","e":{"code":"no_entity"}}}"#],
    ),
    deviation(
        "session.plain-tcp",
        13,
        &[
            r#"CSrs{"m":"SF","d":{"t":"_q","i":"_cc01wlaqg","s":"Error: no such entity","e":{"code":"no_entity"}}}"#,
        ],
    ),
    deviation(
        "session.plain-websocket",
        13,
        &[
            r#"CSrs{"m":"SF","d":{"t":"_q","i":"_oatcyzdus","s":"Error: no such entity","e":{"code":"no_entity"}}}"#,
        ],
    ),
    deviation(
        "session.secure-tcp",
        15,
        &[
            r#"CSrs{"m":"SF","d":{"t":"_q","i":"_nn7e7bb9w","s":"Error: no such entity","e":{"code":"no_entity"}}}"#,
        ],
    ),
    // Zero, false and the empty text stay what they are.
    deviation(
        "sf.",
        13,
        &[r#"CSrs{"m":"SF","d":{"t":"_7h2kq9xz1","i":"_ehy6whlef","s":"OK","d":{"got":0,"type":"number"}}}"#],
    ),
    deviation(
        "sf.",
        15,
        &[
            r#"CSrs{"m":"SF","d":{"t":"_7h2kq9xz1","i":"_ehy6whlef","s":"OK","d":{"got":"","type":"string"}}}"#,
        ],
    ),
    deviation(
        "sf.",
        17,
        &[
            r#"CSrs{"m":"SF","d":{"t":"_7h2kq9xz1","i":"_ehy6whlef","s":"OK","d":{"got":false,"type":"boolean"}}}"#,
        ],
    ),
    deviation("sf.", 23, &[r#"CSrs{"m":"SF","d":{"t":"_7h2kq9xz1","i":"_ehy6whlef","s":"OK","d":0}}"#]),
    deviation("sf.", 25, &[r#"CSrs{"m":"SF","d":{"t":"_7h2kq9xz1","i":"_ehy6whlef","s":"OK","d":""}}"#]),
    // A failure always says something.
    deviation("sf.", 31, &[r#"CSrs{"m":"SF","d":{"t":"_7h2kq9xz1","i":"_ehy6whlef","s":"Fail"}}"#]),
    deviation("sf.", 33, &[r#"CSrs{"m":"SF","d":{"t":"_7h2kq9xz1","i":"_ehy6whlef","s":"Fail"}}"#]),
];

/// One recording, replayed.
struct Replay<'a> {
    flow: &'a Flow,
    world: World,
    ids: Ids,
    /// The key that the recorded client came to.
    cipher: Option<Cipher>,
    /// What our daemon has said on each connection and nobody has compared yet.
    said: Vec<(ConnectionId, Said)>,
    closed: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Said {
    Heartbeat,
    Packet(Packet),
}

impl<'a> Replay<'a> {
    fn new(flow: &'a Flow) -> Self {
        let mut replay = Self {
            flow,
            world: World::new(epoch()),
            ids: Ids::default(),
            cipher: None,
            said: Vec::new(),
            closed: false,
        };
        for connection in [ConnectionId(0), ConnectionId(1)] {
            let mut config = Config::default();
            config.heartbeat = Some(Duration::from_secs(60));
            config.first_entity = Duration::from_secs(3600);
            if let Some(pem) = &flow.rsa_private_pem {
                let key = Arc::new(ServerKey::from_pem(pem).unwrap());
                let timeout = Duration::from_secs(10);
                // Most recorded clients draw a whole number, as the original does.
                config.sp = SpPolicy::Required { key, weak: WeakSeeds::Allow, timeout };
            }
            let daemon = Daemon::new(config, Box::new(SystemRandom), epoch());
            replay.world.daemons.insert(connection, daemon);
        }
        replay
    }

    fn connection(message: &Message) -> ConnectionId {
        ConnectionId(u64::from(message.connection.as_deref() == Some("B")))
    }

    /// The recorded client says something.
    fn hear(&mut self, message: &Message) {
        let connection = Self::connection(message);
        let incoming = self.incoming(message);
        let now = self.world.now;
        let daemon = self.world.daemons.get_mut(&connection).unwrap();
        if daemon.receive(Incoming::Message(incoming), now).is_err() {
            self.closed = true;
        }
        self.collect();
    }

    /// What arrives at our daemon: the recorded bytes, unless there are ids in them that are others here.
    fn incoming(&self, message: &Message) -> Bytes {
        let wire = message.wire.clone().unwrap();
        let wire = if self.flow.carrier == "tcp" { wire.slice(16..) } else { wire };
        let Some(plain) = &message.plain else { return wire };
        let Ok(packet) = Packet::decode(plain.clone(), &Methods::default()) else { return wire };
        let translated = self.ids.translate(&packet);
        if translated == packet {
            return wire;
        }
        let mut out = BytesMut::new();
        let write = |out: &mut BytesMut| translated.encode(&Methods::default(), out);
        match &self.cipher {
            Some(cipher) if wire != plain => cipher.seal(&mut SystemRandom, &mut out, write).unwrap(),
            _ => write(&mut out).unwrap(),
        }
        out.freeze()
    }

    /// Gathers what our daemon says now.
    fn collect(&mut self) {
        self.world.run();
        for connection in [ConnectionId(0), ConnectionId(1)] {
            let daemon = self.world.daemons.get_mut(&connection).unwrap();
            while let Some(outgoing) = daemon.poll_outgoing() {
                let said = match outgoing {
                    Outgoing::Heartbeat => Said::Heartbeat,
                    Outgoing::Packet(packet) => Said::Packet(packet),
                    Outgoing::Text(_) => panic!("nobody here speaks NSP 0.4"),
                    Outgoing::Sealed(message) => {
                        let plain = self.cipher.as_ref().unwrap().open(message).unwrap();
                        Said::Packet(Packet::decode(plain, &Methods::default()).unwrap())
                    }
                };
                self.said.push((connection, said));
            }
        }
    }

    /// The next thing that our daemon has said on a connection.
    fn next(&mut self, connection: ConnectionId) -> Option<Said> {
        let at = self.said.iter().position(|(one, _)| *one == connection)?;
        Some(self.said.remove(at).1)
    }

    fn expect(&mut self, connection: ConnectionId, recorded: &Bytes) -> Result<(), String> {
        if recorded == HEARTBEAT {
            self.world.now += Duration::from_secs(60);
            let now = self.world.now;
            self.world.daemons.get_mut(&connection).unwrap().handle_timeout(now).unwrap();
            self.collect();
            return match self.next(connection) {
                Some(Said::Heartbeat) => Ok(()),
                other => Err(format!("recorded a heartbeat, we said {other:?}")),
            };
        }
        let recorded = Packet::decode(recorded.clone(), &Methods::default()).unwrap();
        match self.next(connection) {
            Some(Said::Packet(ours)) => self.ids.compare(&recorded, &ours),
            Some(Said::Heartbeat) => Err("we said a heartbeat".into()),
            None => Err(format!(
                "recorded {}{}{}\nwe said nothing",
                recorded.method,
                recorded.leg,
                String::from_utf8_lossy(&recorded.payload.json)
            )),
        }
    }

    /// Compares one step with what was recorded.
    fn check(&mut self, message: &Message) -> Result<(), String> {
        if let Some(recorded) = &message.plain {
            return self.expect(Self::connection(message), recorded);
        }
        if message.note.starts_with("CONNECTION CLOSED") {
            return if self.closed { Ok(()) } else { Err("recorded a close, ours is open".into()) };
        }
        match self.said.first() {
            None if !self.closed => Ok(()),
            None => Err("recorded silence, we closed".into()),
            Some((_, Said::Packet(packet))) => {
                let json = String::from_utf8_lossy(&packet.payload.json);
                Err(format!("recorded silence, we said {}{}{json}", packet.method, packet.leg))
            }
            Some((_, Said::Heartbeat)) => Err("recorded silence, we said a heartbeat".into()),
        }
    }

    /// Compares one step with what the list of deviations says.
    fn check_deviation(&mut self, connection: ConnectionId, deviation: &Deviation) -> Result<(), String> {
        if deviation.ours.is_empty() && (self.closed || self.said.iter().any(|(one, _)| *one == connection)) {
            return Err("we should have been silent, and were not".into());
        }
        for expected in deviation.ours {
            let (letters, json) = expected.split_at(4);
            let Some(Said::Packet(ours)) = self.next(connection) else {
                return Err(format!("we should have said {expected}, and said nothing"));
            };
            let said = format!("{}{}", ours.method, ours.leg);
            let recorded = Packet::new(ours.method, ours.leg, Bytes::from_static(json.as_bytes()));
            if said != letters {
                return Err(format!("we should have said {expected}, and said {said}"));
            }
            self.ids.compare(&recorded, &ours)?;
        }
        Ok(())
    }
}

/// The key that the rest is under, if this is the recorded client's answer to SP.
pub(crate) fn learned_key(flow: &Flow, plain: &Bytes) -> Option<Cipher> {
    let packet = Packet::decode(plain.clone(), &Methods::default()).ok()?;
    if packet.method != Method::Sp || packet.leg != Leg::Answer {
        return None;
    }
    let key = ServerKey::from_pem(flow.rsa_private_pem.as_ref().unwrap()).unwrap();
    let answer = sp::Answer::decode(&packet).unwrap();
    accept(&key, &answer, WeakSeeds::Allow).ok().map(|agreed| Cipher::new(&agreed.key))
}

fn replay(flow: &Flow, used: &mut [bool]) -> Vec<String> {
    let mut replay = Replay::new(flow);
    let mut differences = Vec::new();
    for (step, message) in flow.messages.iter().enumerate() {
        if message.from_client {
            if let Some(cipher) = message.plain.as_ref().and_then(|plain| learned_key(flow, plain)) {
                replay.cipher = Some(cipher);
            }
            replay.hear(message);
            continue;
        }
        let listed = DEVIATIONS.iter().position(|one| flow.name.starts_with(one.flow) && one.step == step);
        let result = match listed {
            Some(at) => {
                used[at] = true;
                replay.check_deviation(Replay::connection(message), &DEVIATIONS[at])
            }
            None => replay.check(message),
        };
        if let Err(difference) = result {
            differences.push(format!("{} step {step} ({}):\n{difference}", flow.name, message.note));
        }
    }
    if !replay.said.is_empty() {
        differences.push(format!("{}: we said more: {:?}", flow.name, replay.said));
    }
    differences
}

#[test]
fn our_daemon_says_what_the_recorded_ones_said_but_for_what_is_listed() {
    let mut used = vec![false; DEVIATIONS.len()];
    let differences: Vec<_> = flows().iter().flat_map(|flow| replay(flow, &mut used)).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    for (deviation, used) in DEVIATIONS.iter().zip(used) {
        assert!(used, "{} has no step {}", deviation.flow, deviation.step);
    }
}
