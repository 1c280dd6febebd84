//! An NSP daemon in a process of its own, and peers that want it to end, at each of the steps that lie before a call: by silence, by slowness, by
//! asking too much, by not reading. It serves others all the while, and its memory stays inside of what the limits say.
//!
//! `cargo test -p tests --test nsp_starvation -- --nocapture --test-threads 1` prints the figures.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "prints the figures")]

#[allow(dead_code, reason = "made for the stories of the daemon")]
#[path = "../../nsp/tests/daemon/wire.rs"]
mod wire;

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nsp::Client;
use nsp::carrier::{CarrierEnd, ConnectOptions, connect};
use nsp::machine::Outgoing;
use nsp::proto::{Data, EntityId, Leg, Method, Packet, RawJson, RequestId, cs};
use serde_json::json;
use tests::{Certificates, Process, in_time};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wire::Wire;

const VICTIM: &str = env!("CARGO_BIN_EXE_victim");

/// Where each of its ports stands in what it prints.
const NSP: usize = 0;
const WS: usize = 1;
const CHUNKS: usize = 2;
const SP: usize = 3;
const TLS: usize = 4;

/// A daemon that is to be starved.
struct Victim {
    process: Process,
    ports: Vec<u16>,
    before: usize,
    _certificates: Certificates,
}

impl Victim {
    async fn start(descriptors: usize) -> Self {
        let certificates = Certificates::new();
        let process =
            Process::start(VICTIM, descriptors, &["nsp", certificates.directory().to_str().unwrap()]);
        let ports = process.said().split(' ').map(|port| port.parse().unwrap()).collect();
        let mut victim = Self { process, ports, before: 0, _certificates: certificates };
        for _ in 0..3 {
            victim.still_serves().await;
        }
        victim.before = victim.process.memory("VmHWM");
        victim
    }

    async fn raw(&self, port: usize) -> TcpStream {
        TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[port]))).await.unwrap()
    }

    async fn wire(&self, port: usize) -> Wire {
        let scheme = ["nsp", "ws", "noservice"][port];
        let address = format!("{scheme}://127.0.0.1:{}", self.ports[port]);
        Wire::over(connect(&address.parse().unwrap(), &ConnectOptions::default()).await.unwrap())
    }

    /// Somebody who means well is served by each carrier.
    async fn still_serves(&self) {
        for (scheme, port) in [("nsp", NSP), ("ws", WS), ("noservice", CHUNKS)] {
            let serve = async {
                let client =
                    Client::connect(format!("{scheme}://127.0.0.1:{}", self.ports[port])).await.unwrap();
                let activity = client.activity("Victim").open().await.unwrap();
                assert_eq!(activity.call::<u64>("echo", &7).await.unwrap(), 7);
                client.close().await;
            };
            in_time("an answer", serve).await;
        }
    }

    /// Waits until everybody but a few is gone.
    async fn down_to(&self, descriptors: usize) {
        let start = Instant::now();
        while self.process.descriptors() > descriptors {
            assert!(start.elapsed() < Duration::from_secs(25), "{} are left", self.process.descriptors());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Prints a row of the table, and fails when it is above its limit.
    fn report(&self, what: &str, n: usize, limit_kib: usize) {
        let peak = self.process.memory("VmHWM") - self.before;
        println!("| {what} | {n} | {peak} KiB | {limit_kib} KiB |");
        assert!(peak <= limit_kib, "{what}: {peak} KiB, {limit_kib} are allowed");
    }
}

#[tokio::test]
async fn daemon_holds_ten_thousand_connections_that_never_speak_and_then_cuts_them() {
    let victim = Victim::start(12_000).await;
    let port = victim.ports[NSP].to_string();
    let silent = Process::start(VICTIM, 12_000, &["silent", "10000", &port]);
    assert_eq!(silent.said(), "10000");
    let start = Instant::now();
    while victim.process.descriptors() < 10_000 {
        assert!(start.elapsed() < Duration::from_secs(20), "{} accepted", victim.process.descriptors());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    victim.still_serves().await;
    // Who has no entity in its time is sent away.
    victim.down_to(100).await;
    victim.report("NSP: connections that never speak", 10_000, 10_000 * 7);
}

/// What somebody sends who begins each step and does not end it.
fn beginnings() -> Vec<(&'static str, usize, Vec<u8>)> {
    let upgrade = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nX: ";
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 300]].concat();
    vec![
        ("TCP", NSP, Vec::new()),
        ("TLS", TLS, hello),
        ("the upgrade to WebSocket", WS, upgrade.as_bytes().to_vec()),
        ("SP", SP, Vec::new()),
        ("SP, begun", SP, b"0000000000000400SPrq".to_vec()),
        ("the first entity", CHUNKS, b"0000000000000002HB".to_vec()),
        ("the first frame", NSP, b"j\x03nsp\x00\x00\x30\x00CS".to_vec()),
        ("the first chunk", CHUNKS, b"0000000000012000CSrq".to_vec()),
    ]
}

