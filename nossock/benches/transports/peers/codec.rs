//! `codec`: tokio-util's `LengthDelimitedCodec`, as it is by default but for a limit that lets 4 MiB through.

use std::io;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::net::Stream;

use super::messages::{Channel, Opened, Over};

/// The peer.
pub(crate) type Codec = Over<LengthDelimited>;

/// The same with one task that asks, and a queue in place of the map.
pub(crate) type CodecInOrder = Over<LengthDelimited, true>;

/// Messages behind a length of four bytes. JSON begins with a brace or a quote, and the raw bodies here do not.
#[derive(Debug)]
pub(crate) struct LengthDelimited;

impl Channel for LengthDelimited {
    type Message = Bytes;
    type Error = io::Error;
    type Io = Framed<Stream, LengthDelimitedCodec>;
    type Incoming = BytesMut;

    async fn accept(stream: Stream) -> io::Result<Self::Io> {
        Ok(LengthDelimitedCodec::builder().max_frame_length(16 * 1024 * 1024).new_framed(stream))
    }

    async fn connect(stream: Stream) -> io::Result<Self::Io> {
        Self::accept(stream).await
    }

    fn json<T: Serialize>(value: &T) -> io::Result<Bytes> {
        Ok(serde_json::to_vec(value)?.into())
    }

    fn blob(bytes: Bytes) -> Bytes {
        bytes
    }

    fn open(incoming: &BytesMut) -> Option<Opened<'_>> {
        Some(match incoming.first() {
            Some(b'{' | b'"') => Opened::Json(incoming),
            _ => Opened::Blob(incoming),
        })
    }
}
