//! What a peer or a caller may do wrong over TCP: each has an error that says so, and nobody else suffers.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "common/frames.rs"]
mod frames;
#[path = "common/served.rs"]
mod served;

use std::time::Duration;

use bytes::Bytes;
use nossock::{Config, Connector, Limits, RequestError, SendError, Side, Socket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use frames::{HELLO, frame, read_frame, try_read_frame};
use served::Served;

fn limited(limits: Limits) -> Config {
    Config { limits, ..Config::default() }
}

/// Reads what the peer still says, until it ends its stream.
async fn to_the_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    rest
}

#[tokio::test]
async fn bytes_that_are_no_frame_end_their_own_connection_and_are_named() {
    let client_hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    for (bytes, says) in [
        (&b"xyz"[..], "the peer sent 0x78 where a frame begins"),
        (b"\0", "the peer sent 0x00 where a frame begins"),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "the peer sent 0x47 where a frame begins: this looks like HTTP",
        ),
        (
            &client_hello,
            "the peer sent 0x16 where a frame begins: this looks like TLS, and the address is a plain one",
        ),
        (
            b"0000000000000004GTrq",
            "the peer sent 0x30 where a frame begins: this looks like the NoService TCP carrier",
        ),
        (b"c\x01x\0\0\0\0", "the peer sent a control frame with a name of 1 and a body of 0 bytes"),
        (
            b"c\0\xff\xff\xff\xff",
            "the peer sent a control frame with a name of 0 and a body of 4294967295 bytes",
        ),
    ] {
        let mut served = Served::plain(Config::default()).await;
        let mut peer = served.raw().await;
        peer.write_all(bytes).await.unwrap();
        assert_eq!(served.ended().await, says);
        assert_eq!(to_the_end(&mut peer).await, b"", "a peer that knows no control frames is told nothing");
        drop(peer); // or the server would wait for it
        served.still_serves().await;
    }
}

#[tokio::test]
async fn peer_that_knows_control_frames_is_told_what_it_did_wrong() {
    let mut served = Served::plain(Config::default()).await;
    let mut peer = served.raw().await;
    peer.write_all(&frame(b'c', "", HELLO)).await.unwrap();
    peer.write_all(b"xyz").await.unwrap();
    read_frame(&mut peer).await; // the server's own hello
    let (kind, _, farewell) = read_frame(&mut peer).await;
    let says = r#"{"close":{"code":"protocol","message":"the peer sent 0x78 where a frame begins"}}"#;
    assert_eq!((kind, String::from_utf8(farewell).unwrap().as_str()), (b'c', says));
    assert_eq!(to_the_end(&mut peer).await, b"");
    assert_eq!(served.ended().await, "the peer sent 0x78 where a frame begins");
    drop(peer); // or the server would wait for it
    served.still_serves().await;
}

#[tokio::test]
async fn name_that_is_no_text_costs_one_message() {
    let mut served = Served::plain(Config::default()).await;
    let mut peer = served.raw().await;
    peer.write_all(b"j\x02\xff\xfe\0\0\0\x011").await.unwrap();
    peer.write_all(&frame(b'j', "req:echo:1", b"7")).await.unwrap();
    assert_eq!(read_frame(&mut peer).await.2, b"[null,7]");
    assert_eq!(served.error().await, "the peer sent a message whose name is not UTF-8");
    drop(peer); // or the server would wait for it
    served.still_serves().await;
}

