//! The futures below a socket, polled by hand: before, at and after their end.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::answers::{Answers, Asked};
use super::shared::{On, Turn};
use super::{Driver, Peer, Side, Socket};
use crate::{CloseReason, Config};

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn pair() -> (Socket, Driver<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
    let (here, there) = tokio::io::duplex(1024);
    let (socket, driver) = Socket::pair(here, Side::Client, Arc::default(), None, Peer::default());
    (socket, driver, there)
}

#[tokio::test]
async fn driver_that_is_polled_after_its_end_changes_nothing() {
    let (socket, driver, there) = pair();
    let mut driver = pin!(driver);
    assert!(poll(driver.as_mut()).is_pending());
    drop(there);
    assert!(driver.as_mut().await, "nothing ran any more");
    let (reason, stats) = (socket.close_reason(), socket.stats());
    assert!(matches!(reason, Some(CloseReason::Io(_) | CloseReason::Peer)), "{reason:?}");
    for _ in 0..3 {
        assert_eq!(poll(driver.as_mut()), Poll::Ready(true));
        assert_eq!(format!("{:?}", socket.close_reason()), format!("{reason:?}"));
        assert_eq!(socket.stats(), stats);
    }
}

#[tokio::test]
async fn driver_that_is_dropped_ends_its_conversation_once() {
    let (socket, driver, _there) = pair();
    let mut driver = Box::pin(driver);
    assert!(poll(driver.as_mut()).is_pending());
    drop(driver);
    assert!(matches!(socket.close_reason(), Some(CloseReason::Aborted(_))));
    assert!(matches!(socket.recv().await, Err(crate::RecvError::Closed(CloseReason::Aborted(_)))));
}

#[tokio::test]
async fn whoever_waits_leaves_the_line_at_the_end_and_when_dropped() {
    let (socket, _driver, _there) = pair();
    let shared = &socket.shared;
    let is_empty = || shared.lock().turn(On::Room) == Turn::First;
    let mut looked = 0;
    let mut waiting = Box::pin(shared.wait(On::Room, |_, _, _| {
        looked += 1;
        (looked > 2).then_some(looked)
    }));
    assert!(poll(waiting.as_mut()).is_pending() && poll(waiting.as_mut()).is_pending());
    assert!(!is_empty());
    // Somebody comes later, and stands behind, not before.
    let mut later = Box::pin(shared.wait(On::Room, |_, _, turn| Some(turn)));
    assert_eq!(poll(later.as_mut()), Poll::Ready(Turn::Behind));
    assert_eq!(poll(waiting.as_mut()), Poll::Ready(3));
    assert!(is_empty());
    // It has no place any more, and takes none from others: it looks anew.
    assert_eq!(poll(waiting.as_mut()), Poll::Ready(4));
    assert_eq!(poll(later.as_mut()), Poll::Ready(Turn::First));
    drop((waiting, later));
    assert!(is_empty());

    let mut never = Box::pin(shared.wait(On::Room, |_, _, _| None::<()>));
    assert!(poll(never.as_mut()).is_pending() && !is_empty());
    drop(never);
    assert!(is_empty());
}

/// Writes a part of itself, and fails.
struct Half;

impl serde::Serialize for Half {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{Error as _, SerializeSeq as _};
        let mut list = serializer.serialize_seq(None)?;
        list.serialize_element("half")?;
        Err(S::Error::custom("no more"))
    }
}

#[tokio::test]
async fn answer_that_is_left_unfinished_leaves_nothing_of_it() {
    for panics in [false, true] {
        let (socket, _driver, _there) = pair();
        let mut answers = Answers::new(Config::default().limits.max_body);
        let answers = &mut answers;
        Asked { tag: b"a:1", answers, shared: &socket.shared }.json(&1).unwrap();
        let (whole, made) = (answers.len(), answers.made());
        assert!(whole > 0 && made == 1);
        if panics {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let asked = Asked { tag: b"b:2", answers: &mut *answers, shared: &socket.shared };
                asked.json(&Bursts).is_ok()
            }));
            assert!(caught.is_err());
            Asked { tag: b"b:2", answers, shared: &socket.shared }.recover(made);
        } else {
            assert!(Asked { tag: b"b:2", answers, shared: &socket.shared }.json(&Half).is_err());
        }
        assert_eq!(answers.made(), 2, "the asker is told by another way");
        assert!(socket.shared.has_queued());
        assert_eq!(answers.take().len(), whole, "not a byte of an answer that is not whole");
    }
}

/// Panics when it is written.
struct Bursts;

impl serde::Serialize for Bursts {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("bursts")
    }
}
