//! SP between our own two sides, and against who does not play by the rules.

use std::sync::{Arc, LazyLock};

use bytes::{Bytes, BytesMut};
use nsp::Password;
use nsp::machine::client::{self, Event, Open, RequestError};
use nsp::machine::daemon::{self, Offence};
use nsp::machine::{Ignored, Incoming, Outgoing, SpError, SpMode, SpPolicy};
use nsp::proto::{Data, Leg, Method, Methods, Packet, sp};
use nsp::secure::{ServerKey, Strength, WeakSeeds};

use crate::pair::{Pair, Wire, clear_client, json, seconds};

fn server_key() -> Arc<ServerKey> {
    static KEY: LazyLock<Arc<ServerKey>> = LazyLock::new(|| Arc::new(ServerKey::generate().unwrap()));
    KEY.clone()
}

fn secure_daemon() -> daemon::Config {
    let mut config = daemon::Config::default();
    config.sp = SpPolicy::Required { key: server_key(), weak: WeakSeeds::Refuse, timeout: seconds(10) };
    config
}

/// Both sides with SP, up to the point where the client is to judge the key.
fn offered() -> Pair {
    let mut pair = Pair::new(client::Config::default(), secure_daemon());
    pair.settle();
    assert!(matches!(pair.client_event(), Event::KeyOffered));
    pair
}

#[test]
fn nothing_goes_in_clear_but_the_probe_and_sp() {
    for wire in [Wire::Messages, Wire::Frames] {
        let mut pair = Pair::new(client::Config::default(), secure_daemon());
        pair.wire = wire;
        // Secrets are held like everything else until the key is judged.
        pair.client.token("ann", Password::new("hunter2"), seconds(60), pair.now).unwrap();
        pair.settle();
        assert!(matches!(pair.client_event(), Event::KeyOffered));
        let key = pair.client.offered_key().unwrap();
        assert_eq!(key.fingerprint(), server_key().fingerprint());
        pair.client.judge(true).unwrap();
        assert!(matches!(pair.client_event(), Event::Secured));
        pair.settle();
        assert!(matches!(pair.daemon_event(), daemon::Event::Secured(Strength::Strong)));
        let probe = pair.daemon_event();
        let is_probe = matches!(
            &probe,
            daemon::Event::Ignored(Ignored::WrongDirection { method: Method::Gt, leg: Leg::Answer })
        );
        assert!(is_probe, "{probe:?}");
        let daemon::Event::Token { user, password, .. } = pair.daemon_event() else { panic!() };
        assert_eq!((&*user, password.unwrap().reveal()), ("ann", "hunter2"));

        let (activity, _) = pair.open();
        pair.client.call(activity, "f", json("\"secret\""), seconds(5), pair.now).unwrap();
        pair.settle();
        assert!(matches!(pair.daemon_event(), daemon::Event::Call { .. }));

        assert_eq!(pair.spoken[0], ">GTrs");
        assert!(pair.spoken[1].starts_with("<SPrq") && pair.spoken[2].starts_with(">SPrs"));
        for message in &pair.spoken[3..] {
            let method = message.get(1..3).unwrap_or_default();
            assert!(!["SP", "GT", "CS", "CA", "AU"].contains(&method), "{message}");
            assert!(!message.contains("hunter2") && !message.contains("secret"));
        }
    }
}

#[test]
fn key_that_is_not_trusted_ends_the_connection_before_anything_is_said() {
    let mut pair = offered();
    pair.client.open(Open::new("Chat"), pair.now).unwrap();
    assert_eq!(pair.client.judge(false), Err(SpError::NotTrusted));
    assert!(pair.client.poll_outgoing().is_none());
}

#[test]
fn client_that_needs_sp_does_not_go_on_without() {
    let mut pair = Pair::new(client::Config::default(), daemon::Config::default());
    pair.client.open(Open::new("Chat"), pair.now).unwrap();
    pair.settle();
    pair.pass(seconds(4));
    assert_eq!(pair.client_error, None);
    pair.pass(seconds(1));
    let error = pair.client_error.clone().unwrap();
    assert_eq!(error.to_string(), "the daemon did not offer SP within 5000 ms");
    assert_eq!(pair.spoken, [">GTrs"]);
}

