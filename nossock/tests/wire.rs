//! The bytes of the npm package, and what must hold for bytes of any kind.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "common/frames.rs"]
mod frames;
#[path = "common/recorded.rs"]
mod recorded;

use bytes::{Buf, BytesMut};
use nossock::session::RequestName;
use nossock::wire::{Body, Decoder, Frame, Kind, Next, WireError};
use nossock::{CodecError, Config, FrameCodec, Limits, Side, Socket};
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;
use tokio_util::codec::{Decoder as _, Encoder as _};

use frames::{frame, read_frame};
use recorded::{Direction, Said};

/// What a decoder found: frames as `(kind, name, body)`, refusals as `(name, size)`.
#[derive(Debug, PartialEq, Clone)]
enum Found {
    Frame(Kind, Vec<u8>, Vec<u8>),
    TooLarge(u32),
}

fn said(said: &Said) -> Found {
    let kind = if said.is_raw() { Kind::Raw } else { Kind::Json };
    Found::Frame(kind, said.name.clone().into_bytes(), said.body())
}

/// Feeds the pieces to a decoder, and looks after each that it asks for no more room than it may.
fn decode<'a>(
    limits: &Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Found>, Option<WireError>) {
    let mut decoder = Decoder::new(limits);
    let mut buf = BytesMut::new();
    let mut found = Vec::new();
    let largest = limits.max_body.max(nossock::session::MAX_CONTROL) as usize + 6 + 255;
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match decoder.next(&mut buf) {
                Ok(Next::Frame(head)) => {
                    let whole = buf.split_to(head.frame_len());
                    let name = whole.get(2..2 + usize::from(head.name_len())).unwrap();
                    let body = whole.get(head.body_at()..).unwrap();
                    found.push(Found::Frame(head.kind(), name.into(), body.into()));
                }
                Ok(Next::TooLarge { size, .. }) => found.push(Found::TooLarge(size)),
                Ok(Next::Incomplete) => break,
                Ok(other) => panic!("{other:?}"),
                Err(error) => return (found, Some(error)),
            }
        }
        let room = decoder.room(&buf);
        assert!(room <= buf.len().max(limits.read_step), "{room} bytes of room for {} that came", buf.len());
        assert!(buf.len() + room <= largest + 2 * limits.read_step, "more than the limit and a step");
        assert!(buf.len() < largest, "a frame within the limit is whole and was not given");
    }
    (found, None)
}

fn single_bytes(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(1)
}

#[test]
fn recorded_bytes_are_what_was_said_whole_byte_by_byte_and_at_every_split() {
    let limits = Limits::default();
    for Direction { about, bytes, said: all } in recorded::npm().directions() {
        let expected = (all.iter().map(said).collect::<Vec<_>>(), None);
        assert_eq!(decode(&limits, [&bytes[..]]), expected, "{about}, whole");
        assert_eq!(decode(&limits, single_bytes(&bytes)), expected, "{about}, byte by byte");
        for at in 0..=bytes.len() {
            let (front, back) = bytes.split_at(at);
            assert_eq!(decode(&limits, [front, back]), expected, "{about}, split at {at}");
        }
    }
}

#[test]
fn recorded_bytes_are_what_our_own_encoder_makes() {
    for Direction { about, bytes, said: all } in recorded::npm().directions() {
        let mut ours = BytesMut::new();
        for said in &all {
            let name = nossock::wire::Name::new(&said.name).unwrap();
            let body = said.body().into();
            let body = if said.is_raw() { Body::Raw(body) } else { Body::Json(body) };
            let whole = Frame { name, body }.encode();
            ours.extend_from_slice(&whole);
        }
        assert_eq!(ours, bytes, "{about}");
    }
}

#[test]
fn recorded_bytes_pass_the_codec_at_every_split() {
    for Direction { about, bytes, said: all } in recorded::npm().directions() {
        let expected: Vec<Found> = all.iter().map(said).collect();
        for at in 0..=bytes.len() {
            let mut codec = FrameCodec::default();
            let mut buf = BytesMut::new();
            let mut found = Vec::new();
            let (front, back) = bytes.split_at(at);
            for piece in [front, back] {
                buf.extend_from_slice(piece);
                while let Some(frame) = codec.decode(&mut buf).unwrap() {
                    let Frame { name, body } = frame.unwrap();
                    found.push(Found::Frame(body.kind(), name.as_str().into(), body.into_bytes().into()));
                }
            }
            assert_eq!(found, expected, "{about}, split at {at}");
            assert!(codec.decode_eof(&mut buf).unwrap().is_none(), "{about} ends between two frames");
        }
    }
}

