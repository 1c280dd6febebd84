//! What a daemon gives: emitting, proofs, serving.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use nsp::client::Client;
use nsp::daemon::{Daemon, DaemonBuilder, Emitter, Entity, Json, Limits, Overflow, Service, in_this_call};
use nsp::proto::{Data, ca};
use serde_json::json;

use crate::POLLS;
use crate::dropping::{drop_after, drops, settle};
use crate::wire::Wire;
use crate::world::world;

/// Emits to one who is slow and to one who is quick, or to the slow one alone, dropped at each moment; gives how often it was.
async fn emitting(polls: usize, most: usize, emit: impl AsyncFn(&Emitter, &Entity, u64) -> usize) -> u32 {
    let limits = Limits { push_queue: 4, write_stall: Duration::from_secs(3600), ..Limits::default() };
    let mut dropped = 0;
    for drop in drops(polls) {
        let world = world(limits.clone()).await;
        let (mut slow, mut quick) = (Wire::to(&world.handle), Wire::to(&world.handle));
        let entity = slow.open("Test").await;
        quick.open("Test").await;
        let slow_one = world.handle.entity(&entity).unwrap();
        let large = "x".repeat(100_000);
        for _ in 0..20 {
            slow_one.audience().overflow(Overflow::DropNewest).emit("fill", &large).await.unwrap();
            settle().await;
        }
        let mut heard = Vec::new();
        let mut sent = 0;
        for n in 0..3 {
            let take = async || {
                if n == 2 {
                    heard.extend(take_one(&mut slow).await);
                }
                settle().await;
            };
            match drop_after(emit(&world.emitter, &slow_one, n), drop, take).await {
                Some(reached) => sent += reached,
                None => dropped += 1,
            }
        }
        world.emitter.to_all().overflow(Overflow::DropOldest).emit("n", &9).await.unwrap();
        for wire in [&mut slow, &mut quick] {
            while let Some(number) = take_one(wire).await {
                heard.push(number);
            }
        }
        let numbers: Vec<u64> = heard.into_iter().flatten().collect();
        let count = |n| numbers.iter().filter(|number| **number == n).count();
        assert_eq!(count(9), 2, "{drop:?}: both are still served");
        // Who has room is served before anything is waited for.
        assert!((0..3).all(|n| (most - 1..=most).contains(&count(n))), "{drop:?}: {numbers:?}");
        assert!(sent <= 3 * most);
    }
    dropped
}

/// The next event, or data, if one comes; `Some(None)` if it has no number.
async fn take_one(wire: &mut Wire) -> Option<Option<u64>> {
    let event = tokio::time::timeout(Duration::from_millis(5), wire.event()).await.ok()?;
    let json = |data: Data| data.into_json().unwrap().to().unwrap();
    Some(match event {
        ca::Request::Event { event, data, .. } => (event == "n").then(|| json(data)),
        ca::Request::BlobEvent { meta, .. } => Some(meta.unwrap().to().unwrap()),
        ca::Request::Data { data: Data::Blob(blob), .. } => {
            Some(std::str::from_utf8(&blob).unwrap().parse().unwrap())
        }
        ca::Request::Data { data, .. } => Some(json(data)),
        ca::Request::Close { .. } => None,
    })
}

