//! NoService TCP: messages cut out of a stream of bytes, each behind its length.
//!
//! ```text
//!  0                16
//!  +----------------+-------- ... --------+
//!  | length         | message             |
//!  | 16 digits      |                     |
//!  +----------------+-------- ... --------+
//! ```
//!
//! `0000000000000029GTrq{"u":"admin","p":"admin"}` is a whole chunk. An empty message is legal and means
//! nothing.
//!
//! The original misreads a header that comes in two pieces and is deaf from then on, so a chunk has to leave in one write;
//! [`encode_head`] makes that easy. Ours takes any split. Where the original hangs (a negative length), goes deaf (no number), or buffers
//! without end (no limit), [`Chunks`] returns an error that names the reason, and the carrier closes.

use bytes::{BufMut, Bytes, BytesMut};

use super::length::{self, DIGITS};
use super::{EncodeError, LengthError, Methods, Packet};

/// Cuts messages out of what has been read.
///
/// It owns no buffer: the caller reads into a [`BytesMut`], which therefore never holds more than has arrived. A length
/// is checked as soon as its sixteen bytes are there, before any of the message is kept.
///
/// ```
/// use bytes::BytesMut;
/// use nsp::proto::chunk::Chunks;
///
/// let mut chunks = Chunks::new(1024);
/// let mut read = BytesMut::from(&b"00000000000"[..]);
/// assert_eq!(chunks.next(&mut read)?, None);
/// read.extend_from_slice(b"00002HB0000");
/// assert_eq!(chunks.next(&mut read)?.as_deref(), Some(&b"HB"[..]));
/// assert_eq!(chunks.next(&mut read)?, None);
/// assert_eq!(&read[..], b"0000");
/// # Ok::<(), nsp::proto::chunk::ChunkError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Chunks {
    limit: usize,
    /// Length of the message whose header has been read already.
    pending: Option<usize>,
}

impl Chunks {
    /// Begins a stream whose messages may have up to `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, pending: None }
    }

    /// Sets another limit, in bytes, for the messages whose header has not been read yet.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes the next message from the front of `read`, or `None` when it is not all there yet.
    ///
    /// The message is a part of the buffer, not a copy.
    ///
    /// # Errors
    /// A [`ChunkError`] when sixteen bytes are no length, or one above the limit. The stream has lost its beat then: close it.
    pub fn next(&mut self, read: &mut BytesMut) -> Result<Option<Bytes>, ChunkError> {
        let length = match self.pending {
            Some(length) => length,
            None => match self.header(read)? {
                Some(length) => length,
                None => return Ok(None),
            },
        };
        if read.len() < length {
            self.pending = Some(length);
            return Ok(None);
        }
        self.pending = None;
        Ok(Some(read.split_to(length).freeze()))
    }

    /// How many bytes are missing for sure before [`next`](Self::next) has something: an upper bound for a useful read,
    /// to be cut to the step by which the caller's buffer may grow.
    #[must_use]
    pub fn missing(&self, read: &BytesMut) -> usize {
        self.pending.unwrap_or(DIGITS).saturating_sub(read.len())
    }

    /// Whether the stream may end here without a message being cut.
    #[must_use]
    pub fn is_between_messages(&self, read: &BytesMut) -> bool {
        self.pending.is_none() && read.is_empty()
    }

    fn header(&self, read: &mut BytesMut) -> Result<Option<usize>, ChunkError> {
        let Some(&digits) = read.first_chunk::<DIGITS>() else {
            return match Stranger::of(read) {
                Some(stranger) => Err(ChunkError::Stranger(stranger)),
                None => Ok(None),
            };
        };
        let length = length::read(digits).map_err(|source| match Stranger::of(&digits) {
            Some(stranger) => ChunkError::Stranger(stranger),
            None => ChunkError::Length(source),
        })?;
        let limit = self.limit;
        match usize::try_from(length) {
            Ok(length) if length <= limit => {
                let _ = read.split_to(DIGITS);
                Ok(Some(length))
            }
            _ => Err(ChunkError::TooLarge { length, limit }),
        }
    }
}

/// Why a stream of chunks cannot go on. The peer is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// Sixteen bytes that are not a length.
    #[error("chunk length: {0}")]
    Length(LengthError),
    /// A message above the limit.
    #[error("chunk of {length} bytes is above the limit of {limit}")]
    TooLarge {
        /// The length as sent, in bytes.
        length: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// The peer speaks another protocol.
    #[error("this looks like {0}, not like NoService chunks")]
    Stranger(Stranger),
}

/// A protocol that is often spoken to the wrong port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stranger {
    /// An HTTP request, or a WebSocket that should have gone to the `ws://` listener.
    Http,
    /// A TLS handshake: there is no TLS below NoService chunks.
    Tls,
}

impl Stranger {
    /// Recognises the first bytes, as few as two of them: a peer that waits for our answer will not send more.
    fn of(first: &[u8]) -> Option<Self> {
        let methods: [&[u8]; 4] = [b"GET ", b"POST ", b"HEAD ", b"PRI * "];
        match first {
            [0x16, 0x03, ..] => Some(Self::Tls),
            _ => methods.iter().any(|method| first.starts_with(method)).then_some(Self::Http),
        }
    }
}

impl std::fmt::Display for Stranger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Tls => "TLS",
        })
    }
}

/// Appends a packet as one chunk.
///
/// # Errors
/// As [`Packet::encode`].
pub fn encode(packet: &Packet, methods: &Methods, out: &mut BytesMut) -> Result<(), EncodeError> {
    let length = packet.encoded_length(methods)?;
    out.reserve(DIGITS + length);
    length::write(length, out);
    packet.encode(methods, out)
}