/// Plays one direction of a recording to a socket that is received from by hand.
async fn play(direction: &Direction, pieces: &[&[u8]]) {
    let (here, mut there) = tokio::io::duplex(4096);
    let config = Config { hello: false, ..Config::default() };
    let socket = Socket::over(here, Side::Client, config);
    let playing = async {
        for piece in pieces {
            there.write_all(piece).await.unwrap();
            tokio::task::yield_now().await; // so that the piece is read alone
        }
        there.shutdown().await.unwrap();
    };
    let receiving = async {
        let mut stray = 0;
        for said in &direction.said {
            let (name, id) = match RequestName::parse(&said.name) {
                Some(RequestName::Answer { .. }) => {
                    stray += 1;
                    continue;
                }
                Some(RequestName::Request { name, id }) => (name, Some(id)),
                None => (said.name.as_str(), None),
            };
            let message = socket.recv().await.unwrap().unwrap();
            assert_eq!(message.name, name);
            assert_eq!(message.body.kind() == Kind::Raw, said.is_raw());
            assert_eq!(message.body.as_bytes(), &said.body(), "{name}");
            assert_eq!(message.responder.is_some(), id.is_some());
            if let Some(responder) = message.responder {
                responder.answer(&id).unwrap();
            }
        }
        assert!(socket.recv().await.unwrap().is_none(), "the end is clean");
        assert_eq!(socket.stats().stray_answers, stray);
    };
    tokio::join!(playing, receiving);
    for said in &direction.said {
        if let Some(RequestName::Request { name, id }) = RequestName::parse(&said.name) {
            let (_, answer, body) = read_frame(&mut there).await;
            assert_eq!(answer, format!("resp:{name}:{id}"));
            assert_eq!(body, format!("[null,\"{id}\"]").into_bytes());
        }
    }
}

#[tokio::test]
async fn recorded_bytes_reach_a_live_socket_whole_byte_by_byte_and_at_every_split() {
    for direction in recorded::npm().directions() {
        let bytes = &direction.bytes;
        play(&direction, &[bytes]).await;
        play(&direction, &single_bytes(bytes).collect::<Vec<_>>()).await;
        for at in 0..=bytes.len() {
            let (front, back) = bytes.split_at(at);
            play(&direction, &[front, back]).await;
        }
    }
}

#[test]
fn names_that_the_package_cannot_carry_are_a_fault_of_its_bytes() {
    let npm = recorded::npm();
    let errors = npm.faults.iter().map(|fault| {
        let (found, error) = decode(&Limits::default(), [&fault.bytes()[..]]);
        assert_eq!(found, [], "{}", fault.about);
        error.unwrap().to_string()
    });
    // `é` is counted as one: its second byte begins the length of the body.
    // 300 letters are counted as 44: the next four are the length of the body.
    let n44 = "n".repeat(44);
    let expected = [
        "the peer announced a body of 2835349504 bytes for `\u{fffd}`; 1048576 are accepted and 67108864 skipped"
            .to_owned(),
        format!(
            "the peer announced a body of 1852730990 bytes for `{n44}`; 1048576 are accepted and 67108864 skipped"
        ),
    ];
    assert_eq!(errors.collect::<Vec<_>>(), expected);
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z:]{0,8}",
        "\\PC{0,60}",
        Just("n".repeat(255)),
        Just(String::new()),
        "(req|resp):[a-z:]{1,6}:[A-Za-z0-9_-]{1,9}",
    ]
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let body = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        proptest::collection::vec(any::<u8>(), 0..3_000)
    ];
    (any_name(), body, any::<bool>()).prop_map(|(name, body, json)| {
        let name = nossock::wire::Name::new(&name).unwrap();
        let body = body.into();
        Frame { name, body: if json { Body::Json(body) } else { Body::Raw(body) } }
    })
}

/// Bytes that often begin as frames do.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let framed = (
        prop_oneof![Just(b'j'), Just(b'b'), Just(b'c'), any::<u8>()],
        proptest::collection::vec(any::<u8>(), 0..12),
        prop_oneof![0_u32..40, 0_u32..5_000, any::<u32>()],
        proptest::collection::vec(any::<u8>(), 0..40),
        any::<bool>(),
    )
        .prop_map(|(kind, name, len, body, honest)| {
            let mut out = vec![kind, u8::try_from(name.len()).unwrap()];
            out.extend_from_slice(&name);
            let len = if honest { u32::try_from(body.len()).unwrap() } else { len };
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(&body);
            out
        });
    proptest::collection::vec(framed, 0..8).prop_map(|frames| frames.concat())
}

