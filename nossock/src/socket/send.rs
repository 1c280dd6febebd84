//! Sending, flushing and closing.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::Socket;
use super::encode::{self, Encoded};
use super::encoded::EncodedMessage;
use super::shared::{Core, On, Shared, Turn, Wakes};
use crate::session::{CloseReason, Phase};
use crate::wire::{Kind, NameError, name_len};

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The caller's name does not fit; nothing was sent.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The caller's value cannot be JSON; nothing was sent.
    #[error("the value for `{name}` cannot be written as JSON")]
    Json {
        /// The message.
        name: String,
        /// What serde said.
        source: serde_json::Error,
    },
    /// The caller's body is over the smaller of both sides' limits; nothing was sent, and the connection lives.
    #[error("the body of `{name}` has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// The message.
        name: String,
        /// Bytes of its body.
        size: usize,
        /// [`Limits::max_body`](crate::Limits::max_body), or that of a peer that has told it.
        limit: u32,
    },
    /// The conversation is over.
    #[error("not sent: {0}")]
    Closed(#[source] CloseReason),
}

/// Why [`try_send`](Socket::try_send) or [`try_send_raw`](Socket::try_send_raw) did not send.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError<B = ()> {
    /// [`Limits::send_queue`](crate::Limits::send_queue) bytes wait already. A raw body comes back.
    #[error("the send queue is full")]
    Full(B),
    /// Waiting would not help.
    #[error(transparent)]
    Failed(#[from] SendError),
}

/// What [`close`](Socket::close) could not send.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{bytes} bytes were not sent: {reason}")]
#[non_exhaustive]
pub struct Unsent {
    /// Bytes that were queued and did not leave.
    pub bytes: u64,
    /// Why.
    pub reason: CloseReason,
}

/// Room for one message; from [`reserve`](Socket::reserve).
///
/// Sending with it never waits. Dropped unused, it gives the room back.
#[derive(Debug)]
pub struct Permit<'a> {
    shared: &'a Shared,
}

/// What a permit holds of the send queue, in bytes: what a usual message needs.
const PERMIT: usize = 1024;

pub(super) fn check_size(name: &str, size: usize, limit: u32) -> Result<(), SendError> {
    if u32::try_from(size).is_ok_and(|size| size <= limit) {
        return Ok(());
    }
    Err(SendError::TooLarge { name: name.to_owned(), size, limit })
}

/// Bytes of small messages after which a sender that could wait lets the driver write first: what is still in the
/// processor's nearest caches then. With four times as much a message costs twice, as each of its bytes is fetched from
/// afar, once to be written and once to leave.
const TURN: usize = 64 * 1024;

/// What is about to be queued.
struct Outgoing<'a> {
    name: &'a str,
    body_len: usize,
    /// The length of the name, when the head is still to be written: before a raw body, which is not copied.
    raw: Option<u8>,
}

impl<'a> Outgoing<'a> {
    const fn json(name: &'a str, body_len: usize) -> Self {
        Self { name, body_len, raw: None }
    }

    fn raw(name: &'a str, body: &Bytes) -> Result<Self, NameError> {
        Ok(Self { name, body_len: body.len(), raw: Some(name_len(name)?) })
    }

    #[inline]
    fn queue(&self, shared: &Shared, core: &mut Core, wakes: &mut Wakes, bytes: &mut Encoded<'_>) {
        match self.raw {
            Some(name_len) => shared.frame(core, Kind::Raw, name_len, &[self.name], bytes.payload()),
            None => shared.whole(core, bytes.payload()),
        }
        core.wake_driver(wakes);
    }

