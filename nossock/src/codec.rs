use bytes::{BufMut, BytesMut};
use tokio_util::codec;

use crate::limits::Limits;
use crate::wire::{Decoder, Frame, Head, Kind, Name, NameError, Next, Unfinished, WireError};

/// A codec for [`tokio_util::codec::Framed`], for those who want only the frames.
///
/// ```text
/// 6a 05 68656c6c6f 00000007 22776f726c6422   →   Frame { name: "hello", body: Json("\"world\"") }
/// ```
///
/// There is no session here: requests are frames with long names, control frames are passed over, and a body
/// over the limit is an error of its own that the stream survives.
///
/// # Cancel safety
/// As that of `Framed`: dropping `next()` loses nothing; dropping `send()` may leave a frame in the buffer, which
/// leaves with the next one.
#[derive(Debug, Clone)]
pub struct FrameCodec {
    decoder: Decoder,
    max_body: u32,
}

impl FrameCodec {
    /// A codec with these limits.
    #[must_use]
    pub const fn new(limits: &Limits) -> Self {
        Self { decoder: Decoder::new(limits), max_body: limits.max_body }
    }
}

impl Default for FrameCodec {
    fn default() -> Self {
        Self::new(&Limits::default())
    }
}

/// Why [`FrameCodec`] gives no frame, or takes none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The peer's bytes are no frames.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The peer gave a frame a name that is no text.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A body over the limit, of the peer or of the caller.
    #[error("the body of `{name}` has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// The message.
        name: Name,
        /// Bytes of its body.
        size: usize,
        /// Bytes allowed.
        limit: u32,
    },
    /// The peer's stream ended inside a frame.
    #[error("the peer's stream ended {0}")]
    Truncated(Unfinished),
    /// The transport failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl codec::Decoder for FrameCodec {
    type Item = Result<Frame, CodecError>;
    type Error = CodecError;

    /// Gives `Ok(Some(Err(…)))` for a frame that is refused while the stream goes on, and `Err` when it cannot.
    fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Self::Item>, CodecError> {
        loop {
            match self.decoder.next(buf)? {
                Next::Frame(head) if head.kind() == Kind::Control => drop(buf.split_to(head.frame_len())),
                Next::Frame(head) => return Ok(Some(Frame::split(buf, &head).map_err(CodecError::from))),
                Next::TooLarge { name, size, .. } => {
                    let size = usize::try_from(size).unwrap_or(usize::MAX);
                    return Ok(Some(Err(CodecError::TooLarge { name, size, limit: self.max_body })));
                }
                Next::Incomplete => {
                    buf.reserve(self.decoder.room(buf));
                    return Ok(None);
                }
            }
        }
    }

    /// Says in which frame the stream ended, also in one whose body was being skipped.
    fn decode_eof(&mut self, buf: &mut BytesMut) -> Result<Option<Self::Item>, CodecError> {
        if let Some(frame) = self.decode(buf)? {
            return Ok(Some(frame));
        }
        self.decoder.unfinished(buf).map_or(Ok(None), |cut| Err(CodecError::Truncated(cut)))
    }
}

impl codec::Encoder<Frame> for FrameCodec {
    type Error = CodecError;

    fn encode(&mut self, frame: Frame, out: &mut BytesMut) -> Result<(), CodecError> {
        let body = frame.body.as_bytes();
        let fits = u32::try_from(body.len()).ok().filter(|len| *len <= self.max_body);
        let Some(body_len) = fits else {
            return Err(CodecError::TooLarge { size: body.len(), name: frame.name, limit: self.max_body });
        };
        out.reserve(Head::OVERHEAD + frame.name.len() + body.len());
        out.put_u8(frame.body.kind().byte());
        out.put_u8(crate::wire::name_len(&frame.name)?);
        out.put_slice(frame.name.as_bytes());
        out.put_u32(body_len);
        out.put_slice(body);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use tokio_util::codec::Framed;

    use super::*;

    #[tokio::test]
    async fn frames_cross_a_framed_stream_and_a_large_one_is_one_error() {
        let (here, there) = tokio::io::duplex(64);
        let mut sender = Framed::new(here, FrameCodec::default());
        let small = Limits { max_body: 8, ..Limits::default() };
        let mut receiver = Framed::new(there, FrameCodec::new(&small));
        let send = async {
            sender.send(Frame::raw("big", vec![0; 300]).unwrap()).await.unwrap();
            sender.send(Frame::json("hello", &"world").unwrap()).await.unwrap();
            sender.close().await.unwrap();
        };
        let receive = async {
            let error = receiver.next().await.unwrap().unwrap().unwrap_err();
            assert_eq!(error.to_string(), "the body of `big` has 300 bytes, the limit is 8");
            assert_eq!(
                receiver.next().await.unwrap().unwrap().unwrap(),
                Frame::json("hello", &"world").unwrap()
            );
            assert!(receiver.next().await.is_none());
        };
        tokio::join!(send, receive);
    }
}
