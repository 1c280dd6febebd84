//! An NSP client in a process of its own, and a daemon that means harm: it asks without end, sends without end what nobody reads, answers what nobody
//! has asked, and does not take what it is told. The client's calls go on all the while, and its memory stays inside of what the limits say.
//!
//! `cargo test -p tests --test nsp_client_starvation -- --nocapture --test-threads 1` prints the figures.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "prints the figures")]

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nsp::carrier::{Carrier, CarrierEnd, ListenOptions, Listener};
use nsp::machine::{Incoming, Outgoing};
use nsp::proto::{Data, EntityId, Leg, Method, Methods, Packet, RawJson, RequestId, Status, au, ca, cs};
use tests::{Process, in_time};

const VICTIM: &str = env!("CARGO_BIN_EXE_victim");

const CARRIERS: [&str; 3] = ["nsp", "ws", "noservice"];

/// A daemon that says exactly what a test wants it to say, and the client that has come to it.
struct Hostile {
    client: Process,
    carrier: Box<dyn Carrier>,
    entity: EntityId,
    before: usize,
    /// Calls that were answered.
    ticks: u64,
    /// Answers to questions, and other packets.
    heard: u64,
}

impl Hostile {
    async fn start(scheme: &str) -> Self {
        let address = format!("{scheme}://127.0.0.1:0").parse().unwrap();
        let listener = Listener::bind(&address, &ListenOptions::default()).await.unwrap();
        let url = listener.address().to_string();
        // It prints when its activity is open, which is served below.
        let starting =
            tokio::task::spawn_blocking(move || Process::start(VICTIM, 100, &["nsp-client", &url]));
        let mut carrier = listener.accept().await.handshake().await.unwrap();
        // NSP begins with a word of the daemon; without SP any will do.
        let entity = EntityId::new("_victim").unwrap();
        let (mut ticks, mut heard) = (0, 0);
        while ticks < 3 {
            let packet = in_time("a call", poll_fn(|cx| carrier.poll_receive(cx))).await.unwrap();
            answer(&mut *carrier, packet, &entity, &mut ticks, &mut heard);
            in_time("taking an answer", poll_fn(|cx| carrier.poll_flush(cx))).await.unwrap();
        }
        let client = in_time("the client", starting).await.unwrap();
        assert_eq!(client.said(), "open");
        let before = client.memory("VmHWM");
        Self { client, carrier, entity, before, ticks, heard }
    }

    /// Says something, and serves what comes meanwhile.
    async fn say(&mut self, packet: Packet) -> Result<(), CarrierEnd> {
        self.carrier.start_send(Outgoing::Packet(packet)).unwrap();
        let Self { carrier, entity, ticks, heard, .. } = self;
        let step = poll_fn(|cx| {
            loop {
                while let Poll::Ready(packet) = carrier.poll_receive(cx) {
                    answer(&mut **carrier, packet?, entity, ticks, heard);
                }
                let flushed = carrier.poll_flush(cx);
                if flushed.is_pending() || carrier.queued() == 0 {
                    return flushed;
                }
            }
        });
        in_time("taking a packet", step).await
    }

    /// Waits until the client has called some times more.
    async fn still_calls(&mut self) {
        let until = self.ticks + 3;
        while self.ticks < until {
            let Self { carrier, entity, ticks, heard, .. } = self;
            let packet = in_time("a call", poll_fn(|cx| carrier.poll_receive(cx))).await.unwrap();
            answer(&mut **carrier, packet, entity, ticks, heard);
            in_time("taking an answer", poll_fn(|cx| self.carrier.poll_flush(cx))).await.unwrap();
        }
    }

    /// Pours it out, and sees that the client goes on.
    async fn pour(&mut self, packets: impl Iterator<Item = Packet>) {
        for packet in packets {
            self.say(packet).await.unwrap();
        }
        self.still_calls().await;
    }

    fn report(&self, what: &str, n: usize, limit_kib: usize) {
        let peak = self.client.memory("VmHWM") - self.before;
        println!("| {what} | {n} | {peak} KiB | {limit_kib} KiB |");
        assert!(peak <= limit_kib, "{what}: {peak} KiB, {limit_kib} are allowed");
    }
}

/// Serves the client's own requests, as any daemon would.
fn answer(
    carrier: &mut dyn Carrier,
    incoming: Incoming,
    entity: &EntityId,
    ticks: &mut u64,
    heard: &mut u64,
) {
    let packet = match incoming {
        Incoming::Packet(packet) => packet,
        Incoming::Message(message) | Incoming::Sealed(message) => {
            match Packet::decode(message, &Methods::default()) {
                Ok(packet) => packet,
                Err(_) => return, // a heartbeat
            }
        }
    };
    let answer = match cs::Request::decode(&packet) {
        Ok(cs::Request::Create(create)) => cs::Answer::Created { id: create.id, result: Ok(entity.clone()) },
        Ok(cs::Request::Verify { entity }) => cs::Answer::Verified { entity, status: Status::Ok },
        Ok(cs::Request::Call { entity, id, data, .. }) => {
            *ticks += 1;
            cs::Answer::Returned { id, entity, status: Status::Ok, data }
        }
        _ => {
            *heard += 1;
            return;
        }
    };
    carrier.start_send(Outgoing::Packet(answer.encode())).unwrap();
}

