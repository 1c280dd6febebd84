//! Stories over a pair of sockets in memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nossock::wire::Body;
use nossock::{
    CloseReason, Config, HandlerError, Json, Limits, Raw, RecvError, Reject, RequestError, Router, SendError,
    Side, Socket, State, TrySendError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{Mutex, Notify};

fn pair() -> (Socket, Socket) {
    let (here, there) = tokio::io::duplex(64 * 1024);
    (
        Socket::over(here, Side::Client, Config::default()),
        Socket::over(there, Side::Server, Config::default()),
    )
}

fn routed<S: Clone + Send + Sync + 'static>(router: Router<S>) -> (Socket, Socket) {
    let (here, there) = tokio::io::duplex(64 * 1024);
    (
        Socket::over(here, Side::Client, Config::default()),
        Socket::routed(there, Side::Server, Config::default(), router),
    )
}

type GateAndLog = (Arc<Notify>, Arc<Mutex<Vec<String>>>);

/// A socket of ours and the bare stream of a peer that speaks by hand.
fn by_hand(side: Side, config: Config) -> (Socket, DuplexStream) {
    let (here, there) = tokio::io::duplex(64 * 1024);
    (Socket::over(here, side, config), there)
}

fn frame(kind: u8, name: &str, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, u8::try_from(name.len()).unwrap()];
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    out.extend_from_slice(body);
    out
}

async fn read_frame(stream: &mut DuplexStream) -> (u8, String, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.unwrap();
    let mut name = vec![0; usize::from(head[1])];
    stream.read_exact(&mut name).await.unwrap();
    let mut body = vec![0; stream.read_u32().await.unwrap() as usize];
    stream.read_exact(&mut body).await.unwrap();
    (head[0], String::from_utf8(name).unwrap(), body)
}

#[tokio::test]
async fn messages_arrive_in_order_and_close_is_clean() {
    let (a, b) = pair();
    for n in 0..10_000 {
        if n % 3 == 0 {
            a.send_raw("raw", Bytes::from(vec![7; n])).await.unwrap();
        } else {
            a.send("json", &n).await.unwrap();
        }
        if n % 100 == 99 {
            for m in n - 99..=n {
                let message = b.recv().await.unwrap().unwrap();
                match message.body {
                    Body::Raw(bytes) => assert_eq!((bytes.len(), m % 3), (m, 0)),
                    body => assert_eq!(body.parse::<usize>().unwrap(), m),
                }
            }
        }
    }
    let closing = tokio::spawn(async move { a.close().await });
    assert!(b.recv().await.unwrap().is_none());
    drop(b);
    closing.await.unwrap().unwrap();
}

#[tokio::test]
async fn requests_run_side_by_side_and_messages_one_after_the_other() {
    let gate = Arc::new(Notify::new());
    let log = Arc::new(Mutex::new(Vec::<String>::new()));
    let router = Router::with_state((Arc::clone(&gate), Arc::clone(&log)))
        .on("note", async |Json(text): Json<String>, State((gate, log)): State<GateAndLog>| {
            if text == "wait" {
                gate.notified().await;
            }
            log.lock().await.push(text);
        })
        .on_request("read", async |State((_, log)): State<GateAndLog>| log.lock().await.clone());
    let (client, _server) = routed(router);
    client.send("note", "wait").await.unwrap();
    client.send("note", "after").await.unwrap();
    let before: Vec<String> = client.request("read", &()).await.unwrap();
    assert!(before.is_empty(), "a request is not held back by a handler that waits");
    gate.notify_one();
    loop {
        let now: Vec<String> = client.request("read", &()).await.unwrap();
        if now.len() == 2 {
            assert_eq!(now, ["wait", "after"]);
            break;
        }
    }
}