#[tokio::test]
async fn caller_is_told_that_a_name_is_too_long_before_anything_is_sent() {
    let served = Served::plain(Config::default()).await;
    let socket = nossock::connect(served.address().clone()).await.unwrap();
    let long = "é".repeat(128);
    let says = "the name is 256 bytes long, the wire allows 255";
    assert_eq!(socket.send(&long, &1).await.unwrap_err().to_string(), says);
    assert_eq!(socket.send_raw(&long, vec![1]).await.unwrap_err().to_string(), says);
    assert_eq!(socket.try_send(&long, &1).unwrap_err().to_string(), says);
    assert_eq!(nossock::EncodedMessage::json(&long, &1).unwrap_err().to_string(), says);
    assert_eq!(socket.reserve().await.unwrap().send(&long, &1).unwrap_err().to_string(), says);
    let error = socket.request::<u64, _>(&"n".repeat(234), &1).await.unwrap_err();
    assert_eq!(error.to_string(), "the name of the request is 234 bytes long, 233 fit beside its id");
    let error = socket.request::<u64, _>(&"n".repeat(233), &1).await.unwrap_err();
    assert!(matches!(error, RequestError::Rejected { .. }), "the longest that fits gets there: {error}");
    assert_eq!(socket.request::<u64, _>("echo", &4).await.unwrap(), 4);
    served.still_serves().await;
}

#[tokio::test]
async fn caller_is_told_size_and_limit_of_a_body_that_is_too_large() {
    let served = Served::plain(limited(Limits { max_body: 50, ..Limits::default() })).await;
    let small = Connector::new(served.address().clone()).unwrap();
    let small = small.config(limited(Limits { max_body: 20, ..Limits::default() }));
    let (ours, theirs) =
        (small.connect().await.unwrap(), nossock::connect(served.address().clone()).await.unwrap());
    for (socket, limit) in [(ours, 20), (theirs, 50)] {
        // after an answer both know each other's limits
        assert_eq!(socket.request::<u64, _>("echo", &1).await.unwrap(), 1);
        let says = format!("the body of `big` has 51 bytes, the limit is {limit}");
        assert_eq!(socket.send_raw("big", vec![0; 51]).await.unwrap_err().to_string(), says);
        assert_eq!(socket.send("big", &"x".repeat(49)).await.unwrap_err().to_string(), says);
        assert_eq!(socket.try_send_raw("big", vec![0; 51]).unwrap_err().to_string(), says);
        let error = socket.request::<u64, _>("big", &"x".repeat(49)).await.unwrap_err();
        assert!(matches!(&error, RequestError::NotSent(SendError::TooLarge { size: 51, .. })), "{error}");
        assert_eq!(error.to_string(), says);
        assert_eq!(socket.request::<u64, _>("echo", &2).await.unwrap(), 2, "the connection lives");
    }
    served.still_serves().await;
}

#[tokio::test]
async fn body_of_the_peer_over_the_limit_is_skipped_and_told_once() {
    let mut served = Served::plain(limited(Limits { max_body: 50, ..Limits::default() })).await;
    let mut peer = served.raw().await;
    let large = vec![b' '; 3_000_000];
    peer.write_all(&frame(b'j', "note", &large)).await.unwrap();
    peer.write_all(&frame(b'j', "req:echo:big", &large)).await.unwrap();
    peer.write_all(&frame(b'j', "req:echo:small", b"7")).await.unwrap();
    let (_, name, body) = read_frame(&mut peer).await;
    let says = r#"[{"code":"too_large","message":"the body has 3000000 bytes, the limit is 50"},null]"#;
    assert_eq!((name.as_str(), String::from_utf8(body).unwrap().as_str()), ("resp:echo:big", says));
    assert_eq!(read_frame(&mut peer).await.1, "resp:echo:small");
    let socket = served.accepted().await;
    assert_eq!(socket.stats().refused, 2);
    for name in ["note", "echo"] {
        let says = format!("the peer sent `{name}` with a body of 3000000 bytes, the limit is 50");
        assert_eq!(served.error().await, says);
    }
    drop((socket, peer)); // or the server would wait for it
    served.still_serves().await;
}

#[tokio::test]
async fn body_of_the_peer_beyond_the_second_limit_ends_its_connection() {
    let limits = Limits { max_body: 50, max_skip: 1_000, ..Limits::default() };
    let mut served = Served::plain(limited(limits)).await;
    let mut peer = served.raw().await;
    peer.write_all(b"b\x04file\0\0\x03\xe9").await.unwrap();
    let says = "the peer announced a body of 1001 bytes for `file`; 50 are accepted and 1000 skipped";
    assert_eq!(served.ended().await, says);
    assert_eq!(to_the_end(&mut peer).await, b"");
    drop(peer); // or the server would wait for it
    served.still_serves().await;
}

