//! Both sides ask, at once and for much: neither waits for the other to listen.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use nossock::{Config, Json, Limits, RequestError, Router, Side, Socket};
use tokio::task::JoinSet;

/// Answers of so many bytes, at once or a little later.
fn router() -> Router {
    Router::new().on_request("much", async |Json(bytes): Json<usize>| "x".repeat(bytes)).on_request(
        "later",
        async |Json(bytes): Json<usize>| {
            tokio::task::yield_now().await;
            "x".repeat(bytes)
        },
    )
}

fn pair(limits: &Limits) -> [Socket; 2] {
    let (one, other) = tokio::io::duplex(4 * 1024);
    let socket =
        |io, side| Socket::routed(io, side, Config { limits: limits.clone(), ..Config::default() }, router());
    [socket(one, Side::Client), socket(other, Side::Server)]
}

async fn ask(sockets: &[Socket], name: &'static str, times: usize, bytes: usize) {
    let mut asking = JoinSet::new();
    for _ in 0..times {
        for socket in sockets {
            let socket = socket.clone();
            asking.spawn(async move {
                let answer: Result<String, RequestError> = socket.request(name, &bytes).await;
                answer.map(|answer| answer.len())
            });
        }
    }
    for answer in asking.join_all().await {
        assert_eq!(answer.unwrap(), bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_to_both_sides_pass_each_other() {
    let limits = Limits { send_queue: 16 * 1024, receive_queue: 16 * 1024, ..Limits::default() };
    for name in ["much", "later"] {
        let sockets = pair(&limits);
        ask(&sockets, name, 20, 8 * 1024).await;
        ask(&sockets, name, 3, 100 * 1024).await;
        for socket in &sockets {
            assert!(socket.close_reason().is_none());
        }
    }
}

/// Who asks and does not read its answers is not read, although it is asked something too.
#[tokio::test(start_paused = true)]
async fn requests_of_a_peer_that_takes_no_answers_wait_within_their_limit() {
    use tokio::io::AsyncWriteExt as _;
    let limits = Limits { send_queue: 16 * 1024, receive_queue: 16 * 1024, ..Limits::default() };
    for asked in ["much", "nobody"] {
        let (ours, mut peer) = tokio::io::duplex(4 * 1024);
        let config = Config { limits: limits.clone(), ..Config::default() };
        let socket = Socket::routed(ours, Side::Server, config, router());
        let waiting = {
            let socket = socket.clone();
            tokio::spawn(async move {
                socket.request_within::<u32, _>(Duration::from_secs(1000), "never", &1).await
            })
        };
        tokio::task::yield_now().await;
        let name = format!("req:{asked}:1");
        let mut request = vec![b'j', u8::try_from(name.len()).unwrap()];
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(b"\x00\x00\x00\x03100");
        let mut taken = 0;
        while tokio::time::timeout(Duration::from_secs(1), peer.write_all(&request)).await.is_ok() {
            taken += 1;
            assert!(taken < 10_000, "{asked}");
        }
        assert!(taken > 100, "{asked}: {taken}");
        drop(peer);
        waiting.await.unwrap().unwrap_err();
    }
}
