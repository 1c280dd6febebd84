//! Peers that mean harm, in memory and under a clock of the test: what they can make grow, and for how long.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "common/frames.rs"]
mod frames;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nossock::{CloseReason, Config, Json, Limits, RequestError, Router, Side, Socket, State};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use frames::{HELLO, frame, read_frame};

/// A server's end with a router, and the bare stream of its peer.
fn served(limits: Limits) -> (Socket, DuplexStream) {
    let (here, there) = tokio::io::duplex(4096);
    let router = Router::new()
        .on("note", async |Json(_): Json<u64>| {})
        .on_request("echo", async |Json(value): Json<u64>| value)
        .on_request(&"e".repeat(220), async |Json(value): Json<u64>| value)
        .on_request("forever", async || std::future::pending::<u64>().await);
    let config = Config { limits, ..Config::default() };
    (Socket::routed(here, Side::Server, config, router), there)
}

#[tokio::test(start_paused = true)]
async fn frames_that_keep_coming_are_not_one_slow_frame() {
    let (socket, mut peer) = served(Limits::default());
    let one = frame(b'j', "note", b"1");
    let (front, back) = one.split_at(5);
    peer.write_all(front).await.unwrap();
    for _ in 0..20 {
        // Each arrives whole within 10 s, and with it the beginning of the next.
        tokio::time::sleep(Duration::from_secs(10)).await;
        peer.write_all(&[back, front].concat()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(socket.close_reason().is_none(), "{:?}", socket.close_reason());
    // One that stands still is given up all the same.
    let reason = socket.closed().await;
    assert_eq!(reason.to_string(), "the peer did not finish a frame in time");
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_takes_are_counted_with_their_names() {
    let limits = Limits { send_queue: 32 * 1024, ..Limits::default() };
    let (_socket, mut peer) = served(limits.clone());
    let name = "e".repeat(220);
    let answer = frame(b'j', &format!("resp:{name}:1"), b"[null,1]").len();
    let request = frame(b'j', &format!("req:{name}:1"), b"1");
    let mut taken = 0;
    // The peer reads nothing; the server has to stop reading, too.
    while tokio::time::timeout(Duration::from_secs(1), peer.write_all(&request)).await.is_ok() {
        taken += 1;
        assert!(taken < 100_000);
    }
    // What lies in the pipe, in either direction, and in one read, comes on top.
    let around = 2 * 4096 + limits.read_step;
    let queued = taken * answer;
    assert!(queued <= limits.send_queue + around, "{taken} answers of {answer} bytes each: {queued}");
}

#[tokio::test(start_paused = true)]
async fn flood_of_control_frames_ends_the_connection_and_is_named() {
    for control in
        [&br#"{"ping":7}"#[..], br#"{"pong":7}"#, br#"{"cancel":"1"}"#, br#"{"credit":1}"#, b"[", HELLO]
    {
        let (socket, mut peer) = served(Limits { controls: 50, ..Limits::default() });
        peer.write_all(&frame(b'c', "", HELLO)).await.unwrap();
        let (mut reading, mut writing) = tokio::io::split(peer);
        let reader = tokio::spawn(async move {
            let mut rest = Vec::new();
            reading.read_to_end(&mut rest).await.unwrap();
            rest
        });
        let mut written = 0;
        while writing.write_all(&frame(b'c', "", control)).await.is_ok() && socket.close_reason().is_none() {
            written += 1;
            assert!(written < 2000, "{}", String::from_utf8_lossy(control));
            tokio::task::yield_now().await;
        }
        let reason = socket.closed().await;
        assert_eq!(reason.to_string(), "the peer sent more than 50 control frames in 10 s");
        assert!(matches!(reason, CloseReason::Flooded { limit: 50 }) && !reason.is_clean());
        writing.shutdown().await.unwrap();
        let told = reader.await.unwrap();
        let told = String::from_utf8_lossy(&told);
        assert!(
            told.contains(r#"{"close":{"code":"flooded","message":"the peer sent more than 50"#),
            "{told}"
        );
    }
}

/// Counts those that live, and the most that ever did.
#[derive(Clone, Default)]
struct Alive(Arc<(AtomicUsize, AtomicUsize)>);

struct One(Alive);

impl Alive {
    fn one(&self) -> One {
        let (now, most) = &*self.0;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        One(self.clone())
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_begun_and_cancelled_get_no_more_handlers_than_others() {
    let (here, mut peer) = tokio::io::duplex(64 * 1024);
    let alive = Alive::default();
    let router = Router::with_state(alive.clone())
        .on_request("forever", async |State(alive): State<Alive>| {
            let _one = alive.one();
            std::future::pending::<u64>().await
        })
        .on_request("echo", async |Json(value): Json<u64>| value);
    let limits = Limits { controls: 50, requests_in: 8, ..Limits::default() };
    let config = Config { limits, ..Config::default() };
    let socket = Socket::routed(here, Side::Server, config, router);
    peer.write_all(&frame(b'c', "", HELLO)).await.unwrap();
    read_frame(&mut peer).await; // the server's own
    for n in 0..500 {
        peer.write_all(&frame(b'j', &format!("req:forever:{n}"), b"null")).await.unwrap();
        peer.write_all(&frame(b'c', "", format!(r#"{{"cancel":"{n}"}}"#).as_bytes())).await.unwrap();
    }
    // A cancel is paid for by its request: a caller that asks many and takes what comes first is no flood.
    peer.write_all(&frame(b'j', "req:echo:e", b"7")).await.unwrap();
    assert_eq!(read_frame(&mut peer).await.2, b"[null,7]");
    assert!(socket.close_reason().is_none(), "{:?}", socket.close_reason());
    let (now, most) = &*alive.0;
    assert_eq!(now.load(Ordering::SeqCst), 0);
    // Handlers on their way out have their places until they are gone.
    let most = most.load(Ordering::SeqCst);
    assert!((1..=8).contains(&most), "{most} handlers at once");
    // And it pays for no second one.
    for n in 0..100 {
        peer.write_all(&frame(b'c', "", format!(r#"{{"cancel":"{n}"}}"#).as_bytes())).await.unwrap();
    }
    assert!(matches!(socket.closed().await, CloseReason::Flooded { limit: 50 }));
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_and_those_received_by_hand_pay_for_their_cancels_too() {
    for by_hand in [false, true] {
        let limits = Limits { controls: 50, requests_in: 1, ..Limits::default() };
        let (socket, mut peer) = if by_hand {
            let (here, there) = tokio::io::duplex(4096);
            (Socket::over(here, Side::Server, Config { limits, ..Config::default() }), there)
        } else {
            served(limits)
        };
        peer.write_all(&frame(b'c', "", HELLO)).await.unwrap();
        read_frame(&mut peer).await; // the server's own
        if !by_hand {
            peer.write_all(&frame(b'j', "req:forever:first", b"null")).await.unwrap();
        }
        for n in 0..200 {
            peer.write_all(&frame(b'j', &format!("req:forever:{n}"), b"null")).await.unwrap();
            peer.write_all(&frame(b'c', "", format!(r#"{{"cancel":"{n}"}}"#).as_bytes())).await.unwrap();
        }
        peer.write_all(&frame(b'c', "", br#"{"ping":7}"#)).await.unwrap();
        assert_eq!(read_frame(&mut peer).await.2, br#"{"pong":7}"#);
        assert!(socket.close_reason().is_none(), "by hand: {by_hand}, {:?}", socket.close_reason());
    }
}

/// A peer whose handler hangs is told of a deadline that has passed: its place would be taken for ever otherwise.
#[tokio::test(start_paused = true)]
async fn request_that_times_out_is_cancelled_at_the_peer() {
    let (one, other) = tokio::io::duplex(64 * 1024);
    let router = Router::new()
        .on_request("echo", async |Json(value): Json<u64>| value)
        .on_request("forever", async || std::future::pending::<u64>().await);
    let limits = Limits { requests_in: 4, controls: 50, ..Limits::default() };
    let config = Config { limits, ..Config::default() };
    let server = Socket::routed(one, Side::Server, config, router);
    let client = Socket::over(other, Side::Client, Config::default());
    let _: u64 = client.request("echo", &1).await.unwrap(); // both have said hello now
    for _ in 0..100 {
        let millis = Duration::from_millis(10);
        let error = client.request_within::<u64, _>(millis, "forever", &()).await.unwrap_err();
        assert!(matches!(error, RequestError::TimedOut { .. }), "{error}");
    }
    assert_eq!(client.request::<u64, _>("echo", &2).await.unwrap(), 2);
    assert_eq!(client.stats().stray_answers, 0, "a cancelled request is not answered");
    assert!(server.close_reason().is_none());
}

#[tokio::test(start_paused = true)]
async fn control_frames_beside_work_and_over_time_are_no_flood() {
    let (socket, mut peer) = served(Limits { controls: 50, ..Limits::default() });
    peer.write_all(&frame(b'c', "", HELLO)).await.unwrap();
    read_frame(&mut peer).await; // the server's own
    for n in 0..500 {
        // As many cancels as there are answers: a caller that asks two and takes what comes first.
        peer.write_all(&frame(b'j', &format!("req:forever:f{n}"), b"null")).await.unwrap();
        peer.write_all(&frame(b'j', &format!("req:echo:{n}"), b"1")).await.unwrap();
        assert_eq!(read_frame(&mut peer).await.1, format!("resp:echo:{n}"));
        peer.write_all(&frame(b'c', "", format!(r#"{{"cancel":"f{n}"}}"#).as_bytes())).await.unwrap();
    }
    for n in 0..500 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        peer.write_all(&frame(b'c', "", format!(r#"{{"ping":{n}}}"#).as_bytes())).await.unwrap();
        assert_eq!(read_frame(&mut peer).await.2, format!(r#"{{"pong":{n}}}"#).as_bytes());
    }
    assert!(socket.close_reason().is_none(), "{:?}", socket.close_reason());
}
