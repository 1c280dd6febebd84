//! Messages between ours and the original package of npm, over TCP.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use nossock::wire::Body;
use nossock::{Config, Connector, Limits, Router, Socket};
use serde_json::{Value, json};
use tests::{Node, Original, Ours, in_time, pattern, sha256, with_original};

/// One of every type of JSON, and the edges of each.
fn every_json() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(-1.5),
        json!(1e21),
        json!(9_007_199_254_740_991_i64),
        json!(""),
        json!("日本 é 😀"),
        json!("\u{0}\n\"\\\u{2028}"),
        json!([]),
        json!({}),
        json!([[], [[]], {"a": {}}]),
        json!({"": "empty key", "ключ": [1, "2", null, {"deep": [[[true]]]}]}),
    ]
}

const SIZES: [usize; 4] = [0, 1, 64 * 1024, 5 * 1024 * 1024];

/// Lets bodies of 5 MiB through.
fn large() -> Config {
    Config { limits: Limits { max_body: 8 * 1024 * 1024, ..Limits::default() }, ..Config::default() }
}

/// A server of the original, and a connection of ours to it; what we say of ourselves has been heard.
async fn dial(port: u16, config: Config, theirs: &mut Node) -> Socket {
    let socket =
        Connector::new(format!("tcp://127.0.0.1:{port}")).unwrap().config(config).connect().await.unwrap();
    theirs.hear("connection").await;
    assert_eq!(theirs.hear("message").await["name"], "", "the control frame");
    socket
}

#[tokio::test]
async fn json_of_every_type_arrives_at_our_server() {
    with_original(async |original| {
        let mut ours = Ours::listen(None, Config::default(), Router::new()).await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        for value in every_json() {
            theirs.tell(json!({"do": "send", "name": "value", "json": value})).await;
            let message = ours.message().await;
            assert_eq!(message.name, "value");
            assert!(matches!(message.body, Body::Json(_)), "{:?}", message.body);
            assert_eq!(message.body.parse::<Value>().unwrap(), value);
        }
    })
    .await;
}

#[tokio::test]
async fn json_of_every_type_arrives_at_their_server() {
    with_original(async |original| {
        let (mut theirs, port) = original.listen(json!([])).await;
        let socket = dial(port, Config::default(), &mut theirs).await;
        for value in every_json() {
            socket.send("value", &value).await.unwrap();
            let message = theirs.hear("message").await;
            assert_eq!((&message["name"], &message["kind"]), (&json!("value"), &json!("j")));
            assert_eq!(message["json"], value);
        }
    })
    .await;
}

#[tokio::test]
async fn their_server_sends_to_our_client_too() {
    with_original(async |original| {
        let (mut theirs, port) = original.listen(json!([])).await;
        let socket = dial(port, Config::default(), &mut theirs).await;
        for value in every_json() {
            theirs.tell(json!({"do": "send", "name": "value", "json": value})).await;
            let message = in_time("a message", socket.recv()).await.unwrap().unwrap();
            assert_eq!((&*message.name, message.json::<Value>().unwrap()), ("value", value));
        }
    })
    .await;
}

#[tokio::test]
async fn our_server_sends_to_their_client_too() {
    with_original(async |original| {
        let mut ours = Ours::listen(None, Config::default(), Router::new()).await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        let socket = ours.socket().await;
        for value in every_json() {
            socket.send("value", &value).await.unwrap();
            let message = theirs.hear("message").await;
            assert_eq!((&message["name"], &message["json"]), (&json!("value"), &value));
        }
    })
    .await;
}

#[tokio::test]
async fn buffers_of_every_size_arrive_at_our_server() {
    with_original(async |original| {
        let mut ours = Ours::listen(None, large(), Router::new()).await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        for size in SIZES {
            let sent = theirs.ask(json!({"do": "sendBytes", "name": "file", "size": size}), "sent").await;
            let Body::Raw(bytes) = ours.message().await.body else { panic!("not a buffer") };
            assert_eq!(
                (json!(bytes.len()), json!(sha256(&bytes))),
                (sent["size"].clone(), sent["sha256"].clone())
            );
            assert_eq!(bytes, pattern(size));
        }
    })
    .await;
}

