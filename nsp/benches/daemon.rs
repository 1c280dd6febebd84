//! What the daemon costs above the pure layers: one thread, carriers in memory, nanoseconds an operation, and bytes an idle connection.
//!
//! `cargo bench -p nsp --bench daemon`. The client is written by hand and knows the bytes that it sends, so what is measured is carrier, driver, machine,
//! guard, handler and the way back.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it is a program that prints a table")]

use std::future::poll_fn;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nsp::authority::{Answer, Authority, Denied, Origin, Proved};
use nsp::carrier::Carrier;
use nsp::daemon::{Daemon, DaemonHandle, Demand, Emitter, Entity, Fail, Json, Overflow, Service};
use nsp::machine::{Incoming, Outgoing};
use nsp::proto::{Leg, Method, Packet};
use nsp::{Password, Token};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Hello {
    d: String,
}

/// Everybody has logged in and is a superuser.
#[derive(Debug)]
struct Yes;

const PROVED: Proved = Proved { rely_for: Duration::from_secs(3600) };

impl Authority for Yes {
    fn sign_in<'a>(
        &'a self,
        _: &'a str,
        _: Option<Password>,
        _: Origin,
    ) -> Answer<'a, Result<Token, Denied>> {
        Answer::now(Ok(Token::new("t")))
    }

    fn judge_token<'a>(&'a self, _: &'a str, _: &'a Token, _: Origin) -> Answer<'a, Result<Proved, Denied>> {
        Answer::now(Ok(PROVED))
    }

    fn judge_password<'a>(
        &'a self,
        _: &'a str,
        _: &'a Password,
        _: Origin,
    ) -> Answer<'a, Result<Proved, Denied>> {
        Answer::now(Ok(PROVED))
    }

    fn privilege<'a>(&'a self, _: &'a str) -> Answer<'a, Result<Option<i64>, Denied>> {
        Answer::now(Ok(Some(0)))
    }
}

/// A client that says what it is told.
struct Client {
    carrier: Box<dyn Carrier>,
    entity: String,
}

impl Client {
    async fn open(daemon: &DaemonHandle) -> Self {
        let mut client = Self { carrier: daemon.connect_local(), entity: String::new() };
        client.say(r#"{"m":"CE","d":{"t":1,"o":"ann","s":"Chat"}}"#.to_owned());
        let created = client.hear().await;
        let text = std::str::from_utf8(&created.payload.json).unwrap();
        client.entity = text.split("\"i\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        client.say(format!(r#"{{"m":"VE","d":{{"i":"{}"}}}}"#, client.entity));
        client.hear().await;
        client
    }

    fn say(&mut self, json: String) {
        let packet = Packet::new(Method::Cs, Leg::Request, Bytes::from(json));
        self.carrier.start_send(Outgoing::Packet(packet)).unwrap();
    }

    async fn hear(&mut self) -> Packet {
        poll_fn(|cx| self.carrier.poll_flush(cx)).await.unwrap();
        match poll_fn(|cx| self.carrier.poll_receive(cx)).await.unwrap() {
            Incoming::Packet(packet) => packet,
            other => panic!("{other:?}"),
        }
    }

    /// Calls a function `depth` times at once, and hears all answers.
    async fn call(&mut self, function: &str, depth: u32) {
        for t in 0..depth {
            let entity = &self.entity;
            self.say(format!(
                r#"{{"m":"SF","d":{{"i":"{entity}","n":"{function}","t":{t},"d":{{"d":"I am client."}}}}}}"#
            ));
        }
        for _ in 0..depth {
            self.hear().await;
        }
    }

    /// Shows the token that a function asks for.
    async fn prove(&mut self, function: &str) {
        let entity = &self.entity;
        self.say(format!(r#"{{"m":"SF","d":{{"i":"{entity}","n":"{function}","t":0,"d":{{"d":""}}}}}}"#));
        let asked = self.hear().await;
        let text = std::str::from_utf8(&asked.payload.json).unwrap().to_owned();
        let id = text.split("\"t\":").nth(1).unwrap().split(',').next().unwrap();
        let answer = Bytes::from(format!(r#"{{"m":"TK","d":{{"t":{id},"v":"token"}}}}"#));
        let packet = Packet::new(Method::Au, Leg::Answer, answer);
        self.carrier.start_send(Outgoing::Packet(packet)).unwrap();
        self.hear().await;
    }
}

fn chat() -> Service {
    let service = Service::new("Chat")
        .function("plain", async |Json(hello): Json<Hello>| hello)
        .function("proved", async |entity: Entity, Json(hello): Json<Hello>| -> Result<Hello, Fail> {
            entity.prove(Demand::Token).await?;
            Ok(hello)
        })
        .secure_function("secure", async |Json(hello): Json<Hello>| hello)
        .function("waits", async |Json(hello): Json<Hello>| {
            tokio::task::yield_now().await;
            hello
        });
    service.function("emit", async |all: Emitter, Json(hello): Json<Hello>| -> Result<usize, Fail> {
        Ok(all.to_all().overflow(Overflow::DropNewest).emit("message", &hello).await?.sent)
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let daemon = Daemon::builder().authority(Yes).service(chat()).bind().await.unwrap();
    let handle = daemon.handle();
    let mut client = Client::open(&handle).await;
    client.prove("secure").await;
    for (depth, times) in [(1, 5_000), (64, 200)] {
        // In turns, so that a busy machine is busy for all of them.
        let functions = ["plain", "proved", "secure", "waits"];
        let mut best = [Duration::MAX; 4];
        for _ in 0..25 {
            for (function, best) in functions.iter().zip(&mut best) {
                let begun = Instant::now();
                for _ in 0..times {
                    client.call(function, depth).await;
                }
                *best = (*best).min(begun.elapsed() / (times * depth));
            }
        }
        for (function, best) in functions.iter().zip(best) {
            println!("{:>10} ns  call of `{function}`, {depth} at once", best.as_nanos());
        }
    }

    let mut audience = Vec::new();
    for _ in 0..1000 {
        audience.push(Client::open(&handle).await);
    }
    let mut best = Duration::MAX;
    for _ in 0..50 {
        let begun = Instant::now();
        let entity = &client.entity;
        client.say(format!(r#"{{"m":"SF","d":{{"i":"{entity}","n":"emit","t":0,"d":{{"d":"hello"}}}}}}"#));
        poll_fn(|cx| client.carrier.poll_flush(cx)).await.unwrap();
        for member in &mut audience {
            member.hear().await;
        }
        client.hear().await;
        client.hear().await;
        best = best.min(begun.elapsed());
    }
    println!("{:>10} ns  event to each of 1000 entities, heard by all", best.as_nanos() / 1001);

    let idle = 10_000;
    let mut kept = Vec::with_capacity(idle);
    let before = resident();
    for _ in 0..idle {
        kept.push(Client::open(&handle).await);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    println!(
        "{:>10} bytes an idle connection with one entity, client included",
        (resident() - before) / idle
    );
}

/// Bytes of memory that this process has.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}
