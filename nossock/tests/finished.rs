//! Futures that are polled although they have ended: whoever does it has a mistake, and nothing is sent or asked twice by it.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use futures_util::StreamExt as _;
use nossock::{Config, Json, RequestError, Router, SendError, Side, Socket, State};
use serde::{Serialize, Serializer};

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Whether another poll is refused, as by an async function.
fn is_refused<F: Future>(future: Pin<&mut F>) -> bool {
    let caught = catch_unwind(AssertUnwindSafe(|| poll(future).is_pending()));
    match caught {
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap();
            assert!(message.contains("after"), "{message}");
            true
        }
        Ok(_) => false,
    }
}

/// A value that cannot be JSON the first time, and can be from then on.
struct Moody(std::cell::Cell<bool>);

impl Serialize for Moody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.replace(true) {
            true => serializer.serialize_u64(1),
            false => Err(serde::ser::Error::custom("not now")),
        }
    }
}

/// A socket, and its peer, who answers what is asked, and counts it.
fn pair(asked: &Arc<AtomicU32>) -> (Socket, Socket) {
    let (here, there) = tokio::io::duplex(64);
    let router = Router::with_state(Arc::clone(asked))
        .on_request("echo", async |Json(n): Json<u64>, State(asked): State<Arc<AtomicU32>>| {
            asked.fetch_add(1, Ordering::Relaxed);
            n
        })
        .on_request("no", async || Err::<(), _>(nossock::Reject::new("no", "no")));
    let config = Config::default();
    (Socket::over(here, Side::Client, config.clone()), Socket::routed(there, Side::Server, config, router))
}

#[tokio::test]
async fn requests_that_have_ended_are_not_asked_again() {
    let count = Arc::new(AtomicU32::new(0));
    let (a, b) = pair(&count);
    let mut asked = pin!(a.request::<u64, _>("echo", &7));
    assert_eq!(asked.as_mut().await.unwrap(), 7);
    assert!(is_refused(asked));
    let mut rejected = pin!(a.request::<u64, _>("no", &7));
    assert!(matches!(rejected.as_mut().await, Err(RequestError::Rejected { .. })));
    assert!(is_refused(rejected));
    let body = nossock::wire::Body::json(&7).unwrap();
    let mut raw = pin!(a.request_raw(std::time::Duration::from_secs(5), "echo", body));
    assert_eq!(raw.as_mut().await.unwrap().parse::<u64>().unwrap(), 7);
    assert!(is_refused(raw));

    // What was not even sent.
    let long = "n".repeat(255);
    let mut long = pin!(a.request::<u64, _>(&long, &7));
    assert!(matches!(poll(long.as_mut()), Poll::Ready(Err(RequestError::NotSent(SendError::Name(_))))));
    assert!(is_refused(long));
    let moody = Moody(false.into());
    let mut failed = pin!(a.request::<u64, _>("echo", &moody));
    assert!(matches!(poll(failed.as_mut()), Poll::Ready(Err(RequestError::NotSent(SendError::Json { .. })))));
    assert!(is_refused(failed));

    // A request of somebody else in the same slot is not touched by any of it.
    assert_eq!(a.request::<u64, _>("echo", &8).await.unwrap(), 8);
    a.close().await.unwrap();
    b.closed().await;
    assert_eq!(count.load(Ordering::Relaxed), 3, "each was asked once");

    let mut late = pin!(a.request::<u64, _>("echo", &9));
    assert!(matches!(late.as_mut().await, Err(RequestError::NotSent(SendError::Closed(_)))));
    assert!(is_refused(late));
}

#[tokio::test]
async fn messages_that_were_sent_are_not_sent_again() {
    let (here, there) = tokio::io::duplex(1 << 20);
    let limits = nossock::Limits { send_queue: 300, ..nossock::Limits::default() };
    let config = Config { limits, ..Config::default() };
    let (a, b) =
        (Socket::over(here, Side::Client, config.clone()), Socket::over(there, Side::Server, config));
    let mut expected = Vec::new();
    for n in 0..40_u64 {
        // Some of them have to wait for room.
        let mut sending = pin!(a.send("m", &n));
        sending.as_mut().await.unwrap();
        assert!(is_refused(sending));
        let mut raw = pin!(a.send_raw("raw", "7"));
        raw.as_mut().await.unwrap();
        assert!(is_refused(raw));
        expected.push(n);
    }
    let moody = Moody(false.into());
    let mut failed = pin!(a.send("m", &moody));
    assert!(matches!(poll(failed.as_mut()), Poll::Ready(Err(SendError::Json { .. }))));
    assert!(is_refused(failed));

    let closing = a.clone();
    let closing = tokio::spawn(async move { closing.close().await });
    let mut got = Vec::new();
    let mut messages = b.messages();
    while let Some(message) = messages.next().await {
        let message = message.unwrap();
        if &*message.name == "m" {
            got.push(message.body.parse::<u64>().unwrap());
        }
    }
    assert_eq!(got, expected);
    // A stream that has ended stays so.
    for _ in 0..3 {
        assert!(matches!(poll(pin!(messages.next())), Poll::Ready(None)));
    }
    closing.await.unwrap().unwrap();
}
