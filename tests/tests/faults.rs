//! A client and a server with a bad network between them: whatever it does, no answer goes to the wrong caller, no message comes twice
//! or out of order, and whoever waits gets an answer or an error.
//!
//! `FAULTS=100 cargo test -p tests --test faults` runs a hundred seeds of each fault instead of two.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "names the case when one fails")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use nossock::transport::tls::{ClientTls, ServerTls};
use nossock::{
    Config, Connector, Json, Limits, Raw, Reject, RequestError, Router, SendError, Server, Socket, State,
};
use tests::{Certificates, Chance, Fault, Plan, Proxy, in_time, pattern};
use tokio::task::JoinSet;

/// Messages, requests and buffers of one conversation.
const ROUNDS: u64 = 60;

/// What the server has seen of each client, by the number that the client gave itself.
type Seen = Arc<Mutex<HashMap<u64, Vec<u64>>>>;

struct World {
    port: u16,
    seen: Seen,
    tls: Option<ClientTls>,
    _certificates: Option<Certificates>,
}

/// Time for a request where the network is slow, and where it is broken.
const PATIENT: Duration = Duration::from_secs(20);
const IMPATIENT: Duration = Duration::from_secs(2);

fn config() -> Config {
    let limits = Limits {
        close_grace: Duration::from_millis(300),
        frame_time: Duration::from_secs(10),
        // A record of TLS that comes byte by byte is nothing heard until it is whole.
        ping_after: Duration::from_secs(2),
        ping_wait: Duration::from_secs(4),
        ..Limits::default()
    };
    Config { limits, ..Config::default() }
}

impl World {
    async fn start(over_tls: bool) -> Self {
        let seen = Seen::default();
        let router = Router::with_state(Arc::clone(&seen))
            .on("note", async |Json((who, n)): Json<(u64, u64)>, State(seen): State<Seen>| {
                seen.lock().unwrap().entry(who).or_default().push(n);
            })
            .on_request("double", async |Json(n): Json<u64>| -> Result<u64, Reject> {
                for _ in 0..n % 5 {
                    tokio::task::yield_now().await;
                }
                if n % 7 == 0 { Err(Reject::new("seventh", n.to_string())) } else { Ok(2 * n) }
            })
            .on_request("back", async |bytes: Bytes| Raw(bytes))
            .on_connect(async |socket: Socket| {
                for n in 0..ROUNDS {
                    if socket.send("tick", &n).await.is_err() {
                        break;
                    }
                }
            });
        let certificates = over_tls.then(Certificates::new);
        let builder = match &certificates {
            Some(certificates) => {
                let tls = ServerTls::new(certificates.server().identity()).unwrap();
                Server::bind("tls://127.0.0.1:0").unwrap().tls(tls)
            }
            None => Server::bind("tcp://127.0.0.1:0").unwrap(),
        };
        let server = builder.config(config()).listen().await.unwrap();
        let port = server.address().to_string().rsplit(':').next().unwrap().parse().unwrap();
        tokio::spawn(server.serve(router));
        let client =
            |certificates: &Certificates| ClientTls::builder().ca_file(certificates.ca()).build().unwrap();
        Self { port, seen, tls: certificates.as_ref().map(client), _certificates: certificates }
    }

    fn connector(&self, port: u16, request_timeout: Duration) -> Connector {
        let connector = match &self.tls {
            Some(tls) => Connector::new(format!("tls://localhost:{port}").as_str()).unwrap().tls(tls.clone()),
            None => Connector::new(SocketAddr::from(([127, 0, 0, 1], port))).unwrap(),
        };
        connector.config(Config { request_timeout, ..config() })
    }
}

/// What a conversation came to.
#[derive(Debug, Default)]
struct Outcome {
    answered: usize,
    failed: usize,
    /// What the client was sent, in the order in which it came.
    ticks: Vec<u64>,
}

/// One conversation; panics when an answer is another one's.
async fn converse(world: &World, port: u16, who: u64, (sound, time): (bool, Duration)) -> Outcome {
    let ticks = Arc::new(Mutex::new(Vec::new()));
    let router = Router::with_state(Arc::clone(&ticks)).on(
        "tick",
        async |Json(n): Json<u64>, State(ticks): State<Arc<Mutex<Vec<u64>>>>| {
            ticks.lock().unwrap().push(n);
        },
    );
    let mut outcome = Outcome::default();
    let Ok(socket) = world.connector(port, time).connect_routed(router).await else {
        outcome.failed = 1;
        return outcome;
    };
    let mut asking = JoinSet::new();
    for n in 0..ROUNDS {
        // Full is no way for it to end, and closed is.
        if let Err(error) = socket.send("note", &(who, n)).await {
            assert!(matches!(error, SendError::Closed(_)), "{error}");
            outcome.failed += 1;
            break;
        }
        let socket = socket.clone();
        asking.spawn(async move { ask(&socket, n, sound, time).await });
    }
    while let Some(answered) = asking.join_next().await {
        if answered.unwrap() {
            outcome.answered += 1;
        } else {
            outcome.failed += 1;
        }
    }
    let _ = socket.close().await;
    let ticks = ticks.lock().unwrap();
    outcome.ticks.clone_from(&ticks);
    outcome
}

