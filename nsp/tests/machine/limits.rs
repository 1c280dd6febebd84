//! Every limit is reached once, and what lies behind it is refused and not forgotten.

use nsp::machine::client::{self, Event, Open, RequestError};
use nsp::machine::daemon::{self, Offence, code};
use nsp::machine::{Ignored, Incoming};
use nsp::proto::{Data, Methods, Packet, RawJson, RequestId, Status, au, cs, gt};
use nsp::{Password, Token};

use crate::activities::{answers, code_of};
use crate::pair::{Pair, clear_client, json, seconds};

#[test]
fn documented_defaults_are_the_real_ones() {
    let limits = daemon::Limits::default();
    assert_eq!((limits.first_message, limits.message), (16 << 10, (1 << 20) + (64 << 10)));
    assert_eq!((limits.entities, limits.logins, limits.requests), (64, 4, 256));
    assert_eq!((limits.request_bytes, limits.questions, limits.faults), (8 << 20, 16, 100));
    let config = daemon::Config::default();
    assert_eq!((config.first_entity, config.request_timeout), (seconds(30), seconds(240)));
    assert_eq!(config.question_timeout, seconds(180));
    let limits = client::Limits::default();
    assert_eq!((limits.activities, limits.calls, limits.questions), (64, 256, 16));
}

#[test]
fn client_keeps_within_its_own_limits() {
    let mut config = clear_client();
    config.limits.activities = 2;
    config.limits.calls = 2;
    let mut pair = Pair::new(config, daemon::Config::default());
    let (activity, _) = pair.open();
    pair.open();
    let refused = pair.client.open(Open::new("Chat"), pair.now);
    assert_eq!(refused, Err(RequestError::TooManyActivities { limit: 2 }));

    for _ in 0..2 {
        pair.client.call(activity, "f", Data::None, seconds(5), pair.now).unwrap();
    }
    let too_many = Err(RequestError::TooManyCalls { limit: 2 });
    assert_eq!(pair.client.call(activity, "f", Data::None, seconds(5), pair.now), too_many);
    assert_eq!(pair.client.send(activity, Data::None, seconds(5), pair.now), too_many);
    // A slot is free again when somebody gives up, and when time does.
    pair.pass(seconds(5));
    let call = pair.client.call(activity, "f", Data::None, seconds(5), pair.now).unwrap();
    pair.client.call(activity, "f", Data::None, seconds(5), pair.now).unwrap();
    pair.client.give_up(call);
    pair.client.call(activity, "f", Data::None, seconds(5), pair.now).unwrap();
}

#[test]
fn sends_that_are_never_acknowledged_do_not_pile_up() {
    let mut config = clear_client();
    config.limits.calls = 3;
    let mut pair = Pair::new(config, daemon::Config::default());
    let (activity, _) = pair.open();
    for _ in 0..3 {
        pair.client.send(activity, json("1"), seconds(1), pair.now).unwrap();
        while pair.client.poll_outgoing().is_some() {}
        pair.pass(seconds(1));
    }
    let refused = pair.client.send(activity, json("1"), seconds(1), pair.now);
    assert_eq!(refused, Err(RequestError::TooManyCalls { limit: 3 }));
}

#[test]
fn entities_of_a_connection_are_limited() {
    let mut config = daemon::Config::default();
    config.limits.entities = 2;
    let mut pair = Pair::new(clear_client(), config);
    let (first, _) = pair.open();
    pair.open();
    pair.client.open(Open::new("Chat"), pair.now).unwrap();
    pair.settle();
    let Event::NotOpened { error: client::OpenError::NotCreated(failure), .. } = pair.client_event() else {
        panic!()
    };
    assert_eq!(failure.code.as_deref(), Some(code::BUSY));
    pair.client.close(first);
    pair.settle();
    pair.daemon_events();
    pair.open();
}

