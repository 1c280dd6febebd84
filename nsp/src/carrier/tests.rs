//! Every carrier over a stream in memory, where it is known what each read returns and what time it is.

mod held;

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nossock::Peer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::Instant;

use super::chunks::Chunks;
use super::frames::Frames;
use super::transport::Transport;
#[cfg(feature = "websocket")]
use super::websocket::WebSocket;
use super::{Carrier, CarrierEnd, CarrierKind, Farewell, Limits, memory};
use crate::machine::{Incoming, Outgoing};
use crate::proto::{Leg, Method, Methods, Packet, Payload, Side};
use crate::testing;

const KINDS: &[CarrierKind] = &[
    CarrierKind::Frames,
    CarrierKind::Chunks,
    #[cfg(feature = "websocket")]
    CarrierKind::WebSocket,
];

fn transport(stream: DuplexStream, limits: Limits) -> Transport<DuplexStream> {
    Transport::new(stream, Peer::default(), false, limits)
}

fn over(kind: CarrierKind, stream: DuplexStream, side: Side, limits: Limits) -> Box<dyn Carrier> {
    let transport = transport(stream, limits);
    match kind {
        CarrierKind::Chunks => Box::new(Chunks::new(transport, Methods::default())),
        #[cfg(feature = "websocket")]
        CarrierKind::WebSocket => Box::new(WebSocket::new(transport, side, Methods::default())),
        _ => Box::new(Frames::new(transport, side, true)),
    }
}

/// A daemon's carrier, and the other end as bytes.
fn daemon(kind: CarrierKind, limits: Limits) -> (Box<dyn Carrier>, DuplexStream) {
    let (ours, theirs) = duplex(1 << 20);
    (over(kind, ours, Side::Daemon, limits), theirs)
}

async fn send(carrier: &mut dyn Carrier, messages: impl IntoIterator<Item = Outgoing>) {
    for message in messages {
        carrier.start_send(message).unwrap();
    }
    poll_fn(|cx| carrier.poll_flush(cx)).await.unwrap();
    assert_eq!(carrier.queued(), 0);
}

async fn receive(carrier: &mut dyn Carrier) -> Result<Incoming, CarrierEnd> {
    poll_fn(|cx| carrier.poll_receive(cx)).await
}

/// What can be received without waiting.
fn receive_now(carrier: &mut dyn Carrier) -> Option<Result<Incoming, CarrierEnd>> {
    match carrier.poll_receive(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(received) => Some(received),
        Poll::Pending => None,
    }
}

/// As one message of a binary carrier, whatever the carrier was.
fn flat(incoming: Incoming) -> Bytes {
    let mut out = BytesMut::new();
    let outgoing = match incoming {
        Incoming::Message(message) | Incoming::Sealed(message) => return message,
        Incoming::Packet(packet) => Outgoing::Packet(packet),
    };
    outgoing.encode(&Methods::default(), &mut out).unwrap();
    out.freeze()
}

fn packet(method: Method, leg: Leg, json: &'static str, blob: Option<Bytes>) -> Outgoing {
    Outgoing::Packet(Packet::new(method, leg, Payload { json: Bytes::from_static(json.as_bytes()), blob }))
}

/// A chunk, a frame or a WebSocket message of a client, by hand.
fn by_hand(kind: CarrierKind, json: &str) -> Vec<u8> {
    let length = u8::try_from(json.len()).unwrap();
    match kind {
        CarrierKind::Frames => [b"j\x04CArs\0\0\0".as_slice(), &[length], json.as_bytes()].concat(),
        CarrierKind::Chunks => format!("{:016}CArs{json}", json.len() + 4).into_bytes(),
        _ => {
            let mask = [0x12, 0x34, 0x56, 0x78];
            let plain = format!("CArs{json}").into_bytes();
            let masked = plain.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
            let head = [0x82, 0x80 | u8::try_from(plain.len()).unwrap()];
            head.into_iter().chain(mask).chain(masked).collect()
        }
    }
}