    /// Queues the message, if there is room and nobody waits for it, or gives its body back.
    #[inline]
    fn push(
        &self,
        shared: &Shared,
        core: &mut Core,
        wakes: &mut Wakes,
        body: &mut Encoded<'_>,
        turn: Turn,
    ) -> Pushed {
        if let Err(reason) = core.session.may_send() {
            return Pushed::Failed(Box::new(SendError::Closed(reason)));
        }
        let limit = core.session.max_body(shared.config.limits.max_body);
        if let Err(error) = check_size(self.name, self.body_len, limit) {
            return Pushed::Failed(Box::new(error));
        }
        if turn == Turn::Behind || !core.has_room(shared.config.limits.send_queue) {
            return Pushed::Full(Box::new(body.take_bytes()));
        }
        self.queue(shared, core, wakes, body);
        Pushed::Done
    }

    /// Queues the message or gives its body back.
    #[inline]
    fn try_push(&self, shared: &Shared, mut body: Encoded<'_>) -> Pushed {
        shared.with(|core, wakes| {
            let turn = core.turn(On::Room);
            self.push(shared, core, wakes, &mut body, turn)
        })
    }

    /// As [`try_push`](Self::try_push); gives the body back also when it is the driver's turn.
    #[inline]
    fn push_in_turn(&self, shared: &Shared, mut body: Encoded<'_>) -> Pushed {
        shared.with(|core, wakes| {
            if core.session.unwritten_small() >= TURN {
                return Pushed::Full(Box::new(body.take_bytes()));
            }
            let turn = core.turn(On::Room);
            self.push(shared, core, wakes, &mut body, turn)
        })
    }

    /// Queues the message when there is room, once others have had their turn.
    async fn push_later(&self, shared: &Shared, body: Bytes) -> Result<(), SendError> {
        let mut body = Encoded::Owned(body);
        let mut yielded = false;
        let turn = poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        turn.await;
        shared
            .wait(On::Room, |core, wakes, turn| match self.push(shared, core, wakes, &mut body, turn) {
                Pushed::Done => Some(Ok(())),
                Pushed::Full(back) => {
                    body = Encoded::Owned(*back);
                    None
                }
                Pushed::Failed(error) => Some(Err(*error)),
            })
            .await
    }
}

/// What became of the attempt to queue a message. Small, to be given back in registers: so what is rare is boxed.
enum Pushed {
    Done,
    /// Not now; the body comes back.
    Full(Box<Bytes>),
    Failed(Box<SendError>),
}

impl Pushed {
    /// What of it ends an attempt that does not wait.
    fn now(self) -> Result<(), TrySendError<Bytes>> {
        match self {
            Self::Done => Ok(()),
            Self::Full(body) => Err(TrySendError::Full(*body)),
            Self::Failed(error) => Err(TrySendError::Failed(*error)),
        }
    }
}

/// A message with a JSON body, until it is queued. Written by hand: an async function keeps twice as much, and most are
/// ready when they are polled first.
struct Sending<'a, T: ?Sized> {
    shared: &'a Shared,
    name: &'a str,
    /// Until the first poll.
    body: Option<&'a T>,
    later: Option<Later<'a>>,
}

type Later<'a> = Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>>;

impl<T: Serialize + ?Sized> Future for Sending<'_, T> {
    type Output = Result<(), SendError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (shared, name) = (this.shared, this.name);
        if let Some(body) = this.body.take() {
            let push = |frame: Encoded<'_>, body_len| {
                if let Encoded::Borrowed(frame) = frame
                    && shared.append(frame, body_len, TURN)
                {
                    return (Pushed::Done, body_len);
                }
                (Outgoing::json(name, body_len).push_in_turn(shared, frame), body_len)
            };
            let pushed = encode::message(name, name_len(name)?, body, push);
            match pushed.map_err(|source| SendError::Json { name: name.to_owned(), source })? {
                (Pushed::Done, _) => return Poll::Ready(Ok(())),
                (Pushed::Failed(error), _) => return Poll::Ready(Err(*error)),
                (Pushed::Full(frame), body_len) => {
                    let out = Outgoing::json(name, body_len);
                    this.later = Some(Box::pin(async move { out.push_later(shared, *frame).await }));
                }
            }
        }
        // Told as by an async function: sent again would be worse.
        this.later.as_mut().expect("a message is not polled after its end").as_mut().poll(cx)
    }
}

