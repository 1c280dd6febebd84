//! Passwords, tokens and keys are in no log at any level, in no event, error or machine that is shown with `Debug`, and not on the
//! wire once SP is done.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "../../nossock/tests/common/log.rs"]
mod log;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use nsp::machine::check::{Check, Demand, Step, Subject};
use nsp::machine::client::{self, Open};
use nsp::machine::daemon::{self, Event};
use nsp::machine::entities::{ConnectionId, Record};
use nsp::machine::{Client, Daemon, Entities, Incoming, Outgoing, SpPolicy};
use nsp::proto::{Methods, Packet, RequestId, au, cs, gt};
use nsp::secure::{Cipher, Seed, ServerKey, SessionKey, SystemRandom, WeakSeeds, accept, answer};
use nsp::{DaemonKey, Password, Proof, Token};

use log::Log;

const PASSWORD: &str = "pw-3f9a-correct-horse";
const TOKEN: &str = "tk-77c1-battery-staple";
const KEY: &str = "dk-0b4e-daemon-of-daemons";
const PROOF: &str = "pf-5d20-of-the-owner";

/// A client and a daemon over SP; all that either says and learns is shown.
struct Pair {
    client: Client,
    daemon: Daemon,
    now: Instant,
    log: Log,
    wire: Vec<u8>,
}

impl Pair {
    fn settle(&mut self) -> (Vec<client::Event>, Vec<Event>) {
        let (mut of_client, mut of_daemon) = (Vec::new(), Vec::new());
        loop {
            let mut silent = true;
            while let Some(outgoing) = self.client.poll_outgoing() {
                silent = false;
                let incoming = self.carry(&outgoing);
                self.daemon.receive(incoming, self.now).unwrap();
            }
            while let Some(outgoing) = self.daemon.poll_outgoing() {
                silent = false;
                let incoming = self.carry(&outgoing);
                self.client.receive(incoming, self.now).unwrap();
            }
            while let Some(event) = self.client.poll_event() {
                if matches!(event, client::Event::KeyOffered) {
                    self.client.judge(true).unwrap();
                    silent = false;
                }
                self.log.shows(&event);
                of_client.push(event);
            }
            while let Some(event) = self.daemon.poll_event() {
                self.log.shows(&event);
                of_daemon.push(event);
            }
            if silent {
                self.log.shows(&(&self.client, &self.daemon));
                return (of_client, of_daemon);
            }
        }
    }

    fn carry(&mut self, outgoing: &Outgoing) -> Incoming {
        let mut message = BytesMut::new();
        outgoing.encode(&Methods::default(), &mut message).unwrap();
        self.wire.extend_from_slice(&message);
        let incoming = Incoming::Message(message.freeze());
        // A ciphertext may be shown; as numbers it says nothing.
        tracing::trace!(?incoming, "carried");
        incoming
    }
}

#[test]
fn no_secret_of_the_machines_is_shown_anywhere() {
    let log = Log::of_everything();

    let key = Arc::new(ServerKey::generate().unwrap());
    let private = key.to_pem().unwrap();
    log.shows(&key);
    let mut config = daemon::Config::default();
    config.sp = SpPolicy::Required { key, weak: WeakSeeds::Refuse, timeout: Duration::from_secs(5) };
    let now = Instant::now();
    let mut pair = Pair {
        client: Client::new(client::Config::default(), Box::new(SystemRandom), now),
        daemon: Daemon::new(config, Box::new(SystemRandom), now),
        now,
        log: log.clone(),
        wire: Vec::new(),
    };
    // The probe that makes the daemon speak.
    pair.client.handle_timeout(now).unwrap();
    pair.settle();
    pair.client.token("ann", Password::new(PASSWORD), Duration::from_secs(9), now).unwrap();
    let (_, events) = pair.settle();
    let asked = events.iter().find_map(|event| match event {
        Event::Token { key, password, .. } => Some((*key, password.clone().unwrap())),
        _ => None,
    });
    let (request, password) = asked.expect("the daemon was asked for a token, over SP");
    assert_eq!(password.reveal(), PASSWORD, "it arrives, all the same");
    pair.daemon.token(request, Some(Token::new(TOKEN)));
    let (events, _) = pair.settle();
    let got = events.iter().any(
        |event| matches!(event, client::Event::Token { result: Ok(Some(token)), .. } if token.reveal() == TOKEN),
    );
    assert!(got, "{events:?}");

    let mut open = Open::new("Chat");
    open.key = Some(DaemonKey::new(KEY));
    log.shows(&open);
    pair.client.open(open, now).unwrap();
    let (_, events) = pair.settle();
    assert!(events.iter().any(|event| matches!(event, Event::Create { create, .. } if create.key.is_some())));
    pair.daemon.ask(au::Question::Password, "ann", now).unwrap();
    let (events, _) = pair.settle();
    let question = events.iter().find_map(|event| match event {
        client::Event::Question { key, .. } => Some(*key),
        _ => None,
    });
    pair.client.answer(question.unwrap(), Some(Proof::new(PROOF)));
    let (_, events) = pair.settle();
    assert!(events.iter().any(|event| matches!(event, Event::Answer { value: Some(_), .. })));

    let mut secrets = vec![PASSWORD, TOKEN, KEY, PROOF];
    let wire = String::from_utf8_lossy(&pair.wire);
    assert!(secrets.iter().all(|secret| !wire.contains(secret)), "SP hides them");
    secrets.extend(private.lines().filter(|line| !line.starts_with('-')));
    log.holds_none_of(&secrets, &[]);
}

