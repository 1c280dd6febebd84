//! Runs an NSP daemon and its clients for so long, with a bad network between them, and prints what became of what they said.
//!
//! ```text
//! soak SECONDS [CLIENTS]
//! ```
//!
//! Ends with 1 when something that was acknowledged is missing, or came twice.
#![allow(clippy::unwrap_used, reason = "a story's helper fails by panicking")]
#![allow(clippy::print_stdout, reason = "it is what it is for")]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tests::{Caller, Chance, Fault, Ledger, Patience, Plan, Proxy};
use tokio::task::JoinSet;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse::<u64>().expect("a number"));
    let seconds = numbers.next().unwrap_or(10);
    let clients = usize::try_from(numbers.next().unwrap_or(12)).unwrap();
    soak(Duration::from_secs(seconds), clients).await
}

async fn soak(time: Duration, clients: usize) -> ExitCode {
    let ledger = Arc::new(Ledger::default());
    let (handle, places) = ledger.serve(None).await;
    let stop = Arc::new(AtomicBool::new(false));
    let connections = Arc::new(AtomicU64::new(0));
    let mut proxies = Vec::new();
    for (scheme, port) in places {
        let connections = Arc::clone(&connections);
        let plan = move |number| {
            connections.fetch_add(1, Ordering::Relaxed);
            plan(u64::from(port) << 32 | number)
        };
        proxies.push((scheme, Proxy::planned(port, plan).await));
    }
    let patience = Patience { answer: Duration::from_secs(2), pause: Duration::from_millis(20) };
    let mut talking = JoinSet::new();
    for who in 0..clients {
        let (scheme, proxy) = proxies.get(who % proxies.len()).unwrap();
        let address = format!("{scheme}://127.0.0.1:{}", proxy.port());
        let caller = Caller { who, address, tls: None, patience };
        talking.spawn(Arc::clone(&ledger).converse(caller, Arc::clone(&stop)));
    }
    // What runs for the first time takes its memory; after a twentieth of the time it has.
    tokio::time::sleep(time / 20).await;
    let start = memory();
    tokio::time::sleep(time * 9 / 20).await;
    let middle = memory();
    tokio::time::sleep(time / 2).await;
    let end = memory();
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = talking.join_next().await {
        ended.unwrap();
    }
    // What is with the daemon already is still done.
    let mut patience = 100;
    while handle.stats().connections > 0 && patience > 0 {
        patience -= 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (received, twice, lost) = ledger.balance();
    let figures = &ledger.figures;
    let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
    let connections = read(&connections);
    println!("| what | count |\n|---|---|");
    for (what, count) in [
        ("seconds", time.as_secs()),
        ("clients, over `nsp`, `ws` and `noservice`", clients as u64),
        ("sent: data, calls and calls with blobs", read(&figures.sent)),
        ("acknowledged", read(&figures.acknowledged)),
        ("ended in an error", read(&figures.failed)),
        ("received", received),
        ("received twice", twice),
        ("lost of those acknowledged", lost),
        ("events that came", read(&figures.events)),
        ("connections made anew", connections - (clients as u64).min(connections)),
        ("clients given up and made anew", read(&figures.renewed)),
        ("memory at the start, KiB", start),
        ("memory in the middle, KiB", middle),
        ("memory at the end, KiB", end),
    ] {
        println!("| {what} | {count} |");
    }
    let sound = lost == 0 && twice == 0 && read(&figures.acknowledged) > 0 && connections > clients as u64;
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What happens to a connection: always something, sooner or later, or after a while all would have got the good ones and kept them.
fn plan(seed: u64) -> Plan {
    let mut chance = Chance(seed);
    let gentle = match chance.below(6) {
        0 => Fault::Split,
        1 | 2 => Fault::Delay,
        3 => Fault::Throttle(512),
        _ => Fault::None,
    };
    let mut at = || 10_u64.pow(3 + u32::try_from(chance.below(3)).unwrap()) + chance.below(40_000) as u64;
    let (here, there) = (at(), at());
    let end = match chance.below(6) {
        0 => Fault::Silence(here),
        1 => Fault::HalfClose(here),
        2 | 3 => Fault::Truncate(here),
        _ => Fault::Reset(here),
    };
    match chance.below(5) {
        // A partition: nothing goes either way, and nobody says so.
        0 => Plan { up: Fault::Silence(here), down: Fault::Silence(there), seed },
        1 | 2 => Plan { up: gentle, down: end, seed },
        _ => Plan { up: end, down: gentle, seed },
    }
}

/// Resident memory of this process, in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
