//! A server in a process of its own, and peers that want it to end: by silence, by slowness, by asking too much. It serves others
//! all the while, and its memory stays inside of what the limits say.
//!
//! `cargo test -p tests --test starvation -- --nocapture --test-threads 1` prints the figures.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "prints the figures")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use nossock::Connector;
use nossock::transport::tls::ClientTls;
use serde_json::Value;
use tests::{Certificates, Process, frame, in_time};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const VICTIM: &str = env!("CARGO_BIN_EXE_victim");

/// A server that is to be starved.
struct Victim {
    process: Process,
    port: u16,
    tls: Option<ClientTls>,
    before: usize,
    _certificates: Certificates,
}

impl Victim {
    async fn start(scheme: &str, descriptors: usize) -> Self {
        let certificates = Certificates::new();
        let directory = certificates.directory().to_str().unwrap();
        let process = Process::start(VICTIM, descriptors, &["serve", scheme, directory]);
        let port = process.said().parse().unwrap();
        let tls = ClientTls::builder().ca_file(certificates.ca()).build().unwrap();
        let tls = (scheme == "tls").then_some(tls);
        let mut victim = Self { process, port, tls, before: 0, _certificates: certificates };
        for _ in 0..3 {
            victim.still_serves().await;
        }
        victim.before = victim.process.memory("VmHWM");
        victim
    }

    async fn raw(&self) -> TcpStream {
        TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))).await.unwrap()
    }

    /// Somebody who means well connects, asks, and is answered.
    async fn still_serves(&self) {
        let port = self.port;
        let connector = match &self.tls {
            Some(tls) => Connector::new(format!("tls://localhost:{port}").as_str()).unwrap().tls(tls.clone()),
            None => Connector::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap(),
        };
        let socket = in_time("connecting", connector.connect()).await.unwrap();
        let answer = in_time("an answer", socket.request::<u64, _>("echo", &7)).await.unwrap();
        assert_eq!(answer, 7);
        socket.close().await.unwrap();
    }

    /// Waits until the server has cut everybody but a few.
    async fn down_to(&self, descriptors: usize) {
        let start = Instant::now();
        while self.process.descriptors() > descriptors {
            assert!(start.elapsed() < Duration::from_secs(20), "{} are left", self.process.descriptors());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// KiB that the process has had at most, above what it had before.
    fn peak(&self) -> usize {
        self.process.memory("VmHWM") - self.before
    }

    /// Prints a row of the table, and fails when it is above its limit.
    fn report(&self, what: &str, n: usize, limit_kib: usize) {
        let peak = self.peak();
        println!("| {what} | {n} | {peak} KiB | {limit_kib} KiB |");
        assert!(peak <= limit_kib, "{what}: {peak} KiB, {limit_kib} are allowed");
    }
}

/// How long nothing is taken until that is called being stuck: shorter than the server's own patience.
const STUCK: Duration = Duration::from_secs(2);

/// Writes the same again and again, until the server takes no more of it for a while; gives how often.
async fn write_until_stuck(stream: &mut TcpStream, bytes: &[u8], most: usize) -> usize {
    for n in 0..most {
        let written = tokio::time::timeout(STUCK, stream.write_all(bytes)).await;
        if !matches!(written, Ok(Ok(()))) {
            return n;
        }
    }
    most
}

#[tokio::test]
async fn ten_thousand_connections_that_never_speak() {
    let victim = Victim::start("tcp", 12_000).await;
    let silent = Process::start(VICTIM, 12_000, &["silent", "10000", &victim.port.to_string()]);
    assert_eq!(silent.said(), "10000");
    let start = Instant::now();
    while victim.process.descriptors() < 10_000 {
        assert!(start.elapsed() < Duration::from_secs(20), "{} accepted", victim.process.descriptors());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    victim.still_serves().await;
    victim.report("connections that never speak", 10_000, 10_000 * 3);
}

#[tokio::test]
async fn handshakes_that_are_never_finished_are_cut_off_and_cost_little() {
    let victim = Victim::start("tls", 4_000).await;
    let silent = Process::start(VICTIM, 4_000, &["silent", "2000", &victim.port.to_string()]);
    let mut begun = Vec::new();
    for n in 0..240 {
        let mut peer = victim.raw().await;
        // A hello that is cut, after the first bytes or almost whole.
        let body = if n % 2 == 0 { 1 } else { 500 };
        let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &vec![7; body]].concat();
        peer.write_all(&hello).await.unwrap();
        begun.push(peer);
    }
    victim.still_serves().await;
    for mut peer in begun {
        // Ended by the server, however the system says it.
        let _ = in_time("the end of a handshake", peer.read_to_end(&mut Vec::new())).await;
    }
    victim.down_to(100).await;
    victim.still_serves().await;
    drop(silent);
    victim.report("TLS handshakes not begun, or not finished", 2_240, 2_240 * 16);
}

#[tokio::test]
async fn frames_that_come_a_byte_at_a_time_are_given_up() {
    let victim = Victim::start("tcp", 2_000).await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut peer = victim.raw().await;
        // 1 MiB is announced, and little comes.
        peer.write_all(b"b\x04file\x00\x10\x00\x00abc").await.unwrap();
        slow.push(peer);
    }
    let start = Instant::now();
    for peer in &mut slow {
        let _ = peer.write_all(b"x").await;
    }
    victim.still_serves().await;
    // The frame has 3 s and its bytes divided by 1024 a second. The size of the announcement costs nothing meanwhile.
    victim.report("frames of 1 MiB announced", 200, 200 * 80);
    let heads: Vec<_> = {
        let mut heads = Vec::new();
        for n in 0..20 {
            let mut peer = victim.raw().await;
            // A head, or a hello, that does not end.
            let begun = if n % 2 == 0 { &b"j\x04no"[..] } else { b"c\0\0\0\0\x3d{\"hel" };
            peer.write_all(begun).await.unwrap();
            heads.push(peer);
        }
        heads
    };
    for mut peer in heads {
        let _ = in_time("the end of a slow head", peer.read_to_end(&mut Vec::new())).await;
    }
    assert!(start.elapsed() < Duration::from_secs(12));
    victim.still_serves().await;
}

