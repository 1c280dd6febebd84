//! Every public future, polled so many times and then dropped, before and after what it waits for has happened: nothing is lost,
//! nothing comes twice, and what it held is free again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use nossock::wire::Body;
use nossock::{
    Client, ClientState, Config, Connector, EncodedMessage, Json, Limits, RecvError, RequestError, Router,
    Server, ServerLimits, Side, Socket, State,
};
use tokio::sync::Barrier;

/// Polls of one future; each of the operations below is over after fewer.
const POLLS: usize = 10;

/// When a future is dropped: right after it was polled for the last time, or when what comes after that has happened, so that it was
/// woken and not polled any more.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    AtOnce,
    Woken,
}

/// Every number of polls at each moment.
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
    for drop in drops() {
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
    for drop in drops() {
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
    for drop in drops() {
        for raw in [false, true] {
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
                    if raw {
                        let body = Body::Json(Bytes::from_static(b"77"));
                        let value = a.request_raw(Duration::from_secs(5), "slow", body).await?;
                        Ok::<u64, RequestError>(value.parse().unwrap())
                    } else {
                        a.request::<u64, _>("slow", &77).await
                    }
                };
                match drop_after(ask, drop, async || settle().await).await {
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
    for drop in drops() {
        for only_watch in [false, true] {
            let (a, b) = pair();
            let mut next = 0;
            fill(&a, &mut next).await;
            if only_watch {
                assert!(drop_after(a.closed(), drop, async || settle().await).await.is_none());
                assert!(a.close_reason().is_none(), "who looks changes nothing");
                let _ = drop_after(a.close(), (1, Moment::AtOnce), async || {}).await;
            } else {
                assert!(drop_after(a.close(), drop, async || settle().await).await.is_none(), "nobody reads");
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

/// A server with room for one connection.
async fn narrow(router: Router) -> (nossock::transport::Address, tokio::task::JoinHandle<()>) {
    let limits = ServerLimits { connections: 1, ..ServerLimits::default() };
    let server = Server::bind("tcp://127.0.0.1:0").unwrap().limits(limits).listen().await.unwrap();
    let address = server.address().clone();
    (address, tokio::spawn(server.serve(router)))
}

fn echo() -> Router {
    Router::new().on_request("echo", async |Json(n): Json<u64>| n)
}

#[tokio::test]
async fn connecting_that_is_dropped_leaves_no_connection_behind() {
    let (address, _server) = narrow(echo()).await;
    for drop in drops() {
        let connector = Connector::new(address.clone()).unwrap();
        let socket = drop_after(connector.connect(), drop, async || settle().await).await;
        std::mem::drop(socket);
        // The only place is free again, or this one waits for ever.
        let next = connector.connect().await.unwrap();
        assert_eq!(next.request::<u64, _>("echo", &1).await.unwrap(), 1, "{drop:?}");
        next.close().await.unwrap();
    }
}

#[tokio::test]
async fn futures_of_a_client_that_are_dropped_leave_it_as_it_was() {
    let got = Arc::new(Mutex::new(Vec::new()));
    let router = Router::with_state(Arc::clone(&got))
        .on("m", async |Json(n): Json<u64>, State(got): State<Arc<Mutex<Vec<u64>>>>| {
            got.lock().unwrap().push(n);
        })
        .on_request("echo", async |Json(n): Json<u64>| n);
    let server = Server::bind("tcp://127.0.0.1:0").unwrap().listen().await.unwrap();
    let connector = Connector::new(server.address().clone()).unwrap();
    tokio::spawn(server.serve(router));
    let mut expected = Vec::new();
    for (n, drop) in drops().enumerate() {
        let n = n as u64;
        let client = Client::start(connector.clone(), Router::new());
        let socket = drop_after(client.socket(), drop, async || settle().await).await;
        std::mem::drop(socket);
        if let Some(sent) = drop_after(client.send("m", &n), drop, async || settle().await).await {
            sent.unwrap();
            expected.push(n);
        }
        if let Some(value) =
            drop_after(client.request::<u64, _>("echo", &n), drop, async || settle().await).await
        {
            assert_eq!(value.unwrap(), n);
        }
        assert_eq!(client.request::<u64, _>("echo", &(n + 1)).await.unwrap(), n + 1, "{drop:?}");
        let mut state = client.state();
        let closed = drop_after(client.close(), drop, async || settle().await).await;
        let over = state.wait_for(|state| matches!(state, ClientState::Closed { .. })).await.is_ok();
        assert!(closed.is_some() || over, "it closes all the same");
    }
    assert_eq!(*got.lock().unwrap(), expected, "each once");
}

#[tokio::test]
async fn serving_that_is_dropped_cuts_its_connections() {
    for drop in drops().filter(|(polls, _)| *polls > 2) {
        let server = Server::bind("tcp://127.0.0.1:0").unwrap().listen().await.unwrap();
        let connector = Connector::new(server.address().clone()).unwrap();
        let dialling = tokio::spawn(async move { connector.connect().await });
        let stopped = drop_after(server.serve_until(echo(), std::future::pending()), drop, async || {
            tokio::time::sleep(Duration::from_millis(3)).await;
        });
        assert!(stopped.await.is_none());
        let socket = dialling.await.unwrap().unwrap();
        let reason = tokio::time::timeout(Duration::from_secs(5), socket.closed()).await;
        assert!(reason.is_ok(), "{drop:?}: somebody still serves it");
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
