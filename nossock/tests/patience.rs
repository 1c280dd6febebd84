//! Deadlines: that each fires when it has to, and none that should not.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nossock::session::TimedOut;
use nossock::{CloseReason, Config, Json, Limits, RecvError, Refused, Router, Side, Socket, State};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, timeout};

#[path = "common/frames.rs"]
mod frames;
use frames::{HELLO, frame, read_frame};

const SECOND: Duration = Duration::from_secs(1);

/// A socket that receives by hand, and the bare stream of its peer.
fn by_hand(limits: Limits) -> (Socket, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let config = Config { limits, ..Config::default() };
    (Socket::over(ours, Side::Server, config), theirs)
}

/// tokio lets a task do only so much before others get their turn; beyond that not even a timer is taken on.
#[tokio::test(start_paused = true)]
async fn deadline_that_is_set_when_a_turn_is_used_up_fires() {
    let (socket, mut peer) = by_hand(Limits { read_step: 1, ..Limits::default() });
    let half = frame(b'j', "half", &[b' '; 300]);
    peer.write_all(half.get(..250).unwrap()).await.unwrap();
    let reason = timeout(31 * SECOND, socket.closed()).await.expect("the frame has been begun and not ended");
    assert!(matches!(reason, CloseReason::TimedOut(TimedOut::Frame)), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn body_that_is_skipped_has_the_time_that_its_size_allows() {
    let (socket, mut peer) = by_hand(Limits { max_body: 10, ..Limits::default() });
    let large = frame(b'b', "large", &[0; 200 * 1024]);
    // Twice as fast as it has to be.
    for piece in large.chunks(2 * 1024) {
        peer.write_all(piece).await.unwrap();
        tokio::time::sleep(SECOND).await;
    }
    peer.write_all(&frame(b'j', "small", b"1")).await.unwrap();
    let refused = socket.recv().await.unwrap_err();
    assert!(matches!(refused, RecvError::Refused(Refused::TooLarge { .. })), "{refused}");
    assert_eq!(socket.recv().await.unwrap().unwrap().name, "small");
}

#[tokio::test(start_paused = true)]
async fn body_that_is_skipped_does_not_take_for_ever() {
    let (socket, mut peer) = by_hand(Limits { max_body: 10, ..Limits::default() });
    let large = frame(b'b', "large", &[0; 200 * 1024]);
    let start = Instant::now();
    let dripping = tokio::spawn(async move {
        for piece in large.chunks(512) {
            if peer.write_all(piece).await.is_err() {
                break;
            }
            tokio::time::sleep(SECOND).await;
        }
    });
    let reason = socket.closed().await;
    assert!(matches!(reason, CloseReason::TimedOut(TimedOut::Frame)), "{reason}");
    assert_eq!(start.elapsed().as_secs(), 200);
    dripping.await.unwrap();
}

/// Who does not read cannot hear the answer to a ping, and the peer is not to blame.
#[tokio::test(start_paused = true)]
async fn peer_that_is_not_read_is_not_said_to_be_silent() {
    let (socket, mut peer) = by_hand(Limits { receive_queue: 100, ..Limits::default() });
    peer.write_all(&frame(b'c', "", HELLO)).await.unwrap();
    for _ in 0..2 {
        peer.write_all(&frame(b'j', "m", b"1")).await.unwrap();
    }
    let (kind, ..) = read_frame(&mut peer).await;
    assert_eq!(kind, b'c');
    tokio::time::sleep(300 * SECOND).await;
    let reason = socket.close_reason();
    assert!(reason.is_none(), "{reason:?}");
    for _ in 0..2 {
        assert_eq!(socket.recv().await.unwrap().unwrap().name, "m");
    }
    // From now on it is listened to, and silent.
    let reason = timeout(46 * SECOND, socket.closed()).await.unwrap();
    assert!(matches!(reason, CloseReason::TimedOut(TimedOut::Ping)), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn time_without_end_is_a_long_time() {
    let limits = Limits {
        frame_time: Duration::MAX,
        write_stall: Duration::MAX,
        close_grace: Duration::MAX,
        ping_after: Duration::MAX,
        ping_wait: Duration::MAX,
        ..Limits::default()
    };
    let config = Config { limits, request_timeout: Duration::MAX, ..Config::default() };
    let (one, other) = tokio::io::duplex(64);
    let router = Router::new().on_request("later", async |Json(n): Json<u64>| {
        tokio::time::sleep(1000 * SECOND).await;
        n
    });
    let server = Socket::routed(other, Side::Server, config.clone(), router);
    let client = Socket::over(one, Side::Client, config);
    let n: u64 = client.request("later", &7).await.unwrap();
    assert_eq!(n, 7);
    client.send("large", &"x".repeat(1000)).await.unwrap();
    client.close().await.unwrap();
    assert!(server.closed().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn sender_without_room_learns_at_once_that_nothing_is_taken_any_more() {
    let limits = Limits { send_queue: 100, ..Limits::default() };
    let config = Config { limits, ..Config::default() };
    let (ours, mut peer) = tokio::io::duplex(64);
    let router = Router::new().on_request("forever", async || std::future::pending::<u64>().await);
    let socket = Socket::routed(ours, Side::Server, config, router);
    peer.write_all(&frame(b'j', "req:forever:1", b"1")).await.unwrap();
    tokio::time::sleep(SECOND).await;
    for _ in 0..10 {
        while socket.try_send("m", &"x".repeat(30)).is_ok() {}
        tokio::task::yield_now().await; // some of it leaves
    }
    let sender = socket.clone();
    let start = Instant::now();
    let sending = tokio::spawn(async move { sender.send("m", &"x".repeat(30)).await });
    tokio::task::yield_now().await;
    let closing = tokio::spawn(async move { socket.close().await });
    sending.await.unwrap().unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 5, "handlers have had their time, and what is queued has not");
    closing.await.unwrap().unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 10);
}

/// What waited when the time of a close was up is not begun: nobody could be answered any more.
#[tokio::test(start_paused = true)]
async fn what_waits_is_not_begun_after_the_time_of_a_close() {
    for message in [false, true] {
        let (here, mut peer) = tokio::io::duplex(1024);
        let begun = Arc::new(AtomicUsize::new(0));
        type Begun = State<Arc<AtomicUsize>>;
        let router = Router::with_state(Arc::clone(&begun))
            .on("slow", async || tokio::time::sleep(7 * SECOND).await)
            .on("quick", async |State(begun): Begun| {
                begun.fetch_add(1, Ordering::Relaxed);
            })
            .on_request("slow", async || tokio::time::sleep(7 * SECOND).await)
            .on_request("quick", async |State(begun): Begun| begun.fetch_add(1, Ordering::Relaxed));
        let limits = Limits { requests_in: 1, ..Limits::default() };
        let config = Config { limits, ..Config::default() };
        let socket = Socket::routed(here, Side::Server, config, router);
        for name in ["slow", "quick"] {
            let name = if message { name.to_owned() } else { format!("req:{name}:1") };
            peer.write_all(&frame(b'j', &name, b"null")).await.unwrap();
        }
        tokio::time::sleep(SECOND).await;
        // The handler has 5 s, and ends after 6; the peer does not end its side.
        let before = Instant::now();
        socket.close().await.unwrap();
        assert_eq!(before.elapsed(), 10 * SECOND);
        assert_eq!(begun.load(Ordering::Relaxed), 0, "message: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn unsent_bytes_are_those_that_did_not_leave() {
    let (here, _peer) = tokio::io::duplex(64);
    let config = Config { hello: false, ..Config::default() };
    let socket = Socket::over(here, Side::Client, config);
    let body = "x".repeat(1000);
    socket.send("m", &body).await.unwrap();
    let unsent = socket.close().await.unwrap_err();
    assert_eq!(unsent.bytes, frame(b'j', "m", format!("{body:?}").as_bytes()).len() as u64 - 64);
}
