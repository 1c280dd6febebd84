//! What a socket gives: sending, receiving, asking, closing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use nossock::wire::Body;
use nossock::{Config, EncodedMessage, Json, Limits, RecvError, RequestError, Router, Side, Socket, State};
use tokio::sync::Barrier;

use crate::POLLS;
use crate::dropping::{Moment, drop_after, drops, settle};

/// Little of everything, so that futures have to wait.
fn tight() -> Config {
    let limits =
        Limits { send_queue: 300, receive_queue: 300, requests_out: 2, requests_in: 2, ..Limits::default() };
    Config { limits, ..Config::default() }
}

fn pair() -> (Socket, Socket) {
    let (here, there) = tokio::io::duplex(64);
    (Socket::over(here, Side::Client, tight()), Socket::over(there, Side::Server, tight()))
}

/// Sends numbered messages until there is no room for more, wherever they may wait.
async fn fill(socket: &Socket, next: &mut u64) {
    loop {
        settle().await;
        if socket.try_send("m", &*next).is_err() {
            return;
        }
        *next += 1;
    }
}

fn number(message: &nossock::Message) -> u64 {
    match &message.body {
        Body::Raw(bytes) => std::str::from_utf8(bytes).unwrap().parse().unwrap(),
        body => body.parse().unwrap(),
    }
}

/// Sends in one way, dropped at each moment, and sees what arrives.
async fn sending(send: impl AsyncFn(&Socket, u64) -> Result<(), nossock::SendError>) {
    let mut dropped = 0;
    let mut sent = 0;
    for drop in drops(POLLS) {
        let (a, b) = pair();
        let mut next = 0;
        let mut got = Vec::new();
        fill(&a, &mut next).await;
        let take = async || {
            for _ in 0..4 {
                // All of it may be here already.
                let next = tokio::time::timeout(Duration::from_millis(2), b.recv()).await;
                let Ok(next) = next else { break };
                got.push(number(&next.unwrap().unwrap()));
            }
            settle().await;
        };
        match drop_after(send(&a, next), drop, take).await {
            Some(result) => {
                result.unwrap();
                next += 1;
                sent += 1;
            }
            None => dropped += 1,
        }
        // The line goes on: others get their turn, in order.
        let receiving = tokio::spawn(async move {
            while let Some(message) = b.recv().await.unwrap() {
                got.push(number(&message));
            }
            got
        });
        for _ in 0..20 {
            a.send("m", &next).await.unwrap();
            next += 1;
        }
        a.close().await.unwrap();
        assert_eq!(receiving.await.unwrap(), (0..next).collect::<Vec<_>>(), "{drop:?}");
    }
    assert!(dropped > 0 && sent > 0, "{dropped} were dropped, {sent} were sent");
}