impl Socket {
    /// Sends a message with a JSON body; waits while the send queue is full.
    ///
    /// When it returns the message is queued, and leaves in the order of the calls. [`flush`](Self::flush) waits
    /// until it has left, [`close`](Self::close) makes sure of it.
    ///
    /// # Errors
    /// When the name or the body does not fit (the connection lives on), or the conversation is over.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nothing was queued; ready, the whole message was.
    pub fn send<'a, T: Serialize + ?Sized>(
        &'a self,
        name: &'a str,
        body: &'a T,
    ) -> impl Future<Output = Result<(), SendError>> {
        Sending { shared: &self.shared, name, body: Some(body), later: None }
    }

    /// Sends a message with a raw body, which is not copied when it is large; waits while the send queue is full.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_raw(&self, name: &str, body: impl Into<Bytes>) -> Result<(), SendError> {
        let body = body.into();
        let out = Outgoing::raw(name, &body)?;
        match out.push_in_turn(&self.shared, Encoded::Owned(body)) {
            Pushed::Done => Ok(()),
            Pushed::Full(body) => out.push_later(&self.shared, *body).await,
            Pushed::Failed(error) => Err(*error),
        }
    }

    /// Sends a message with a JSON body, if there is room now.
    ///
    /// # Errors
    /// [`TrySendError::Full`] when there is none, and those of [`send`](Self::send).
    pub fn try_send<T: Serialize + ?Sized>(&self, name: &str, body: &T) -> Result<(), TrySendError> {
        let name_len = name_len(name).map_err(SendError::from)?;
        let push =
            |frame: Encoded<'_>, body_len| Outgoing::json(name, body_len).try_push(&self.shared, frame);
        let pushed = encode::message(name, name_len, body, push)
            .map_err(|source| SendError::Json { name: name.to_owned(), source })?;
        pushed.now().map_err(|error| match error {
            TrySendError::Full(_) => TrySendError::Full(()),
            TrySendError::Failed(error) => TrySendError::Failed(error),
        })
    }

    /// Sends a message with a raw body, if there is room now; gives it back, if not.
    ///
    /// # Errors
    /// [`TrySendError::Full`] with the body when there is no room, and those of [`send`](Self::send).
    pub fn try_send_raw(&self, name: &str, body: impl Into<Bytes>) -> Result<(), TrySendError<Bytes>> {
        let body = body.into();
        let out = Outgoing::raw(name, &body).map_err(SendError::from)?;
        out.try_push(&self.shared, Encoded::Owned(body)).now()
    }

    /// Sends a message that was encoded before; waits while the send queue is full.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_encoded(&self, message: &EncodedMessage) -> Result<(), SendError> {
        self.shared
            .wait(On::Room, |core, wakes, turn| match message.push(&self.shared, core, wakes, turn) {
                Ok(true) => Some(Ok(())),
                Ok(false) => None,
                Err(error) => Some(Err(error)),
            })
            .await
    }

    /// Sends a message that was encoded before, if there is room now.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub fn try_send_encoded(&self, message: &EncodedMessage) -> Result<(), TrySendError> {
        let sent = self.shared.with(|core, wakes| {
            let turn = core.turn(On::Room);
            message.push(&self.shared, core, wakes, turn)
        })?;
        if sent { Ok(()) } else { Err(TrySendError::Full(())) }
    }

    /// Waits for room for one message.
    ///
    /// # Errors
    /// When the conversation is over.
    ///
    /// # Cancel safety
    /// Dropping it keeps no room.
    pub async fn reserve(&self) -> Result<Permit<'_>, SendError> {
        let limit = self.shared.config.limits.send_queue;
        self.shared
            .wait(On::Room, |core, _, turn| {
                if let Err(reason) = core.session.may_send() {
                    return Some(Err(SendError::Closed(reason)));
                }
                if turn == Turn::Behind || !core.has_room(limit) {
                    return None;
                }
                core.promised += PERMIT;
                Some(Ok(()))
            })
            .await?;
        Ok(Permit { shared: &self.shared })
    }

    /// Waits until everything queued before has been given to the operating system.
    ///
    /// # Errors
    /// When the conversation ended before.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing; what is queued still leaves.
    pub async fn flush(&self) -> Result<(), SendError> {
        let target = self.shared.lock().session.progress().0;
        self.shared
            .wait(On::Flush, |core, _, _| {
                if core.session.progress().1 >= target {
                    return Some(Ok(()));
                }
                let over = core.session.phase() == Phase::Closed;
                over.then(|| {
                    Err(SendError::Closed(core.session.reason().cloned().unwrap_or(CloseReason::Local)))
                })
            })
            .await
    }

    /// Closes: lets the handlers that run end, refuses new messages, sends what is queued, tells the peer, and waits
    /// for it to end its side too. [`Limits::close_grace`](crate::Limits::close_grace) bounds the handlers, and
    /// again what comes after them.
    ///
    /// Requests that still wait for an answer fail with [`CloseReason::Local`].
    ///
    /// # Errors
    /// With what was not sent, when the connection ended before.
    ///
    /// # Cancel safety
    /// Dropping it waits no longer; the close goes on.
    pub async fn close(&self) -> Result<(), Unsent> {
        self.shared.close(CloseReason::Local, self.shared.config.limits.close_grace);
        self.shared
            .wait(On::Flush, |core, _, _| {
                if core.session.phase() != Phase::Closed {
                    return None;
                }
                let (queued, flushed) = core.session.progress();
                if queued == flushed {
                    return Some(Ok(()));
                }
                let reason = core.session.reason().cloned().unwrap_or(CloseReason::Local);
                Some(Err(Unsent { bytes: queued - flushed, reason }))
            })
            .await
    }

    /// Begins to close for a reason of this side's own; what runs may take `grace` to end.
    pub(crate) fn close_within(&self, grace: Duration, reason: CloseReason) {
        self.shared.close(reason, grace);
    }

    /// Waits until the conversation ends, for whatever reason.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn closed(&self) -> CloseReason {
        self.shared.wait(On::Close, |core, _, _| core.session.reason().cloned()).await
    }
}