#[tokio::test]
async fn who_begins_a_step_and_does_not_end_it_is_cut_and_costs_little() {
    let victim = Victim::start(4_000).await;
    let mut slow = Vec::new();
    // All of one address, which may have 256 connections.
    for _ in 0..30 {
        for (what, port, bytes) in beginnings() {
            let mut peer = victim.raw(port).await;
            peer.write_all(&bytes).await.unwrap();
            slow.push((what, peer));
        }
    }
    let count = slow.len();
    // A byte a second, and still they have their time only.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for (_, peer) in &mut slow {
            let _ = peer.try_write(b"7");
        }
    }
    victim.still_serves().await;
    for (what, peer) in &mut slow {
        let _ = in_time(what, peer.read_to_end(&mut Vec::new())).await;
    }
    victim.down_to(100).await;
    victim.report("NSP: TCP, TLS, upgrade, SP, entity, frame, chunk begun and not ended", count, count * 64);
}

/// Peers with an entity in the group `slow`, who then read no more.
async fn deaf(victim: &Victim, port: usize, n: usize) -> Vec<Wire> {
    let mut deaf = Vec::new();
    for _ in 0..n {
        let mut wire = victim.wire(port).await;
        let entity = wire.open("Victim").await;
        wire.call(&entity, "slow", json!(null)).await.unwrap();
        deaf.push(wire);
    }
    deaf
}

#[tokio::test]
async fn peers_that_do_not_read_what_a_service_emits_are_held_by_each_rule() {
    let rules = ["wait", "drop oldest", "drop newest", "close"].into_iter().enumerate();
    futures_util::future::join_all(rules.map(|(rule, name)| do_not_read(rule, name))).await;
}

async fn do_not_read(rule: usize, name: &str) {
    let victim = Victim::start(1_000).await;
    let mut slow = deaf(&victim, NSP, 3).await;
    slow.extend(deaf(&victim, CHUNKS, 3).await);
    slow.extend(deaf(&victim, WS, 3).await);
    let mut good = victim.wire(NSP).await;
    let entity = good.open("Victim").await;
    // 1.2 MB a step to each: the buffers of the system take some MB, the queue 4 MiB, and then the rule counts.
    let (mut sent, mut missed) = (0, 0);
    for _ in 0..16 {
        let reached = good.call(&entity, "flood", json!([rule, 20, 60_000])).await.unwrap();
        sent += reached[0].as_u64().unwrap();
        missed += reached[1].as_u64().unwrap();
    }
    assert!(sent > 0, "{name}: {sent} {missed}");
    assert!(missed > 0 || rule == 1, "{name}: {sent} {missed}");
    if rule == 3 {
        for wire in &mut slow {
            let told = in_time("the end", async {
                loop {
                    if let Err(end) = wire.next().await {
                        break end;
                    }
                }
            });
            let told = told.await;
            // Frames and WebSocket have words for it, chunks have none; who is cut for not taking even those sees the cut.
            assert!(
                matches!(&told, CarrierEnd::PeerSaid(why) if why.contains("waited to be taken"))
                    || !matches!(told, CarrierEnd::PeerSaid(_)),
                "{told}"
            );
        }
    }
    victim.still_serves().await;
    victim.report(&format!("NSP: peers that do not read, by the rule to {name}"), 9, 9 * 8 * 1024);
    // And whoever takes nothing at all for its time is cut.
    drop(good);
    victim.down_to(60).await;
}

