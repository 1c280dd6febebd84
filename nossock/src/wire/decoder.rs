use bytes::{Buf, BytesMut};

use super::{FrameRef, Head, Kind, Name, WireError};
use crate::limits::Limits;

/// Finds frames in a growing buffer.
///
/// The caller owns the buffer, fills it at the end and asks [`next`](Self::next) what stands at its front. The
/// decoder itself holds a few numbers only: what it may accept, and how much of a refused body is still to be
/// skipped.
#[derive(Debug, Clone)]
pub struct Decoder {
    max_body: u32,
    max_skip: u32,
    read_step: usize,
    /// Bytes of a refused frame that have not arrived yet, and its whole length.
    skip: u64,
    refused: u64,
    /// Bytes that the frame at the front of the buffer needs in all, once its head is known.
    needed: usize,
}

/// From this many bytes on a frame is read by itself.
const LARGE: usize = 32 * 1024;

/// What [`Decoder::next`] found.
#[derive(Debug)]
#[non_exhaustive]
pub enum Next {
    /// A whole frame begins the buffer. Look at it with [`FrameRef::new`] or cut it out with
    /// [`Frame::split`](super::Frame::split); the caller takes its [`frame_len`](Head::frame_len) bytes away.
    Frame(Head),
    /// A frame over the limit. Reported once, on its head; its body is skipped as it arrives.
    TooLarge {
        /// Its name; what is not UTF-8 is replaced.
        name: Name,
        /// What it would have carried.
        kind: Kind,
        /// Bytes it announced.
        size: u32,
    },
    /// More bytes are needed.
    Incomplete,
}

impl Decoder {
    /// A decoder with the limits [`max_body`](Limits::max_body), [`max_skip`](Limits::max_skip) and
    /// [`read_step`](Limits::read_step).
    #[must_use]
    pub const fn new(limits: &Limits) -> Self {
        Self {
            max_body: limits.max_body,
            max_skip: limits.max_skip,
            read_step: limits.read_step,
            skip: 0,
            refused: 0,
            needed: 0,
        }
    }

    /// Sets another limit, in bytes, for the bodies whose head has not been read yet.
    pub const fn set_max_body(&mut self, bytes: u32) {
        self.max_body = bytes;
    }

    /// Bytes that the unfinished frame has in all, as far as that is known; with it goes the time that it may take.
    #[must_use]
    pub fn outstanding(&self, buf: &BytesMut) -> u64 {
        if self.skip > 0 {
            return self.refused;
        }
        (self.needed as u64).max(buf.len() as u64)
    }

    /// Says what begins the buffer.
    ///
    /// Limits are checked on the head, before anything is kept for the body.
    ///
    /// # Errors
    /// When the bytes are no frame: there is no way to find the next one, and the connection has to end.
    #[inline]
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Next, WireError> {
        if self.skip > 0 {
            let here = usize::try_from(self.skip).unwrap_or(usize::MAX).min(buf.len());
            buf.advance(here);
            self.skip -= here as u64;
            if self.skip > 0 {
                return Ok(Next::Incomplete);
            }
        }
        let Some(head) = Head::parse(buf)? else {
            self.needed = 0;
            return Ok(Next::Incomplete);
        };
        if head.kind() == Kind::Control {
            if head.name_len() != 0 || head.body_len() > crate::session::MAX_CONTROL {
                return Err(WireError::BadControl { name_len: head.name_len(), body_len: head.body_len() });
            }
        } else if head.body_len() > self.max_body {
            return self.refuse(buf, &head);
        }
        if buf.len() < head.frame_len() {
            self.needed = head.frame_len();
            return Ok(Next::Incomplete);
        }
        self.needed = 0;
        Ok(Next::Frame(head))
    }

