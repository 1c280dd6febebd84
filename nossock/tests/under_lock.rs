//! Code of a user that runs when a body or a waker is dropped, and uses the same socket: never while that is locked.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::pin::pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use nossock::wire::Body;
use nossock::{Config, Limits, Side, Socket};

/// Runs it in a thread of its own, as it may hang.
fn in_time(act: impl AsyncFnOnce() + Send + 'static) {
    let (done, is_done) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(act());
        done.send(()).unwrap();
    });
    is_done.recv_timeout(Duration::from_secs(10)).expect("it neither panics nor hangs");
}

/// Memory that tells, when it is given back, by the socket that sent it.
struct Lent {
    memory: Vec<u8>,
    socket: Socket,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let _ = self.socket.try_send("given back", &self.memory.len());
    }
}

fn lent(socket: &Socket, len: usize) -> Bytes {
    Bytes::from_owner(Lent { memory: vec![b'x'; len], socket: socket.clone() })
}

#[test]
fn bodies_are_given_back_outside_of_the_lock() {
    in_time(async || {
        let (one, other) = tokio::io::duplex(64);
        let close_grace = Duration::from_millis(100);
        let limits = Limits { send_queue: 20_000, max_body: 50_000, close_grace, ..Limits::default() };
        let config = Config { limits, ..Config::default() };
        let socket = Socket::over(one, Side::Client, config);
        let peer = Socket::over(other, Side::Server, Config::default());
        // Queued as a copy, and refused.
        socket.send_raw("small", lent(&socket, 10)).await.unwrap();
        socket.try_send_raw("small", lent(&socket, 10)).unwrap();
        socket.send_raw("too large", lent(&socket, 60_000)).await.unwrap_err();
        // A request that is answered by hand, from either side.
        let second = Duration::from_secs(1);
        let answering = async {
            loop {
                if let Some(responder) = peer.recv().await.unwrap().unwrap().responder {
                    break responder.answer_raw(lent(&peer, 10)).unwrap();
                }
            }
        };
        let (answer, ()) =
            tokio::join!(socket.request_raw(second, "what", Body::Raw(lent(&socket, 10))), answering);
        answer.unwrap();
        // Queued as it is, and still there at the end.
        socket.send_raw("large", lent(&socket, 30_000)).await.unwrap();
        let _ = socket.try_send_raw("full", lent(&socket, 10));
        let waiting = socket.send_raw("waits", lent(&socket, 10));
        let (waited, ()) = tokio::join!(waiting, async {
            tokio::task::yield_now().await;
            drop(peer.clone());
            drop(peer);
        });
        drop(waited);
        let _ = socket.close().await; // what waited did not leave
        socket.send_raw("over", lent(&socket, 10)).await.unwrap_err();
        socket.request_raw(second, "over", Body::Raw(lent(&socket, 10))).await.unwrap_err();
    });
}

/// The waker of a task that was left with a handle of the socket in it.
struct Left(Mutex<Option<Socket>>);

impl Wake for Left {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Left {
    fn drop(&mut self) {
        let socket = self.0.lock().unwrap().take().unwrap();
        let _ = socket.try_send("left", &1);
    }
}

#[test]
fn wakers_are_given_back_outside_of_the_lock() {
    in_time(async || {
        let (one, _other) = tokio::io::duplex(1 << 20);
        let socket = Socket::over(one, Side::Client, Config::default());
        let left = || Waker::from(Arc::new(Left(Mutex::new(Some(socket.clone())))));
        let poll_with = |polled: &mut dyn FnMut(&mut Context<'_>) -> bool| {
            // Each time by another task, of which only the waker is left.
            for _ in 0..3 {
                assert!(polled(&mut Context::from_waker(&left())));
            }
        };
        {
            let mut receiving = pin!(socket.recv());
            poll_with(&mut |cx| receiving.as_mut().poll(cx).is_pending());
        }
        {
            let mut asking = pin!(socket.request::<u8, _>("what", &()));
            poll_with(&mut |cx| matches!(asking.as_mut().poll(cx), Poll::Pending));
        }
        {
            let mut closed = pin!(socket.closed());
            poll_with(&mut |cx| closed.as_mut().poll(cx).is_pending());
        }
    });
}