#[tokio::test]
async fn three_hundred_requests_at_once_all_get_their_own_answer() {
    let router = Router::new().on_request("double", async |Json(n): Json<u64>| -> Result<u64, Reject> {
        tokio::task::yield_now().await;
        if n % 7 == 0 { Err(Reject::new("sevenths", n.to_string())) } else { Ok(2 * n) }
    });
    let (client, _server) = routed(router);
    let calls: Vec<_> = (0..300_u64)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { (n, client.request::<u64, _>("double", &n).await) })
        })
        .collect();
    for call in calls {
        let (n, answer) = call.await.unwrap();
        match answer {
            Ok(value) => assert_eq!(value, 2 * n),
            Err(RequestError::Rejected { reject, .. }) => assert_eq!(reject.message(), Some(&*n.to_string())),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn raw_answers_come_as_they_are() {
    let router = Router::new().on_request("file", async |body: Bytes| Raw(body.slice(1..)));
    let (client, _server) = routed(router);
    let body = Body::Raw(Bytes::from_static(b"xabc"));
    let value = client.request_raw(Duration::from_secs(5), "file", body).await.unwrap();
    assert_eq!(value.into_body(), Body::Raw(Bytes::from_static(b"abc")));
}

#[tokio::test]
async fn request_that_nobody_handles_is_answered_at_once() {
    let (client, _server) = routed(Router::new());
    let error = client.request::<(), _>("nobody", &1).await.unwrap_err();
    assert_eq!(error.to_string(), "`nobody` was rejected: nobody handles `nobody` here (no_handler)");
}

#[tokio::test]
async fn bad_body_is_the_fault_of_one_message() {
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let hear = Arc::clone(&heard);
    let router = Router::new()
        .on("n", async |Json(_): Json<u64>| {})
        .on_request("n", async |Json(n): Json<u64>| n)
        .on_error(move |_: &Socket, error: &HandlerError| hear.lock().unwrap().push(error.to_string()));
    let (here, mut peer) = tokio::io::duplex(1024);
    let _server = Socket::routed(here, Side::Server, Config::default(), router);
    peer.write_all(&frame(b'j', "n", b"{oops")).await.unwrap();
    peer.write_all(&frame(b'j', "error", b"1")).await.unwrap();
    peer.write_all(&frame(b'j', "req:n:a-1", b"[]")).await.unwrap();
    peer.write_all(&frame(b'j', "req:n:a-2", b"5")).await.unwrap();
    let (_, name, body) = read_frame(&mut peer).await;
    let expected = r#"[{"code":"bad_body","message":"the body cannot be read: invalid type: sequence, expected u64 at line 1 column 0"},null]"#;
    assert_eq!((name.as_str(), String::from_utf8(body).unwrap().as_str()), ("resp:n:a-1", expected));
    let (_, name, body) = read_frame(&mut peer).await;
    assert_eq!((name.as_str(), body.as_slice()), ("resp:n:a-2", &b"[null,5]"[..]));
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), 3, "{heard:?}");
    assert!(
        heard[0].starts_with("`n` was refused: the body cannot be read: invalid type: map"),
        "{}",
        heard[0]
    );
    assert_eq!(heard[1], "nobody handles `error`");
}

#[tokio::test]
async fn panic_of_a_handler_ends_in_an_answer() {
    let router = Router::new()
        .on_request("inline", async || -> u8 { panic!("on purpose") })
        .on_request("later", async || -> u8 {
            tokio::task::yield_now().await;
            panic!("on purpose")
        })
        .on("message", async || -> () { panic!("on purpose") });
    let (client, server) = routed(router);
    client.send("message", &()).await.unwrap();
    for name in ["inline", "later"] {
        let error = client.request::<u8, _>(name, &()).await.unwrap_err();
        let RequestError::Rejected { reject, .. } = error else { panic!("{error}") };
        assert_eq!(reject.code(), Some("internal"));
    }
    let stats = server.stats();
    assert!(stats.failed >= 2, "{stats:?}");
}

#[tokio::test]
async fn lost_connection_fails_every_pending_request_with_the_reason() {
    let (client, mut peer) = by_hand(Side::Client, Config::default());
    let asking = client.request::<u8, _>("slow", &());
    let cutting = async {
        read_frame(&mut peer).await; // hello
        read_frame(&mut peer).await;
        peer.write_all(b"j\x01x\x00\x00\x00\x05ab").await.unwrap();
        drop(peer);
    };
    let (answer, ()) = tokio::join!(asking, cutting);
    let text = answer.unwrap_err().to_string();
    assert_eq!(
        text,
        "`slow` got no answer: the peer's stream ended in the frame `x`, 3 bytes before its end"
    );
    let Err(RecvError::Closed(CloseReason::Truncated(_))) = client.recv().await else { panic!() };
}