#[tokio::test]
async fn buffers_of_every_size_arrive_at_their_server() {
    with_original(async |original| {
        let (mut theirs, port) = original.listen(json!([])).await;
        let socket = dial(port, large(), &mut theirs).await;
        for size in SIZES {
            let bytes = pattern(size);
            socket.send_raw("file", bytes.clone()).await.unwrap();
            let message = theirs.hear("message").await;
            assert_eq!((&message["name"], &message["kind"]), (&json!("file"), &json!("b")));
            assert_eq!((&message["size"], &message["sha256"]), (&json!(size), &json!(sha256(&bytes))));
        }
    })
    .await;
}

#[tokio::test]
async fn names_of_1_and_255_bytes_arrive_at_our_server() {
    with_original(async |original| {
        let mut ours = Ours::listen(None, Config::default(), Router::new()).await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        for name in ["n".to_owned(), "n".repeat(255)] {
            theirs.tell(json!({"do": "send", "name": name, "json": 1})).await;
            assert_eq!(ours.message().await.name, name);
            theirs.tell(json!({"do": "sendBytes", "name": name, "size": 3})).await;
            assert_eq!(ours.message().await.name, name);
        }
    })
    .await;
}

#[tokio::test]
async fn names_of_1_and_255_bytes_arrive_at_their_server() {
    with_original(async |original| {
        let (mut theirs, port) = original.listen(json!([])).await;
        let socket = dial(port, Config::default(), &mut theirs).await;
        for name in ["n".to_owned(), "n".repeat(255)] {
            socket.send(&name, &1).await.unwrap();
            assert_eq!(theirs.hear("message").await["name"], name);
            socket.send_raw(&name, vec![1, 2, 3]).await.unwrap();
            assert_eq!(theirs.hear("message").await["name"], name);
        }
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_messages_arrive_in_order_at_our_server() {
    with_original(async |original| {
        let mut ours = Ours::listen(None, Config::default(), Router::new()).await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        theirs.tell(json!({"do": "sendMany", "name": "number", "count": 10_000})).await;
        for n in 0..10_000 {
            assert_eq!(ours.message().await.body.parse::<u32>().unwrap(), n);
        }
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_messages_arrive_in_order_at_their_server() {
    with_original(async |original| {
        let (mut theirs, port) = original.listen(json!([])).await;
        let socket = dial(port, Config::default(), &mut theirs).await;
        for n in 0..10_000 {
            socket.send("number", &n).await.unwrap();
        }
        for n in 0..10_000 {
            assert_eq!(theirs.hear("message").await["json"], n);
        }
    })
    .await;
}

/// Fills one read of Node, 64 KiB, with frames; gives what they did to the original.
async fn fill_one_read(original: Original, name: &str, count: usize) -> Node {
    let (mut theirs, port) = original.listen(json!([])).await;
    let socket = dial(port, Config::default(), &mut theirs).await;
    theirs.ask(json!({"do": "call", "method": "pause"}), "called").await;
    for _ in 0..count {
        socket.send_raw(name, vec![]).await.unwrap();
    }
    socket.flush().await.unwrap();
    theirs.tell(json!({"do": "call", "method": "resume"})).await;
    theirs
}

#[tokio::test]
async fn burst_of_frames_of_twelve_bytes_arrives_at_their_server() {
    with_original(async |original| {
        let mut theirs = fill_one_read(original, "of_six", 5461).await;
        for _ in 0..5461 {
            assert_eq!(theirs.hear("message").await["name"], "of_six");
        }
    })
    .await;
}

/// Its parser calls itself once a message that is in the same read. There is nothing to be done about it here: TCP
/// joins what we would keep apart.
#[tokio::test]
async fn burst_of_frames_of_seven_bytes_overflows_the_stack_of_the_original() {
    with_original(async |original| {
        let mut theirs = fill_one_read(original, "n", 9362).await;
        let (status, stderr) = theirs.exit().await;
        assert!(
            !status.success() && stderr.contains("Maximum call stack size exceeded"),
            "{status}: {stderr}"
        );
    })
    .await;
}