#[tokio::test]
async fn answer_over_the_limit_ends_its_request_and_not_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connector = Connector::new(address).unwrap();
    let config = limited(Limits { max_body: 50, ..Limits::default() });
    let socket = connector.config(Config { hello: false, ..config }).connect().await.unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    let answering = async {
        let (_, name, _) = read_frame(&mut peer).await;
        peer.write_all(&frame(b'j', &name.replace("req:", "resp:"), &[b'1'; 60])).await.unwrap();
        let (_, name, _) = read_frame(&mut peer).await;
        peer.write_all(&frame(b'j', &name.replace("req:", "resp:"), b"[null,1]")).await.unwrap();
    };
    let asking = async {
        let error = socket.request::<u64, _>("big", &1).await.unwrap_err();
        let says = "`big` was rejected: the answer has 60 bytes, the limit is 50 (too_large)";
        assert_eq!(error.to_string(), says);
        assert_eq!(socket.request::<u64, _>("small", &1).await.unwrap(), 1);
    };
    tokio::join!(asking, answering);
}

#[tokio::test]
async fn frame_that_is_cut_off_is_named_with_what_is_missing() {
    for (bytes, says) in [
        (&b"j"[..], "the peer's stream ended in the head of a frame"),
        (b"j\x04no", "the peer's stream ended in the head of a frame"),
        (b"j\x04note\0\0\0\x0512", "the peer's stream ended in the frame `note`, 3 bytes before its end"),
        (
            b"j\x02\x1b[\0\0\0\x0512",
            "the peer's stream ended in the frame `\\u{1b}[`, 3 bytes before its end",
        ),
        (
            b"b\x04file\x00\x20\x00\x00ab",
            "the peer's stream ended in a frame that was being skipped, 2097150 bytes before its end",
        ),
    ] {
        let mut served = Served::plain(Config::default()).await;
        let mut peer = served.raw().await;
        peer.write_all(&frame(b'j', "note", b"1")).await.unwrap();
        peer.write_all(bytes).await.unwrap();
        peer.shutdown().await.unwrap();
        assert_eq!(served.ended().await, says);
        assert_eq!(to_the_end(&mut peer).await, b"");
        drop(peer); // or the server would wait for it
        served.still_serves().await;
    }
}

#[tokio::test]
async fn malformed_json_is_the_fault_of_one_message() {
    let mut served = Served::plain(Config::default()).await;
    let mut peer = served.raw().await;
    let deep = vec![b'['; 100_000];
    for body in [&b"{oops"[..], b"", b"\xff\xfe", br#""\ud800""#, &deep] {
        peer.write_all(&frame(b'j', "note", body)).await.unwrap();
        peer.write_all(&frame(b'j', "req:echo:a-1", body)).await.unwrap();
        let (_, name, answer) = read_frame(&mut peer).await;
        let answer = String::from_utf8(answer).unwrap();
        let says = r#"[{"code":"bad_body","message":"the body cannot be read: "#;
        assert!(name == "resp:echo:a-1" && answer.starts_with(says), "{name} {answer}");
        assert!(served.error().await.starts_with("`note` was refused: the body cannot be read: "));
        assert!(served.error().await.starts_with("`echo` was refused: the body cannot be read: "));
    }
    let socket = served.accepted().await;
    assert_eq!((socket.stats().failed, socket.close_reason().is_none()), (10, true));
    drop((socket, peer)); // or the server would wait for it
    served.still_serves().await;
}

#[tokio::test]
async fn raw_body_for_a_handler_of_json_is_told() {
    let mut served = Served::plain(Config::default()).await;
    let socket = nossock::connect(served.address().clone()).await.unwrap();
    let body = nossock::wire::Body::Raw(Bytes::from_static(b"7"));
    let error = socket.request_raw(Duration::from_secs(5), "echo", body).await.unwrap_err();
    let says = "`echo` was rejected: the body is raw, and this handler reads JSON (bad_body)";
    assert_eq!(error.to_string(), says);
    assert_eq!(
        served.error().await,
        "`echo` was refused: the body is raw, and this handler reads JSON (bad_body)"
    );
    served.still_serves().await;
}