impl Permit<'_> {
    /// Sends a message with a JSON body.
    ///
    /// # Errors
    /// As [`Socket::send`].
    pub fn send<T: Serialize + ?Sized>(self, name: &str, body: &T) -> Result<(), SendError> {
        let push = |frame: Encoded<'_>, body_len| self.push(&Outgoing::json(name, body_len), frame);
        encode::message(name, name_len(name)?, body, push)
            .map_err(|source| SendError::Json { name: name.to_owned(), source })?
    }

    /// Sends a message with a raw body.
    ///
    /// # Errors
    /// As [`Socket::send`].
    pub fn send_raw(self, name: &str, body: impl Into<Bytes>) -> Result<(), SendError> {
        let body = body.into();
        let out = Outgoing::raw(name, &body)?;
        self.push(&out, Encoded::Owned(body))
    }

    fn push(&self, out: &Outgoing<'_>, mut bytes: Encoded<'_>) -> Result<(), SendError> {
        self.shared.with(|core, wakes| {
            core.session.may_send().map_err(SendError::Closed)?;
            check_size(out.name, out.body_len, core.session.max_body(self.shared.config.limits.max_body))?;
            out.queue(self.shared, core, wakes, &mut bytes);
            Ok(())
        })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.shared.with(|core, wakes| {
            core.promised -= PERMIT;
            core.wake(On::Room, wakes);
        });
    }
}
