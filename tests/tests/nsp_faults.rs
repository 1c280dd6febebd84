//! An NSP client and a daemon with a bad network between them, over every carrier that goes over TCP: connections are lost and come back,
//! activities are opened again, and whatever happens no answer is another one's, nothing comes twice, what was acknowledged is there, and
//! everything else ends in a clean error ([`Ledger::converse`] looks at all of it).
//!
//! The last of the plans is a partition: nothing goes either way, and nobody says so. A partition of namespaces does the same to a socket,
//! and needs rights that a test does not have.
//!
//! `FAULTS=20 cargo test -p tests --test nsp_faults` runs twenty seeds of each fault instead of one.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "names the case when one fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nossock::transport::tls::{ALPN, ClientTls, ServerTls};
use nsp::carrier::WEB_ALPN;
use tests::{Caller, Certificates, Chance, Fault, Ledger, Patience, Plan, Proxy, in_time};
use tokio::task::JoinSet;

/// How long one conversation goes on: long enough for connections to be cut several times.
const TIME: Duration = Duration::from_millis(2500);

fn plans(seed: u64, is_tls: bool) -> Vec<Plan> {
    let mut chance = Chance(seed);
    // The handshakes and the opening lie in front, most of the conversation behind.
    let mut at = || 100 * 6_u64.pow(u32::try_from(chance.below(4)).unwrap()) + chance.below(300) as u64;
    let mut plans = vec![Plan { up: Fault::None, down: Fault::None, seed }];
    for fault in [Fault::Split, Fault::Delay, Fault::Throttle(512)] {
        plans.push(Plan { up: fault, down: fault, seed });
    }
    let harsh: [fn(u64) -> Fault; 5] =
        [Fault::Silence, Fault::HalfClose, Fault::Truncate, Fault::Reset, Fault::Corrupt];
    // In clear a bit that was turned on the way is a value like any other.
    for fault in harsh.into_iter().take(if is_tls { 5 } else { 4 }) {
        plans.push(Plan { up: fault(at()), down: Fault::Delay, seed });
        plans.push(Plan { up: Fault::None, down: fault(at()), seed });
    }
    let at = at();
    plans.push(Plan { up: Fault::Silence(at), down: Fault::Silence(at), seed });
    plans
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_network_between_client_and_daemon_loses_and_mixes_up_nothing() {
    let seeds = std::env::var("FAULTS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1);
    let certificates = Certificates::new();
    let tls = ServerTls::builder(certificates.server().identity()).alpn([ALPN, WEB_ALPN]).build().unwrap();
    let ledger = Arc::new(Ledger::default());
    let (handle, places) = ledger.serve(Some(tls)).await;
    let mut cases = JoinSet::new();
    let mut who = 0;
    for seed in 0..seeds {
        for (scheme, port) in &places {
            let is_tls = scheme.ends_with('s') && *scheme != "ws";
            for plan in plans(seed, is_tls) {
                let name = format!("{who}: {scheme} {plan:?}");
                let tls = is_tls.then(|| {
                    let alpn = if *scheme == "wss" { WEB_ALPN } else { ALPN };
                    ClientTls::builder().ca_file(certificates.ca()).alpn([alpn]).build().unwrap()
                });
                cases.spawn(case(Arc::clone(&ledger), name, scheme, *port, tls, who, plan));
                who += 1;
                if cases.len() >= 24 {
                    cases.join_next().await.unwrap().unwrap();
                }
            }
        }
    }
    while let Some(case) = cases.join_next().await {
        case.unwrap();
    }
    let gone = async {
        while handle.stats().connections > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    in_time("the end of all connections", gone).await;
    let (received, twice, lost) = ledger.balance();
    assert_eq!((twice, lost), (0, 0), "of {received}: twice, lost");
    let figures = &ledger.figures;
    let failed = figures.failed.load(Ordering::Relaxed);
    println!("{received} received, {failed} failed, {figures:?}");
    // A network that hurts nobody would prove nothing.
    assert!(failed > 20 && figures.gaps.load(Ordering::Relaxed) > 5, "{figures:?}");
}

async fn case(
    ledger: Arc<Ledger>,
    name: String,
    scheme: &'static str,
    port: u16,
    tls: Option<ClientTls>,
    who: usize,
    plan: Plan,
) {
    println!("{name}");
    let proxy = Proxy::planned(port, move |number| Plan { seed: plan.seed ^ (number << 32), ..plan }).await;
    let host = if tls.is_some() { "localhost" } else { "127.0.0.1" };
    let address = format!("{scheme}://{host}:{}", proxy.port());
    let patience = Patience { answer: Duration::from_secs(2), pause: Duration::from_millis(5) };
    let stop = Arc::new(AtomicBool::new(false));
    let caller = Caller { who, address, tls, patience };
    let talking = tokio::spawn(Arc::clone(&ledger).converse(caller, Arc::clone(&stop)));
    tokio::time::sleep(TIME).await;
    stop.store(true, Ordering::Relaxed);
    in_time(&name, talking).await.unwrap();
}
