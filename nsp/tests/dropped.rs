//! Every public future of the client and of the daemon, polled so many times and then dropped, before and after what it waits for has happened:
//! nothing is lost, nothing comes twice, no answer goes to the next one, and what it held is free again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[allow(dead_code, reason = "made for the stories of the daemon")]
#[path = "daemon/book.rs"]
mod book;
#[allow(dead_code, reason = "made for the stories of the daemon")]
#[path = "daemon/wire.rs"]
mod wire;

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use nsp::client::{Activity, CallError, Client, ClientState};
use nsp::daemon::{
    Blob, Daemon, DaemonHandle, Demand, Emitter, Entity, Fail, Json, Limits, Meta, Overflow, Service, State,
};
use nsp::machine::client as machine;
use nsp::proto::{RawJson, ca};
use serde_json::json;
use tokio::sync::Barrier;

use book::Book;
use wire::Wire;

/// Polls of one future; each of the operations below is over after fewer.
const POLLS: usize = 8;

/// When a future is dropped: right after it was polled for the last time, or when what comes after that has happened.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    AtOnce,
    Woken,
}

fn drops() -> impl Iterator<Item = (usize, Moment)> {
    (1..=POLLS).flat_map(|polls| [(polls, Moment::AtOnce), (polls, Moment::Woken)])
}

/// Polls a future so many times, lets something happen after each, and drops it; gives what it came to before that.
async fn drop_after<F: Future>(
    future: F,
    (polls, moment): (usize, Moment),
    mut between: impl AsyncFnMut(),
) -> Option<F::Output> {
    let mut future = pin!(future);
    for n in 1..=polls {
        if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            return Some(output);
        }
        if n < polls || moment == Moment::Woken {
            between().await;
        }
    }
    None
}

/// Lets everybody else do what there is to do.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// How often each number was done.
type Done = Arc<Mutex<HashMap<u64, u32>>>;

fn note(done: &Done, n: u64) {
    *done.lock().unwrap().entry(n).or_default() += 1;
}

struct World {
    _daemon: Daemon,
    handle: DaemonHandle,
    done: Done,
    emitter: Emitter,
}

async fn world(limits: Limits) -> World {
    let (done, together) = (Done::default(), Arc::new(Barrier::new(2)));
    let kept: Arc<Mutex<Option<Emitter>>> = Arc::default();
    let keeper = Arc::clone(&kept);
    let service = Service::with_state("Test", Arc::clone(&done))
        .on_start(move |emitter| *keeper.lock().unwrap() = Some(emitter))
        .on_data(async |Json(n): Json<u64>, State(done): State<Done>| -> Result<(), Fail> {
            note(&done, n);
            Ok(())
        })
        .function("slow", async |Json(n): Json<u64>, State(done): State<Done>| {
            note(&done, n);
            tokio::time::sleep(Duration::from_millis(3)).await;
            n
        })
        .function("meet", move || {
            let together = Arc::clone(&together);
            async move {
                together.wait().await;
                true
            }
        })
        // Asks for a proof, gives up at any moment, and asks again.
        .function("prove", async |entity: Entity, Json(polls): Json<usize>| -> Result<String, Fail> {
            let drop = (polls, Moment::Woken);
            let _ = drop_after(entity.prove(Demand::Token), drop, settle).await;
            Ok(entity.prove(Demand::Token).await?.user.unwrap().to_string())
        })
        .blob_function("blob", async |Blob(blob): Blob, Meta(n): Meta<u64>, State(done): State<Done>| {
            note(&done, n);
            tokio::time::sleep(Duration::from_millis(3)).await;
            (Blob(blob), Meta(n))
        });
    let book = Book::of(&[("ann", 1), ("bob", 1)]);
    let daemon =
        Daemon::builder().shared_authority(book).service(service).limits(limits).bind().await.unwrap();
    let emitter = kept.lock().unwrap().take().unwrap();
    World { handle: daemon.handle(), _daemon: daemon, done, emitter }
}

