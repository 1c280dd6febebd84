//! What leaves when: answers, messages of their handlers, and messages to many, by whichever way each is written.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;

use nossock::wire::{Decoder, Frame, Next};
use nossock::{Config, EncodedMessage, Json, Limits, Router, Server, Side, Socket, State, TrySendError};
use serde::{Serialize, Serializer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

#[path = "common/frames.rs"]
mod frames;

/// A peer that writes bytes and reads frames.
struct Peer {
    io: DuplexStream,
    input: bytes::BytesMut,
    decoder: Decoder,
}

impl Peer {
    fn of(router: Router) -> (Socket, Self) {
        let (ours, io) = tokio::io::duplex(1 << 20);
        let socket = Socket::routed(ours, Side::Server, Config::default(), router);
        (socket, Self { io, input: bytes::BytesMut::new(), decoder: Decoder::new(&Limits::default()) })
    }

    async fn say(&mut self, frames: &[(&str, &str)]) {
        let mut all = Vec::new();
        for (name, json) in frames {
            let body: serde_json::Value = serde_json::from_str(json).unwrap();
            all.extend_from_slice(&Frame::json(name, &body).unwrap().encode());
        }
        self.io.write_all(&all).await.unwrap();
    }

    /// Name and body of the next frame.
    async fn hear(&mut self) -> (String, String) {
        loop {
            if let Next::Frame(head) = self.decoder.next(&mut self.input).unwrap() {
                let frame = Frame::split(&mut self.input, &head).unwrap();
                let body = String::from_utf8_lossy(frame.body.as_bytes()).into_owned();
                return (frame.name.to_string(), body);
            }
            assert!(self.io.read_buf(&mut self.input).await.unwrap() > 0, "the stream ended");
        }
    }
}

fn said(name: &str, body: &str) -> (String, String) {
    (name.to_owned(), body.to_owned())
}

#[tokio::test]
async fn answer_leaves_after_what_its_handler_sent_and_before_what_the_next_one_sends() {
    let router = Router::new().on_request("quiet", async |Json(n): Json<u32>| n).on_request(
        "loud",
        async |socket: Socket, Json(n): Json<u32>| {
            socket.send("note", &n).await.unwrap();
            n
        },
    );
    let (_socket, mut peer) = Peer::of(router);
    peer.say(&[("req:quiet:a", "1"), ("req:loud:b", "2"), ("req:quiet:c", "3"), ("req:loud:d", "4")]).await;
    assert_eq!(peer.hear().await, said("resp:quiet:a", "[null,1]"));
    assert_eq!(peer.hear().await, said("note", "2"));
    assert_eq!(peer.hear().await, said("resp:loud:b", "[null,2]"));
    assert_eq!(peer.hear().await, said("resp:quiet:c", "[null,3]"));
    assert_eq!(peer.hear().await, said("note", "4"));
    assert_eq!(peer.hear().await, said("resp:loud:d", "[null,4]"));
}

/// The hello of this side waits to leave when the handler begins, and is nothing that a handler sent.
#[tokio::test]
async fn answer_leaves_after_what_its_handler_sent_behind_a_control_frame() {
    let router = Router::new().on_request("loud", async |socket: Socket, Json(n): Json<u32>| {
        socket.send("note", &n).await.unwrap();
        n
    });
    let (_socket, mut peer) = Peer::of(router);
    let mut said = frames::frame(b'c', "", frames::HELLO);
    said.extend_from_slice(&frames::frame(b'j', "req:loud:a", b"1"));
    peer.io.write_all(&said).await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..3 {
        let (_, name, _) = frames::read_frame(&mut peer.io).await;
        heard.push(name);
    }
    assert_eq!(heard, ["", "note", "resp:loud:a"]);
}

/// A value that fails, or panics, when it has been written in part.
struct Broken(bool);

impl Serialize for Broken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let half = [Half(false), Half(self.0)];
        half.serialize(serializer)
    }
}

struct Half(bool);

impl Serialize for Half {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(!self.0, "this value panics on purpose");
        serializer.serialize_str("written")
    }
}

struct Refuses;

impl Serialize for Refuses {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("this value cannot be written"))
    }
}