#[test]
fn no_type_that_holds_a_secret_shows_it() {
    let log = Log::default();
    let secrets = || (Password::new(PASSWORD), Token::new(TOKEN), DaemonKey::new(KEY), Proof::new(PROOF));
    log.shows(&secrets());
    let (password, token, key, proof) = secrets();
    let request = gt::Request { user: "ann".into(), password: Some(password.clone()) };
    let answered = gt::Answer { user: None, token: Some(token.clone()) };
    let proved =
        au::Answer { question: au::Question::Token, id: RequestId::none(), value: Some(proof.clone()) };
    let create = cs::Create {
        id: RequestId::none(),
        owner: None,
        mode: cs::Mode::Daemon,
        service: "Chat".into(),
        owner_domain: None,
        key: Some(key),
        description: None,
    };
    let create = cs::Request::Create(Box::new(create));
    let packets: [Packet; 4] = [request.encode(), answered.encode(), proved.encode(), create.encode()];
    log.shows(&(&request, &answered, &proved, &create, &packets));
    let outgoing = packets.clone().map(Outgoing::Packet);
    let incoming = packets.map(Incoming::Packet);
    log.shows(&(outgoing, incoming));

    for demand in [Demand::Token, Demand::Password, Demand::Superuser] {
        let subject =
            Subject { owner: Some("ann".into()), remembered: Some(token.clone()), ..Subject::default() };
        log.shows(&subject);
        let (mut check, mut step) = Check::begin(demand, subject);
        for _ in 0..8 {
            log.shows(&(&check, &step));
            step = match step {
                Step::Ask { .. } => check.answered(Some(proof.clone())),
                Step::JudgePrivilege { .. } => check.judged(true),
                // The remembered one is not right any more: the client is asked.
                Step::JudgeToken { token, .. } => check.judged(token.reveal() == PROOF),
                Step::JudgePassword { .. } => check.judged(true),
                Step::Done(_) => break,
            };
        }
    }

    let mut entities = Entities::default();
    let id = nsp::proto::EntityId::new("_a").unwrap();
    entities.insert(Record {
        id: id.clone(),
        connection: ConnectionId(1),
        mode: cs::Mode::Normal,
        service: "Chat".into(),
        owner: Some("ann".into()),
        owner_domain: None,
        address: None,
        carrier: "Local",
        description: None,
        trusted_daemon: false,
    });
    entities.prove(&id, "ann", Some(token));
    log.shows(&entities);

    let server = ServerKey::generate().unwrap();
    let public = nsp::secure::PublicKey::from_pem(server.public_pem()).unwrap();
    let seed = Seed::strong(&mut SystemRandom);
    let (sealed, session) = answer(&public, &mut SystemRandom).unwrap();
    let agreed = accept(&server, &sealed, WeakSeeds::Refuse).unwrap();
    let again = SessionKey::derive(server.public_pem(), &seed);
    log.shows(&(&server, &public, &seed, &session, &again, Cipher::new(&session), &agreed));
    let private = server.to_pem().unwrap();
    let mut secrets = vec![PASSWORD, TOKEN, KEY, PROOF];
    secrets.extend(private.lines().filter(|line| !line.starts_with('-')));
    log.holds_none_of(&secrets, &[]);
}