#[tokio::test]
async fn every_form_of_packet_travels_by_every_carrier_both_ways() {
    let large = Bytes::from(vec![7; 1 << 20]);
    let messages = [
        packet(Method::Cs, Leg::Request, r#"{"m":"SS","d":{"i":"_a","d":1}}"#, None),
        packet(Method::Cs, Leg::Answer, r#"{"m":"BS","d":{"d":null}}"#, Some(Bytes::from_static(b"\0\xff"))),
        packet(Method::Ca, Leg::Request, r#"{"m":"BE","d":{"d":null}}"#, Some(Bytes::new())),
        packet(Method::Ca, Leg::Request, r#"{"m":"BE","d":{"d":null}}"#, Some(large.clone())),
        packet(Method::Ca, Leg::Answer, r#"{"m":"AS","d":{"i":"_a","s":"OK"}}"#, None),
        packet(Method::Gt, Leg::Request, r#"{"u":"é","p":"x"}"#, None),
        packet(Method::Au, Leg::Request, r#"{"m":"SI"}"#, None),
        Outgoing::Heartbeat,
        Outgoing::Sealed(Bytes::from_static(&[9; 96])),
        Outgoing::Sealed(large),
        packet(Method::Gt, Leg::Answer, "null", None),
    ];
    for &kind in KINDS.iter().chain([&CarrierKind::Memory]) {
        let (mut client, mut daemon): (Box<dyn Carrier>, Box<dyn Carrier>) = match kind {
            CarrierKind::Memory => {
                let (one, other) = memory();
                (Box::new(one), Box::new(other))
            }
            _ => {
                let (one, other) = duplex(1000);
                (
                    over(kind, one, Side::Client, Limits::default()),
                    over(kind, other, Side::Daemon, Limits::default()),
                )
            }
        };
        assert_eq!((client.kind(), daemon.kind()), (kind, kind));
        for _ in 0..2 {
            for (from, to) in [(0, 1), (1, 0)] {
                let mut ends = [&mut client, &mut daemon];
                let [a, b] = ends.each_mut();
                let (sender, receiver) = if (from, to) == (0, 1) { (a, b) } else { (b, a) };
                let expected = messages.iter().filter(|message| match message {
                    Outgoing::Heartbeat => kind.has_heartbeat(),
                    _ => true,
                });
                let receiving = async {
                    for message in expected {
                        let mut wanted = BytesMut::new();
                        message.encode(&Methods::default(), &mut wanted).unwrap();
                        let received = receive(&mut ***receiver).await.unwrap();
                        let sealed = matches!(received, Incoming::Sealed(_));
                        let packet = matches!(received, Incoming::Packet(_));
                        match kind {
                            CarrierKind::Frames | CarrierKind::Memory => {
                                assert_eq!(sealed, matches!(message, Outgoing::Sealed(_)));
                                assert_eq!(packet, matches!(message, Outgoing::Packet(_)));
                            }
                            _ => assert!(!sealed && !packet),
                        }
                        assert!(flat(received) == wanted, "{kind:?}: {message:?}");
                    }
                };
                tokio::join!(send(&mut ***sender, messages.clone()), receiving);
            }
        }
    }
}

#[tokio::test]
async fn recorded_streams_of_chunks_are_read_at_every_split_and_byte_by_byte() {
    for flow in testing::flows().iter().filter(|flow| flow.carrier == "tcp") {
        let wires: Vec<_> = flow.messages.iter().filter_map(|message| message.wire.clone()).collect();
        let stream = wires.concat();
        let mut splits: Vec<_> = (0..stream.len()).step_by(7).map(|at| vec![at]).collect();
        splits.push((1..stream.len()).collect());
        for split in splits {
            let (mut carrier, mut peer) = daemon(CarrierKind::Chunks, Limits::default());
            let mut found = Vec::new();
            let mut from = 0;
            for to in split.into_iter().chain([stream.len()]) {
                peer.write_all(&stream[from..to]).await.unwrap();
                from = to;
                while let Some(received) = receive_now(&mut *carrier) {
                    found.push(flat(received.unwrap()));
                }
            }
            let expected: Vec<_> = wires.iter().map(|wire| wire.slice(16..)).collect();
            assert_eq!(found, expected, "{}", flow.name);
        }
    }
}

#[tokio::test]
async fn messages_are_read_byte_by_byte_and_at_every_split() {
    for &kind in KINDS {
        let stream = [by_hand(kind, r#"{"a":1}"#), by_hand(kind, "{}")].concat();
        let whole: Vec<_> = (1..stream.len()).collect();
        for split in (0..stream.len()).map(|at| vec![at]).chain([whole]) {
            let (mut carrier, mut peer) = daemon(kind, Limits::default());
            let mut found = Vec::new();
            let mut from = 0;
            for to in split.into_iter().chain([stream.len()]) {
                peer.write_all(&stream[from..to]).await.unwrap();
                from = to;
                while let Some(received) = receive_now(&mut *carrier) {
                    found.push(flat(received.unwrap()));
                }
            }
            assert_eq!(found, [r#"CArs{"a":1}"#, "CArs{}"], "{kind:?}");
        }
    }
}

#[tokio::test]
async fn what_is_spoken_at_the_wrong_port_is_named() {
    for (kind, bytes, says) in [
        (CarrierKind::Frames, &b"GET / HTTP/1.1\r\n"[..], "where a frame begins: this looks like HTTP"),
        (CarrierKind::Frames, b"\x16\x03\x01\x02\x00", "where a frame begins: this looks like TLS"),
        (CarrierKind::Frames, b"0000000000000025GTrq", "this looks like the NoService TCP carrier"),
        (CarrierKind::Frames, b"\xff", "the peer sent 0xff where a frame begins"),
        (CarrierKind::Chunks, b"GET / HTTP/1.1\r\n", "this looks like HTTP, not like NoService chunks"),
        (CarrierKind::Chunks, b"\x16\x03\x01", "this looks like TLS, not like NoService chunks"),
        (CarrierKind::Chunks, b"-000000000000001", "chunk length: "),
        (CarrierKind::Chunks, b"000000000000002x", "chunk length: "),
        (CarrierKind::Chunks, b"j\x04CSrq\0\0\0\x02{}----", "chunk length: "),
        #[cfg(feature = "websocket")]
        (CarrierKind::WebSocket, b"\x82\x01a", "the peer breaks the rules of WebSocket: "),
        #[cfg(feature = "websocket")]
        (CarrierKind::WebSocket, b"\xf2\x81aaaaa", "the peer breaks the rules of WebSocket: "),
    ] {
        let (mut carrier, mut peer) = daemon(kind, Limits::default());
        peer.write_all(bytes).await.unwrap();
        let end = receive(&mut *carrier).await.unwrap_err().to_string();
        assert!(end.contains(says), "{kind:?}: {end}");
        // It stays so, whatever still comes.
        peer.write_all(&by_hand(kind, "{}")).await.unwrap();
        assert_eq!(receive(&mut *carrier).await.unwrap_err().to_string(), end);
    }
}

#[tokio::test]
async fn too_large_messages_are_skipped_or_end_the_connection_before_they_are_kept() {
    let limits = Limits { message: 1000, skip: 2000, ..Limits::default() };
    let (mut carrier, mut peer) = daemon(CarrierKind::Frames, limits);
    peer.write_all(b"b\x04CSrq\0\0\x03\xe9").await.unwrap();
    peer.write_all(&[0; 1001]).await.unwrap();
    peer.write_all(&by_hand(CarrierKind::Frames, "{}")).await.unwrap();
    assert_eq!(flat(receive(&mut *carrier).await.unwrap()), "CArs{}");
    assert_eq!(carrier.skipped(), 1);
    carrier.limit_message(1);
    peer.write_all(&by_hand(CarrierKind::Frames, "{}")).await.unwrap();
    peer.write_all(b"b\x04CSrq\0\0\x07\xd1").await.unwrap();
    let end = receive(&mut *carrier).await.unwrap_err();
    assert_eq!(end.to_string(), "a message of 2001 bytes is over the limit of 1");
    assert_eq!(carrier.skipped(), 2);

    let (mut carrier, mut peer) = daemon(CarrierKind::Chunks, limits);
    peer.write_all(b"0000000000001001").await.unwrap();
    let end = receive(&mut *carrier).await.unwrap_err();
    assert_eq!(end.to_string(), "a message of 1001 bytes is over the limit of 1000");

    #[cfg(feature = "websocket")]
    {
        let (mut carrier, mut peer) = daemon(CarrierKind::WebSocket, limits);
        carrier.limit_message(500);
        peer.write_all(b"\x82\xfe\x01\xf5mask").await.unwrap();
        let end = receive(&mut *carrier).await.unwrap_err();
        assert_eq!(end.to_string(), "a message of 501 bytes is over the limit of 500");
        // In pieces, each of them small enough.
        let (mut carrier, mut peer) = daemon(CarrierKind::WebSocket, limits);
        peer.write_all(&[b"\x02\xfe\x02\x58mask".as_slice(), &[0; 600]].concat()).await.unwrap();
        peer.write_all(&[b"\x80\xfe\x02\x58mask".as_slice(), &[0; 600]].concat()).await.unwrap();
        let end = receive(&mut *carrier).await.unwrap_err();
        assert_eq!(end.to_string(), "a message of 1200 bytes is over the limit of 1000");
        drop(poll_fn(|cx| carrier.poll_close(cx, &Farewell::Refused("too much".into()))));
        let closing = tokio::spawn(async move {
            poll_fn(|cx| carrier.poll_close(cx, &Farewell::Refused("too much".into()))).await;
        });
        let mut last = Vec::new();
        peer.shutdown().await.unwrap();
        peer.read_to_end(&mut last).await.unwrap();
        assert_eq!(last, b"\x88\x0a\x03\xf1too much");
        closing.await.unwrap();
    }
}

#[tokio::test]
async fn nothing_larger_is_sent_than_may_be() {
    let limits = Limits { message: 100, ..Limits::default() };
    for &kind in KINDS {
        for side in [Side::Client, Side::Daemon] {
            let (ours, _theirs) = duplex(10);
            let mut carrier = over(kind, ours, side, limits);
            let before = carrier.queued();
            let blob = packet(Method::Cs, Leg::Request, "{}", Some(Bytes::from_static(&[0; 70])));
            for message in [blob, Outgoing::Sealed(Bytes::from_static(&[0; 101]))] {
                let error = carrier.start_send(message).unwrap_err();
                assert!(error.to_string().ends_with(" bytes is over the limit of 100"), "{kind:?}: {error}");
            }
            assert_eq!(carrier.queued(), before);
            assert_eq!(carrier.largest_send(), 100);
        }
    }
}

#[tokio::test]
async fn peer_that_has_said_all_can_still_be_answered() {
    for &kind in KINDS {
        let (mut carrier, mut peer) = daemon(kind, Limits::default());
        peer.write_all(&by_hand(kind, "{}")).await.unwrap();
        peer.shutdown().await.unwrap();
        assert_eq!(flat(receive(&mut *carrier).await.unwrap()), "CArs{}");
        let end = receive(&mut *carrier).await.unwrap_err();
        match kind {
            CarrierKind::WebSocket => assert!(end.to_string().contains("closing handshake"), "{end}"),
            _ => assert!(matches!(end, CarrierEnd::Peer), "{kind:?}: {end}"),
        }
        send(&mut *carrier, [packet(Method::Cs, Leg::Answer, "{}", None)]).await;
        poll_fn(|cx| carrier.poll_close(cx, &Farewell::Normal)).await;
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).await.unwrap();
        assert!(answer.windows(2).any(|bytes| bytes == b"{}"), "{kind:?}: {answer:?}");

        let (mut carrier, mut peer) = daemon(kind, Limits::default());
        let message = by_hand(kind, "{}");
        peer.write_all(&message[..message.len() - 1]).await.unwrap();
        peer.shutdown().await.unwrap();
        let end = receive(&mut *carrier).await.unwrap_err();
        assert!(!matches!(end, CarrierEnd::Peer), "{kind:?}: {end}");
    }
}

#[tokio::test]
async fn memory_follows_what_arrives_and_not_what_is_announced() {
    let (ours, mut peer) = duplex(1 << 20);
    let mut frames = Frames::new(transport(ours, Limits::default()), Side::Daemon, false);
    peer.write_all(b"b\x04CSrq\0\x10\0\0----").await.unwrap();
    assert!(receive_now(&mut frames).is_none());
    assert!(frames.transport().input.capacity() <= 128 * 1024);

    let (ours, mut peer) = duplex(1 << 20);
    let mut chunks = Chunks::new(transport(ours, Limits::default()), Methods::default());
    peer.write_all(b"0000000001048576----").await.unwrap();
    assert!(receive_now(&mut chunks).is_none());
    assert!(chunks.transport().input.capacity() <= 128 * 1024);
}

#[tokio::test]
async fn idle_connection_holds_no_buffer() {
    let (ours, mut peer) = duplex(1 << 20);
    let mut frames = Frames::new(transport(ours, Limits::default()), Side::Daemon, false);
    peer.write_all(&by_hand(CarrierKind::Frames, "{}")).await.unwrap();
    receive(&mut frames).await.unwrap();
    assert!(receive_now(&mut frames).is_none());
    send(&mut frames, [packet(Method::Cs, Leg::Answer, "{}", None)]).await;
    assert_eq!(frames.transport().held(), 0);
}

#[tokio::test(start_paused = true)]
async fn slow_message_and_peer_that_does_not_read_are_given_up() {
    for &kind in KINDS {
        let start = Instant::now();
        let (mut carrier, mut peer) = daemon(kind, Limits::default());
        let message = by_hand(kind, "{}");
        let (begin, _) = message.split_at(message.len() - 1);
        peer.write_all(begin).await.unwrap();
        let end = receive(&mut *carrier).await.unwrap_err();
        assert_eq!(end.to_string(), "receiving a message took longer than 30s", "{kind:?}");
        assert_eq!(start.elapsed().as_secs(), 30);

        let (ours, _theirs) = duplex(10);
        let mut carrier = over(kind, ours, Side::Daemon, Limits::default());
        carrier.start_send(packet(Method::Cs, Leg::Request, r#"{"more":"than ten bytes"}"#, None)).unwrap();
        let end = poll_fn(|cx| carrier.poll_flush(cx)).await.unwrap_err();
        assert_eq!(end.to_string(), "sending to a peer that does not read took longer than 30s");
        assert_eq!(start.elapsed().as_secs(), 60);

        // Closing has a limit of its own.
        let (mut carrier, _peer) = daemon(kind, Limits::default());
        poll_fn(|cx| carrier.poll_close(cx, &Farewell::GoingAway)).await;
        assert_eq!(start.elapsed().as_secs(), 65);
    }
}

#[tokio::test(start_paused = true)]
async fn peer_that_reads_a_little_now_and_then_is_not_given_up() {
    let (ours, mut peer) = duplex(10);
    let mut carrier = over(CarrierKind::Chunks, ours, Side::Daemon, Limits::default());
    carrier.start_send(packet(Method::Cs, Leg::Request, r#"{"more":"than ten bytes"}"#, None)).unwrap();
    let reading = tokio::spawn(async move {
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            peer.read_exact(&mut [0; 9]).await.unwrap();
        }
        peer
    });
    poll_fn(|cx| carrier.poll_flush(cx)).await.unwrap();
    reading.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn frames_say_hello_ping_pong_and_farewell_to_those_who_understand_it() {
    let (mut carrier, mut peer) = daemon(CarrierKind::Frames, Limits::default());
    let mut read = [0; 500];
    // Nothing to one who has not said it.
    let silent = tokio::time::timeout(Duration::from_secs(100), receive(&mut *carrier)).await;
    assert!(silent.is_err());

    peer.write_all(b"c\0\0\0\0\x39{\"hello\":{\"version\":1,\"max_body\":4000,\"max_in_flight\":2}}")
        .await
        .unwrap();
    peer.write_all(b"c\0\0\0\0\x0a{\"ping\":7}").await.unwrap();
    let start = Instant::now();
    let end = receive(&mut *carrier).await.unwrap_err();
    assert_eq!(end.to_string(), "the answer to a ping took longer than 20s");
    assert_eq!(start.elapsed().as_secs(), 45);
    assert_eq!(carrier.largest_send(), 4000);
    let closing = tokio::spawn(async move {
        poll_fn(|cx| carrier.poll_close(cx, &Farewell::Refused("silent".into()))).await;
    });
    let mut said = Vec::new();
    peer.shutdown().await.unwrap();
    peer.read_to_end(&mut said).await.unwrap();
    closing.await.unwrap();
    let said = String::from_utf8_lossy(&said);
    let bodies: Vec<_> = said.split("c\0\0\0\0").filter_map(|frame| frame.get(1..)).collect();
    assert_eq!(
        bodies,
        [
            r#"{"hello":{"version":1,"max_body":1114112,"max_in_flight":256}}"#,
            r#"{"pong":7}"#,
            r#"{"ping":0}"#,
            r#"{"close":{"code":"refused","message":"silent"}}"#
        ]
    );

    // Who dials says it first, and hears why it ends.
    let (ours, mut peer) = duplex(1000);
    let mut client = over(CarrierKind::Frames, ours, Side::Client, Limits::default());
    assert!(receive_now(&mut *client).is_none());
    let length = peer.read(&mut read).await.unwrap();
    assert!(read[..length].starts_with(b"c\0\0\0\0\x3e{\"hello\":"));
    peer.write_all(b"c\0\0\0\0\x2f{\"close\":{\"code\":\"going_away\",\"message\":\"bye\"}}").await.unwrap();
    let end = receive(&mut *client).await.unwrap_err();
    assert_eq!(end.to_string(), "closed by the peer: going_away: bye");
}

#[tokio::test]
async fn frames_that_are_no_packets_are_skipped_and_counted() {
    let (mut carrier, mut peer) = daemon(CarrierKind::Frames, Limits::default());
    for frame in [
        &b"j\x05hello\0\0\0\x07\"world\""[..],
        b"j\x04csrq\0\0\0\x02{}",
        b"b\x04CSrq\0\0\0\x02{}", // not packed
        b"j\x04NSPS\0\0\0\x02{}",
        b"b\x04\xff\xfe\xfd\xfc\0\0\0\x02{}",
        b"j\0\0\0\0\x02{}",
        b"c\0\0\0\0\x0c{\"credit\":3}",
    ] {
        peer.write_all(frame).await.unwrap();
    }
    peer.write_all(&by_hand(CarrierKind::Frames, "{}")).await.unwrap();
    assert_eq!(flat(receive(&mut *carrier).await.unwrap()), "CArs{}");
    assert_eq!(carrier.skipped(), 6);
}

#[cfg(feature = "websocket")]
#[tokio::test(start_paused = true)]
async fn websocket_takes_text_and_answers_pings_and_sends_its_own() {
    let (mut carrier, mut peer) = daemon(CarrierKind::WebSocket, Limits::default());
    peer.write_all(b"\x81\x86\0\0\0\0CArs{}\x89\x82\0\0\0\0hi").await.unwrap();
    assert_eq!(flat(receive(&mut *carrier).await.unwrap()), "CArs{}");
    assert!(receive_now(&mut *carrier).is_none());
    let mut read = [0; 100];
    let length = peer.read(&mut read).await.unwrap();
    assert_eq!(&read[..length], b"\x8a\x02hi");

    let start = Instant::now();
    let end = receive(&mut *carrier).await.unwrap_err();
    assert_eq!(end.to_string(), "the answer to a ping took longer than 20s");
    assert_eq!(start.elapsed().as_secs(), 45);
    let length = peer.read(&mut read).await.unwrap();
    assert_eq!(&read[..length], b"\x89\0");

    let (mut carrier, mut peer) = daemon(CarrierKind::WebSocket, Limits::default());
    peer.write_all(b"\x88\x85\0\0\0\0\x03\xe9bye").await.unwrap();
    let end = receive(&mut *carrier).await.unwrap_err();
    assert_eq!(end.to_string(), "closed by the peer: 1001: bye");
    peer.shutdown().await.unwrap();
    poll_fn(|cx| carrier.poll_close(cx, &Farewell::Normal)).await;
    let mut last = Vec::new();
    peer.read_to_end(&mut last).await.unwrap();
    assert_eq!(last, b"\x88\x05\x03\xe9bye");
}

#[tokio::test(start_paused = true)]
async fn pings_whose_answers_nobody_reads_end_the_connection() {
    let (ours, mut theirs) = duplex(1 << 20);
    let mut daemon = Frames::new(transport(ours, Limits::default()), Side::Daemon, true);
    let ping = b"c\0\0\0\0\x0a{\"ping\":7}";
    // Who reads may ping for ever.
    for _ in 0..20_000 {
        theirs.write_all(ping).await.unwrap();
        assert!(receive_now(&mut daemon).is_none());
        let mut pong = [0; 16];
        theirs.read_exact(&mut pong).await.unwrap();
    }
    // Who does not, not as long as the system takes the answers.
    let mut written = 0;
    let end = loop {
        theirs.write_all(&ping.repeat(1000)).await.unwrap();
        written += 1000;
        match receive_now(&mut daemon) {
            None => assert!(daemon.transport().held() < 4 << 20, "after {written} pings"),
            Some(received) => break received.unwrap_err(),
        }
        assert!(written < 1_000_000);
    };
    assert!(
        matches!(&end, CarrierEnd::Protocol(why) if why == "more than 4096 pings without reading"),
        "{end}"
    );
    assert!(daemon.queued() < 200_000);
}
