//! What services send: whom it reaches, and what happens to those who are slow.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nsp::carrier::CarrierEnd;
use nsp::daemon::{Daemon, DaemonHandle, Emitter, Entity, Fail, Json, Limits, Overflow, Service};
use nsp::machine::entities::{Field, Filter};
use nsp::proto::{Data, ca};
use serde_json::{Value, json};

use crate::book::Book;
use crate::wire::{Wire, daemon};

/// A service of which a test has the emitter. Entities join the groups that they ask for.
async fn service(limits: Limits) -> (Daemon, DaemonHandle, Emitter) {
    let kept: Arc<Mutex<Option<Emitter>>> = Arc::default();
    let keeper = Arc::clone(&kept);
    let service = Service::new("Chat")
        .on_start(move |emitter| *keeper.lock().unwrap() = Some(emitter))
        .function("join", async |entity: Entity, Json(group): Json<String>| -> Result<(), Fail> {
            Ok(entity.join(&group)?)
        })
        .function("prove", async |entity: Entity| -> Result<String, Fail> {
            Ok(entity.prove(nsp::daemon::Demand::Token).await?.user.unwrap().to_string())
        })
        .function("burst", async |entity: Entity, Json(n): Json<usize>| -> Result<usize, Fail> {
            let mut sent = 0;
            for n in 0..n {
                sent += entity.emit("burst", &n).await?.sent;
            }
            Ok(sent)
        });
    let other = Service::new("Other");
    let book = Book::of(&[("ann", 1)]);
    let builder = Daemon::builder().shared_authority(book).service(service).service(other).limits(limits);
    let (daemon, handle) = daemon(builder).await;
    let emitter = kept.lock().unwrap().take().unwrap();
    (daemon, handle, emitter)
}

