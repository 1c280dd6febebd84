//! NoService chunks: the same messages as a reader that has the whole stream, however it arrives.
//!
//! ```text
//! data = [limit u8 × 4] [piece: how many bytes arrive at once, u8] [stream …]
//! ```

use bytes::BytesMut;
use nsp::proto::chunk::{ChunkError, Chunks};

/// How a stream ends.
#[derive(Debug, PartialEq, Clone, Copy)]
enum End {
    Between,
    Inside,
    NoLength,
    TooLarge,
    Stranger,
}

pub fn run(data: &[u8]) {
    let [limit, piece, stream @ ..] = data else { return };
    check(usize::from(*limit) * 4, usize::from(*piece).max(1), stream);
}

pub fn check(limit: usize, piece: usize, stream: &[u8]) {
    check_with(limit, limit, piece, stream);
}

/// With another limit for the reader that has the whole stream, which the check must notice.
pub fn check_with(limit: usize, model: usize, piece: usize, stream: &[u8]) {
    let (expected, end) = read(model, stream);
    let mut chunks = Chunks::new(limit);
    let mut buffer = BytesMut::new();
    let mut expected = expected.into_iter();
    for piece in stream.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match chunks.next(&mut buffer) {
                Ok(Some(message)) => {
                    assert_eq!(expected.next(), Some(&message[..]));
                    assert!(message.len() <= limit);
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(!error.to_string().contains(char::is_control));
                    // A stranger is known by its first bytes, before a length could be read.
                    let known = match error {
                        ChunkError::Length(_) => End::NoLength,
                        ChunkError::TooLarge { .. } => End::TooLarge,
                        ChunkError::Stranger(_) => End::Stranger,
                        other => panic!("{other}"),
                    };
                    assert_eq!((expected.next(), known), (None, end));
                    return;
                }
            }
        }
        let missing = chunks.missing(&buffer);
        assert!(missing > 0 && buffer.len() + missing <= limit.max(16), "no more is kept than one message");
    }
    let at = if chunks.is_between_messages(&buffer) { End::Between } else { End::Inside };
    assert_eq!((expected.next(), at), (None, end));
}

/// Reads the whole stream, in the plainest way.
fn read(limit: usize, mut rest: &[u8]) -> (Vec<&[u8]>, End) {
    let mut found = Vec::new();
    loop {
        if rest.is_empty() {
            return (found, End::Between);
        }
        let strangers: [&[u8]; 5] = [b"\x16\x03", b"GET ", b"POST ", b"HEAD ", b"PRI * "];
        if strangers.iter().any(|stranger| rest.starts_with(stranger)) {
            return (found, End::Stranger);
        }
        let Some((digits, body)) = rest.split_at_checked(16) else { return (found, End::Inside) };
        if !digits.iter().all(u8::is_ascii_digit) {
            return (found, End::NoLength);
        }
        let length: u64 = std::str::from_utf8(digits).unwrap().parse().unwrap();
        if length > limit as u64 {
            return (found, End::TooLarge);
        }
        let Some((message, next)) = body.split_at_checked(usize::try_from(length).unwrap()) else {
            return (found, End::Inside);
        };
        found.push(message);
        rest = next;
    }
}