#[tokio::test(start_paused = true)]
async fn sends_that_are_dropped_send_nothing_and_others_everything() {
    sending(async |socket, n| socket.send("m", &n).await).await;
    sending(async |socket, n| socket.send_raw("m", n.to_string()).await).await;
    sending(async |socket, n| socket.send_encoded(&EncodedMessage::json("m", &n).unwrap()).await).await;
    sending(async |socket, n| socket.reserve().await?.send("m", &n)).await;
    // A permit that is not used holds nothing back.
    sending(async |socket, n| {
        drop(socket.reserve().await?);
        socket.send("m", &n).await
    })
    .await;
    sending(async |socket, n| {
        socket.flush().await?;
        socket.send("m", &n).await
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn receiving_that_is_dropped_loses_nothing() {
    let (mut dropped, mut got_some) = (0, 0);
    for drop in drops(POLLS) {
        for stream in [false, true] {
            let (a, b) = pair();
            let mut got = Vec::new();
            let mut next = 0;
            for _ in 0..5 {
                let come = async || {
                    if next % 2 == 0 {
                        settle().await; // nothing comes yet
                    }
                    a.send("m", &next).await.unwrap();
                    next += 1;
                    settle().await;
                };
                let message = if stream {
                    let mut messages = b.messages();
                    drop_after(messages.next(), drop, come).await.map(Option::unwrap)
                } else {
                    drop_after(b.recv(), drop, come).await.map(|message| message.map(Option::unwrap))
                };
                match message {
                    Some(message) => got.push(number(&message.unwrap())),
                    None => dropped += 1,
                }
            }
            got_some += got.len();
            let closing = tokio::spawn(async move { a.close().await });
            while let Some(message) = b.recv().await.unwrap() {
                got.push(number(&message));
            }
            closing.await.unwrap().unwrap();
            assert_eq!(got, (0..next).collect::<Vec<_>>(), "{drop:?}");
        }
    }
    assert!(dropped > 0 && got_some > 0, "{dropped} {got_some}");
}

type Begun = Arc<Mutex<HashMap<u64, u32>>>;

/// A server that counts how often it begins each request, and answers pairs that are there at once.
fn asked(begun: &Begun) -> (Socket, Socket) {
    let together = Arc::new(Barrier::new(2));
    let router = Router::with_state(Arc::clone(begun))
        .on_request("slow", async |Json(n): Json<u64>, State(begun): State<Begun>| {
            *begun.lock().unwrap().entry(n).or_default() += 1;
            tokio::time::sleep(Duration::from_millis(4)).await;
            n
        })
        .on_request("meet", move || {
            let together = Arc::clone(&together);
            async move {
                together.wait().await;
                true
            }
        });
    let (here, there) = tokio::io::duplex(64);
    (Socket::over(here, Side::Client, tight()), Socket::routed(there, Side::Server, tight(), router))
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_dropped_free_their_slots_on_both_sides() {
    let (mut dropped, mut answered) = (0, 0);
    for drop in drops(POLLS) {
        for way in ["request", "request_within", "request_raw"] {
            for busy in [false, true] {
                let begun = Begun::default();
                let (a, server) = asked(&begun);
                settle().await;
                // Two others take all the slots, so that the third waits for one.
                let others: Vec<_> = (0..if busy { 2 } else { 0 })
                    .map(|n| {
                        let a = a.clone();
                        tokio::spawn(async move { a.request::<u64, _>("slow", &n).await })
                    })
                    .collect();
                settle().await;
                let ask = async {
                    match way {
                        "request" => a.request::<u64, _>("slow", &77).await,
                        "request_within" => a.request_within(Duration::from_secs(9), "slow", &77).await,
                        _ => {
                            let body = Body::Json(Bytes::from_static(b"77"));
                            let value = a.request_raw(Duration::from_secs(5), "slow", body).await?;
                            Ok::<u64, RequestError>(value.parse().unwrap())
                        }
                    }
                };
                match drop_after(ask, drop, settle).await {
                    Some(value) => {
                        assert_eq!(value.unwrap(), 77);
                        answered += 1;
                    }
                    None => dropped += 1,
                }
                for (n, other) in others.into_iter().enumerate() {
                    assert_eq!(other.await.unwrap().unwrap(), n as u64);
                }
                // Both slots are free, here and there: these two have to be handled at once.
                let (one, two) =
                    tokio::join!(a.request::<bool, _>("meet", &()), a.request::<bool, _>("meet", &()));
                assert!(one.unwrap() && two.unwrap(), "{drop:?}");
                assert!(begun.lock().unwrap().values().all(|times| *times == 1), "nothing is asked twice");
                a.close().await.unwrap();
                server.closed().await;
            }
        }
    }
    assert!(dropped > 0 && answered > 0, "{dropped} {answered}");
}

#[tokio::test(start_paused = true)]
async fn closing_goes_on_when_nobody_waits_for_it() {
    for drop in drops(POLLS) {
        for only_watch in [false, true] {
            let (a, b) = pair();
            let mut next = 0;
            fill(&a, &mut next).await;
            if only_watch {
                assert!(drop_after(a.closed(), drop, settle).await.is_none());
                assert!(a.close_reason().is_none(), "who looks changes nothing");
                let _ = drop_after(a.close(), (1, Moment::AtOnce), async || {}).await;
            } else {
                assert!(drop_after(a.close(), drop, settle).await.is_none(), "nobody reads");
            }
            let mut got = Vec::new();
            while let Some(message) = b.recv().await.unwrap() {
                got.push(number(&message));
            }
            assert_eq!(got, (0..next).collect::<Vec<_>>(), "{drop:?}");
            assert!(matches!(b.recv().await, Ok(None) | Err(RecvError::Closed(_))));
            a.closed().await;
        }
    }
}

/// A stream keeps its place between two of its messages, and has no right to the next one by that.
#[tokio::test(start_paused = true)]
async fn stream_that_is_not_polled_keeps_nobody_from_receiving() {
    let (here, there) = pair();
    let mut messages = there.messages();
    let next = drop_after(messages.next(), (1, Moment::AtOnce), async || {}).await;
    assert!(next.is_none());
    here.send("m", &1).await.unwrap();
    let received = tokio::time::timeout(Duration::from_secs(1), there.recv()).await;
    assert_eq!(received.expect("it is there").unwrap().unwrap().name, "m");
    here.send("n", &1).await.unwrap();
    assert_eq!(messages.next().await.unwrap().unwrap().name, "n");
}
