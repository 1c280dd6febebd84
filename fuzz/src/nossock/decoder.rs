//! Bytes to frames, however they arrive: compared with a reader that has them all at once.
//!
//! ```text
//! data = [max_body u8] [max_skip u8 × 16] [pieces: how many bytes arrive at once, u8] [stream …]
//! ```

use bytes::BytesMut;
use nossock::Limits;
use nossock::session::MAX_CONTROL;
use nossock::wire::{Decoder, Frame, FrameRef, Kind, Next, WireError};

/// What a stream consists of.
#[derive(Debug, PartialEq)]
pub enum Found<'a> {
    Frame(u8, &'a [u8], &'a [u8]),
    TooLarge(u32),
}

/// How it ends.
#[derive(Debug, PartialEq, Clone, Copy)]
pub enum End {
    Between,
    Inside,
    UnknownKind(u8),
    BadControl,
    TooLarge(u32),
}

pub fn run(data: &[u8]) {
    let [max_body, max_skip, piece, stream @ ..] = data else { return };
    let limits = Limits {
        max_body: u32::from(*max_body),
        max_skip: u32::from(*max_skip) * 16,
        read_step: 64,
        ..Limits::default()
    };
    check(&limits, stream, usize::from(*piece).max(1));
}

pub fn check(limits: &Limits, stream: &[u8], piece: usize) {
    let (expected, end) = read(limits, stream);
    let mut decoder = Decoder::new(limits);
    let mut buf = BytesMut::new();
    let mut expected = expected.into_iter();
    let largest = limits.max_body.max(MAX_CONTROL) as usize + 6 + 255;
    for piece in stream.chunks(piece) {
        buf.extend_from_slice(piece);
        loop {
            match decoder.next(&mut buf) {
                Ok(Next::Frame(head)) => {
                    let Some(Found::Frame(kind, name, body)) = expected.next() else { panic!("{head:?}") };
                    assert_eq!(&buf[..head.frame_len()][head.body_at()..], body);
                    assert_eq!((head.kind().byte(), &buf[2..2 + usize::from(head.name_len())]), (kind, name));
                    let borrowed =
                        FrameRef::new(&buf, &head).map(|frame| frame.name.as_bytes().to_vec()).ok();
                    let cut = Frame::split(&mut buf, &head).ok();
                    assert_eq!(borrowed.as_deref(), std::str::from_utf8(name).ok().map(str::as_bytes));
                    assert_eq!(cut.map(|frame| frame.name.as_bytes().to_vec()), borrowed);
                }
                Ok(Next::TooLarge { size, .. }) => assert_eq!(expected.next(), Some(Found::TooLarge(size))),
                Ok(Next::Incomplete) => break,
                Ok(other) => panic!("{other:?}"),
                Err(error) => {
                    assert_eq!((expected.next(), ended(&error)), (None, end));
                    assert!(!error.to_string().contains(char::is_control));
                    return;
                }
            }
        }
        let room = decoder.room(&buf);
        assert!(
            room <= buf.len().max(limits.read_step) && buf.len() + room <= largest + 2 * limits.read_step
        );
    }
    let cut = if decoder.in_frame(&buf) { End::Inside } else { End::Between };
    assert_eq!((expected.next(), cut), (None, end));
    assert_eq!(decoder.unfinished(&buf).is_some(), cut == End::Inside);
}

fn ended(error: &WireError) -> End {
    match error {
        WireError::UnknownKind { byte, .. } => End::UnknownKind(*byte),
        WireError::BadControl { .. } => End::BadControl,
        WireError::BodyTooLarge { size, .. } => End::TooLarge(*size),
        other => panic!("{other}"),
    }
}

/// Reads the whole stream, in the plainest way.
fn read<'a>(limits: &Limits, mut rest: &'a [u8]) -> (Vec<Found<'a>>, End) {
    let mut found = Vec::new();
    loop {
        let Some(&kind) = rest.first() else { return (found, End::Between) };
        if !b"jbc".contains(&kind) {
            return (found, End::UnknownKind(kind));
        }
        let Some(name) = rest.get(1).and_then(|len| rest.get(2..2 + usize::from(*len))) else {
            return (found, End::Inside);
        };
        let Some(len) = rest.get(2 + name.len()..6 + name.len()) else { return (found, End::Inside) };
        let len = u32::from_be_bytes(len.try_into().unwrap());
        if kind == Kind::Control.byte() {
            if !name.is_empty() || len > MAX_CONTROL {
                return (found, End::BadControl);
            }
        } else if len > limits.max_body {
            if len > limits.max_skip {
                return (found, End::TooLarge(len));
            }
            found.push(Found::TooLarge(len));
            match rest.get(6 + name.len() + len as usize..) {
                Some(next) => rest = next,
                None => return (found, End::Inside),
            }
            continue;
        }
        let Some((whole, next)) = rest.split_at_checked(6 + name.len() + len as usize) else {
            return (found, End::Inside);
        };
        found.push(Found::Frame(kind, name, &whole[6 + name.len()..]));
        rest = next;
    }
}