fn question(n: u64) -> Packet {
    let user = Some(format!("{}{n}", "somebody".repeat(12)));
    au::Request::Ask { question: au::Question::Token, id: RequestId::numbered(n), user }.encode()
}

fn text(length: usize) -> Data {
    Data::Json(RawJson::new(format!("\"{}\"", "x".repeat(length))).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_without_end_are_declined_beyond_the_limit() {
    for scheme in CARRIERS {
        let mut hostile = Hostile::start(scheme).await;
        // Nobody answers those that are taken; all others are declined at once.
        hostile.pour((0..50_000).map(question)).await;
        assert!(hostile.heard >= 50_000 - 16, "{scheme}: {} were declined", hostile.heard);
        let entity = hostile.entity.clone();
        let told = |_| {
            let (notice, entity) = (au::Notice::TokenFailed, Some(entity.clone()));
            au::Request::Tell { notice, entity }.encode()
        };
        hostile.pour((0..50_000).map(told)).await;
        hostile.report(&format!("NSP client, `{scheme}`: questions and notices"), 100_000, 4 * 1024);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_nobody_reads_are_dropped_and_counted() {
    for scheme in CARRIERS {
        let mut hostile = Hostile::start(scheme).await;
        let entity = hostile.entity.clone();
        let events = (0..60_000).map(|n| match n % 3 {
            0 => ca::Request::Event { entity: entity.clone(), event: "flood".into(), data: text(1_000) }
                .encode(),
            1 => ca::Request::Event { entity: entity.clone(), event: format!("name {n}"), data: text(1_000) }
                .encode(),
            _ => ca::Request::Data { entity: entity.clone(), data: text(1_000) }.encode(),
        });
        hostile.pour(events).await;
        let large =
            ca::Request::Event { entity: entity.clone(), event: "flood".into(), data: text(1_000_000) };
        hostile.pour((0..20).map(|_| large.encode())).await;
        hostile.report(
            &format!("NSP client, `{scheme}`: events and data that nobody reads"),
            60_020,
            16 * 1024,
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_asked_for_are_ignored() {
    for scheme in CARRIERS {
        let mut hostile = Hostile::start(scheme).await;
        let entity = hostile.entity.clone();
        let strange = EntityId::new("_strange").unwrap();
        let answers = (1_000_000..1_040_000_u64).map(|n| match n % 4 {
            // Somebody has to close an entity that nobody wants.
            0 => cs::Answer::Created {
                id: RequestId::numbered(1),
                result: Ok(EntityId::new(&format!("_{n}")).unwrap()),
            }
            .encode(),
            1 => {
                let (id, data) = (RequestId::numbered(n), text(100));
                cs::Answer::Returned { id, entity: entity.clone(), status: Status::Ok, data }.encode()
            }
            2 => cs::Answer::Sent { entity: entity.clone(), status: Status::Ok }.encode(),
            _ => cs::Answer::Verified { entity: strange.clone(), status: Status::Ok }.encode(),
        });
        hostile.pour(answers).await;
        let nonsense = (0..10_000).map(|n| {
            Packet::new(Method::Gt, Leg::Answer, Bytes::from(format!(r#"{{"u":"user{n}","t":"token"}}"#)))
        });
        hostile.pour(nonsense).await;
        hostile.report(&format!("NSP client, `{scheme}`: answers that nobody asked for"), 50_000, 4 * 1024);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemon_that_asks_and_takes_no_answer_is_left() {
    for scheme in CARRIERS {
        let mut hostile = Hostile::start(scheme).await;
        let (start, mut written) = (Instant::now(), 0);
        // It writes on and reads nothing, until the client has enough of it. What the systems keep for both comes first.
        for n in 0_u64.. {
            hostile.carrier.start_send(Outgoing::Packet(question(n))).unwrap();
            let left = poll_fn(|cx| hostile.carrier.poll_flush(cx));
            match tokio::time::timeout(Duration::from_secs(20), left).await {
                Ok(Ok(())) => written += 1,
                Ok(Err(_)) => break,
                Err(_) => panic!("{scheme}: the client neither reads nor leaves"),
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{scheme}: {written}");
        }
        hostile.report(
            &format!("NSP client, `{scheme}`: questions of who takes no answer"),
            written,
            8 * 1024,
        );
    }
}