#[test]
fn client_that_prefers_sp_goes_on_in_clear_without_secrets() {
    let mut config = client::Config::default();
    config.sp = SpMode::Preferred;
    let mut pair = Pair::new(config, daemon::Config::default());
    pair.client.open(Open::new("Chat"), pair.now).unwrap();
    let token = |pair: &mut Pair| pair.client.token("ann", Password::new("x"), seconds(5), pair.now);
    assert_eq!(token(&mut pair), Err(RequestError::WouldLeak));
    pair.settle();
    assert!(pair.daemon_events().iter().all(|event| matches!(event, daemon::Event::Ignored(_))));
    pair.pass(seconds(5));
    assert!(matches!(pair.daemon_event(), daemon::Event::Create { .. }));
    assert_eq!(token(&mut pair), Err(RequestError::WouldLeak));
}

#[test]
fn client_that_wants_no_sp_gives_it_when_asked() {
    let mut pair = Pair::new(clear_client(), secure_daemon());
    pair.client.open(Open::new("Chat"), pair.now).unwrap();
    pair.settle();
    assert!(matches!(pair.client_event(), Event::KeyOffered));
    pair.client.judge(true).unwrap();
    pair.settle();
    let events = pair.daemon_events();
    assert!(matches!(events[..], [daemon::Event::Secured(_), daemon::Event::Create { .. }]), "{events:?}");
}