/// Sends much, taking what comes meanwhile; gives how many packets came, and the end if the daemon ended it.
async fn pour(wire: &mut Wire, packets: impl Iterator<Item = Packet>) -> (usize, Option<CarrierEnd>) {
    let mut heard = 0;
    for packet in packets {
        if wire.carrier.start_send(Outgoing::Packet(packet)).is_err() {
            break;
        }
        let step = poll_fn(|cx| {
            loop {
                match wire.carrier.poll_receive(cx) {
                    Poll::Ready(Ok(_)) => heard += 1,
                    Poll::Ready(Err(end)) => return Poll::Ready(Err(end)),
                    Poll::Pending => break,
                }
            }
            wire.carrier.poll_flush(cx)
        });
        if let Err(end) = in_time("taking a packet", step).await {
            return (heard, Some(end));
        }
    }
    loop {
        let next = poll_fn(|cx| wire.carrier.poll_receive(cx));
        match tokio::time::timeout(Duration::from_millis(700), next).await {
            Ok(Ok(_)) => heard += 1,
            Ok(Err(end)) => return (heard, Some(end)),
            Err(_) => return (heard, None),
        }
    }
}

fn call(entity: &EntityId, function: &str, n: u64, json: Bytes) -> Packet {
    let data = Data::Json(RawJson::new(json).unwrap());
    cs::Request::Call { entity: entity.clone(), function: function.into(), id: RequestId::numbered(n), data }
        .encode()
}

#[tokio::test]
async fn flood_of_entities_is_refused_at_the_limit() {
    let victim = Victim::start(1_000).await;
    for port in [NSP, WS, CHUNKS] {
        let mut wire = victim.wire(port).await;
        let (mut made, mut refused) = (0, 0);
        for _ in 0..1_000 {
            let create = wire.wanting("Victim", Some("somebody"));
            match in_time("an answer", wire.create(create)).await {
                Ok(entity) => {
                    wire.verify(&entity).await.unwrap();
                    made += 1;
                }
                Err(failure) => {
                    assert_eq!(failure.code.as_deref(), Some("busy"), "{failure}");
                    refused += 1;
                }
            }
        }
        assert_eq!((made, refused), (64, 1_000 - 64));
    }
    victim.still_serves().await;
    victim.report("NSP: entities asked for, on 3 connections", 3_000, 8 * 1024);
}

#[tokio::test]
async fn floods_of_function_names_and_of_calls_that_never_end_leave_little() {
    let victim = Victim::start(1_000).await;
    for port in [NSP, WS, CHUNKS] {
        let mut wire = victim.wire(port).await;
        let entity = wire.open("Victim").await;
        let null = || Bytes::from_static(b"null");
        let names = (0..20_000_u64).map(|n| call(&entity, &format!("nobody has this one {n}"), n, null()));
        let (answers, end) = pour(&mut wire, names).await;
        assert_eq!((answers, end.is_none()), (20_000, true), "each name has its answer");
        // What never ends is begun up to the limit, and refused beyond.
        let calls = (0..20_000_u64).map(|n| call(&entity, "never", n, null()));
        let (answers, end) = pour(&mut wire, calls).await;
        assert!(answers < 20_000 && answers > 19_000 && end.is_none(), "{answers} {end:?}");
    }
    victim.still_serves().await;
    victim.report("NSP: function names, and calls that never end, on 3 connections", 120_000, 12 * 1024);
}

#[tokio::test]
async fn floods_of_calls_that_make_the_daemon_ask_are_refused_at_the_limit() {
    let victim = Victim::start(1_000).await;
    for port in [NSP, WS, CHUNKS] {
        let mut wire = victim.wire(port).await;
        let entity = wire.open_as("Victim", Some("alice")).await;
        // Each makes the daemon ask for a token, and none is ever shown.
        let calls = (0..20_000_u64).map(|n| call(&entity, "ask", n, Bytes::from_static(b"null")));
        let (heard, end) = pour(&mut wire, calls).await;
        assert!(heard > 19_000 && end.is_none(), "{heard} {end:?}");
    }
    victim.still_serves().await;
    victim.report("NSP: calls that make the daemon ask, never answered, on 3 connections", 60_000, 12 * 1024);
}

