//! Messages that are encoded before it is known who gets them.

use bytes::Bytes;
use serde::Serialize;

use super::send::{SendError, check_size};
use super::shared::{Core, Shared, Turn, Wakes};
use crate::wire::{Frame, name_len};

/// A message that is encoded once, to be sent to many.
///
/// Where nothing else waits to be sent, and there is no TLS, it is written to the socket at once by whoever sends it, in
/// one system call: for a thousand sockets that is half the work of waking a thousand tasks. To send many different
/// messages to one socket, [`Socket::send`](crate::Socket::send) is the better choice, as it gathers them.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use nossock::{Config, EncodedMessage, Side, Socket};
///
/// let (here, there) = tokio::io::duplex(1024);
/// let (a, b) = (Socket::over(here, Side::Client, Config::default()), Socket::over(there, Side::Server, Config::default()));
///
/// let tick = EncodedMessage::json("tick", &1)?;
/// for socket in [&a, &b] {
///     socket.try_send_encoded(&tick)?;
/// }
/// assert_eq!(b.recv().await?.unwrap().name, "tick");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct EncodedMessage {
    frame: Bytes,
    body_len: usize,
}

impl EncodedMessage {
    /// Encodes a message with a JSON body.
    ///
    /// # Errors
    /// As [`Socket::send`](crate::Socket::send).
    pub fn json<T: Serialize + ?Sized>(name: &str, body: &T) -> Result<Self, SendError> {
        name_len(name)?;
        let json =
            serde_json::to_vec(body).map_err(|source| SendError::Json { name: name.into(), source })?;
        Self::new(name, crate::wire::Body::Json(json.into()))
    }

    /// Encodes a message with a raw body.
    ///
    /// # Errors
    /// As [`Socket::send_raw`](crate::Socket::send_raw).
    pub fn raw(name: &str, body: impl Into<Bytes>) -> Result<Self, SendError> {
        Self::new(name, crate::wire::Body::Raw(body.into()))
    }

    /// Bytes of the whole frame.
    pub(crate) const fn len(&self) -> usize {
        self.frame.len()
    }

    fn name(&self) -> String {
        let head = crate::wire::Head::parse(&self.frame).ok().flatten();
        let frame = head.and_then(|head| crate::wire::FrameRef::new(&self.frame, &head).ok());
        frame.map_or_else(String::new, |frame| frame.name.to_owned())
    }

    /// Queues the frame; says whether there was room.
    pub(super) fn push(
        &self,
        shared: &Shared,
        core: &mut Core,
        wakes: &mut Wakes,
        turn: Turn,
    ) -> Result<bool, SendError> {
        core.session.may_send().map_err(SendError::Closed)?;
        let limit = core.session.max_body(shared.config.limits.max_body);
        if self.body_len > limit as usize {
            return Err(SendError::TooLarge { name: self.name(), size: self.body_len, limit });
        }
        if turn == Turn::Behind || !core.has_room(shared.config.limits.send_queue) {
            return Ok(false);
        }
        shared.whole_at_once(core, wakes, &self.frame);
        Ok(true)
    }

    fn new(name: &str, body: crate::wire::Body) -> Result<Self, SendError> {
        let body_len = body.as_bytes().len();
        check_size(name, body_len, u32::MAX)?;
        Ok(Self { frame: Frame { name: crate::wire::Name::new(name)?, body }.encode(), body_len })
    }
}

/// Shows what it is called and how long it is, and not what it says.
impl std::fmt::Debug for EncodedMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncodedMessage")
            .field("name", &self.name())
            .field("body_len", &self.body_len)
            .finish()
    }
}