/// Appends a packet as one chunk up to its blob, and returns the blob: both must leave in one vectored write.
///
/// # Errors
/// As [`Packet::encode`].
pub fn encode_head<'a>(
    packet: &'a Packet,
    methods: &Methods,
    out: &mut impl BufMut,
) -> Result<Option<&'a Bytes>, EncodeError> {
    length::write(packet.encoded_length(methods)?, out);
    packet.encode_head(methods, out)
}

/// Appends bytes, an encrypted message or a heartbeat, as one chunk.
pub fn encode_bytes(message: &[u8], out: &mut impl BufMut) {
    encode_length(message.len(), out);
    out.put_slice(message);
}

/// Appends the length of a chunk whose bytes follow by another way: both must leave in one vectored write.
pub fn encode_length(length: usize, out: &mut impl BufMut) {
    length::write(length, out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    fn all(chunks: &mut Chunks, pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<Bytes> {
        let mut read = BytesMut::new();
        let mut found = Vec::new();
        for piece in pieces {
            read.extend_from_slice(piece.as_ref());
            while let Some(message) = chunks.next(&mut read).unwrap() {
                found.push(message);
            }
        }
        assert!(chunks.is_between_messages(&read));
        found
    }

    #[test]
    fn recorded_streams_are_cut_whole_byte_by_byte_and_at_every_split() {
        for flow in testing::flows().iter().filter(|flow| flow.carrier == "tcp") {
            let wires: Vec<_> = flow.messages.iter().filter_map(|m| m.wire.as_ref()).collect();
            let expected: Vec<_> = wires.iter().map(|wire| wire.slice(DIGITS..)).collect();
            let stream: Vec<u8> = wires.iter().flat_map(|wire| wire.iter().copied()).collect();
            assert_eq!(all(&mut Chunks::new(4096), [&stream]), expected, "{}", flow.name);
            assert_eq!(all(&mut Chunks::new(4096), stream.chunks(1)), expected, "{}", flow.name);
            if stream.len() < 4096 {
                for at in 0..stream.len() {
                    let (a, b) = stream.split_at(at);
                    assert_eq!(all(&mut Chunks::new(4096), [a, b]), expected, "{} at {at}", flow.name);
                }
            }
        }
    }

    #[test]
    fn chunks_are_written_as_recorded() {
        let methods = Methods::default();
        for flow in testing::flows().iter().filter(|f| f.carrier == "tcp" && !f.secure) {
            for message in flow.messages.iter().filter(|m| !testing::is_malformed(flow, m)) {
                let (Some(plain), Some(wire)) = (&message.plain, &message.wire) else { continue };
                let mut out = BytesMut::new();
                if plain == "HB" {
                    encode_bytes(plain, &mut out);
                    assert_eq!(out, wire);
                    continue;
                }
                let packet = Packet::decode(plain.clone(), &methods).unwrap();
                encode(&packet, &methods, &mut out).unwrap();
                assert_eq!(out, wire);
                let mut head = BytesMut::new();
                let blob = encode_head(&packet, &methods, &mut head).unwrap();
                head.extend_from_slice(blob.map_or(&[][..], |blob| blob));
                assert_eq!(head, wire);
            }
        }
    }

    #[test]
    fn bad_lengths_name_the_reason() {
        let refuse = |text: &str| {
            let error = Chunks::new(100).next(&mut BytesMut::from(text.as_bytes())).unwrap_err();
            error.to_string()
        };
        assert_eq!(refuse("-000000000000005hello"), "chunk length: negative length");
        assert_eq!(
            refuse("000000000000000x"),
            "chunk length: byte 0x78 at position 15 is not a decimal digit"
        );
        assert_eq!(refuse("0000000000000101"), "chunk of 101 bytes is above the limit of 100");
        assert_eq!(refuse("GET / HTTP/1.1\r\n"), "this looks like HTTP, not like NoService chunks");
        assert_eq!(refuse("\x16\x03\x01"), "this looks like TLS, not like NoService chunks");
    }

    #[test]
    fn limit_holds_from_the_next_header_on() {
        let mut chunks = Chunks::new(10);
        let mut read = BytesMut::from(&b"0000000000000010"[..]);
        assert_eq!(chunks.next(&mut read).unwrap(), None);
        assert_eq!(chunks.missing(&read), 10);
        chunks.set_limit(5);
        read.extend_from_slice(b"0123456789");
        assert_eq!(chunks.next(&mut read).unwrap().as_deref(), Some(&b"0123456789"[..]));
        read.extend_from_slice(b"0000000000000006");
        assert!(matches!(chunks.next(&mut read), Err(ChunkError::TooLarge { length: 6, limit: 5 })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_never_pass_the_limit(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            limit in 0_usize..64,
        ) {
            let mut chunks = Chunks::new(limit);
            let mut read = BytesMut::new();
            'stream: for piece in &pieces {
                read.extend_from_slice(piece);
                loop {
                    match chunks.next(&mut read) {
                        Ok(Some(message)) => prop_assert!(message.len() <= limit),
                        Ok(None) => break,
                        Err(_) => break 'stream,
                    }
                }
                // What stays behind waits for a message that is allowed, so the caller's buffer stays below limit plus one read.
                prop_assert!(read.len() < limit.max(DIGITS));
                prop_assert!(chunks.missing(&read) <= limit.max(DIGITS));
            }
        }

        #[test]
        fn any_split_gives_the_same_messages(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..8),
            step in 1_usize..50,
        ) {
            let mut stream = BytesMut::new();
            for message in &messages {
                encode_bytes(message, &mut stream);
            }
            let found = all(&mut Chunks::new(60), stream.chunks(step));
            prop_assert_eq!(found, messages);
        }
    }
}