#[tokio::test]
async fn flood_of_answers_that_nobody_asked_for_leaves_nothing_behind() {
    let victim = Victim::start(1_000).await;
    for port in [NSP, WS, CHUNKS] {
        let mut wire = victim.wire(port).await;
        let entity = wire.open("Victim").await;
        let answers = (0..20_000).map(|n| {
            let json = format!(r#"{{"m":"TK","d":{{"t":"{n}","v":"a guess"}}}}"#);
            Packet::new(Method::Au, Leg::Answer, Bytes::from(json))
        });
        // They may be late ones: nothing is said about them.
        let (heard, end) = pour(&mut wire, answers).await;
        assert!(heard == 0 && end.is_none(), "{heard} {end:?}");
        assert_eq!(wire.call(&entity, "echo", json!(1)).await, Ok(json!(1)));
    }
    victim.still_serves().await;
    victim.report("NSP: answers that nobody asked for, on 3 connections", 60_000, 4 * 1024);
}

#[tokio::test]
async fn flood_of_data_for_a_service_that_is_busy_stops_its_sender() {
    let victim = Victim::start(1_000).await;
    let mut sent = 0;
    for port in [NSP, WS, CHUNKS] {
        let mut wire = victim.wire(port).await;
        let entity = wire.open("Victim").await;
        let data = Data::Json(RawJson::new(format!("\"{}\"", "x".repeat(10_000))).unwrap());
        // Ten megabytes: what the systems keep for both is less.
        for n in 0..1_000 {
            let send = cs::Request::Send { entity: entity.clone(), data: data.clone() };
            wire.carrier.start_send(Outgoing::Packet(send.encode())).unwrap();
            let left =
                tokio::time::timeout(Duration::from_secs(2), poll_fn(|cx| wire.carrier.poll_flush(cx)));
            if left.await.is_err() {
                break;
            }
            sent += 1;
            assert!(n < 999, "the daemon takes all of it");
        }
        victim.still_serves().await;
    }
    victim.report("NSP: data of 10 KB for a service that is busy, on 3 connections", sent, 12 * 1024);
}

#[tokio::test]
async fn flood_of_user_names_leaves_little() {
    let victim = Victim::start(1_000).await;
    let (mut heard, mut begun) = (0, 0);
    for port in [NSP, WS, CHUNKS] {
        let mut wire = victim.wire(port).await;
        wire.open("Victim").await;
        let names = (0..2_000).map(|n| {
            begun += 1;
            let json = format!(r#"{{"u":"{}{port}x{n}","p":"guess"}}"#, "u".repeat(40));
            Packet::new(Method::Gt, Leg::Request, Bytes::from(json))
        });
        heard += pour(&mut wire, names).await.0;
    }
    println!("{heard} of {begun} names have their answer: no");
    assert!(heard > 0);
    victim.still_serves().await;
    victim.report("NSP: names of users guessed, each once, on 3 connections", begun, 16 * 1024);
}

#[tokio::test]
async fn json_that_nests_without_end_is_one_bad_argument() {
    let victim = Victim::start(1_000).await;
    for port in [NSP, WS, CHUNKS] {
        let mut wire = victim.wire(port).await;
        let entity = wire.open("Victim").await;
        for _ in 0..7 {
            let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
            let text = format!(r#"{{"m":"SF","d":{{"i":"{entity}","n":"echo","t":"1","d":{deep}}}}}"#);
            wire.say(Packet::new(Method::Cs, Leg::Request, Bytes::from(text))).await;
        }
        // The last of them is read before this.
        let answered = in_time("an answer", async {
            let asked = wire.begin(&entity, "echo", json!(1)).await;
            loop {
                let (id, result) = wire.returned().await;
                if id == asked {
                    break result;
                }
                assert!(result.is_err());
            }
        });
        assert_eq!(answered.await, Ok(json!(1)));
    }
    victim.still_serves().await;
    victim.report("NSP: a million brackets, on 3 connections", 21, 24 * 1024);
}

#[tokio::test]
async fn flood_of_passwords_is_throttled_and_others_are_served() {
    let victim = Victim::start(1_000).await;
    let (mut heard, mut begun) = (0, 0);
    for port in [NSP, WS, CHUNKS] {
        let mut wire = victim.wire(port).await;
        wire.open("Victim").await;
        let guesses = (0..700).map(|n| {
            begun += 1;
            let json = format!(r#"{{"u":"user{:02}","p":"guess {n}"}}"#, n % 50);
            Packet::new(Method::Gt, Leg::Request, Bytes::from(json))
        });
        let (answers, _) = pour(&mut wire, guesses).await;
        heard += answers;
    }
    println!("{heard} of {begun} guesses have their answer: no");
    // Nothing but a `no`, however many come; and whoever has the password of another account is not kept waiting for long.
    assert!(heard > 0);
    victim.still_serves().await;
    victim.report("NSP: passwords guessed, on 3 connections", begun, 16 * 1024);
}
