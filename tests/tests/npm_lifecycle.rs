//! How conversations with the original package of npm end, and what does not end them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use nossock::wire::Body;
use nossock::{CloseReason, Config, Connector, Json, Limits, RequestError, Router, SendError, Socket};
use serde_json::{Value, json};
use tests::{Node, Original, Ours, frame, hex, in_time, with_original};

/// A server that answers `echo`, and hands everything else to the story.
async fn echo_server() -> Ours {
    let router = Router::new().on_request("echo", async |Json(value): Json<Value>| value);
    Ours::listen(None, Config::default(), router).await
}

async fn dial(port: u16) -> Socket {
    Connector::new(format!("tcp://127.0.0.1:{port}")).unwrap().connect().await.unwrap()
}

/// Asks something that is answered: whoever does it lives on.
async fn assert_lives(theirs: &mut Node) {
    let answer = theirs.ask(json!({"do": "ask", "name": "echo", "json": "alive?"}), "answer").await;
    assert_eq!(answer["value"], "alive?", "{answer}");
}

/// A server of the original that does not listen to errors, as its README shows it; and a bare connection to it.
async fn deaf_server(original: Original) -> (Node, Node) {
    let mut server = original.start().await;
    server.tell(json!({"do": "listen", "type": "tcp", "deaf": true})).await;
    let port = server.port().await;
    let mut bare = original.start_bare().await;
    bare.ask(json!({"do": "connect", "port": port}), "connected").await;
    (server, bare)
}

async fn write(bare: &mut Node, bytes: &[u8]) {
    bare.tell(json!({"do": "write", "hex": hex(bytes)})).await;
}

#[tokio::test]
async fn their_end_is_a_clean_close_and_loses_nothing() {
    with_original(async |original| {
        let mut ours = echo_server().await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        let socket = ours.socket().await;
        theirs.tell(json!({"do": "sendMany", "name": "last", "count": 1000, "then": "end"})).await;
        for n in 0..1000 {
            assert_eq!(ours.message().await.body.parse::<u32>().unwrap(), n);
        }
        let reason = in_time("the close", socket.closed()).await;
        assert!(matches!(reason, CloseReason::Peer) && reason.is_clean(), "{reason}");
        theirs.hear("close").await;
        assert!(matches!(socket.send("late", &1).await, Err(SendError::Closed(CloseReason::Peer))));
    })
    .await;
}