#[tokio::test]
async fn request_nobody_handles_is_answered_at_once_and_a_message_is_counted() {
    let mut served = Served::plain(Config::default()).await;
    let socket = nossock::connect(served.address().clone()).await.unwrap();
    socket.send("nobody", &1).await.unwrap();
    let error = socket.request::<u64, _>("no\tbody", &1).await.unwrap_err();
    assert_eq!(error.to_string(), "`no\tbody` was rejected: nobody handles `no\\\\tbody` here (no_handler)");
    assert_eq!(served.error().await, "nobody handles `nobody`");
    assert_eq!(served.error().await, "nobody handles `no\\tbody`");
    let there = served.accepted().await;
    assert_eq!(there.stats().unhandled, 2);
    drop(there);
    served.still_serves().await;
}

#[tokio::test]
async fn answers_nobody_asked_for_are_counted_and_dropped() {
    let mut served = Served::plain(Config::default()).await;
    let mut peer = served.raw().await;
    for id in ["1", "0", "ffffffffffffffff", "10001", "-", "zz"] {
        peer.write_all(&frame(b'j', &format!("resp:echo:{id}"), b"[null,1]")).await.unwrap();
    }
    peer.write_all(&frame(b'j', "req:echo:1", b"7")).await.unwrap();
    assert_eq!(read_frame(&mut peer).await.2, b"[null,7]");
    let there = served.accepted().await;
    assert_eq!((there.stats().stray_answers, there.stats().unhandled), (6, 0));
    drop((there, peer)); // or the server would wait for it
    served.still_serves().await;
}

