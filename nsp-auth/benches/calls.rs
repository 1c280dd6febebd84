//! What a call costs that needs a token, beside one that needs none: the same daemon, with an authority that keeps its users in SQLite.
//!
//! `cargo bench -p nsp-auth --bench calls` prints nanoseconds. Where other programs run, count instructions: one variant a run, and of two runs with
//! different numbers of calls the difference is that of the calls alone.
//!
//! ```text
//! valgrind --tool=callgrind target/release/deps/calls-… --count memory plain 20000
//! ```
//!
//! | first word | what is between caller and daemon |
//! |---|---|
//! | `memory` | nothing: the caller is a few lines that put a packet into the daemon's queue, so nearly all of it is the daemon's work |
//! | `nsp` | the client of `nsp` and a socket, all of it in one thread |
//!
//! | second word | what is called |
//! |---|---|
//! | `plain` | a function for anybody, by nobody |
//! | `token` | a function with the extractor `Owner`, by a user who has shown a token |
//! | `secure` | a secure function, by a superuser who has shown a token |
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it is a program that prints a table")]

use std::future::poll_fn;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nsp::carrier::Carrier;
use nsp::client::{Activity, Client, Login};
use nsp::daemon::{Daemon, Json, Service};
use nsp::machine::{Incoming, Outgoing};
use nsp::proto::{Leg, Method, Packet};
use nsp_auth::Authority;
use nsp_auth::extract::Owner;
use nsp_auth::password::Cost;
use nsp_auth::user::Username;
use nsp_auth::users::NewUser;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const VARIANTS: [&str; 3] = ["plain", "token", "secure"];

#[derive(Serialize, Deserialize)]
struct Hello {
    d: String,
}

fn hello() -> Hello {
    Hello { d: "I am client.".into() }
}

fn service() -> Service {
    Service::new("Chat")
        .function("plain", async |Json(hello): Json<Hello>| hello)
        .function("token", async |_: Owner, Json(hello): Json<Hello>| hello)
        .secure_function("secure", async |Json(hello): Json<Hello>| hello)
}

/// Something that calls a function again and again.
enum Caller {
    Memory(Wire),
    Nsp(Box<(Client, Activity)>),
}

impl Caller {
    async fn calls(&mut self, function: &str, times: u32) {
        match self {
            Self::Memory(wire) => wire.calls(times).await,
            Self::Nsp(line) => {
                let (_, activity) = &**line;
                for _ in 0..times {
                    activity.call::<Hello>(function, &hello()).await.unwrap();
                }
            }
        }
    }
}

/// A caller that knows the bytes that it sends.
struct Wire {
    carrier: Box<dyn Carrier>,
    call: Packet,
}

fn packet(method: Method, leg: Leg, json: &Value) -> Packet {
    Packet::new(method, leg, Bytes::from(json.to_string()))
}

impl Wire {
    /// Opens the service, and calls the function once: it shows the token if it is asked for one.
    async fn open(carrier: Box<dyn Carrier>, function: &str, token: &str) -> Self {
        let mut wire = Self { carrier, call: packet(Method::Cs, Leg::Request, &Value::Null) };
        let owner = (function != "plain").then_some("admin");
        let create = json!({"m": "CE", "d": {"t": 1, "o": owner, "s": "Chat"}});
        let created = wire.ask(packet(Method::Cs, Leg::Request, &create)).await;
        let created: Value = serde_json::from_slice(&created.payload.json).unwrap();
        let entity = created.pointer("/d/i").unwrap();
        wire.ask(packet(Method::Cs, Leg::Request, &json!({"m": "VE", "d": {"i": entity}}))).await;
        let call = json!({"m": "SF", "d": {"i": entity, "n": function, "t": 1, "d": hello()}});
        wire.call = packet(Method::Cs, Leg::Request, &call);
        let mut answer = wire.ask(wire.call.clone()).await;
        if answer.method == Method::Au {
            let asked: Value = serde_json::from_slice(&answer.payload.json).unwrap();
            let shown = json!({"m": "TK", "d": {"t": asked.pointer("/d/t"), "v": token}});
            answer = wire.ask(packet(Method::Au, Leg::Answer, &shown)).await;
        }
        let answer: Value = serde_json::from_slice(&answer.payload.json).unwrap();
        assert_eq!(answer.pointer("/d/s"), Some(&json!("OK")), "{answer}");
        wire
    }

    async fn ask(&mut self, packet: Packet) -> Packet {
        self.carrier.start_send(Outgoing::Packet(packet)).unwrap();
        poll_fn(|cx| self.carrier.poll_flush(cx)).await.unwrap();
        match poll_fn(|cx| self.carrier.poll_receive(cx)).await.unwrap() {
            Incoming::Packet(packet) => packet,
            other => panic!("{other:?}"),
        }
    }

    async fn calls(&mut self, times: u32) {
        for _ in 0..times {
            let answer = self.ask(self.call.clone()).await;
            assert_eq!(answer.method, Method::Cs, "the token is known by now");
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = tempfile::tempdir().unwrap();
    let cheap = Cost { memory_kib: 8, passes: 1 };
    let authority = Authority::builder().cost(cheap).open(folder.path().join("users.db")).await.unwrap();
    let admin = Username::parse("admin").unwrap();
    let new = NewUser::new(admin.clone(), "correct horse battery".into()).privilege(0);
    authority.users().create(new).await.unwrap();
    let (token, _) = authority.users().issue_token(admin, "bench").await.unwrap();
    let builder = Daemon::builder().authority(authority.clone()).service(service());
    let daemon = builder.listen("nsp://127.0.0.1:0").bind().await.unwrap();
    let address = daemon.addresses().first().unwrap().to_string();
    let handle = daemon.handle();
    tokio::spawn(daemon.serve());
    let caller = async |way: &str, function: &str| match way {
        "memory" => Caller::Memory(Wire::open(handle.connect_local(), function, token.reveal()).await),
        "nsp" => {
            let login = Login::new("admin").token(token.clone());
            let client = Client::connect(&*address).credentials(login).no_reconnect().await.unwrap();
            let opening = client.activity("Chat");
            let opening = if function == "plain" { opening } else { opening.owner("admin") };
            let activity = opening.open().await.unwrap();
            activity.call::<Hello>(function, &hello()).await.unwrap();
            Caller::Nsp(Box::new((client, activity)))
        }
        other => panic!("{other} is no way to a daemon"),
    };
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--count", way, function, times, ..] => {
            caller(way, function).await.calls(function, times.parse().unwrap()).await;
        }
        ["--test", ..] => {
            for function in VARIANTS {
                caller("memory", function).await.calls(function, 3).await;
            }
        }
        _ => {
            for (way, times) in [("memory", 20_000), ("nsp", 2_000)] {
                let mut callers = Vec::new();
                for function in VARIANTS {
                    callers.push((function, caller(way, function).await, Duration::MAX));
                }
                // In turns, so that a busy machine is busy for all of them.
                for _ in 0..25 {
                    for (function, caller, best) in &mut callers {
                        let begin = Instant::now();
                        caller.calls(function, times).await;
                        *best = (*best).min(begin.elapsed() / times);
                    }
                }
                let plain = callers.first().map_or(1.0, |(.., best)| best.as_secs_f64());
                for (function, _, best) in &callers {
                    let more = (best.as_secs_f64() / plain - 1.0) * 100.0;
                    println!("{:>10} ns  call of `{function}`, {way}: {more:+.1} %", best.as_nanos());
                }
            }
        }
    }
    authority.close().await.unwrap();
}
