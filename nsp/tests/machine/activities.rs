//! Activities from their creation to their end.

use bytes::Bytes;
use nsp::machine::client::{CallError, Event, Open, OpenError, RequestError};
use nsp::machine::daemon::{self, Gift, code};
use nsp::machine::{Ignored, Incoming};
use nsp::proto::{Data, EntityId, Failure, Packet, RawJson, RequestId, Status, ca, cs};

use crate::pair::{Pair, Wire, clear_client, json, seconds};

#[test]
fn activity_is_created_verified_used_and_closed() {
    let mut pair = Pair::clear();
    let mut open = Open::new("Chat");
    open.owner = Some("ann".into());
    open.owner_domain = Some("127.0.0.1".into());
    let activity = pair.client.open(open, pair.now).unwrap();
    pair.settle();
    let daemon::Event::Create { key, create } = pair.daemon_event() else { panic!() };
    assert_eq!((create.owner.as_deref(), create.mode), (Some("ann"), cs::Mode::Normal));
    let entity = pair.daemon.create(key, Ok(())).unwrap();
    pair.settle();
    let daemon::Event::Verify { key, .. } = pair.daemon_event() else { panic!() };
    pair.daemon.verify(key, Ok(()), pair.now);
    pair.settle();
    assert!(matches!(pair.client_event(), Event::Opened { entity: found, .. } if found == entity));

    let call = pair.client.call(activity, "Hello", json("[1]"), seconds(5), pair.now).unwrap();
    pair.settle();
    let daemon::Event::Call { key, function, data, .. } = pair.daemon_event() else { panic!() };
    assert_eq!((&*function, data), ("Hello", json("[1]")));
    pair.daemon.give(key, Ok(json("2").into()));
    pair.settle();
    let Event::Answered { call: answered, result } = pair.client_event() else { panic!() };
    assert_eq!((answered, result.unwrap().data), (call, json("2")));

    pair.client.close(activity);
    pair.settle();
    assert!(matches!(pair.daemon_event(), daemon::Event::Closed { entity: closed } if closed == entity));
    assert!(pair.client_events().is_empty() && pair.daemon_events().is_empty());

    let id = entity.as_str();
    let cs = |json: String| format!("CSrq{:016}{json}", json.len());
    assert_eq!(
        pair.spoken[0],
        format!(
            ">{}",
            cs(r#"{"m":"CE","d":{"t":"_1","o":"ann","m":"normal","s":"Chat","od":"127.0.0.1","k":false}}"#
                .into())
        )
    );
    assert_eq!(pair.spoken[2], format!(">{}", cs(format!(r#"{{"m":"VE","d":{{"i":"{id}"}}}}"#))));
    assert_eq!(pair.spoken[6], format!(">{}", cs(format!(r#"{{"m":"CS","d":{{"i":"{id}"}}}}"#))));
    assert_eq!(pair.spoken.len(), 7);
}

#[test]
fn blobs_travel_both_ways_over_messages_and_frames() {
    for wire in [Wire::Messages, Wire::Frames] {
        let mut pair = Pair::clear();
        pair.wire = wire;
        let (activity, entity) = pair.open();
        let meta = RawJson::new(r#"{"w":64}"#).unwrap();
        let blob = Data::Blob(Bytes::from_static(b"\0\xff"));
        pair.client
            .call_blob(activity, "Avatar", Some(meta.clone()), blob.clone(), seconds(5), pair.now)
            .unwrap();
        pair.settle();
        let daemon::Event::CallBlob { key, meta: seen, data, .. } = pair.daemon_event() else { panic!() };
        assert_eq!((seen, &data), (Some(meta.clone()), &blob));
        pair.daemon.give(key, Ok(Gift { meta: Some(meta.clone()), data }));
        let event = ca::Request::BlobEvent {
            entity,
            event: "Pic".into(),
            meta: None,
            data: Data::Blob(Bytes::new()),
        };
        pair.daemon.push(&event).unwrap();
        pair.settle();
        let Event::Answered { result, .. } = pair.client_event() else { panic!() };
        let reply = result.unwrap();
        assert_eq!((reply.meta, reply.data), (Some(meta), blob));
        let Event::BlobEvent { event, data, .. } = pair.client_event() else { panic!() };
        assert_eq!((&*event, data), ("Pic", Data::Blob(Bytes::new())));
    }
}

#[test]
fn events_are_handed_on_before_the_service_has_answered_ve() {
    let mut pair = Pair::clear();
    let (activity, entity, key) = pair.create();
    let welcome = ca::Request::Event { entity, event: "welcome".into(), data: json("\"hi\"") };
    pair.daemon.push(&welcome).unwrap();
    pair.settle();
    assert!(matches!(pair.client_event(), Event::Event { activity: to, .. } if to == activity));
    pair.daemon.verify(key, Ok(()), pair.now);
    pair.settle();
    assert!(matches!(pair.client_event(), Event::Opened { .. }));
}

#[test]
fn unknown_service_and_refused_entity_say_why() {
    let mut pair = Pair::clear();
    pair.client.open(Open::new("Chat"), pair.now).unwrap();
    pair.settle();
    let daemon::Event::Create { key, .. } = pair.daemon_event() else { panic!() };
    let failure = Failure { code: Some("no_service".into()), ..Failure::default() };
    assert_eq!(pair.daemon.create(key, Err(Box::new(failure))), None);
    pair.settle();
    let Event::NotOpened { error: OpenError::NotCreated(failure), .. } = pair.client_event() else {
        panic!()
    };
    assert_eq!(failure.code.as_deref(), Some("no_service"));

    let (_, entity, key) = pair.create();
    pair.daemon.verify(key, Err(Box::new(Failure::new("banned", "Error: not you"))), pair.now);
    pair.settle();
    let Event::NotOpened { error: OpenError::Refused(failure), .. } = pair.client_event() else { panic!() };
    assert_eq!(failure.to_string(), "Error: not you");
    assert!(!pair.daemon.has(&entity));
}

#[test]
fn failures_come_back_with_text_code_and_id() {
    let mut pair = Pair::clear();
    let (activity, _) = pair.open();
    pair.client.call(activity, "f", Data::None, seconds(5), pair.now).unwrap();
    pair.settle();
    let daemon::Event::Call { key, .. } = pair.daemon_event() else { panic!() };
    let failure =
        Failure { text: Some("Error: no".into()), code: Some("denied".into()), id: Some("4f".into()) };
    pair.daemon.give(key, Err(Box::new(failure.clone())));
    pair.settle();
    let Event::Answered { result: Err(CallError::Failed(seen)), .. } = pair.client_event() else { panic!() };
    assert_eq!(*seen, failure);
}

#[test]
fn late_reply_is_dropped_and_told_as_ignored() {
    let mut pair = Pair::clear();
    let (activity, _) = pair.open();
    let first = pair.client.call(activity, "slow", Data::None, seconds(5), pair.now).unwrap();
    pair.settle();
    let daemon::Event::Call { key, .. } = pair.daemon_event() else { panic!() };
    pair.pass(seconds(5));
    let Event::Answered { call, result } = pair.client_event() else { panic!() };
    assert_eq!((call, result), (first, Err(CallError::Timeout)));

    pair.client.call(activity, "next", Data::None, seconds(5), pair.now).unwrap();
    pair.daemon.give(key, Ok(json("\"late\"").into()));
    pair.settle();
    assert!(matches!(pair.client_event(), Event::Ignored(Ignored::Unasked { .. })));
    assert!(pair.client_events().is_empty());
}

#[test]
fn acknowledgement_of_a_send_that_was_given_up_is_not_the_next_one_s() {
    let mut pair = Pair::clear();
    let (activity, entity) = pair.open();
    let slow = pair.client.send(activity, json("1"), seconds(5), pair.now).unwrap();
    let outgoing = pair.client.poll_outgoing().unwrap();
    pair.pass(seconds(5));
    assert!(
        matches!(pair.client_event(), Event::Answered { call, result: Err(CallError::Timeout) } if call == slow)
    );

    let next = pair.client.send(activity, json("2"), seconds(5), pair.now).unwrap();
    // The acknowledgement of the first comes now, and then nothing for a while.
    let _ = outgoing;
    let sent = cs::Answer::Sent { entity, status: Status::Ok }.encode();
    pair.client.receive(Incoming::Packet(sent.clone()), pair.now).unwrap();
    assert!(matches!(pair.client_event(), Event::Ignored(_)));
    pair.client.receive(Incoming::Packet(sent), pair.now).unwrap();
    assert!(matches!(pair.client_event(), Event::Answered { call, result: Ok(_) } if call == next));
}

#[test]
fn late_entity_is_closed_again() {
    let mut pair = Pair::clear();
    pair.client.open(Open::new("Chat"), pair.now).unwrap();
    pair.settle();
    let daemon::Event::Create { key, .. } = pair.daemon_event() else { panic!() };
    pair.pass(clear_client().open_timeout);
    assert!(matches!(pair.client_event(), Event::NotOpened { error: OpenError::Timeout, .. }));
    let entity = pair.daemon.create(key, Ok(())).unwrap();
    pair.settle();
    assert!(matches!(pair.daemon_event(), daemon::Event::Closed { entity: closed } if closed == entity));
}

#[test]
fn close_while_it_is_created_reaches_the_entity_too() {
    let mut pair = Pair::clear();
    let activity = pair.client.open(Open::new("Chat"), pair.now).unwrap();
    pair.settle();
    let daemon::Event::Create { key, .. } = pair.daemon_event() else { panic!() };
    pair.client.close(activity);
    let entity = pair.daemon.create(key, Ok(())).unwrap();
    pair.settle();
    assert!(!pair.daemon.has(&entity));
    assert!(pair.client_events().iter().all(|event| matches!(event, Event::Ignored(_))));
}

#[test]
fn calls_fail_at_once_when_their_activity_or_connection_ends() {
    let mut pair = Pair::clear();
    let (first, entity) = pair.open();
    let (second, _) = pair.open();
    pair.client.call(first, "f", Data::None, seconds(60), pair.now).unwrap();
    let kept = pair.client.call(second, "f", Data::None, seconds(60), pair.now).unwrap();
    pair.settle();
    let closing = pair.daemon_events();
    pair.daemon.push(&ca::Request::Close { entity }).unwrap();
    assert!(matches!(pair.daemon_event(), daemon::Event::Expired { .. }));
    pair.settle();
    assert!(matches!(pair.client_event(), Event::Answered { result: Err(CallError::Closed), .. }));
    assert!(matches!(pair.client_event(), Event::Closed { activity } if activity == first));
    assert_eq!(closing.len(), 2);

    pair.client.disconnect();
    let events = pair.client_events();
    assert!(events.iter().any(|event| matches!(event, Event::Answered { call, result: Err(CallError::Disconnected) } if *call == kept)));
    assert!(events.iter().any(|event| matches!(event, Event::Closed { activity } if *activity == second)));
    assert_eq!(pair.client.open(Open::new("Chat"), pair.now), Err(RequestError::Disconnected));
    assert_eq!(pair.client.poll_timeout(), None);

    pair.daemon.disconnect();
    let events = pair.daemon_events();
    assert!(events.iter().any(|event| matches!(event, daemon::Event::Expired { .. })));
    assert!(events.iter().any(|event| matches!(event, daemon::Event::Closed { .. })));
    assert_eq!(pair.daemon.poll_timeout(), None);
}

#[test]
fn what_is_asked_before_the_answer_to_ve_is_served_after_it() {
    let mut pair = Pair::clear();
    let (_, entity, key) = pair.create();
    let call = |n| cs::Request::Call {
        entity: entity.clone(),
        function: "f".into(),
        id: RequestId::numbered(n),
        data: Data::None,
    };
    let send = cs::Request::Send { entity: entity.clone(), data: json("1") };
    for request in [call(100), send, call(101)] {
        pair.daemon.receive(Incoming::Packet(request.encode()), pair.now).unwrap();
    }
    assert!(pair.daemon_events().is_empty());
    pair.daemon.verify(key, Ok(()), pair.now);
    let events = pair.daemon_events();
    assert!(matches!(
        events[..],
        [daemon::Event::Call { .. }, daemon::Event::Data { .. }, daemon::Event::Call { .. }]
    ));
}

#[test]
fn what_was_asked_of_a_service_that_refuses_is_refused() {
    let mut pair = Pair::clear();
    let (_, entity, key) = pair.create();
    let call =
        cs::Request::Call { entity, function: "f".into(), id: RequestId::numbered(100), data: Data::None };
    pair.daemon.receive(Incoming::Packet(call.encode()), pair.now).unwrap();
    pair.daemon.verify(key, Err(Box::default()), pair.now);
    let answers = answers(&mut pair);
    assert!(matches!(&answers[0], cs::Answer::Verified { status: Status::Failed(_), .. }));
    assert_eq!(code_of(&answers[1]), Some(code::REFUSED));
    // And it is gone.
    pair.daemon.receive(Incoming::Packet(call.encode()), pair.now).unwrap();
    assert_eq!(code_of(&self::answers(&mut pair)[0]), Some(code::NO_ENTITY));
}

#[test]
fn entity_that_was_never_shown_to_its_service_cannot_be_used() {
    let mut pair = Pair::clear();
    pair.client.open(Open::new("Chat"), pair.now).unwrap();
    pair.settle();
    let daemon::Event::Create { key, .. } = pair.daemon_event() else { panic!() };
    let entity = pair.daemon.create(key, Ok(())).unwrap();
    let _ = answers(&mut pair);
    for request in requests(&entity) {
        pair.daemon.receive(Incoming::Packet(request.encode()), pair.now).unwrap();
        assert_eq!(code_of(&answers(&mut pair)[0]), Some(code::NOT_VERIFIED), "{request:?}");
    }
}

#[test]
fn entities_of_nobody_and_of_others_are_refused_alike() {
    let (mut mine, mut theirs) = (Pair::clear(), Pair::clear());
    let (_, entity) = mine.open();
    theirs.open();
    let nobody = EntityId::new("_nope").unwrap();
    for request in requests(&entity).into_iter().chain(requests(&nobody)) {
        theirs.daemon.receive(Incoming::Packet(request.encode()), theirs.now).unwrap();
        assert_eq!(code_of(&answers(&mut theirs)[0]), Some(code::NO_ENTITY), "{request:?}");
        assert!(matches!(theirs.daemon_event(), daemon::Event::Ignored(Ignored::UnknownEntity { .. })));
    }
    // A close is not answered, and closes nothing.
    let close = cs::Request::Close { entity: entity.clone() }.encode();
    theirs.daemon.receive(Incoming::Packet(close), theirs.now).unwrap();
    assert!(answers(&mut theirs).is_empty() && mine.daemon.has(&entity));
    // Nor can it be spoken to by way of another connection.
    let push = ca::Request::Data { entity, data: json("1") };
    assert!(theirs.daemon.push(&push).is_err() && mine.daemon.push(&push).is_ok());
}

#[test]
fn second_ve_changes_nothing() {
    let mut pair = Pair::clear();
    let (_, entity) = pair.open();
    let verify = cs::Request::Verify { entity }.encode();
    pair.daemon.receive(Incoming::Packet(verify), pair.now).unwrap();
    assert!(matches!(answers(&mut pair)[0], cs::Answer::Verified { status: Status::Ok, .. }));
    assert!(pair.daemon_events().is_empty());
}

#[test]
fn answer_of_another_kind_or_entity_is_not_the_answer() {
    let mut pair = Pair::clear();
    let (activity, entity) = pair.open();
    let (_, other) = pair.open();
    let call = pair.client.call(activity, "f", Data::None, seconds(5), pair.now).unwrap();
    let Some(nsp::machine::Outgoing::Packet(sent)) = pair.client.poll_outgoing() else { panic!() };
    let cs::Request::Call { id, .. } = cs::Request::decode(&sent).unwrap() else { panic!() };
    let (status, data) = (Status::Ok, Data::None);
    let wrong: [Packet; 2] = [
        cs::Answer::Returned { id: id.clone(), entity: other, status: status.clone(), data: data.clone() }
            .encode(),
        cs::Answer::ReturnedBlob {
            id: id.clone(),
            entity: entity.clone(),
            status: status.clone(),
            meta: None,
            data: data.clone(),
        }
        .encode(),
    ];
    for packet in wrong {
        pair.client.receive(Incoming::Packet(packet), pair.now).unwrap();
        assert!(matches!(pair.client_event(), Event::Ignored(Ignored::Unasked { .. })));
    }
    let right = cs::Answer::Returned { id, entity, status, data }.encode();
    pair.client.receive(Incoming::Packet(right), pair.now).unwrap();
    assert!(matches!(pair.client_event(), Event::Answered { call: answered, .. } if answered == call));
}

/// One request of each kind that needs an entity and is answered.
fn requests(entity: &EntityId) -> Vec<cs::Request> {
    let (entity, id) = (entity.clone(), RequestId::numbered(77));
    vec![
        cs::Request::Send { entity: entity.clone(), data: json("1") },
        cs::Request::Call { entity: entity.clone(), function: "f".into(), id: id.clone(), data: Data::None },
        cs::Request::CallBlob { entity, function: "f".into(), id, meta: None, data: Data::None },
    ]
}

/// What the daemon answers now.
pub(crate) fn answers(pair: &mut Pair) -> Vec<cs::Answer> {
    let outgoing = std::iter::from_fn(|| pair.daemon.poll_outgoing());
    outgoing
        .map(|outgoing| match outgoing {
            nsp::machine::Outgoing::Packet(packet) => cs::Answer::decode(&packet).unwrap(),
            other => panic!("{other:?}"),
        })
        .collect()
}

pub(crate) fn code_of(answer: &cs::Answer) -> Option<&str> {
    match answer {
        cs::Answer::Created { result: Err(failure), .. } => failure.code.as_deref(),
        cs::Answer::Verified { status, .. }
        | cs::Answer::Sent { status, .. }
        | cs::Answer::Returned { status, .. }
        | cs::Answer::ReturnedBlob { status, .. } => match status {
            Status::Failed(failure) => failure.code.as_deref(),
            Status::Ok => None,
        },
        cs::Answer::Created { .. } => None,
    }
}