    /// The message that begins `bytes`, if it is there as a whole, within the limit, and no control frame; `None` is for
    /// [`next`](Self::next) to tell apart.
    #[inline]
    pub(crate) fn peek<'a>(&self, bytes: &'a [u8]) -> Option<(Head, &'a [u8])> {
        let head = Head::parse(bytes).ok()??;
        if self.skip > 0 || head.kind() == Kind::Control || head.body_len() > self.max_body {
            return None;
        }
        Some((head, bytes.get(..head.frame_len())?))
    }

    /// Whether a message whose head begins the buffer would be taken, by the length of its body: it is not one that is refused, and no
    /// refused one is still to be skipped.
    #[inline]
    #[must_use]
    pub const fn takes(&self, body_len: u32) -> bool {
        self.skip == 0 && body_len <= self.max_body
    }

    fn refuse(&mut self, buf: &mut BytesMut, head: &Head) -> Result<Next, WireError> {
        let name = buf.get(2..2 + usize::from(head.name_len())).unwrap_or_default();
        let mut name = String::from_utf8_lossy(name).into_owned();
        if head.body_len() > self.max_skip {
            return Err(WireError::BodyTooLarge {
                name: name.escape_debug().to_string(),
                size: head.body_len(),
                limit: self.max_body,
                skip_limit: self.max_skip,
            });
        }
        while name.len() > Name::MAX_LEN {
            name.pop(); // each replacement character is three bytes where one was
        }
        buf.advance(head.body_at());
        self.skip = u64::from(head.body_len());
        self.refused = head.frame_len() as u64;
        let name = Name::new(&name).expect("cut to the longest name");
        Ok(Next::TooLarge { name, kind: head.kind(), size: head.body_len() })
    }

    /// How many bytes of room to make at the end of `buf` before the next read.
    ///
    /// While a large frame arrives the room at most doubles what has arrived already, so nobody is made to
    /// reserve memory by a number in a head.
    #[must_use]
    pub fn room(&self, buf: &BytesMut) -> usize {
        let missing = self.needed.saturating_sub(buf.len());
        let wanted = self.most(buf).unwrap_or_else(|| missing.max(self.read_step));
        wanted.min(buf.len().max(self.read_step))
    }

    /// How many bytes to read next at most, even if there is room for more; `None` when it does not matter.
    ///
    /// A large frame is read to its end and one head further: so a stream of them costs one read each, and little
    /// of the next lies behind it, to be moved when the buffer is used again. Small ones cost less to move than to
    /// read one by one.
    #[must_use]
    pub fn most(&self, buf: &BytesMut) -> Option<usize> {
        let missing = self.needed.saturating_sub(buf.len());
        (self.needed >= LARGE).then_some(missing + Head::MAX_LEN)
    }

    /// Whether bytes of an unfinished frame are waited for.
    #[must_use]
    pub fn in_frame(&self, buf: &BytesMut) -> bool {
        self.skip > 0 || !buf.is_empty()
    }

    /// Where and in what the bytes end, for an error that says so: `(arrived, needed, name)`.
    #[must_use]
    pub fn unfinished(&self, buf: &BytesMut) -> Option<Unfinished> {
        if !self.in_frame(buf) {
            return None;
        }
        let head = Head::parse(buf).ok().flatten();
        let name = head.and_then(|head| {
            let name = buf.get(2..2 + usize::from(head.name_len()))?;
            Some(String::from_utf8_lossy(name).escape_debug().to_string())
        });
        Some(Unfinished {
            name,
            missing: head
                .map(|_| self.needed.saturating_sub(buf.len()) as u64)
                .or((self.skip > 0).then_some(self.skip)),
        })
    }

    /// The frame that `head` was read from, borrowed.
    ///
    /// # Errors
    /// When its name is not UTF-8.
    pub fn view<'a>(&self, buf: &'a BytesMut, head: &Head) -> Result<FrameRef<'a>, super::NameError> {
        FrameRef::new(buf, head)
    }
}

/// A frame that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Its name, escaped, when that had arrived.
    pub name: Option<String>,
    /// Bytes that were still to come, when the head had arrived.
    pub missing: Option<u64>,
}