async fn event(wire: &mut Wire) -> (String, Value) {
    match wire.event().await {
        ca::Request::Event { event, data, .. } => (event, data.into_json().unwrap().to().unwrap()),
        ca::Request::Data { data, .. } => ("data".into(), data.into_json().unwrap().to().unwrap()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn groups_users_filters_and_all_reach_whom_they_name() {
    let (_daemon, handle, chat) = service(Limits::default()).await;
    let mut wires: Vec<_> = (0..3).map(|_| Wire::to(&handle)).collect();
    let mut entities = Vec::new();
    for (wire, groups) in wires.iter_mut().zip([&["x", "y"][..], &["y"], &[]]) {
        let entity = wire.open_as("Chat", Some("ann")).await;
        wire.open("Other").await;
        for group in groups {
            wire.call(&entity, "join", json!(group)).await.unwrap();
        }
        entities.push(entity);
    }
    let id = wires[0].begin(&entities[0], "prove", json!(null)).await;
    wires[0].show("token of ann").await;
    assert_eq!(wires[0].returned().await, (id, Ok(json!("ann"))));

    let first = handle.entity(&entities[0]).unwrap();
    for (audience, reached) in [
        (chat.to_all(), 3),
        (chat.to_all().except(&first), 2),
        (chat.to_entity(&first), 1),
        (chat.to_groups(["x", "y"]), 2),
        (chat.to_including_groups(["x", "y"]), 1),
        (chat.to_groups(["none"]), 0),
        (chat.to_user("ann"), 1),
        (chat.to_user("bob"), 0),
        (chat.to_filter(Filter::is(Field::Owner, "ann")), 3),
        (chat.to_filter(Filter::is(Field::Service, "Other")), 0),
    ] {
        assert_eq!(audience.clone().emit("e", &1).await.unwrap().sent, reached, "{audience:?}");
    }
    // In the order in which it was sent, and by whom it was meant for.
    for (wire, n) in wires.iter_mut().zip([6, 4, 3]) {
        for _ in 0..n {
            assert_eq!(event(wire).await, ("e".into(), json!(1)));
        }
        assert!(wire.is_silent().await);
    }
    assert_eq!(handle.stats().pushed, 13);
}

#[tokio::test(start_paused = true)]
async fn data_and_blobs_are_sent_as_well() {
    let (_daemon, handle, chat) = service(Limits::default()).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Chat").await;
    chat.to_all().send(&json!({"typing": true})).await.unwrap();
    chat.to_all().send_blob(&b"\0\x01"[..]).await;
    chat.to_all().emit_blob("picture", &b"png"[..], &json!({"w": 1})).await.unwrap();
    assert_eq!(event(&mut wire).await, ("data".into(), json!({"typing": true})));
    let blob = ca::Request::Data { entity: entity.clone(), data: Data::Blob(vec![0, 1].into()) };
    assert_eq!(wire.event().await, blob);
    let ca::Request::BlobEvent { event, meta, data, .. } = wire.event().await else { panic!() };
    assert_eq!((&*event, meta.unwrap().as_str(), data), ("picture", r#"{"w":1}"#, Data::Blob("png".into())));
    let wrong = std::collections::HashMap::from([((1, 2), 3)]);
    assert!(chat.to_all().emit("e", &wrong).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn function_that_sends_more_than_is_queued_waits_for_its_own_client() {
    let (_daemon, handle, _chat) = service(Limits::default()).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Chat").await;
    wire.begin(&entity, "burst", json!(5000)).await;
    for n in 0..5000 {
        assert_eq!(event(&mut wire).await, ("burst".into(), json!(n)));
    }
    assert_eq!(wire.returned().await.1, Ok(json!(5000)));
}

fn small() -> Limits {
    Limits { push_queue: 4, write_stall: Duration::from_secs(3600), ..Limits::default() }
}

/// One who does not read, until as much waits as carriers and queue take; and one who does.
async fn slow_and_quick(handle: &DaemonHandle, chat: &Emitter) -> (Wire, Wire) {
    let (mut slow, mut quick) = (Wire::to(handle), Wire::to(handle));
    let entity = slow.open("Chat").await;
    quick.open("Chat").await;
    let slow_one = handle.entity(&entity).unwrap();
    let large = "x".repeat(100_000);
    for _ in 0..20 {
        let newest = slow_one.audience().overflow(Overflow::DropNewest);
        newest.emit("fill", &large).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let filled = chat.to_entity(&slow_one).overflow(Overflow::DropNewest).emit("fill", &0).await.unwrap();
    assert_eq!((filled.sent, filled.dropped), (0, 1));
    (slow, quick)
}

async fn drain(wire: &mut Wire) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    loop {
        let next = poll_fn(|cx| wire.carrier.poll_receive(cx));
        match tokio::time::timeout(Duration::from_secs(1), next).await {
            Ok(Ok(nsp::machine::Incoming::Packet(packet))) => wire.heard.push_back(packet),
            _ => break,
        }
        all.push(event(wire).await);
    }
    all.retain(|(name, _)| name != "fill");
    all
}

#[tokio::test(start_paused = true)]
async fn dropping_the_newest_keeps_what_waits() {
    let (_daemon, handle, chat) = service(small()).await;
    let (mut slow, mut quick) = slow_and_quick(&handle, &chat).await;
    let reached = chat.to_all().overflow(Overflow::DropNewest).emit("n", &1).await.unwrap();
    assert_eq!((reached.sent, reached.dropped, reached.replaced), (1, 1, 0));
    assert_eq!(event(&mut quick).await, ("n".into(), json!(1)));
    assert_eq!(drain(&mut slow).await, []);
    assert!(handle.stats().dropped >= 2);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_oldest_keeps_what_is_new() {
    let (_daemon, handle, chat) = service(small()).await;
    let (mut slow, _quick) = slow_and_quick(&handle, &chat).await;
    for n in 0..6 {
        let reached = chat.to_all().overflow(Overflow::DropOldest).emit("n", &n).await.unwrap();
        assert_eq!((reached.sent, reached.replaced), (2, 1));
        tokio::task::yield_now().await; // the quick one takes it
    }
    let last: Vec<_> = (2..6).map(|n| ("n".to_owned(), json!(n))).collect();
    assert_eq!(drain(&mut slow).await, last);
}

#[tokio::test(start_paused = true)]
async fn waiting_serves_the_others_first_and_ends_in_its_time() {
    let (_daemon, handle, chat) = service(small()).await;
    let (mut slow, mut quick) = slow_and_quick(&handle, &chat).await;
    let begun = tokio::time::Instant::now();
    let waiting = tokio::spawn(chat.to_all().emit("n", &1));
    assert_eq!(event(&mut quick).await, ("n".into(), json!(1)));
    assert!(!waiting.is_finished());
    let reached = waiting.await.unwrap().unwrap();
    assert_eq!((reached.sent, reached.dropped, begun.elapsed().as_secs()), (1, 1, 10));

    let waiting = tokio::spawn(chat.to_all().emit("n", &2));
    tokio::task::yield_now().await;
    assert_eq!(drain(&mut slow).await, [("n".into(), json!(2))]);
    assert_eq!(waiting.await.unwrap().unwrap().sent, 2);
}

#[tokio::test(start_paused = true)]
async fn closing_tells_the_reason_before_the_cut() {
    let (_daemon, handle, chat) = service(small()).await;
    let (mut slow, mut quick) = slow_and_quick(&handle, &chat).await;
    let reached = chat.to_all().overflow(Overflow::Close).emit("n", &1).await.unwrap();
    assert_eq!((reached.sent, reached.dropped), (1, 1));
    assert_eq!(event(&mut quick).await, ("n".into(), json!(1)));
    assert!(matches!(slow.end().await, CarrierEnd::PeerSaid(why) if why == "4 messages waited to be taken"));
    assert_eq!(handle.stats().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn what_an_emit_has_sent_counts_though_it_is_given_up() {
    let (_daemon, handle, chat) = service(small()).await;
    let (_slow, mut quick) = slow_and_quick(&handle, &chat).await;
    let before = handle.stats().pushed;
    let waiting = chat.to_all().overflow(Overflow::Wait).emit("e", &1);
    assert!(tokio::time::timeout(Duration::from_millis(1), waiting).await.is_err());
    assert_eq!(event(&mut quick).await, ("e".into(), json!(1)));
    assert_eq!(handle.stats().pushed, before + 1);
}

#[tokio::test(start_paused = true)]
async fn client_that_takes_nothing_is_cut_off() {
    let limits = Limits { write_stall: Duration::from_secs(10), ..small() };
    let (_daemon, handle, chat) = service(limits).await;
    let (_slow, _quick) = slow_and_quick(&handle, &chat).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let closed = handle.closed();
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].reason.to_string(), "nothing was taken for 10 s");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_take_answers_is_not_read() {
    let (_daemon, handle, _chat) = service(small()).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Chat").await;
    let group = "g".repeat(1000);
    for _ in 0..3000 {
        wire.begin(&entity, &group, json!(null)).await;
        tokio::task::yield_now().await;
        if handle.stats().calls > 100 {
            break;
        }
    }
    for _ in 0..101 {
        assert_eq!(crate::wire::code(wire.returned().await.1), "no_function");
    }
}
