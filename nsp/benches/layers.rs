//! What the pure layers cost: one thread, no sockets, nanoseconds an operation.
//!
//! `cargo bench -p nsp --bench layers`. A round trip is a service function with a small argument and result, from the call at the client to the
//! event that holds the result, everything encoded and decoded on the way.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it is a program that prints a table")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use nsp::machine::client::{self, Open};
use nsp::machine::{Client, Daemon, Incoming, SpMode, SpPolicy, daemon};
use nsp::proto::{Data, EntityId, Methods, Packet, RawJson, RequestId, cs};
use nsp::secure::{ServerKey, SystemRandom, WeakSeeds};

fn main() {
    let methods = Methods::default();
    let call = |data| cs::Request::Call {
        entity: EntityId::from_bits([7; 16]),
        function: "Hello".into(),
        id: RequestId::numbered(12345),
        data,
    };
    let small = call(Data::Json(RawJson::new(r#"{"d":"I am client."}"#).unwrap()));
    let large = call(Data::Blob(Bytes::from(vec![7; 1 << 20])));

    row("write a call", || {
        let mut out = BytesMut::with_capacity(256);
        small.encode().encode(&methods, &mut out).unwrap();
        black_box(out);
    });
    let message = written(&small, &methods);
    row("read a call", || {
        let packet = Packet::decode(message.clone(), &methods).unwrap();
        black_box(cs::Request::decode(&packet).unwrap());
    });
    let message = written(&large, &methods);
    row("read a call with a blob of 1 MiB", || {
        let packet = Packet::decode(message.clone(), &methods).unwrap();
        black_box(cs::Request::decode(&packet).unwrap());
    });

    for secured in [false, true] {
        let suffix = if secured { ", under SP" } else { "" };
        let mut pair = Pair::open(secured);
        row(&format!("round trip of a small call{suffix}"), || pair.round_trip(&Data::None, 1));
        let mut pair = Pair::open(secured);
        row(&format!("64 in flight, each{suffix}"), || pair.round_trip(&Data::None, 64));
        let mut pair = Pair::open(secured);
        let blob = Data::Blob(Bytes::from(vec![7; 1 << 20]));
        row(&format!("round trip with a blob of 1 MiB{suffix}"), || pair.round_trip(&blob, 1));
    }
}

fn written(request: &cs::Request, methods: &Methods) -> Bytes {
    let mut out = BytesMut::new();
    request.encode().encode(methods, &mut out).unwrap();
    out.freeze()
}

/// Repeats for about a second in five parts, and prints the best one: on a shared machine the others measure the neighbours.
fn row(name: &str, mut operation: impl FnMut()) {
    let part = Duration::from_millis(200);
    let mut best = f64::MAX;
    for _ in 0..5 {
        let (begin, mut count) = (Instant::now(), 0_u32);
        while begin.elapsed() < part {
            for _ in 0..16 {
                operation();
            }
            count += 16;
        }
        best = best.min(begin.elapsed().as_secs_f64() * 1e9 / f64::from(count));
    }
    let divisor = if name.starts_with("64") { 64.0 } else { 1.0 };
    println!("{:>10.0} ns  {name}", best / divisor);
}

/// Both sides, and an activity.
struct Pair {
    client: Client,
    daemon: Daemon,
    activity: client::ActivityKey,
    methods: Methods,
    now: Instant,
}

impl Pair {
    fn open(secured: bool) -> Self {
        let now = Instant::now();
        let mut config = client::Config::default();
        config.sp = if secured { SpMode::Required } else { SpMode::WhenAsked };
        let mut client = Client::new(config, Box::new(SystemRandom), now);
        let mut config = daemon::Config::default();
        if secured {
            let key = Arc::new(ServerKey::generate().unwrap());
            config.sp = SpPolicy::Required { key, weak: WeakSeeds::Refuse, timeout: Duration::from_secs(10) };
        }
        let daemon = Daemon::new(config, Box::new(SystemRandom), now);
        let activity = client.open(Open::new("Chat"), now).unwrap();
        let mut pair = Self { client, daemon, activity, methods: Methods::default(), now };
        loop {
            pair.carry();
            while let Some(event) = pair.daemon.poll_event() {
                match event {
                    daemon::Event::Create { key, .. } => {
                        pair.daemon.create(key, Ok(()));
                    }
                    daemon::Event::Verify { key, .. } => pair.daemon.verify(key, Ok(()), now),
                    _ => {}
                }
            }
            while let Some(event) = pair.client.poll_event() {
                match event {
                    client::Event::KeyOffered => pair.client.judge(true).unwrap(),
                    client::Event::Opened { .. } => return pair,
                    _ => {}
                }
            }
        }
    }

    /// Brings what was said to the other side, as bytes.
    fn carry(&mut self) {
        loop {
            let mut silent = true;
            while let Some(outgoing) = self.client.poll_outgoing() {
                silent = false;
                let mut message = BytesMut::with_capacity(256);
                outgoing.encode(&self.methods, &mut message).unwrap();
                self.daemon.receive(Incoming::Message(message.freeze()), self.now).unwrap();
            }
            while let Some(outgoing) = self.daemon.poll_outgoing() {
                silent = false;
                let mut message = BytesMut::with_capacity(256);
                outgoing.encode(&self.methods, &mut message).unwrap();
                self.client.receive(Incoming::Message(message.freeze()), self.now).unwrap();
            }
            if silent {
                return;
            }
        }
    }

    fn round_trip(&mut self, data: &Data, in_flight: usize) {
        for _ in 0..in_flight {
            let timeout = Duration::from_secs(5);
            self.client.call(self.activity, "Hello", data.clone(), timeout, self.now).unwrap();
        }
        self.carry();
        while let Some(event) = self.daemon.poll_event() {
            if let daemon::Event::Call { key, data, .. } = event {
                self.daemon.give(key, Ok(data.into()));
            }
        }
        self.carry();
        while let Some(event) = self.client.poll_event() {
            black_box(event);
        }
    }
}