#[tokio::test]
async fn answer_that_panics_or_fails_half_written_leaves_no_half_frame_behind() {
    let router = Router::new()
        .on_request("panics", async || Broken(true))
        .on_request("fails", async || (1, Refuses))
        .on_request("late", async || {
            tokio::task::yield_now().await;
            Broken(true)
        })
        .on_request("ok", async || Broken(false));
    let (_socket, mut peer) = Peer::of(router);
    peer.say(&[("req:ok:a", "0"), ("req:panics:b", "0"), ("req:fails:c", "0"), ("req:ok:d", "0")]).await;
    assert_eq!(peer.hear().await, said("resp:ok:a", "[null,[\"written\",\"written\"]]"));
    for name in ["resp:panics:b", "resp:fails:c"] {
        let (heard, body) = peer.hear().await;
        assert!(heard == name && body.contains("\"internal\""), "{heard} {body}");
    }
    assert_eq!(peer.hear().await.0, "resp:ok:d");
    peer.say(&[("req:late:e", "0")]).await;
    let (heard, body) = peer.hear().await;
    assert!(heard == "resp:late:e" && body.contains("\"internal\""), "{heard} {body}");
}

/// A server that gives its sockets to the test, and what it is reached by.
async fn server() -> (String, mpsc::UnboundedReceiver<Socket>) {
    let (accepted, sockets) = mpsc::unbounded_channel();
    let router = Router::with_state(Arc::new(accepted)).on_connect(
        async |State(accepted): State<Arc<mpsc::UnboundedSender<Socket>>>, socket: Socket| {
            accepted.send(socket).unwrap();
        },
    );
    let server = Server::bind("tcp://127.0.0.1:0").unwrap().listen().await.unwrap();
    let address = server.address().to_string();
    tokio::spawn(server.serve(router));
    (address, sockets)
}

#[tokio::test]
async fn message_to_many_keeps_its_place_among_the_others() {
    let (address, mut sockets) = server().await;
    let client = nossock::connect(address.as_str()).await.unwrap();
    let socket = sockets.recv().await.unwrap();
    let mut expected = 0_u32;
    for round in 0..50_u32 {
        // At rest, so that it is written at once; and behind something that is queued.
        tokio::task::yield_now().await;
        for n in 0..3 {
            let number = round * 3 + n;
            if n == 1 {
                socket.try_send("n", &number).unwrap();
            } else {
                socket.try_send_encoded(&EncodedMessage::json("n", &number).unwrap()).unwrap();
            }
        }
        if round % 10 == 9 {
            while expected <= round * 3 + 2 {
                assert_eq!(client.recv().await.unwrap().unwrap().json::<u32>().unwrap(), expected);
                expected += 1;
            }
        }
    }
    assert_eq!(expected, 150);
    let (closed, end) = tokio::join!(socket.close(), client.recv());
    closed.unwrap();
    assert!(end.unwrap().is_none());
}

#[tokio::test]
async fn message_to_many_meets_the_same_back_pressure_and_none_is_lost() {
    let (address, mut sockets) = server().await;
    let client = nossock::connect(address.as_str()).await.unwrap();
    let socket = sockets.recv().await.unwrap();
    let message = EncodedMessage::raw("piece", vec![7; 4000]).unwrap();
    let mut sent = 0;
    // Nobody receives: the buffers of the system fill, then the queue.
    loop {
        match socket.try_send_encoded(&message) {
            Ok(()) => sent += 1,
            Err(TrySendError::Full(())) => break,
            Err(error) => panic!("{error}"),
        }
        tokio::task::yield_now().await;
    }
    assert!(sent > 60, "{sent} messages are less than a queue");
    for _ in 0..sent {
        let message = client.recv().await.unwrap().unwrap();
        assert!(message.name == "piece" && message.body.as_bytes().iter().all(|byte| *byte == 7));
    }
    socket.flush().await.unwrap();
    let (closed, end) = tokio::join!(socket.close(), client.recv());
    closed.unwrap();
    assert!(end.unwrap().is_none(), "as many came as were sent");
}

#[tokio::test]
async fn message_to_many_after_the_end_says_why() {
    let (address, mut sockets) = server().await;
    let client = nossock::connect(address.as_str()).await.unwrap();
    let socket = sockets.recv().await.unwrap();
    client.close().await.unwrap();
    socket.closed().await;
    let message = EncodedMessage::json("late", &1).unwrap();
    loop {
        // While it drains, messages are still taken.
        match socket.try_send_encoded(&message) {
            Ok(()) => tokio::task::yield_now().await,
            Err(TrySendError::Failed(error)) => {
                assert!(error.to_string().contains("closed by the peer"), "{error}");
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
}