impl World {
    /// A client that may have two calls at once.
    fn client(&self) -> Client {
        let mut limits = machine::Limits::default();
        limits.calls = 2;
        Client::connect("nsp://127.0.0.1:1").most(limits).over(self.handle.connect_local())
    }
}

async fn calls(call: impl AsyncFn(&Activity, u64) -> Result<(), CallError>) {
    let world = world(Limits::default()).await;
    let client = world.client();
    let activity = client.activity("Test").open().await.unwrap();
    let (mut n, mut dropped, mut ended) = (0, 0, 0);
    for drop in drops() {
        for busy in [false, true] {
            // Two others take all there is, so that the third waits for room.
            let others: Vec<_> = (0..if busy { 2 } else { 0 })
                .map(|other| {
                    let (activity, n) = (activity.clone(), 1_000_000 + 10 * n + other);
                    tokio::spawn(
                        async move { assert_eq!(activity.call::<u64>("slow", &n).await.unwrap(), n) },
                    )
                })
                .collect();
            settle().await;
            n += 1;
            match drop_after(call(&activity, n), drop, settle).await {
                Some(result) => {
                    result.unwrap();
                    assert_eq!(world.done.lock().unwrap().get(&n), Some(&1), "{drop:?}");
                    ended += 1;
                }
                None => dropped += 1,
            }
            // The next one has its own answer, late as the other's may be, and both places are free.
            n += 1;
            assert_eq!(activity.call::<u64>("slow", &n).await.unwrap(), n, "{drop:?}");
            for other in others {
                other.await.unwrap();
            }
            let (one, two) =
                tokio::join!(activity.call::<bool>("meet", &()), activity.call::<bool>("meet", &()));
            assert!(one.unwrap() && two.unwrap(), "{drop:?}");
        }
    }
    assert!(world.done.lock().unwrap().values().all(|times| *times == 1), "nothing is done twice");
    assert!(dropped > 0 && ended > 0, "{dropped} were dropped, {ended} ended");
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_dropped_free_their_places_and_leave_no_answer_to_others() {
    calls(async |activity, n| {
        assert_eq!(activity.call::<u64>("slow", &n).await?, n);
        Ok(())
    })
    .await;
    calls(async |activity, n| activity.call_raw("slow", RawJson::of(&n).unwrap()).await.map(drop)).await;
    calls(async |activity, n| {
        let (blob, meta) = activity.call_blob("blob", n.to_string(), &n).await?;
        assert_eq!((blob.into_blob().unwrap(), meta.to::<u64>().unwrap()), (Bytes::from(n.to_string()), n));
        Ok(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn sends_that_are_dropped_are_sent_once_or_not_at_all_and_in_order() {
    let world = world(Limits::default()).await;
    let client = world.client();
    let activity = client.activity("Test").open().await.unwrap();
    let (mut dropped, mut sent) = (0, Vec::new());
    for (n, drop) in drops().enumerate() {
        let n = n as u64 * 2;
        match drop_after(activity.send(&n), drop, settle).await {
            Some(result) => sent.push(result.map(|()| n).unwrap()),
            None => dropped += 1,
        }
        // What was given up keeps its place until it is acknowledged, and counts so long.
        settle().await;
        let _ = drop_after(activity.send_blob(&b"no number"[..]), drop, settle).await;
        settle().await;
        activity.send(&(n + 1)).await.unwrap();
        sent.push(n + 1);
    }
    settle().await;
    let done = world.done.lock().unwrap();
    assert!(sent.iter().all(|n| done.get(n) == Some(&1)) && done.values().all(|times| *times == 1));
    assert!(dropped > 0 && sent.len() > POLLS * 2, "{dropped} {}", sent.len());
}

#[tokio::test(start_paused = true)]
async fn tokens_go_to_who_asked_though_the_one_before_has_gone() {
    let world = world(Limits::default()).await;
    let client = world.client();
    let _kept = client.activity("Test").open().await.unwrap();
    let mut dropped = 0;
    for drop in drops() {
        dropped +=
            u32::from(drop_after(client.token("ann", "password of ann"), drop, settle).await.is_none());
        let bobs = client.token("bob", "password of bob").await.unwrap();
        assert_eq!(bobs.reveal(), "token of bob", "{drop:?}");
    }
    assert!(dropped > 0);
}

#[tokio::test(start_paused = true)]
async fn opening_and_closing_that_are_dropped_leave_nothing_open() {
    let world = world(Limits::default()).await;
    let mut dropped = 0;
    for drop in drops() {
        let client = world.client();
        let opened = drop_after(client.activity("Test").open(), drop, settle).await;
        dropped += u32::from(opened.is_none());
        std::mem::drop(opened);
        settle().await;
        settle().await;
        assert_eq!(world.handle.stats().entities, 0, "{drop:?}");
        // The client is as it was.
        let activity = client.activity("Test").open().await.unwrap();
        assert_eq!(world.handle.stats().entities, 1);
        let _ = drop_after(activity.close(), drop, settle).await;
        settle().await;
        assert_eq!(world.handle.stats().entities, 0, "it closes all the same");
        let mut state = client.state();
        let _ = drop_after(client.close(), drop, settle).await;
        state.wait_for(|state| matches!(state, ClientState::Closed { .. })).await.unwrap();
        settle().await;
        assert_eq!(world.handle.stats().connections, 0, "{drop:?}");
    }
    assert!(dropped > 0);
}

#[tokio::test(start_paused = true)]
async fn listening_that_is_dropped_loses_no_event() {
    let world = world(Limits::default()).await;
    let client = world.client();
    let activity = client.activity("Test").open().await.unwrap();
    let mut events = activity.events::<u32>("e");
    let (mut next, mut got) = (0, Vec::new());
    for drop in drops() {
        for _ in 0..3 {
            let come = async || {
                if next % 2 == 0 {
                    settle().await; // nothing comes yet
                }
                world.emitter.to_all().emit("e", &next).await.unwrap();
                next += 1;
                settle().await;
            };
            got.extend(drop_after(events.next(), drop, come).await.map(|event| event.unwrap().unwrap()));
        }
    }
    client.close().await;
    while let Some(event) = events.next().await {
        got.push(event.unwrap());
    }
    assert_eq!(got, (0..next).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn emitting_that_is_dropped_reaches_everybody_once_or_not_at_all() {
    let limits = Limits { push_queue: 4, write_stall: Duration::from_secs(3600), ..Limits::default() };
    let mut dropped = 0;
    for drop in drops() {
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
            let emit = world.emitter.to_all().overflow(Overflow::Wait).emit("n", &n);
            let take = async || {
                if n == 2 {
                    heard.extend(take_one(&mut slow).await);
                }
                settle().await;
            };
            match drop_after(emit, drop, take).await {
                Some(reached) => sent += reached.unwrap().sent,
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
        assert!((0..3).all(|n| (1..=2).contains(&count(n))), "{drop:?}: {numbers:?}");
        assert!(sent <= 6);
    }
    assert!(dropped > 0);
}

/// The next event, if one comes; `Some(None)` if it has no number.
async fn take_one(wire: &mut Wire) -> Option<Option<u64>> {
    let event = tokio::time::timeout(Duration::from_millis(5), wire.event()).await.ok()?;
    let ca::Request::Event { event, data, .. } = event else { return Some(None) };
    Some((event == "n").then(|| data.into_json().unwrap().to().unwrap()))
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

#[tokio::test(start_paused = true)]
async fn serving_that_is_dropped_leaves_those_who_are_there() {
    for drop in drops() {
        let service = Service::new("Test").function("echo", async |Json(n): Json<u64>| n);
        let daemon = Daemon::builder().service(service).bind().await.unwrap();
        let handle = daemon.handle();
        let client = Client::over(handle.connect_local());
        let activity = client.activity("Test").open().await.unwrap();
        assert!(drop_after(daemon.serve_until(std::future::pending()), drop, settle).await.is_none());
        assert_eq!(activity.call::<u64>("echo", &7).await.unwrap(), 7, "{drop:?}");
    }
}
