//! Clients that mean harm: what they can make a daemon keep.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Instant;

use bytes::Bytes;
use nsp::machine::daemon::{self, Event, code};
use nsp::machine::{Daemon, Incoming, Outgoing};
use nsp::proto::{Data, EntityId, Leg, Method, Packet, RawJson, RequestId, Status, cs, gt};
use nsp::secure::SystemRandom;

fn daemon() -> (Daemon, Instant) {
    let now = Instant::now();
    (Daemon::new(daemon::Config::default(), Box::new(SystemRandom), now), now)
}

fn call(entity: &EntityId, n: u64, function: &str, padding: &str) -> Incoming {
    let id = RequestId::numbered(n);
    let (entity, function) = (entity.clone(), function.to_owned());
    let packet = cs::Request::Call { entity, function, id, data: Data::Json(RawJson::of(&1).unwrap()) };
    let json = packet.encode().payload.json;
    let json = std::str::from_utf8(&json).unwrap().replacen('{', &format!("{{\"x\":\"{padding}\","), 1);
    Incoming::Packet(Packet::new(Method::Cs, Leg::Request, Bytes::from(json)))
}

/// An entity that is being looked at.
fn verifying(daemon: &mut Daemon, now: Instant) -> (EntityId, daemon::RequestKey) {
    let create = cs::Create {
        id: RequestId::numbered(1),
        owner: None,
        mode: cs::Mode::Normal,
        service: "Chat".into(),
        owner_domain: None,
        key: None,
        description: None,
    };
    let packet = cs::Request::Create(Box::new(create)).encode();
    daemon.receive(Incoming::Packet(packet), now).unwrap();
    let Some(Event::Create { key, .. }) = daemon.poll_event() else { panic!() };
    let entity = daemon.create(key, Ok(())).unwrap();
    let verify = cs::Request::Verify { entity: entity.clone() };
    daemon.receive(Incoming::Packet(verify.encode()), now).unwrap();
    let Some(Event::Verify { key, .. }) = daemon.poll_event() else { panic!() };
    while daemon.poll_outgoing().is_some() {}
    (entity, key)
}

/// How many of the answers are refusals because of too much at once.
fn busy(daemon: &mut Daemon) -> usize {
    let answers = std::iter::from_fn(|| daemon.poll_outgoing());
    let is_busy = |outgoing: &Outgoing| {
        let Outgoing::Packet(packet) = outgoing else { return false };
        let Ok(cs::Answer::Returned { status: Status::Failed(failure), .. }) = cs::Answer::decode(packet)
        else {
            return false;
        };
        failure.code.as_deref() == Some(code::BUSY)
    };
    answers.filter(is_busy).count()
}

#[test]
fn what_is_held_is_counted_with_all_that_it_keeps() {
    let long = "f".repeat(60_000);
    for (function, padding) in [(&*long, ""), ("f", &*long)] {
        let (mut daemon, now) = daemon();
        let (entity, key) = verifying(&mut daemon, now);
        for n in 2..10 {
            daemon.receive(call(&entity, n, function, padding), now).unwrap();
        }
        // 64 KiB have room for one.
        assert_eq!(busy(&mut daemon), 7);
        daemon.verify(key, Ok(()), now);
        let served = std::iter::from_fn(|| daemon.poll_event());
        assert_eq!(served.filter(|event| matches!(event, Event::Call { .. })).count(), 1);
    }
}

#[test]
fn what_services_work_on_is_counted_with_all_that_it_keeps() {
    let long = "f".repeat(900_000);
    for (function, padding) in [(&*long, ""), ("f", &*long)] {
        let (mut daemon, now) = daemon();
        let (entity, key) = verifying(&mut daemon, now);
        daemon.verify(key, Ok(()), now);
        for n in 2..20 {
            daemon.receive(call(&entity, n, function, padding), now).unwrap();
        }
        // 8 MiB have room for nine.
        assert_eq!(busy(&mut daemon), 9);
        let mut keys = Vec::new();
        while let Some(event) = daemon.poll_event() {
            if let Event::Call { key, .. } = event {
                keys.push(key);
            }
        }
        assert_eq!(keys.len(), 9);
        // And given back with the answer.
        for key in keys {
            daemon.give(key, Ok(Data::None.into()));
        }
        daemon.receive(call(&entity, 99, function, padding), now).unwrap();
        assert_eq!(busy(&mut daemon), 0);
    }
}

#[test]
fn names_in_requests_for_tokens_that_wait_are_counted() {
    let (mut daemon, now) = daemon();
    let (_, verifying) = verifying(&mut daemon, now);
    daemon.verify(verifying, Ok(()), now);
    while daemon.poll_outgoing().is_some() {}
    let limits = daemon::Limits::default();
    let mut keys = Vec::new();
    // The first ones are worked on, so all others wait for their turn, each with the name that it has to be answered with.
    for n in 0..100 {
        let user = format!("{n}{}", "u".repeat(if n < limits.logins { 1 } else { 200_000 }));
        let ask = gt::Request { user, password: Some("guess".into()) };
        daemon.receive(Incoming::Packet(ask.encode()), now).unwrap();
        while let Some(event) = daemon.poll_event() {
            let Event::Token { key, .. } = event else { continue };
            keys.push(key);
        }
    }
    assert_eq!(keys.len(), limits.logins);
    for key in keys {
        daemon.token(key, None);
    }
    let answers = std::iter::from_fn(|| daemon.poll_outgoing());
    let kept: usize = answers
        .map(|outgoing| {
            let Outgoing::Packet(packet) = outgoing else { return 0 };
            packet.payload.json.len()
        })
        .sum();
    assert!(kept > 1_000_000 && kept <= limits.request_bytes + 10_000, "{kept} bytes were kept");
}