#[tokio::test(start_paused = true)]
async fn late_and_unknown_answers_are_counted_and_dropped() {
    let (client, mut peer) = by_hand(Side::Client, Config { hello: false, ..Config::default() });
    let error = client.request_within::<u8, _>(Duration::from_secs(1), "slow", &()).await.unwrap_err();
    assert_eq!(error.to_string(), "`slow` got no answer within 1s");
    let (_, name, _) = read_frame(&mut peer).await;
    peer.write_all(&frame(b'j', &name.replace("req:", "resp:"), b"[null,1]")).await.unwrap();
    peer.write_all(&frame(b'j', "resp:never:77", b"[null,1]")).await.unwrap();
    let next = client.request::<u8, _>("fast", &());
    let answering = async {
        let (_, name, _) = read_frame(&mut peer).await;
        peer.write_all(&frame(b'j', &name.replace("req:", "resp:"), b"[null,2]")).await.unwrap();
    };
    let (answer, ()) = tokio::join!(next, answering);
    assert_eq!(answer.unwrap(), 2);
    assert_eq!(client.stats().stray_answers, 2);
}

#[tokio::test]
async fn dropped_request_is_cancelled_at_the_peer() {
    let running = Arc::new(AtomicUsize::new(0));
    struct Guard(Arc<AtomicUsize>, Arc<Notify>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
            self.1.notify_one();
        }
    }
    let (begun, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let router = Router::with_state((Arc::clone(&running), Arc::clone(&begun), Arc::clone(&ended)))
        .on_request(
        "forever",
        async |State((running, begun, ended)): State<(Arc<AtomicUsize>, Arc<Notify>, Arc<Notify>)>| -> u8 {
            running.fetch_add(1, Ordering::SeqCst);
            let _guard = Guard(running, ended);
            begun.notify_one();
            std::future::pending().await
        },
    );
    let (client, server) = routed(router.on_request("ping", async || 1));
    let _: u8 = client.request("ping", &()).await.unwrap(); // both have said hello now
    tokio::select! {
        _ = client.request::<u8, _>("forever", &()) => panic!("it never answers"),
        () = begun.notified() => {}
    }
    ended.notified().await;
    assert_eq!(running.load(Ordering::SeqCst), 0);
    let _: u8 = client.request("ping", &()).await.unwrap();
    assert_eq!(client.stats().stray_answers, 0, "a cancelled request is not answered");
    assert_eq!(server.stats().failed, 0);
}

#[tokio::test]
async fn body_over_the_limit_is_refused_to_the_caller_and_to_the_peer() {
    let small = Config { limits: Limits { max_body: 100, ..Limits::default() }, ..Config::default() };
    let (here, there) = tokio::io::duplex(64 * 1024);
    let client = Socket::over(here, Side::Client, Config::default());
    let server = Socket::over(there, Side::Server, small);
    // before the server's hello the client knows only its own limit
    client.send_raw("early", vec![0; 101]).await.unwrap();
    let error = server.recv().await.unwrap_err();
    assert_eq!(error.to_string(), "the peer sent `early` with a body of 101 bytes, the limit is 100");
    client.send("ok", &1).await.unwrap();
    assert_eq!(server.recv().await.unwrap().unwrap().name, "ok");
    server.send("ready", &()).await.unwrap();
    client.recv().await.unwrap();
    let error = client.send_raw("late", vec![0; 101]).await.unwrap_err();
    assert_eq!(error.to_string(), "the body of `late` has 101 bytes, the limit is 100");
    let error = client.send(&"é".repeat(128), &1).await.unwrap_err();
    assert_eq!(error.to_string(), "the name is 256 bytes long, the wire allows 255");
    let error = client.request::<(), _>(&"n".repeat(240), &1).await.unwrap_err();
    assert_eq!(error.to_string(), "the name of the request is 240 bytes long, 233 fit beside its id");
    client.send("still", &1).await.unwrap();
    assert_eq!(server.recv().await.unwrap().unwrap().name, "still");
}