#[tokio::test]
async fn controls_that_make_no_sense_are_counted_and_passed_over() {
    let mut served = Served::plain(Config::default()).await;
    let mut peer = served.raw().await;
    for body in [r#"{"credit":3}"#, "[", "", "null", r#"{"hello":{}}"#, r#"{"cancel":7}"#, "\u{7f}"] {
        peer.write_all(&frame(b'c', "", body.as_bytes())).await.unwrap();
    }
    peer.write_all(&frame(b'c', "", br#"{"cancel":"nothing"}"#)).await.unwrap();
    peer.write_all(&frame(b'j', "req:echo:1", b"7")).await.unwrap();
    assert_eq!(read_frame(&mut peer).await.2, b"[null,7]");
    let there = served.accepted().await;
    assert_eq!(there.stats().unknown_controls, 7);
    drop((there, peer)); // or the server would wait for it
    served.still_serves().await;
}

#[tokio::test]
async fn peer_that_stops_reading_is_cut_off_after_its_time() {
    let limits =
        Limits { send_queue: 64 * 1024, write_stall: Duration::from_millis(200), ..Limits::default() };
    let mut served = Served::plain(limited(limits)).await;
    let peer = served.raw().await;
    let there = served.accepted().await;
    let body = Bytes::from(vec![0; 64 * 1024]);
    let mut taken = 0;
    let error = loop {
        match there.send_raw("x", body.clone()).await {
            Ok(()) => taken += body.len(),
            Err(error) => break error,
        }
        assert!(taken < 100 << 20, "the system's buffers are not that large");
    };
    assert_eq!(error.to_string(), "not sent: the peer stopped reading");
    let unsent = there.close().await.unwrap_err();
    assert!(unsent.bytes >= 64 * 1024, "{unsent}");
    drop((there, peer));
    served.still_serves().await;
}

#[tokio::test]
async fn peer_that_asks_and_never_reads_is_not_read_any_more() {
    // Without a limit of control frames, which would end the flood of pings in another way.
    let (queue, controls) = (16 * 1024, u32::MAX);
    let limits = Limits { send_queue: queue, receive_queue: queue, controls, ..Limits::default() };
    for flood in [
        frame(b'j', "req:echo:1", b"7"),
        frame(b'j', "req:nobody:1", b"7"),
        frame(b'c', "", br#"{"ping":1}"#),
    ] {
        let served = Served::plain(limited(limits.clone())).await;
        let mut peer = served.raw().await;
        let many = flood.repeat(2_000);
        let mut taken = 0;
        // A peer of infinite patience would be taken in for ever, were its answers not counted.
        while let Ok(written) = tokio::time::timeout(Duration::from_millis(300), peer.write(&many)).await {
            taken += written.unwrap();
            assert!(taken < 100 << 20, "the system's buffers are not that large");
        }
        drop(peer);
        served.still_serves().await;
    }
}

#[tokio::test]
async fn peer_that_sends_a_byte_at_a_time_is_given_up() {
    let limits = Limits { frame_time: Duration::from_millis(300), frame_rate: 1 << 20, ..Limits::default() };
    let mut served = Served::plain(limited(limits)).await;
    let mut peer = served.raw().await;
    let dripping = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        for byte in frame(b'j', "note", &[b' '; 100_000]) {
            tick.tick().await;
            if peer.write_all(&[byte]).await.is_err() {
                return true;
            }
        }
        false
    });
    assert_eq!(served.ended().await, "the peer did not finish a frame in time");
    assert!(dripping.await.unwrap(), "the peer was cut off");
    served.still_serves().await;
}

#[tokio::test]
async fn silent_connection_is_no_fault() {
    let limits = Limits { frame_time: Duration::from_millis(100), ..Limits::default() };
    let mut served = Served::plain(limited(limits)).await;
    let mut peer = served.raw().await;
    let there = served.accepted().await;
    let ended = tokio::time::timeout(Duration::from_millis(400), there.closed()).await;
    assert!(ended.is_err(), "{ended:?}");
    peer.write_all(&frame(b'j', "req:echo:1", b"7")).await.unwrap();
    assert_eq!(read_frame(&mut peer).await.2, b"[null,7]");
    drop((there, peer)); // or the server would wait for it
    served.still_serves().await;
}

#[tokio::test]
async fn connection_that_is_reset_is_an_error_of_the_connection() {
    let mut served = Served::plain(Config::default()).await;
    let peer = served.raw().await;
    let there = served.accepted().await;
    let asking = tokio::spawn({
        let there = there.clone();
        async move { there.request::<u64, _>("name", &()).await }
    });
    peer.readable().await.unwrap(); // the question is there, and stays unread: so this is a reset
    drop(peer);
    let says = "the connection failed: Connection reset by peer (os error 104)";
    assert_eq!(there.closed().await.to_string(), says);
    assert_eq!(asking.await.unwrap().unwrap_err().to_string(), format!("`name` got no answer: {says}"));
    drop(there);
    served.still_serves().await;
}

#[tokio::test]
async fn client_of_something_that_is_no_server_of_ours_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = nossock::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    peer.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await.unwrap();
    let error = socket.request::<u64, _>("echo", &1).await.unwrap_err();
    let says = "the peer sent 0x48 where a frame begins: this looks like HTTP";
    assert!(error.to_string().ends_with(says), "{error}");
    assert_eq!(socket.recv().await.unwrap_err().to_string(), says);
}

#[tokio::test]
async fn words_of_the_peer_are_escaped_before_a_terminal_sees_them() {
    let (here, mut peer) = tokio::io::duplex(1024);
    let socket = Socket::over(here, Side::Server, Config::default());
    peer.write_all(&frame(b'c', "", HELLO)).await.unwrap();
    let close = br#"{"close":{"code":"ha\u001b[2J","message":"ha\u001b[2J\n"}}"#;
    peer.write_all(&frame(b'c', "", close)).await.unwrap();
    let says = socket.closed().await.to_string();
    assert_eq!(says, "closed by the peer: ha\\u{1b}[2J (ha\\u{1b}[2J\\n)");
    drop(socket);
    while try_read_frame(&mut peer).await.is_ok() {}
}