#[test]
fn entities_and_tokens_in_the_making_are_limited() {
    let mut config = daemon::Config::default();
    config.limits.logins = 2;
    let mut pair = Pair::new(clear_client(), config);
    for _ in 0..3 {
        pair.client.open(Open::new("Chat"), pair.now).unwrap();
    }
    pair.settle();
    assert_eq!(pair.daemon_events().len(), 2);
    assert_eq!(pair.client_events().len(), 1);

    let ask = |user: &str| {
        let request = gt::Request { user: user.into(), password: Some(Password::new("x")) };
        Incoming::Packet(request.encode())
    };
    for user in ["a", "b", "c"] {
        pair.daemon.receive(ask(user), pair.now).unwrap();
    }
    let keys: Vec<_> = pair.daemon_events().into_iter().map(token_key).collect();
    assert_eq!(keys.len(), 2);
    // The answers leave in the order of the questions, whoever is answered first.
    pair.daemon.token(keys[1], Some(Token::new("tb")));
    assert!(tokens(&mut pair).is_empty());
    pair.daemon.token(keys[0], None);
    assert_eq!(
        tokens(&mut pair),
        [r#"{"u":"a","s":"Fail"}"#, r#"{"t":"tb","u":"b","s":"OK"}"#, r#"{"u":"c","s":"Fail"}"#]
    );
}

/// They carry no id, so one without an answer would shift all that follow.
#[test]
fn tokens_beyond_all_limits_are_refused_in_their_turn_and_then_the_connection_ends() {
    let mut config = daemon::Config::default();
    (config.limits.logins, config.limits.requests, config.limits.faults) = (1, 3, 2);
    let mut pair = Pair::new(clear_client(), config);
    let ask = |n: u32| {
        let request = gt::Request { user: format!("u{n}"), password: Some(Password::new("x")) };
        Incoming::Packet(request.encode())
    };
    for n in 0..5 {
        pair.daemon.receive(ask(n), pair.now).unwrap();
    }
    let too_many = |event: &&daemon::Event| {
        matches!(event, daemon::Event::Ignored(Ignored::TooMany { method: nsp::proto::Method::Gt }))
    };
    let events = pair.daemon_events();
    assert_eq!(events.iter().filter(too_many).count(), 2);
    let offence = pair.daemon.receive(ask(5), pair.now).unwrap_err();
    assert!(matches!(offence, Offence::TooManyFaults { count: 3, .. }), "{offence}");
    let key = events.into_iter().find(|event| matches!(event, daemon::Event::Token { .. })).map(token_key);
    pair.daemon.token(key.unwrap(), Some(Token::new("t0")));
    let refused = |n| format!(r#"{{"u":"u{n}","s":"Fail"}}"#);
    let nameless = r#"{"s":"Fail"}"#.to_owned();
    assert_eq!(
        tokens(&mut pair),
        [
            r#"{"t":"t0","u":"u0","s":"OK"}"#.to_owned(),
            refused(1),
            refused(2),
            nameless.clone(),
            nameless.clone(),
            nameless
        ]
    );
}

fn token_key(event: daemon::Event) -> daemon::RequestKey {
    match event {
        daemon::Event::Token { key, .. } => key,
        other => panic!("{other:?}"),
    }
}

fn tokens(pair: &mut Pair) -> Vec<String> {
    let outgoing = std::iter::from_fn(|| pair.daemon.poll_outgoing());
    outgoing
        .map(|outgoing| match outgoing {
            nsp::machine::Outgoing::Packet(packet) => {
                String::from_utf8(packet.payload.json.to_vec()).unwrap()
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn requests_are_limited_by_number_and_by_bytes() {
    let mut config = daemon::Config::default();
    config.limits.requests = 2;
    config.limits.request_bytes = 300;
    let mut pair = Pair::new(clear_client(), config);
    let (_, entity) = pair.open();
    let call = |n, data| {
        let (entity, id) = (entity.clone(), RequestId::numbered(n));
        Incoming::Packet(cs::Request::Call { entity, function: "f".into(), id, data }.encode())
    };
    let long = || Data::Json(RawJson::of(&"0".repeat(300)).unwrap());
    pair.daemon.receive(call(1, long()), pair.now).unwrap();
    assert_eq!(code_of(&answers(&mut pair)[0]), Some(code::BUSY));

    let mut keys = Vec::new();
    for n in 2..5 {
        pair.daemon.receive(call(n, json("12345")), pair.now).unwrap();
        if let Some(daemon::Event::Call { key, .. }) = pair.daemon.poll_event() {
            keys.push(key);
        }
    }
    assert_eq!(keys.len(), 2);
    assert_eq!(code_of(&answers(&mut pair)[0]), Some(code::BUSY));
    // Both counts go down with the answer.
    pair.daemon.give(keys[0], Ok(Data::None.into()));
    answers(&mut pair);
    pair.daemon.receive(call(6, json("12345")), pair.now).unwrap();
    assert!(matches!(pair.daemon_event(), daemon::Event::Call { .. }));
}

#[test]
fn what_is_held_for_an_unverified_entity_is_limited() {
    let mut pair = Pair::clear();
    let (_, entity, key) = pair.create();
    for n in 0..20 {
        let (entity, id) = (entity.clone(), RequestId::numbered(n));
        let call = cs::Request::Call { entity, function: "f".into(), id, data: Data::None };
        pair.daemon.receive(Incoming::Packet(call.encode()), pair.now).unwrap();
    }
    let refused = answers(&mut pair);
    assert_eq!(refused.len(), 4);
    assert!(refused.iter().all(|answer| code_of(answer) == Some(code::BUSY)));
    pair.daemon.verify(key, Ok(()), pair.now);
    assert_eq!(pair.daemon_events().len(), 16);
}

#[test]
fn what_a_service_does_not_answer_is_answered_for_it() {
    let mut pair = Pair::clear();
    let (activity, _) = pair.open();
    pair.client.call(activity, "Throw", Data::None, seconds(1000), pair.now).unwrap();
    pair.settle();
    let daemon::Event::Call { key, .. } = pair.daemon_event() else { panic!() };
    let (_, entity, verify) = pair.create();
    pair.pass(daemon::Config::default().request_timeout);
    let expired: Vec<_> = pair.daemon_events();
    assert!(matches!(&expired[0], daemon::Event::Expired { key: gone } if *gone == key));
    assert!(matches!(&expired[1], daemon::Event::Expired { key: gone } if *gone == verify));
    assert!(matches!(&expired[2], daemon::Event::Closed { entity: gone } if *gone == entity));
    let failed = pair.client_events().into_iter().find_map(|event| match event {
        Event::Answered { result: Err(client::CallError::Failed(failure)), .. } => failure.code,
        _ => None,
    });
    assert_eq!(failed.as_deref(), Some(code::TIMEOUT));
    // Whoever comes too late says it to nobody.
    pair.daemon.give(key, Ok(Data::None.into()));
    assert!(pair.daemon.poll_outgoing().is_none());
}

#[test]
fn unanswered_token_and_entity_are_refused_in_the_end() {
    let mut pair = Pair::clear();
    pair.client.open(Open::new("Chat"), pair.now).unwrap();
    pair.client.token("ann", Password::new("x"), seconds(1000), pair.now).unwrap();
    pair.settle();
    assert_eq!(pair.daemon_events().len(), 2);
    // The clock for the first entity does not run out while somebody works on it.
    for _ in 0..8 {
        pair.pass(seconds(30));
        assert_eq!(pair.offence, None);
    }
    let events = pair.client_events();
    assert!(events.iter().any(|event| matches!(event, Event::Token { result: Ok(None), .. })), "{events:?}");
    assert_eq!(pair.daemon_events().len(), 2);
    pair.pass(seconds(30));
    assert_eq!(pair.offence, Some(Offence::NoEntity { within: seconds(30) }));
}

#[test]
fn connection_that_creates_nothing_is_closed() {
    let mut pair = Pair::clear();
    pair.pass(seconds(29));
    assert_eq!(pair.offence, None);
    pair.pass(seconds(1));
    assert_eq!(pair.offence, Some(Offence::NoEntity { within: seconds(30) }));

    let mut pair = Pair::clear();
    let (activity, _) = pair.open();
    pair.client.close(activity);
    pair.pass(seconds(3600));
    assert_eq!(pair.offence, None);
}

#[test]
fn messages_may_be_larger_once_there_is_an_entity() {
    let mut pair = Pair::clear();
    assert_eq!(pair.daemon.message_limit(), 16 * 1024);
    pair.open();
    assert_eq!(pair.daemon.message_limit(), (1024 + 64) * 1024);
}

#[test]
fn nonsense_is_tolerated_up_to_a_number() {
    let mut config = daemon::Config::default();
    config.limits.faults = 3;
    let mut pair = Pair::new(clear_client(), config);
    let (_, entity) = pair.open();
    // What crosses in good faith is not counted.
    let unasked = au::Answer { question: au::Question::Token, id: RequestId::none(), value: None };
    let unknown = cs::Request::Verify { entity: nsp::proto::EntityId::new("_x").unwrap() };
    for packet in [unasked.encode(), unknown.encode()].iter().cycle().take(50) {
        pair.daemon.receive(Incoming::Packet(packet.clone()), pair.now).unwrap();
    }
    let nonsense: [&'static [u8]; 4] = [
        b"ZZrq{}",
        b"GTrq{bad",
        b"HB",
        b"CSrs0000000000000033{\"m\":\"VE\",\"d\":{\"i\":\"x\",\"s\":\"OK\"}}",
    ];
    pair.daemon_events();
    for message in &nonsense[..3] {
        pair.daemon.receive(Incoming::Message((*message).into()), pair.now).unwrap();
        assert!(matches!(pair.daemon_event(), daemon::Event::Ignored(_)));
    }
    let offence = pair.daemon.receive(Incoming::Message(nonsense[3].into()), pair.now).unwrap_err();
    let Offence::TooManyFaults { count: 4, last: Ignored::WrongDirection { .. } } = offence else {
        panic!("{offence}")
    };
    assert!(pair.daemon.has(&entity));
}

#[test]
fn heartbeats_go_out_each_minute_and_are_not_answered() {
    let mut config = daemon::Config::default();
    config.heartbeat = Some(seconds(60));
    let mut pair = Pair::new(clear_client(), config);
    pair.open();
    let before = pair.spoken.len();
    for _ in 0..4 {
        pair.pass(seconds(30));
    }
    assert_eq!(pair.spoken[before..], ["<HB", "<HB"]);
    assert!(pair.client_events().is_empty());
}

#[test]
fn status_of_acknowledgements_is_not_waited_for() {
    let mut pair = Pair::clear();
    let (_, entity) = pair.open();
    let answer =
        nsp::proto::ca::Answer { of: nsp::proto::ca::Acknowledged::Event, entity, status: Status::fail() };
    let mut out = bytes::BytesMut::new();
    let packet: Packet = answer.encode();
    packet.encode(&Methods::default(), &mut out).unwrap();
    pair.daemon.receive(Incoming::Message(out.freeze()), pair.now).unwrap();
    assert!(pair.daemon_events().is_empty() && pair.daemon.poll_outgoing().is_none());
}