#[tokio::test]
async fn peers_that_never_read_are_held_and_then_cut() {
    let victim = Victim::start("tcp", 2_000).await;
    let body = serde_json::to_vec(&"x".repeat(60_000)).unwrap();
    let request = frame(b'j', "req:echo:1", &body);
    let mut writing = JoinSet::new();
    for _ in 0..20 {
        let (mut peer, request) = (victim.raw().await, request.clone());
        writing.spawn(async move {
            // It asks on and on, until the server has enough of it. What the systems keep for both comes first.
            let cut = async { while peer.write_all(&request).await.is_ok() {} };
            in_time("the end of a peer that does not read", cut).await;
        });
    }
    victim.still_serves().await;
    writing.join_all().await;
    victim.down_to(16).await;
    victim.still_serves().await;
    // For each: the answers that wait, up to the limit and one more, twice while they are written; and what was read.
    victim.report("peers that never read", 20, 20 * 1_024);
}

#[tokio::test]
async fn floods_of_names_and_of_request_ids_leave_nothing_behind() {
    let victim = Victim::start("tcp", 200).await;
    let mut peer = victim.raw().await;
    for n in 0..200_000_u32 {
        peer.write_all(&frame(b'j', &format!("name-{n}-{}", "x".repeat(200)), b"1")).await.unwrap();
    }
    peer.write_all(&frame(b'j', "req:echo:1", b"1")).await.unwrap();
    let mut answer = vec![0; 12 + "resp:echo:1".len()];
    in_time("an answer", peer.read_exact(&mut answer)).await.unwrap();
    victim.report("names nobody handles", 200_000, 4 * 1024);

    let mut asking = JoinSet::new();
    for id in 0..8 {
        let mut peer = victim.raw().await;
        asking.spawn(async move {
            let requests = (0..500_u32).flat_map(|n| frame(b'j', &format!("req:forever:{id}-{n}"), b"null"));
            let requests: Vec<u8> = requests.collect();
            (write_until_stuck(&mut peer, &requests, 2_000).await * 500, peer)
        });
    }
    let (taken, peers): (Vec<_>, Vec<_>) = asking.join_all().await.into_iter().unzip();
    let taken: usize = taken.into_iter().sum();
    victim.still_serves().await;
    victim.report("requests that never end, on 8 connections", taken, 16 * 1024);
    assert!(taken > 8 * 256, "most of them wait in the system's buffers: {taken}");
    drop(peers);
    victim.still_serves().await;
}