async fn ask(socket: &Socket, n: u64, sound: bool, time: Duration) -> bool {
    if n % 6 == 5 {
        let bytes = pattern(usize::try_from(n).unwrap() * 20);
        let body = nossock::wire::Body::Raw(Bytes::from(bytes.clone()));
        return match socket.request_raw(time, "back", body).await {
            Ok(value) => {
                assert!(!sound || value.into_body().as_bytes()[..] == bytes[..], "another one's buffer");
                true
            }
            Err(error) => is_clean(&error, sound),
        };
    }
    match socket.request::<u64, _>("double", &n).await {
        Ok(value) => {
            assert!(!sound || value == 2 * n && !n.is_multiple_of(7), "{n} was answered with {value}");
            true
        }
        Err(RequestError::Rejected { reject, .. }) if reject.code() == Some("seventh") => {
            assert!(
                !sound || reject.message() == Some(n.to_string().as_str()) && n.is_multiple_of(7),
                "{n}: {reject}"
            );
            true
        }
        Err(error) => is_clean(&error, sound),
    }
}

/// An error is one of those that say what happened. Where a bit was turned, anything may be said.
fn is_clean(error: &RequestError, sound: bool) -> bool {
    let named = matches!(
        error,
        RequestError::Closed { .. }
            | RequestError::TimedOut { .. }
            | RequestError::NotSent(SendError::Closed(_))
    );
    assert!(named || !sound, "{error:?}");
    false
}

fn seeds() -> u64 {
    std::env::var("FAULTS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(2)
}

/// Every fault in every direction, with numbers from the seed.
fn plans(seed: u64) -> Vec<Plan> {
    let mut chance = Chance(seed);
    // The hellos and the handshake lie in front, most of the conversation behind.
    let mut at = || 40 * 8_u64.pow(u32::try_from(chance.below(4)).unwrap()) + chance.below(300) as u64;
    let mut plans = vec![Plan { up: Fault::None, down: Fault::None, seed }];
    let gentle = [Fault::Split, Fault::Delay, Fault::Throttle(512)];
    let harsh: [fn(u64) -> Fault; 5] =
        [Fault::Corrupt, Fault::Silence, Fault::HalfClose, Fault::Truncate, Fault::Reset];
    for fault in gentle {
        plans.push(Plan { up: fault, down: fault, seed });
    }
    for fault in harsh {
        plans.push(Plan { up: fault(at()), down: Fault::None, seed });
        plans.push(Plan { up: Fault::None, down: fault(at()), seed });
        plans.push(Plan { up: Fault::Delay, down: fault(at()), seed });
    }
    plans
}

fn is_gentle(fault: Fault) -> bool {
    matches!(fault, Fault::None | Fault::Split | Fault::Delay | Fault::Throttle(_))
}

async fn run(over_tls: bool) {
    let world = Arc::new(World::start(over_tls).await);
    let bystander = world.connector(world.port, PATIENT).connect().await.unwrap();
    let mut cases = JoinSet::new();
    let mut harsh = Outcome::default();
    let mut count = |outcome: Option<Outcome>| {
        if let Some(outcome) = outcome {
            harsh.answered += outcome.answered;
            harsh.failed += outcome.failed;
        }
    };
    let mut who = 0;
    for seed in 0..seeds() {
        for plan in plans(seed) {
            who += 1;
            let world = Arc::clone(&world);
            cases.spawn(async move { case(&world, who, plan).await });
            if cases.len() >= 16 {
                count(cases.join_next().await.unwrap().unwrap());
            }
        }
    }
    while let Some(case) = cases.join_next().await {
        count(case.unwrap());
    }
    // A network that hurts nobody would prove nothing.
    assert!(harsh.failed > harsh.answered / 10 && harsh.answered > 0, "{harsh:?}");
    // Nobody else has noticed.
    assert_eq!(bystander.request::<u64, _>("double", &4).await.unwrap(), 8);
    bystander.close().await.unwrap();
}

/// Runs one case; gives what a harsh one came to.
async fn case(world: &World, who: u64, plan: Plan) -> Option<Outcome> {
    println!("{who}: {plan:?}");
    // TCP itself has no way to see that a bit was turned; TLS has.
    let sound = world.tls.is_some()
        || !matches!((plan.up, plan.down), (Fault::Corrupt(_), _) | (_, Fault::Corrupt(_)));
    let gentle = is_gentle(plan.up) && is_gentle(plan.down);
    let time = if gentle { PATIENT } else { IMPATIENT };
    let proxy = Proxy::start(world.port, plan).await;
    let what = format!("{plan:?}");
    let outcome = in_time(&what, converse(world, proxy.port(), who, (sound, time))).await;
    if gentle {
        assert_eq!((outcome.answered, outcome.failed), (usize::try_from(ROUNDS).unwrap(), 0), "{plan:?}");
    }
    if !sound {
        return None;
    }
    let seen = world.seen.lock().unwrap().remove(&who).unwrap_or_default();
    for (what, numbers) in [("notes", &seen), ("ticks", &outcome.ticks)] {
        let expected: Vec<u64> = (0..numbers.len() as u64).collect();
        assert_eq!(numbers, &expected, "{what} of {plan:?}: in order, none twice, none left out");
    }
    if is_gentle(plan.up) {
        assert!(!is_gentle(plan.down) || seen.len() as u64 == ROUNDS, "{plan:?}: {} notes", seen.len());
    }
    (!gentle).then_some(outcome)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_network_over_tcp_mixes_nothing_up() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_network_over_tls_mixes_nothing_up_and_corrupts_nothing() {
    run(true).await;
}
