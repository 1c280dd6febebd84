use std::fmt;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::IntroductionError;
use crate::session::{CloseCode, Control};
use crate::socket::{Peer, Side};
use crate::wire::{Frame, Head, Kind};

/// Frames in and out on the bare transport, for an [`Introduction`](super::Introduction).
///
/// It reads exactly the frames that are asked for, and not a byte of what follows.
pub struct Exchange<'a> {
    io: &'a mut dyn Duplex,
    side: Side,
    peer: &'a Peer,
    /// What has arrived of the next frame.
    input: BytesMut,
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

impl<'a> Exchange<'a> {
    /// The largest frame that is read, head included: 4 KiB. Nobody knows the peer yet.
    pub const MAX_FRAME: usize = 4 * 1024;

    pub(super) fn new<T>(io: &'a mut T, side: Side, peer: &'a Peer) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send,
    {
        Self { io, side, peer, input: BytesMut::new() }
    }

    /// Which side this is.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }

    /// What the transport knows of the peer: over TLS its certificates, and the channel binding that makes a proof worthless
    /// on any other connection.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        self.peer
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the transport fails.
    ///
    /// # Cancel safety
    /// Dropping it may leave half a frame behind; end the introduction then.
    pub async fn send(&mut self, frame: &Frame) -> Result<(), IntroductionError> {
        self.io.write_all(&frame.encode()).await?;
        Ok(self.io.flush().await?)
    }

    /// Waits for the next frame.
    ///
    /// # Errors
    /// When the peer closes or refuses, begins its conversation instead, sends what is no frame or one over
    /// [`MAX_FRAME`](Self::MAX_FRAME); and when the transport fails.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing: the next call goes on where it was.
    pub async fn receive(&mut self) -> Result<Frame, IntroductionError> {
        let head = loop {
            let head = Head::parse(&self.input)?;
            let needed = match (&head, self.input.get(1)) {
                (Some(head), _) => head.frame_len(),
                (None, Some(name_len)) => Head::OVERHEAD + usize::from(*name_len),
                (None, None) => 2,
            };
            if needed > Self::MAX_FRAME {
                return Err(IntroductionError::TooLarge { size: needed, limit: Self::MAX_FRAME });
            }
            match (head, needed.saturating_sub(self.input.len())) {
                (Some(head), 0) => break head,
                (_, missing) => self.read(missing).await?,
            }
        };
        if head.kind() == Kind::Control {
            let whole = self.input.split();
            return Err(match whole.get(head.body_at()..).and_then(Control::parse) {
                Some(Control::Close(close)) if close.code == CloseCode::Refused => {
                    IntroductionError::RefusedByPeer
                }
                Some(Control::Close(close)) => IntroductionError::Ended(Some(close.code)),
                _ => IntroductionError::NotIntroduced,
            });
        }
        Ok(Frame::split(&mut self.input, &head)?)
    }

    /// Reads once, at most this many bytes.
    async fn read(&mut self, most: usize) -> Result<(), IntroductionError> {
        match (&mut *self.io).take(most as u64).read_buf(&mut self.input).await? {
            0 => Err(IntroductionError::Ended(None)),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Exchange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("side", &self.side).field("peer", self.peer).finish_non_exhaustive()
    }
}