impl std::fmt::Display for Unfinished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.name, self.missing) {
            (Some(name), Some(missing)) => write!(f, "in the frame `{name}`, {missing} bytes before its end"),
            (None, Some(missing)) => {
                write!(f, "in a frame that was being skipped, {missing} bytes before its end")
            }
            _ => write!(f, "in the head of a frame"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Frame;

    fn limits(max_body: u32, max_skip: u32) -> Limits {
        Limits { max_body, max_skip, ..Limits::default() }
    }

    fn name_of(next: Next, buf: &mut BytesMut) -> String {
        match next {
            Next::Frame(head) => Frame::split(buf, &head).unwrap().name.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn body_over_the_limit_is_reported_once_and_skipped_as_it_arrives() {
        let mut decoder = Decoder::new(&limits(4, 100));
        let mut buf = BytesMut::from(&b"j\x03big\x00\x00\x00\x06"[..]);
        let Next::TooLarge { name, size, .. } = decoder.next(&mut buf).unwrap() else { panic!() };
        assert_eq!((name.as_str(), size), ("big", 6));
        assert!(decoder.in_frame(&buf));
        for byte in b"123456" {
            assert!(matches!(decoder.next(&mut buf).unwrap(), Next::Incomplete));
            assert_eq!(
                decoder.outstanding(&buf),
                15,
                "the time that it may take does not shrink as it comes"
            );
            buf.extend_from_slice(&[*byte]);
        }
        assert!(matches!(decoder.next(&mut buf).unwrap(), Next::Incomplete));
        assert!(!decoder.in_frame(&buf));
        buf.extend_from_slice(b"j\x02ok\x00\x00\x00\x01 1");
        let next = decoder.next(&mut buf).unwrap();
        assert_eq!(name_of(next, &mut buf), "ok");
    }

    #[test]
    fn body_over_the_second_limit_ends_the_connection_and_says_why() {
        let mut decoder = Decoder::new(&limits(4, 100));
        let error = decoder.next(&mut BytesMut::from(&b"b\x03big\x00\x00\x00\x65"[..])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the peer announced a body of 101 bytes for `big`; 4 are accepted and 100 skipped"
        );
    }

    #[test]
    fn room_at_most_doubles_what_has_arrived() {
        let mut decoder = Decoder::new(&limits(u32::MAX, u32::MAX));
        let mut buf = BytesMut::from(&b"b\x01x\xff\xff\xff\xff"[..]);
        assert!(matches!(decoder.next(&mut buf).unwrap(), Next::Incomplete));
        assert_eq!(decoder.room(&buf), 64 * 1024);
        buf.resize(1 << 20, 0);
        assert!(matches!(decoder.next(&mut buf).unwrap(), Next::Incomplete));
        assert_eq!(decoder.room(&buf), 1 << 20);
    }

    #[test]
    fn large_frame_is_read_to_its_end_and_one_head_further() {
        let mut decoder = Decoder::new(&limits(u32::MAX, u32::MAX));
        let mut buf = BytesMut::from(&b"b\x01x\x00\x01\x00\x00"[..]);
        assert!(matches!(decoder.next(&mut buf).unwrap(), Next::Incomplete));
        assert_eq!(decoder.most(&buf), Some(64 * 1024 + 261));
        buf.resize(64 * 1024 + 7, 0);
        assert!(matches!(decoder.next(&mut buf).unwrap(), Next::Frame(_)));
        assert_eq!(decoder.most(&buf), None);
        let mut small = BytesMut::from(&b"b\x01x\x00\x00\x7f\x00"[..]);
        assert!(matches!(decoder.next(&mut small).unwrap(), Next::Incomplete));
        assert_eq!((decoder.most(&small), decoder.room(&small)), (None, 64 * 1024));
    }

    #[test]
    fn control_frame_must_be_nameless_and_small() {
        let mut decoder = Decoder::new(&Limits::default());
        let error = decoder.next(&mut BytesMut::from(&b"c\x01x\x00\x00\x00\x00"[..])).unwrap_err();
        assert!(matches!(error, WireError::BadControl { name_len: 1, .. }));
        let error = decoder.next(&mut BytesMut::from(&b"c\x00\x00\x10\x00\x00"[..])).unwrap_err();
        assert!(matches!(error, WireError::BadControl { body_len: 0x10_0000, .. }));
    }

    #[test]
    fn truncation_names_the_frame() {
        let mut decoder = Decoder::new(&Limits::default());
        let mut buf = BytesMut::from(&b"j\x03cut\x00\x00\x00\x05ab"[..]);
        assert!(matches!(decoder.next(&mut buf).unwrap(), Next::Incomplete));
        let text = decoder.unfinished(&buf).unwrap().to_string();
        assert_eq!(text, "in the frame `cut`, 3 bytes before its end");
    }
}