#[tokio::test(start_paused = true)]
async fn emitting_that_is_dropped_reaches_everybody_once_or_not_at_all() {
    // To all; the rule of the service is to wait.
    let all = [
        emitting(POLLS, 2, async |all, _, n| all.to_all().emit("n", &n).await.unwrap().sent).await,
        emitting(3, 2, async |all, _, n| all.to_all().emit_blob("n", "blob", &n).await.unwrap().sent).await,
        emitting(3, 2, async |all, _, n| all.to_all().send(&n).await.unwrap().sent).await,
        emitting(3, 2, async |all, _, n| all.to_all().send_blob(n.to_string()).await.sent).await,
        emitting(3, 1, async |_, one, n| one.emit("n", &n).await.unwrap().sent).await,
        emitting(3, 1, async |_, one, n| one.send(&n).await.unwrap().sent).await,
    ];
    assert!(all.iter().all(|dropped| *dropped > 0), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn proof_that_is_given_up_is_asked_for_again() {
    let world = world(Limits::default()).await;
    for polls in 1..=POLLS {
        let mut wire = Wire::to(&world.handle);
        let entity = wire.open_as("Test", Some("ann")).await;
        let id = wire.begin(&entity, "prove", json!(polls)).await;
        // One question, or another one if the first was given up with it; each has the right answer.
        let answered = loop {
            tokio::select! {
                biased;
                answer = wire.returned() => break answer,
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            wire.show("token of ann").await;
        };
        assert_eq!(answered, (id, Ok(json!("ann"))), "{polls}");
    }
}

fn echo() -> DaemonBuilder {
    Daemon::builder().service(Service::new("Test").function("echo", async |Json(n): Json<u64>| n))
}

#[tokio::test(start_paused = true)]
async fn serving_that_is_dropped_leaves_those_who_are_there() {
    for drop in drops(POLLS) {
        for for_ever in [false, true] {
            let daemon = echo().bind().await.unwrap();
            let handle = daemon.handle();
            let client = Client::over(handle.connect_local());
            let activity = client.activity("Test").open().await.unwrap();
            let ended = match for_ever {
                false => drop_after(daemon.serve_until(pending()), drop, settle).await.is_some(),
                true => drop_after(daemon.serve(), drop, settle).await.is_some(),
            };
            assert!(!ended);
            assert_eq!(activity.call::<u64>("echo", &7).await.unwrap(), 7, "{drop:?}");
        }
    }
}

#[tokio::test]
async fn binding_and_serving_that_are_dropped_leave_nobody_at_the_door() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nsp.sock");
    let address = format!("nsp+unix:{}", path.display());
    let (mut dropped, mut served) = (0, 0);
    for drop in drops(POLLS) {
        // The second one is a name, which is looked up elsewhere.
        let binding = echo().listen(address.as_str()).listen("nsp://localhost:0").bind();
        dropped += u32::from(drop_after(binding, drop, settle).await.is_none());
        assert!(!path.exists(), "{drop:?}");

        let connecting = tokio::spawn({
            let address = address.clone();
            async move {
                loop {
                    match Client::connect(address.as_str()).no_reconnect().await {
                        Ok(client) => return client.activity("Test").open().await,
                        Err(_) => settle().await,
                    }
                }
            }
        });
        let later = async || tokio::time::sleep(Duration::from_millis(4)).await;
        let serving = echo().listen(address.as_str()).serve_until(pending());
        assert!(drop_after(serving, (drop.0 + 2, drop.1), later).await.is_none());
        settle().await; // who stands at the door is another task
        assert!(!path.exists(), "{drop:?}");
        // Who was let in by then stays, and whoever was not learns it.
        let opened =
            tokio::time::timeout(Duration::from_secs(5), connecting).await.expect("it does not wait");
        if let Ok(activity) = opened.unwrap() {
            assert_eq!(activity.call::<u64>("echo", &7).await.unwrap(), 7, "{drop:?}");
            served += 1;
        }
    }
    assert!(dropped > 0 && served > 0, "{dropped} {served}");
}

#[tokio::test(start_paused = true)]
async fn future_that_goes_on_with_a_call_is_dropped_with_it() {
    for drop in drops(3) {
        let held = Arc::new(());
        let holds = Arc::clone(&held);
        let going_on = in_this_call(async move {
            settle().await;
            Arc::strong_count(&holds)
        });
        assert!(drop_after(going_on, drop, settle).await.is_none_or(|count| count == 2));
        assert_eq!(Arc::strong_count(&held), 1, "{drop:?}: nothing is left of it");
    }
}