#[test]
fn answers_in_clear_are_ignored_while_a_key_is_awaited() {
    let mut pair = Pair::new(client::Config::default(), daemon::Config::default());
    let answer = Packet::new(Method::Gt, Leg::Answer, Bytes::from_static(br#"{"u":"a","s":"Fail"}"#));
    pair.client.receive(Incoming::Packet(answer), pair.now).unwrap();
    let ignored = pair.client_event();
    assert!(matches!(ignored, Event::Ignored(Ignored::NotSecured { method: Method::Gt, .. })));
}

#[test]
fn second_key_is_not_looked_at() {
    let mut pair = offered();
    let other = ServerKey::generate().unwrap();
    let again = sp::Request { public_key: other.public_pem().into() }.encode();
    pair.client.receive(Incoming::Packet(again.clone()), pair.now).unwrap();
    assert!(matches!(pair.client_event(), Event::Ignored(Ignored::Unasked { .. })));
    assert_eq!(pair.client.offered_key().unwrap().fingerprint(), server_key().fingerprint());
    pair.client.judge(true).unwrap();
    pair.client_events();
    let mut message = BytesMut::new();
    again.encode(&Methods::default(), &mut message).unwrap();
    pair.client.receive(Incoming::Message(message.freeze()), pair.now).unwrap();
    assert!(matches!(pair.client_event(), Event::Ignored(Ignored::Unreadable)));
}

#[test]
fn key_that_is_none_ends_the_connection() {
    let mut pair = Pair::new(client::Config::default(), daemon::Config::default());
    let request = sp::Request { public_key: "hello".into() }.encode();
    let error = pair.client.receive(Incoming::Packet(request), pair.now).unwrap_err();
    assert_eq!(error.to_string(), "the key of the daemon: no public key in PEM form found");
}

#[test]
fn held_messages_are_limited_on_both_sides() {
    let mut pair = Pair::new(client::Config::default(), secure_daemon());
    for _ in 0..16 {
        pair.client.open(Open::new("Chat"), pair.now).unwrap();
    }
    let refused = pair.client.open(Open::new("Chat"), pair.now);
    assert_eq!(refused, Err(RequestError::NotSecuredYet(SpError::TooMuchHeld)));

    let mut pair = Pair::new(clear_client(), secure_daemon());
    let garbage = || Incoming::Message(Bytes::from(vec![b'x'; 8 * 1024]));
    for _ in 0..8 {
        pair.daemon.receive(garbage(), pair.now).unwrap();
    }
    let offence = pair.daemon.receive(garbage(), pair.now).unwrap_err();
    assert_eq!(offence, Offence::Sp(SpError::TooMuchHeld));
}

#[test]
fn client_that_does_not_answer_or_answers_wrong_is_closed() {
    let mut pair = Pair::new(clear_client(), secure_daemon());
    pair.daemon.receive(Incoming::Message(Bytes::new()), pair.now).unwrap();
    assert!(
        matches!(pair.daemon.poll_outgoing(), Some(Outgoing::Packet(packet)) if packet.method == Method::Sp)
    );
    let wrong = sp::Answer { sealed: "d3Jvbmc=".into() }.encode();
    // What is not even a string is no answer, and waits for its turn like everything else.
    let no_answer = Packet::new(Method::Sp, Leg::Answer, Bytes::from_static(b"{}"));
    pair.daemon.receive(Incoming::Packet(no_answer), pair.now).unwrap();
    let offence = pair.daemon.receive(Incoming::Packet(wrong), pair.now).unwrap_err();
    assert_eq!(offence, Offence::Sp(SpError::NotAccepted));

    let mut pair = Pair::new(clear_client(), secure_daemon());
    pair.daemon.receive(Incoming::Message(Bytes::new()), pair.now).unwrap();
    assert_eq!(pair.daemon.poll_timeout(), Some(pair.now + seconds(10)));
    pair.now += seconds(10);
    assert_eq!(pair.daemon.handle_timeout(pair.now), Err(Offence::Sp(SpError::NotAnswered)));
}

#[test]
fn clear_cut_and_foreign_messages_are_ignored_once_secured() {
    let mut pair = offered();
    pair.client.judge(true).unwrap();
    pair.settle();
    pair.client_events();
    pair.daemon_events();
    let (activity, _) = pair.open();
    pair.client.call(activity, "f", Data::None, seconds(5), pair.now).unwrap();
    let Some(Outgoing::Sealed(sealed)) = pair.client.poll_outgoing() else { panic!() };
    for message in [Bytes::from_static(br#"GTrq{"u":"a","p":"b"}"#), sealed.slice(..96), Bytes::new()] {
        pair.daemon.receive(Incoming::Message(message), pair.now).unwrap();
        assert!(matches!(pair.daemon_event(), daemon::Event::Ignored(Ignored::Unreadable)));
    }
    let clear = Packet::new(Method::Gt, Leg::Request, Bytes::from_static(br#"{"u":"a","p":"b"}"#));
    pair.daemon.receive(Incoming::Packet(clear), pair.now).unwrap();
    assert!(matches!(pair.daemon_event(), daemon::Event::Ignored(Ignored::InClear)));
    // And it still works.
    pair.daemon.receive(Incoming::Message(sealed), pair.now).unwrap();
    assert!(matches!(pair.daemon_event(), daemon::Event::Call { .. }));
}

#[test]
fn sealed_frames_before_sp_are_ignored() {
    let mut pair = Pair::clear();
    pair.daemon.receive(Incoming::Sealed(Bytes::from_static(&[0; 96])), pair.now).unwrap();
    assert!(matches!(pair.daemon_event(), daemon::Event::Ignored(Ignored::NoKeyYet)));
    pair.client.receive(Incoming::Sealed(Bytes::from_static(&[0; 96])), pair.now).unwrap();
    assert!(matches!(pair.client_event(), Event::Ignored(Ignored::NoKeyYet)));
}

#[test]
fn heartbeat_is_heard_in_clear_on_a_secured_connection() {
    let mut pair = offered();
    pair.client.judge(true).unwrap();
    pair.settle();
    pair.client_events();
    pair.client.receive(Incoming::Message(Bytes::from_static(b"HB")), pair.now).unwrap();
    assert!(pair.client_events().is_empty() && pair.client.poll_outgoing().is_none());
}