#[tokio::test]
async fn request_over_the_limit_of_the_other_side_is_answered_too_large() {
    let (here, mut peer) = tokio::io::duplex(1024);
    let config = Config { limits: Limits { max_body: 10, ..Limits::default() }, ..Config::default() };
    let _server = Socket::routed(here, Side::Server, config, Router::new());
    peer.write_all(&frame(b'j', "req:big:1", &[b' '; 11])).await.unwrap();
    let (_, name, body) = read_frame(&mut peer).await;
    assert_eq!(name, "resp:big:1");
    // the answer itself is over ten bytes: it is about the limit of what is accepted, and is let out
    assert!(String::from_utf8(body).unwrap().contains("too_large"));
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection_and_is_named() {
    let (socket, mut peer) = by_hand(Side::Server, Config::default());
    peer.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let reason = socket.closed().await;
    assert_eq!(reason.to_string(), "the peer sent 0x47 where a frame begins: this looks like HTTP");
    let error = socket.send("x", &1).await;
    drop(error);
    let Err(RecvError::Closed(CloseReason::Protocol(_))) = socket.recv().await else { panic!() };
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn send_waits_for_a_peer_that_does_not_read_and_try_send_gives_the_body_back() {
    let (socket, mut peer) = by_hand(Side::Client, Config { hello: false, ..Config::default() });
    let limits = socket.limits().clone();
    let mut sent = 0_usize;
    let body = Bytes::from(vec![1_u8; 16 * 1024]);
    while let Ok(result) =
        tokio::time::timeout(Duration::from_millis(50), socket.send_raw("x", body.clone())).await
    {
        result.unwrap();
        sent += 1;
    }
    let bytes = sent * (body.len() + 7);
    let most = limits.send_queue + body.len() + 64 * 1024 + 7;
    assert!(bytes >= limits.send_queue && bytes <= most, "{bytes} bytes were taken");
    let Err(TrySendError::Full(back)) = socket.try_send_raw("x", body.clone()) else { panic!() };
    assert_eq!(back.as_ptr(), body.as_ptr());
    assert!(matches!(socket.try_send("x", &1), Err(TrySendError::Full(()))));
    let reserving = async {
        let permit = socket.reserve().await.unwrap();
        permit.send("last", &1).unwrap();
        socket.flush().await.unwrap();
    };
    let reading = async {
        for _ in 0..sent {
            assert_eq!(read_frame(&mut peer).await.2.len(), body.len());
        }
        assert_eq!(read_frame(&mut peer).await.1, "last");
    };
    tokio::join!(reserving, reading);
}

#[tokio::test]
async fn answers_that_nobody_takes_stop_the_reading_of_requests() {
    let handled = Arc::new(AtomicUsize::new(0));
    let router = Router::with_state(Arc::clone(&handled)).on_request(
        "page",
        async |State(handled): State<Arc<AtomicUsize>>| {
            handled.fetch_add(1, Ordering::Relaxed);
            "x".repeat(10_000)
        },
    );
    let (here, peer) = tokio::io::duplex(1024);
    let _server = Socket::routed(here, Side::Server, Config::default(), router);
    let (mut reader, mut writer) = tokio::io::split(peer);
    let asking = tokio::spawn(async move {
        for n in 0..1000 {
            writer.write_all(&frame(b'j', &format!("req:page:{n}"), b"0")).await.unwrap();
            writer.write_all(&frame(b'c', "", br#"{"ping":1}"#)).await.unwrap();
        }
        writer
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let most = 256 * 1024 / 10_000 + 2;
    assert!(handled.load(Ordering::Relaxed) <= most, "{handled:?} answers of 10 kB wait, {most} fit");
    let mut bytes = 0;
    let expected = 1000 * 10_004;
    let mut chunk = vec![0; 64 * 1024];
    while bytes < expected {
        let n = reader.read(&mut chunk).await.unwrap();
        assert_ne!(n, 0);
        bytes += n;
    }
    asking.await.unwrap();
    assert_eq!(handled.load(Ordering::Relaxed), 1000);
}

#[tokio::test]
async fn slow_receiver_holds_back_its_own_peer() {
    let (a, b) = pair();
    let sender = tokio::spawn(async move {
        let body = Bytes::from(vec![0_u8; 1024]);
        for _ in 0..4_000 {
            a.send_raw("x", body.clone()).await.unwrap();
        }
        a.close().await.unwrap();
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!sender.is_finished(), "four megabytes do not fit into all the queues");
    let mut n = 0;
    while let Some(message) = b.recv().await.unwrap() {
        assert_eq!(message.body.as_bytes().len(), 1024);
        n += 1;
    }
    assert_eq!(n, 4_000);
    drop(b);
    sender.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn silent_peer_that_knows_pings_is_given_up() {
    let (socket, mut peer) = by_hand(Side::Client, Config::default());
    read_frame(&mut peer).await;
    peer.write_all(&frame(b'c', "", br#"{"hello":{"version":1,"max_body":10,"max_in_flight":1}}"#))
        .await
        .unwrap();
    let start = tokio::time::Instant::now();
    let (_, _, ping) = read_frame(&mut peer).await;
    assert!(ping.starts_with(b"{\"ping\":"));
    assert_eq!(socket.closed().await.to_string(), "the peer did not answer a ping");
    assert_eq!(start.elapsed().as_secs(), 45);
}

#[tokio::test(start_paused = true)]
async fn peer_that_sends_a_byte_a_second_is_given_up() {
    let (socket, mut peer) = by_hand(Side::Server, Config::default());
    let dripping = async {
        for byte in b"j\xff".iter().chain([b'n'; 255].iter()) {
            if peer.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let start = tokio::time::Instant::now();
    let (reason, ()) = tokio::join!(
        async {
            let reason = socket.closed().await;
            assert_eq!(start.elapsed().as_secs(), 30);
            reason
        },
        dripping
    );
    assert_eq!(reason.to_string(), "the peer did not finish a frame in time");
}

#[tokio::test(start_paused = true)]
async fn peer_that_stops_reading_is_cut_off() {
    let (socket, _peer) = by_hand(Side::Server, Config::default());
    let start = tokio::time::Instant::now();
    let error = loop {
        if let Err(error) = socket.send_raw("x", vec![0; 10_000]).await {
            break error;
        }
    };
    assert!(matches!(error, SendError::Closed(_)));
    assert_eq!(error.to_string(), "not sent: the peer stopped reading");
    assert_eq!(start.elapsed().as_secs(), 30);
    let unsent = socket.close().await.unwrap_err();
    assert!(
        unsent.bytes > 256 * 1024 && unsent.to_string().ends_with("were not sent: the peer stopped reading")
    );
}

#[tokio::test]
async fn last_messages_leave_when_the_socket_is_dropped() {
    let (socket, mut peer) = by_hand(Side::Client, Config { hello: false, ..Config::default() });
    socket.send("last", &1).await.unwrap();
    drop(socket);
    assert_eq!(read_frame(&mut peer).await.1, "last");
    assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn half_closed_peer_still_gets_its_answer() {
    let router = Router::new().on_request("slow", async || {
        tokio::time::sleep(Duration::from_millis(20)).await;
        7
    });
    let (here, mut peer) = tokio::io::duplex(1024);
    let _server = Socket::routed(here, Side::Server, Config::default(), router);
    peer.write_all(&frame(b'j', "req:slow:1", b"null")).await.unwrap();
    peer.shutdown().await.unwrap();
    let (_, name, body) = read_frame(&mut peer).await;
    assert_eq!((name.as_str(), body.as_slice()), ("resp:slow:1", &b"[null,7]"[..]));
    assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn greeting_comes_before_the_first_message_is_handled() {
    let router = Router::new()
        .on_connect(async |socket: Socket| {
            tokio::task::yield_now().await;
            socket.send("welcome", &()).await
        })
        .on("hello", async |socket: Socket| socket.send("answer", &()).await);
    let (client, _server) = routed(router);
    client.send("hello", &()).await.unwrap();
    assert_eq!(client.recv().await.unwrap().unwrap().name, "welcome");
    assert_eq!(client.recv().await.unwrap().unwrap().name, "answer");
}

#[tokio::test]
async fn handler_of_a_message_may_ask_back() {
    let router = Router::new().on("start", async |socket: Socket| -> Result<(), RequestError> {
        let name: String = socket.request("name", &()).await?;
        Ok(socket.send("hello", &name).await?)
    });
    let (client, _server) = routed(router);
    client.send("start", &()).await.unwrap();
    let question = client.recv().await.unwrap().unwrap();
    question.responder.unwrap().answer("Ada").unwrap();
    assert_eq!(client.recv().await.unwrap().unwrap().json::<String>().unwrap(), "Ada");
}

#[test]
fn stopped_runtime_is_a_reason_of_its_own() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (here, _there) = tokio::io::duplex(64);
    let socket = runtime.block_on(async { Socket::over(here, Side::Client, Config::default()) });
    drop(runtime);
    let reason = other.block_on(socket.closed());
    assert_eq!(reason.to_string(), "aborted: the runtime of the connection stopped");
}