/// Cuts at random places; what is left over comes last.
fn pieces<'a>(mut bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut out = Vec::new();
    for cut in cuts {
        let (front, back) = bytes.split_at((*cut).min(bytes.len()));
        out.push(front);
        bytes = back;
    }
    out.push(bytes);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_decoded(
        frames in proptest::collection::vec(any_frame(), 0..6),
        cuts in proptest::collection::vec(0_usize..200, 0..40),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let mut by_codec = BytesMut::new();
        for frame in &frames {
            FrameCodec::default().encode(frame.clone(), &mut by_codec).unwrap();
        }
        prop_assert_eq!(&by_codec[..], &bytes[..], "both encoders agree");
        let expected: Vec<Found> = frames
            .iter()
            .map(|f| Found::Frame(f.body.kind(), f.name.as_str().into(), f.body.as_bytes().to_vec()))
            .collect();
        prop_assert_eq!(decode(&Limits::default(), pieces(&bytes, &cuts)), (expected, None));
    }

    #[test]
    fn any_bytes_give_the_same_however_they_arrive(
        bytes in any_bytes(),
        cuts in proptest::collection::vec(0_usize..30, 0..40),
        max_body in 0_u32..100,
        max_skip in 0_u32..5_000,
    ) {
        let limits = Limits { max_body, max_skip, read_step: 64, ..Limits::default() };
        let whole = decode(&limits, [&bytes[..]]);
        let (mut found, mut error) = decode(&limits, pieces(&bytes, &cuts));
        if let (Some(WireError::UnknownKind { lookalike, .. }), Some(WireError::UnknownKind { lookalike: seen, .. })) =
            (&whole.1, &mut error)
        {
            *seen = *lookalike; // a guess from fewer bytes may be another one
        }
        prop_assert_eq!((std::mem::take(&mut found), error), whole);
    }
}

/// The memory of a connection follows what has arrived, whatever a head announces.
#[test]
fn buffer_grows_with_what_arrives_and_not_with_what_is_announced() {
    let limits = Limits { max_body: u32::MAX, max_skip: u32::MAX, ..Limits::default() };
    let mut decoder = Decoder::new(&limits);
    let mut buf = BytesMut::new();
    let mut arriving = frame(b'b', "x", &[0; 0]);
    arriving.splice(3.., u32::MAX.to_be_bytes());
    let mut arrived = 0;
    for _ in 0..64 {
        buf.extend_from_slice(&arriving);
        arrived += arriving.len();
        assert!(matches!(decoder.next(&mut buf), Ok(Next::Incomplete)));
        buf.reserve(decoder.room(&buf));
        let most = (4 * arrived).max(4 * limits.read_step);
        assert!(buf.capacity() <= most, "{} bytes for {arrived} that came", buf.capacity());
        arriving = vec![0; 16 * 1024];
    }
}

/// A refused body is not kept while it passes.
#[test]
fn skipped_body_takes_no_memory() {
    let limits = Limits { max_body: 10, ..Limits::default() };
    let mut decoder = Decoder::new(&limits);
    let mut buf = BytesMut::from(&b"b\x01x\x03\x00\x00\x00"[..]);
    assert!(matches!(decoder.next(&mut buf), Ok(Next::TooLarge { size: 0x0300_0000, .. })));
    let mut left = 0x0300_0000_usize;
    while left > 0 {
        let step = left.min(100_000);
        buf.extend_from_slice(&vec![0; step]);
        left -= step;
        assert!(matches!(decoder.next(&mut buf), Ok(Next::Incomplete)));
        assert!(!buf.has_remaining());
        assert!(buf.capacity() <= 4 * 100_000, "{}", buf.capacity());
    }
    buf.extend_from_slice(&frame(b'j', "ok", b"1"));
    assert!(matches!(decoder.next(&mut buf), Ok(Next::Frame(_))));
}

#[test]
fn codec_names_the_frame_that_its_stream_ends_in() {
    for (bytes, says) in [
        (
            &b"j\x03cut\x00\x00\x00\x05ab"[..],
            "the peer's stream ended in the frame `cut`, 3 bytes before its end",
        ),
        (b"j\x03cu", "the peer's stream ended in the head of a frame"),
        (
            b"b\x03big\x00\x20\x00\x00ab",
            "the peer's stream ended in a frame that was being skipped, 2097150 bytes before its end",
        ),
    ] {
        let mut codec = FrameCodec::default();
        let mut buf = BytesMut::from(bytes);
        let mut next = || codec.decode_eof(&mut buf);
        let error = loop {
            match next() {
                Ok(Some(Err(CodecError::TooLarge { .. }))) => {}
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.to_string(), says);
    }
}