/// What a peer that knows control frames says first.
const HELLO: &[u8] = br#"{"hello":{"version":1,"max_body":1048576,"max_in_flight":256}}"#;

#[tokio::test]
async fn floods_of_control_frames_are_cut_and_leave_nothing_behind() {
    let victim = Victim::start("tcp", 1_000).await;
    let control = |body: String| frame(b'c', "", body.as_bytes());
    let mut pouring = JoinSet::new();
    for n in 0..90 {
        let mut peer = victim.raw().await;
        peer.write_all(&frame(b'c', "", HELLO)).await.unwrap();
        pouring.spawn(async move {
            let (mut reading, mut writing) = peer.into_split();
            // It reads what it is told, and goes on until it is cut.
            let hearing = async {
                let _ = reading.read_to_end(&mut Vec::new()).await;
            };
            let mut count = 0_usize;
            let telling = async {
                for id in 0_u64.. {
                    let more = match n % 3 {
                        0 => control(format!(r#"{{"ping":{id}}}"#)),
                        1 => control(format!(r#"{{"cancel":"{id}"}}"#)),
                        // Begun and cancelled at once, and once more, which it does not pay for.
                        _ => [
                            frame(b'j', &format!("req:forever:{id}"), b"null"),
                            control(format!(r#"{{"cancel":"{id}"}}"#)),
                            control(format!(r#"{{"cancel":"{id}"}}"#)),
                        ]
                        .concat(),
                    };
                    if writing.write_all(&more).await.is_err() {
                        break;
                    }
                    count += 1;
                }
            };
            in_time("the end of who floods", async { tokio::join!(hearing, telling) }).await;
            count
        });
    }
    let written: usize = pouring.join_all().await.into_iter().sum();
    assert!(written > 90 * 1024, "each may send as many as are no flood: {written}");
    victim.down_to(16).await;
    victim.still_serves().await;
    victim.report("pings, cancels, and requests cancelled twice, on 90 connections", written, 8 * 1024);
}

#[tokio::test]
async fn json_as_deep_as_a_body_is_long_is_one_bad_body() {
    let victim = Victim::start("tcp", 200).await;
    let mut peer = victim.raw().await;
    for open in ["[", "{\"a\":"] {
        let body = open.repeat(1_048_576 / open.len());
        for _ in 0..10 {
            peer.write_all(&frame(b'j', "req:echo:1", body.as_bytes())).await.unwrap();
            let mut head = vec![0; 2 + "resp:echo:1".len() + 4];
            in_time("an answer", peer.read_exact(&mut head)).await.unwrap();
            let length = u32::from_be_bytes(head[head.len() - 4..].try_into().unwrap());
            let mut answer = vec![0; length as usize];
            peer.read_exact(&mut answer).await.unwrap();
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!(answer[0]["code"], "bad_body", "{answer}");
        }
    }
    victim.still_serves().await;
    victim.report("JSON of a million brackets", 20, 12 * 1024);
}

#[tokio::test]
async fn server_without_file_descriptors_recovers() {
    let victim = Victim::start("tcp", 60).await;
    let mut peers = Vec::new();
    for _ in 0..200 {
        peers.push(victim.raw().await);
    }
    let start = Instant::now();
    while victim.process.descriptors() < 60 {
        assert!(start.elapsed() < Duration::from_secs(10), "{}", victim.process.descriptors());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // It waits, and does not spin: a second of this costs it a fraction of one.
    let before = victim.process.spent();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spent = victim.process.spent() - before;
    assert!(spent <= 20, "{spent} hundredths of a second of a processor");
    drop(peers);
    victim.still_serves().await;
    victim.report("connections with 60 file descriptors", 200, 4 * 1024);
}
