//! Receiving by hand.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::Socket;
use super::message::{Message, RecvError};
use super::shared::{Core, On, Wakes};
use crate::session::Phase;

impl Socket {
    /// Waits for the next message or request. `None` says that the peer closed cleanly, or this side did. A peer that has
    /// only ended its side still gets the answers that are owed to it, within
    /// [`Limits::close_grace`](crate::Limits::close_grace).
    ///
    /// On a socket with a [`Router`](crate::Router) everything goes to its handlers, and this waits for the end.
    /// Several tasks may receive; each message goes to one of them.
    ///
    /// # Errors
    /// [`RecvError::Refused`] for a message that was not let in; the next call goes on. [`RecvError::Closed`] when
    /// the conversation ended otherwise than by a clean close.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub async fn recv(&self) -> Result<Option<Message>, RecvError> {
        let limit = self.shared.config.limits.receive_queue;
        // Whoever looks first gets it. Were there a line, one in it who does not look would keep it from all others.
        self.shared.wait(On::Receive, move |core, wakes, _| next(core, wakes, limit)).await
    }

    /// The messages as a [`Stream`], which ends where [`recv`](Self::recv) gives `None` or
    /// [`RecvError::Closed`].
    pub fn messages(&self) -> Messages<'_> {
        Messages { socket: self, waiting: None, done: false }
    }
}

fn next(core: &mut Core, wakes: &mut Wakes, limit: usize) -> Option<Result<Option<Message>, RecvError>> {
    let before = core.inbox.bytes;
    let Some(item) = core.inbox.pop() else {
        let reason = core.session.reason()?.clone();
        if core.session.phase() < Phase::Flushing {
            core.inbox.end_seen = true;
            core.wake_driver(wakes);
        }
        return Some(if reason.is_clean() { Ok(None) } else { Err(RecvError::Closed(reason)) });
    };
    if before >= limit && core.inbox.bytes < limit {
        core.wake_driver(wakes); // it stopped reading
    }
    Some(item.map(Some))
}

type Received = Result<Option<Message>, RecvError>;

/// The messages of a socket, received by hand; from [`Socket::messages`].
#[must_use = "a stream does nothing until it is polled"]
pub struct Messages<'a> {
    socket: &'a Socket,
    waiting: Option<Pin<Box<dyn Future<Output = Received> + Send + 'a>>>,
    done: bool,
}

impl Stream for Messages<'_> {
    type Item = Result<Message, RecvError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        let socket = this.socket;
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(socket.recv()));
        let Poll::Ready(item) = waiting.as_mut().poll(cx) else { return Poll::Pending };
        this.waiting = None;
        this.done = matches!(item, Ok(None) | Err(RecvError::Closed(_)));
        Poll::Ready(item.transpose())
    }
}

impl std::fmt::Debug for Messages<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messages").field("done", &self.done).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use crate::Config;
    use crate::socket::{Side, Socket};

    /// A peer that has asked and ended its side, and the way to answer it, held elsewhere when `recv` has told the end.
    #[tokio::test(start_paused = true)]
    async fn answer_that_is_owed_when_the_end_is_received_still_leaves() {
        for (drops_socket, answers) in [(false, true), (true, true), (false, false)] {
            let (here, mut peer) = tokio::io::duplex(1024);
            let socket = Socket::over(here, Side::Server, Config::default());
            peer.write_all(b"j\x08req:q:ab\0\0\0\x011").await.unwrap();
            peer.shutdown().await.unwrap();
            let responder = socket.recv().await.unwrap().unwrap().responder.unwrap();
            assert!(socket.recv().await.unwrap().is_none());
            let socket = (!drops_socket).then_some(socket);
            tokio::time::sleep(Duration::from_secs(1)).await;
            if answers {
                responder.answer(&7).unwrap();
            } else {
                drop(responder);
            }
            let mut said = Vec::new();
            let before = tokio::time::Instant::now();
            peer.read_to_end(&mut said).await.unwrap();
            let said = String::from_utf8_lossy(&said);
            assert!(said.contains(if answers { "[null,7]" } else { "without an answer" }), "{said}");
            assert_eq!(before.elapsed(), Duration::ZERO, "and nothing else is waited for");
            drop(socket);
        }
    }

    /// Somebody who never answers holds nobody up for longer than a close may take.
    #[tokio::test(start_paused = true)]
    async fn answer_that_never_comes_is_waited_for_no_longer_than_a_close_may_take() {
        let (here, mut peer) = tokio::io::duplex(1024);
        let socket = Socket::over(here, Side::Server, Config::default());
        peer.write_all(b"j\x08req:q:ab\0\0\0\x011").await.unwrap();
        peer.shutdown().await.unwrap();
        let _responder = socket.recv().await.unwrap().unwrap().responder.unwrap();
        assert!(socket.recv().await.unwrap().is_none());
        let before = tokio::time::Instant::now();
        peer.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(before.elapsed(), socket.limits().close_grace);
    }

    /// A request holds its connection, to be answered on it, and the connection holds what was not received.
    #[tokio::test(start_paused = true)]
    async fn socket_that_is_dropped_leaves_nothing_of_what_nobody_received() {
        for peer_goes_first in [false, true] {
            let (one, other) = tokio::io::duplex(1024);
            let asker = Socket::over(one, Side::Client, Config::default());
            let asked = Socket::over(other, Side::Server, Config::default());
            let left = Arc::downgrade(&asked.shared);
            let asking = tokio::spawn(async move { asker.request::<u32, _>("what", &1).await });
            let minute = Duration::from_secs(60);
            if peer_goes_first {
                tokio::time::sleep(minute).await;
                drop(asked);
            } else {
                tokio::time::sleep(Duration::from_secs(1)).await;
                drop(asked);
                let error = asking.await.unwrap().unwrap_err();
                assert_eq!(error.to_string(), "`what` was rejected: this side is closing (busy)");
            }
            tokio::time::sleep(minute).await;
            assert!(left.upgrade().is_none(), "peer goes first: {peer_goes_first}");
        }
    }
}