#[tokio::test]
async fn end_of_their_server_is_a_clean_close_for_our_client() {
    with_original(async |original| {
        let (mut theirs, port) = original.listen(json!([])).await;
        let socket = dial(port).await;
        theirs.hear("connection").await;
        theirs.tell(json!({"do": "sendMany", "name": "last", "count": 1000, "then": "end"})).await;
        for n in 0..1000 {
            let message = in_time("a message", socket.recv()).await.unwrap().unwrap();
            assert_eq!(message.json::<u32>().unwrap(), n);
        }
        assert!(in_time("the end", socket.recv()).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn their_destroy_in_a_frame_is_named_and_ends_nobody_elses_socket() {
    with_original(async |original| {
        let mut ours = echo_server().await;
        let mut other = original.connect(ours.port(), json!([])).await;
        ours.socket().await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        let socket = ours.socket().await;
        let begun = [&frame(b'b', "file", &[])[..6], &1000_u32.to_be_bytes(), &[7; 400]].concat();
        theirs.tell(json!({"do": "write", "hex": hex(&begun)})).await;
        theirs.tell(json!({"do": "call", "method": "destroy"})).await;
        let reason = in_time("the close", socket.closed()).await;
        assert!(!reason.is_clean());
        assert_eq!(
            reason.to_string(),
            "the peer's stream ended in the frame `file`, 600 bytes before its end"
        );
        assert_lives(&mut other).await;
    })
    .await;
}

#[tokio::test]
async fn what_was_sent_just_before_our_close_all_arrives() {
    with_original(async |original| {
        let (mut theirs, port) = original.listen(json!([])).await;
        let socket = dial(port).await;
        for n in 0..1000 {
            socket.send("last", &n).await.unwrap();
        }
        socket.send_raw("bytes", vec![7; 1024 * 1024]).await.unwrap();
        in_time("closing", socket.close()).await.unwrap();
        assert_eq!(theirs.hear("message").await["name"], "", "the control frame");
        for n in 0..1000 {
            assert_eq!(theirs.hear("message").await["json"], n);
        }
        assert_eq!(theirs.hear("message").await["size"], 1024 * 1024);
        theirs.hear("end").await;
        theirs.hear("close").await;
    })
    .await;
}

#[tokio::test]
async fn what_was_sent_just_before_our_server_stops_all_arrives() {
    with_original(async |original| {
        let mut ours = echo_server().await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        let socket = ours.socket().await;
        for n in 0..1000 {
            socket.send("last", &n).await.unwrap();
        }
        let drained = ours.stop().await;
        assert_eq!((drained.drained, drained.aborted), (1, 0));
        for n in 0..1000 {
            assert_eq!(theirs.hear("message").await["json"], n);
        }
        theirs.hear("close").await;
    })
    .await;
}

#[tokio::test]
async fn our_socket_dropped_is_an_end_for_them() {
    with_original(async |original| {
        let (mut theirs, port) = original.listen(json!([])).await;
        let socket = dial(port).await;
        socket.send("last", &1).await.unwrap();
        drop(socket);
        theirs.hear("message").await;
        assert_eq!(theirs.hear("message").await["name"], "last");
        theirs.hear("end").await;
        theirs.hear("close").await;
    })
    .await;
}

/// A deviation: what a frame is called is data here. The original emits it among the events of the connection.
#[tokio::test]
async fn frames_named_like_events_are_messages_for_us() {
    with_original(async |original| {
        let mut ours = echo_server().await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        let socket = ours.socket().await;
        for name in ["error", "close", "end", "timeout", "connect", "next", "data", ""] {
            theirs.tell(json!({"do": "send", "name": name, "json": name})).await;
            assert_eq!(ours.message().await.name, name);
        }
        assert_lives(&mut theirs).await;
        assert!(socket.close_reason().is_none());
    })
    .await;
}

#[tokio::test]
async fn frame_named_error_ends_the_process_of_the_original() {
    with_original(async |original| {
        let (mut server, mut bare) = deaf_server(original).await;
        write(&mut bare, &frame(b'j', "error", b"\"boo\"")).await;
        let (status, stderr) = server.exit().await;
        assert!(!status.success() && stderr.contains("Unhandled error"), "{status}: {stderr}");
    })
    .await;
}

/// A deviation: the original parses every body as it comes in, and nobody catches what that throws.
#[tokio::test]
async fn malformed_json_is_one_error_and_other_connections_go_on() {
    with_original(async |original| {
        let router = Router::new()
            .on("number", async |Json(_): Json<i64>| {})
            .on_request("echo", async |Json(value): Json<Value>| value);
        let mut ours = Ours::listen(None, Config::default(), router).await;
        let mut other = original.connect(ours.port(), json!([])).await;
        let mut bare = original.start_bare().await;
        bare.ask(json!({"do": "connect", "port": ours.port()}), "connected").await;

        write(&mut bare, &frame(b'j', "number", b"{oops")).await;
        let error = ours.error().await;
        assert!(error.starts_with("`number` was refused: the body cannot be read: "), "{error}");
        write(&mut bare, &frame(b'j', "number", b"")).await;
        let error = ours.error().await;
        assert!(error.starts_with("`number` was refused: the body cannot be read: EOF"), "{error}");
        write(&mut bare, &frame(b'j', "req:echo:a-1", b"{oops")).await;
        assert!(ours.error().await.starts_with("`echo` was refused: "));
        let answer = bare.hear("data").await;
        let answer = answer["hex"].as_str().unwrap();
        assert!(answer.contains(&hex(b"resp:echo:a-1")) && answer.contains(&hex(b"bad_body")), "{answer}");

        write(&mut bare, &frame(b'j', "req:echo:a-2", b"[2]")).await;
        let answer = bare.hear("data").await;
        assert_eq!(
            answer["hex"],
            hex(&frame(b'j', "resp:echo:a-2", b"[null,[2]]")),
            "the same connection goes on"
        );
        assert_lives(&mut other).await;
    })
    .await;
}

#[tokio::test]
async fn malformed_json_ends_the_process_of_the_original() {
    with_original(async |original| {
        let (mut server, mut bare) = deaf_server(original).await;
        write(&mut bare, &frame(b'j', "number", b"{oops")).await;
        let (status, stderr) = server.exit().await;
        assert!(!status.success() && stderr.contains("SyntaxError"), "{status}: {stderr}");
    })
    .await;
}

/// Half a surrogate pair is a string in JavaScript, and its JSON is JSON; it is no text in Rust.
#[tokio::test]
async fn text_that_is_no_unicode_is_the_fault_of_one_message() {
    with_original(async |original| {
        let router = Router::new()
            .on("text", async |Json(_): Json<String>| {})
            .on_request("echo", async |Json(value): Json<Value>| value);
        let mut ours = Ours::listen(None, Config::default(), router).await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        theirs.tell(json!({"do": "write", "hex": hex(&frame(b'j', "text", br#""\ud800""#))})).await;
        assert!(ours.error().await.starts_with("`text` was refused: the body cannot be read: "));
        assert_lives(&mut theirs).await;
    })
    .await;
}

/// A deviation: the original writes the number of UTF-16 units where the number of bytes belongs, so that what
/// follows is read from the wrong place. Ours says so and hangs up, instead of waiting for more for ever.
#[tokio::test]
async fn name_that_is_not_ascii_desynchronises_the_original_and_is_named_by_ours() {
    with_original(async |original| {
        let mut ours = echo_server().await;
        let mut other = original.connect(ours.port(), json!([])).await;
        ours.socket().await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        let socket = ours.socket().await;
        theirs.tell(json!({"do": "send", "name": "héllo", "json": 1})).await;
        theirs.tell(json!({"do": "send", "name": "good", "json": 2})).await;
        theirs.tell(json!({"do": "call", "method": "end"})).await;
        let reason = in_time("the close", socket.closed()).await;
        assert!(matches!(reason, CloseReason::Protocol(_) | CloseReason::Truncated(_)), "{reason}");
        assert_lives(&mut other).await;
    })
    .await;
}

#[tokio::test]
async fn name_that_is_not_ascii_arrives_from_ours() {
    with_original(async |original| {
        let (mut theirs, port) = original.listen(json!([])).await;
        let socket = dial(port).await;
        theirs.hear("message").await;
        for name in ["héllo", "日本", "😀"] {
            socket.send(name, &1).await.unwrap();
            assert_eq!(theirs.hear("message").await["name"], name);
        }
    })
    .await;
}

/// A deviation: the original counts modulo 256 and sends.
#[tokio::test]
async fn name_over_255_bytes_is_refused_to_our_caller_and_nothing_is_sent() {
    with_original(async |original| {
        let (mut theirs, port) = original.listen(json!([])).await;
        let socket = dial(port).await;
        theirs.hear("message").await;
        let error = socket.send(&"n".repeat(300), &1).await.unwrap_err();
        assert_eq!(error.to_string(), "the name is 300 bytes long, the wire allows 255");
        let error = socket.request::<Value, _>(&"n".repeat(234), &1).await.unwrap_err();
        assert!(matches!(error, RequestError::NotSent(SendError::Name(_))), "{error}");
        socket.send("next", &1).await.unwrap();
        assert_eq!(theirs.hear("message").await["name"], "next");
    })
    .await;
}

#[tokio::test]
async fn name_of_300_letters_desynchronises_the_original() {
    with_original(async |original| {
        let (mut server, port) = original.listen(json!([])).await;
        let mut client = original.connect(port, json!([])).await;
        client.tell(json!({"do": "send", "name": "before", "json": 1})).await;
        assert_eq!(server.hear("message").await["name"], "before");
        client.tell(json!({"do": "send", "name": "n".repeat(300), "json": 2})).await;
        client.tell(json!({"do": "send", "name": "after", "json": 3})).await;
        client.tell(json!({"do": "call", "method": "end"})).await;
        // All its bytes have come by now, and made no message.
        server.hear("end").await;
        let heard = server.ask(json!({"do": "count"}), "count").await;
        assert_eq!(heard["messages"], 1);
    })
    .await;
}

/// A deviation: the original takes every kind that is not `j` for a buffer.
#[tokio::test]
async fn unknown_kind_ends_that_connection_with_the_byte_named() {
    with_original(async |original| {
        let mut ours = echo_server().await;
        let mut other = original.connect(ours.port(), json!([])).await;
        ours.socket().await;
        let mut bare = original.start_bare().await;
        bare.ask(json!({"do": "connect", "port": ours.port()}), "connected").await;
        let socket = ours.socket().await;
        write(&mut bare, &frame(b'x', "name", b"body")).await;
        let reason = in_time("the close", socket.closed()).await.to_string();
        assert!(reason.starts_with("the peer sent 0x78 where a frame begins"), "{reason}");
        bare.hear("close").await;
        assert_lives(&mut other).await;

        let (mut theirs, port) = original.listen(json!([])).await;
        let mut bare = original.start_bare().await;
        bare.ask(json!({"do": "connect", "port": port}), "connected").await;
        write(&mut bare, &frame(b'x', "name", b"body")).await;
        let message = theirs.hear("message").await;
        assert_eq!((&message["kind"], &message["size"]), (&json!("x"), &json!(4)), "the original");
    })
    .await;
}

/// A deviation: the original keeps whatever comes, up to 4 GiB.
#[tokio::test]
async fn body_over_our_limit_is_skipped_and_told_and_the_connection_goes_on() {
    with_original(async |original| {
        let config = Config { limits: Limits { max_body: 1000, ..Limits::default() }, ..Config::default() };
        let router = Router::new().on_request("echo", async |Json(value): Json<Value>| value);
        let mut ours = Ours::listen(None, config, router).await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        theirs.tell(json!({"do": "sendBytes", "name": "file", "size": 1_000_000})).await;
        let error = ours.error().await;
        assert_eq!(error, "the peer sent `file` with a body of 1000000 bytes, the limit is 1000");
        let text = "t".repeat(2000);
        let answer = theirs.ask(json!({"do": "ask", "name": "echo", "json": text}), "answer").await;
        assert_eq!(answer["error"]["code"], "too_large");
        assert_lives(&mut theirs).await;
        theirs.tell(json!({"do": "sendBytes", "name": "file", "size": 1000})).await;
        let Body::Raw(bytes) = ours.message().await.body else { panic!("not a buffer") };
        assert_eq!(bytes.len(), 1000);
    })
    .await;
}

/// A deviation: the control frame that says hello. A peer that does not know it sees a buffer without a name.
#[tokio::test]
async fn our_hello_does_them_no_harm_and_can_be_left_out() {
    with_original(async |original| {
        let (mut theirs, port) = original.listen(json!([{"name": "echo", "how": "echo"}])).await;
        let socket = dial(port).await;
        let hello = theirs.hear("message").await;
        assert_eq!((&hello["name"], &hello["kind"]), (&json!(""), &json!("c")));
        assert_eq!(socket.request::<u8, _>("echo", &1).await.unwrap(), 1);
        assert!(socket.peer_hello().is_none(), "they never say it");

        let config = Config { hello: false, ..Config::default() };
        let connector = Connector::new(format!("tcp://127.0.0.1:{port}")).unwrap().config(config);
        let socket = connector.connect().await.unwrap();
        socket.send("first", &1).await.unwrap();
        let first = loop {
            let message = theirs.hear("message").await;
            if message["on"] == 1 {
                break message;
            }
        };
        assert_eq!(first["name"], "first");
    })
    .await;
}

#[tokio::test]
async fn our_server_says_nothing_that_it_was_not_asked_for() {
    with_original(async |original| {
        let mut ours = echo_server().await;
        let mut bare = original.start_bare().await;
        bare.ask(json!({"do": "connect", "port": ours.port()}), "connected").await;
        let socket = ours.socket().await;
        write(&mut bare, &frame(b'j', "message", b"1")).await;
        ours.message().await;
        write(&mut bare, &frame(b'j', "req:echo:1", b"1")).await;
        assert_eq!(bare.hear("data").await["hex"], hex(&frame(b'j', "resp:echo:1", b"[null,1]")));
        socket.close().await.unwrap();
        bare.hear("close").await;
        let heard = bare.ask(json!({"do": "count"}), "count").await;
        assert_eq!(heard["bytes"], frame(b'j', "resp:echo:1", b"[null,1]").len(), "no farewell either");
    })
    .await;
}
