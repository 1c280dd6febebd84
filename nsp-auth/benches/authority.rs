//! What it costs to know who somebody is.
//!
//! `cargo bench -p nsp-auth --bench authority`. A million tokens lie in SQLite; checks are one after the other on one thread, then by as many callers as the store has
//! use for. Logins are measured against what the hash alone costs: more than that cannot be had.
//!
//! Where other programs run, count instructions and cache misses of checks alone:
//!
//! ```text
//! target/release/deps/authority-… --fill /tmp/bench.db 50000
//! valgrind --tool=callgrind --toggle-collect='*checks*' --cache-sim=yes target/release/deps/authority-… --count /tmp/bench.db 50000
//! ```
//!
//! checks each of 50,000 tokens in the cache ten times; with 1 at the end, the same one half a million times.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it is a program that prints a table")]

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nsp::Token;
use nsp::authority::{Authority as _, Origin};
use nsp_auth::Authority;
use nsp_auth::password::Cost;
use nsp_auth::token::TokenHash;
use nsp_auth::user::Username;
use nsp_auth::users::NewUser;

const TOKENS: usize = 1_000_000;
const USERS: usize = 1_000;
const PASSWORD: &str = "correct horse battery";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match arguments[..] {
        ["--test", ..] => return,
        ["--fill", path, tokens, ..] => {
            return runtime.block_on(fill(path.as_ref(), tokens.parse().unwrap()));
        }
        ["--count", path, tokens, ..] => return runtime.block_on(count(path, tokens.parse().unwrap())),
        _ => {}
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    runtime.block_on(async {
        let begin = Instant::now();
        fill(&path, TOKENS).await;
        println!(
            "{:>10.1} s   filling the database with {TOKENS} tokens of {USERS} users",
            begin.elapsed().as_secs_f64()
        );
        let begin = Instant::now();
        let authority = Authority::open(&path).await.unwrap();
        println!("{:>10.1} ms  opening it", begin.elapsed().as_secs_f64() * 1e3);
        tokens(&authority).await;
        logins(&authority).await;
        authority.close().await.unwrap();
    });
}

/// The token with that number: as long as a real one.
fn token(n: usize) -> Token {
    Token::new(format!("{n:043}"))
}

fn user(n: usize) -> String {
    format!("user{:04}", n % USERS)
}

/// Checks as many tokens as in the cache, half a million times in all.
async fn count(path: &str, tokens: usize) {
    let authority = Authority::open(path).await.unwrap();
    for n in 0..tokens {
        judge(&authority, n).await;
    }
    let many = shuffled(tokens);
    for _ in 0..500_000 / tokens {
        checks(&authority, &many);
    }
    authority.close().await.unwrap();
}

/// The first so many tokens with their users, in no order: so that nothing foresees what is looked up next.
fn shuffled(tokens: usize) -> Vec<(String, Token)> {
    let mut many: Vec<_> = (0..tokens).map(|n| (user(n), token(n))).collect();
    many.sort_by_key(|(_, token)| TokenHash::of(token).as_bytes().iter().rev().copied().collect::<Vec<_>>());
    many
}

/// Nothing but checks, under a name by which they can be told from what is around them.
#[inline(never)]
fn checks(authority: &Authority, many: &[(String, Token)]) {
    for (user, token) in many {
        let answer = authority.judge_token(user, token, Origin::default());
        assert!(matches!(black_box(answer), nsp::authority::Answer::Now(Some(Ok(_)))));
    }
}

/// Users come by the front door, tokens by the back: a million logins would take hours.
async fn fill(path: &std::path::Path, tokens: usize) {
    let authority = Authority::builder().cost(Cost { memory_kib: 8, passes: 1 }).open(path).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..USERS {
        let new = NewUser::new(Username::parse(&user(n)).unwrap(), PASSWORD.into());
        ids.push(authority.users().create(new).await.unwrap().id);
    }
    authority.close().await.unwrap();
    let mut database = rusqlite::Connection::open(path).unwrap();
    let transaction = database.transaction().unwrap();
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let day = 24 * 60 * 60 * 1000;
    // A little ahead, so that no check finds the last use a minute ago and writes down another one.
    let used = now + 15 * 60 * 1000;
    {
        let mut insert = transaction
            .prepare("INSERT INTO tokens (hash, user, label, created, last_used, expires, idle) VALUES (?1, ?2, 'bench', ?3, ?6, ?4, ?5)")
            .unwrap();
        // In the order of their hashes, which is the order of the table: the other way it takes minutes.
        let mut tokens: Vec<_> = (0..tokens).map(|n| (*TokenHash::of(&token(n)).as_bytes(), n)).collect();
        tokens.sort_unstable();
        for (hash, n) in tokens {
            let id = *ids.get(n % USERS).unwrap().as_bits();
            insert.execute(rusqlite::params![hash, id, now, now + 90 * day, 30 * day, used]).unwrap();
        }
    }
    transaction.commit().unwrap();
}

async fn tokens(authority: &Authority) {
    // One that is in the cache.
    judge(authority, 0).await;
    let same = vec![(user(0), token(0)); 1000];
    best("check of a token in the cache, 1 thread", 500 * same.len(), || {
        for _ in 0..500 {
            checks(authority, &same);
        }
    });
    // As many as the cache holds.
    let many = shuffled(50_000);
    for n in 0..many.len() {
        judge(authority, n).await;
    }
    best("check of one of 50,000 in the cache, in no order", 10 * many.len(), || {
        for _ in 0..10 {
            checks(authority, &many);
        }
    });
    best("privilege of a user in the cache", 100_000, || {
        for _ in 0..100_000 {
            let answer = authority.privilege(black_box("user0000"));
            assert!(matches!(black_box(answer), nsp::authority::Answer::Now(Some(Ok(_)))));
        }
    });
    // Tokens that were never seen: each is read from SQLite.
    for callers in [1, 64] {
        let (begin, each) = (Instant::now(), 64_000 / callers);
        let mut tasks = tokio::task::JoinSet::new();
        for caller in 0..callers {
            let authority = authority.clone();
            let first = if callers == 1 { 100_000 } else { 300_000 } + caller * each;
            tasks.spawn(async move {
                for n in first..first + each {
                    judge(&authority, n).await;
                }
            });
        }
        tasks.join_all().await;
        row(&format!("check of a token in SQLite, {callers} at once"), begin.elapsed(), each * callers);
    }
}

async fn judge(authority: &Authority, n: usize) {
    let (user, token) = (user(n), token(n));
    authority.judge_token(&user, &token, Origin::default()).await.unwrap();
}

const LOGINS: usize = 100;

async fn logins(authority: &Authority) {
    let cores = std::thread::available_parallelism().unwrap().get();
    // The first login of each replaces the cheap hash they were made with.
    row("first logins, which replace the hash", sign_in_all(authority, cores).await, LOGINS);
    // In turn, and the best of each: the neighbours do not keep still for a comparison.
    let (mut alone, mut logins) = (Duration::MAX, Duration::MAX);
    for _ in 0..5 {
        alone = alone.min(hash_all(cores));
        logins = logins.min(sign_in_all(authority, cores).await);
    }
    row(&format!("Argon2id alone, on {cores} cores"), alone, LOGINS);
    row("logins", logins, LOGINS);
    println!("{:>10.0} %   of what the hash permits", alone.as_secs_f64() / logins.as_secs_f64() * 100.0);
}

/// What the hashes of so many logins cost, with nothing around them.
fn hash_all(cores: usize) -> Duration {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                for _ in 0..LOGINS / cores {
                    let mut output = [0_u8; 32];
                    argon2::Argon2::default()
                        .hash_password_into(PASSWORD.as_bytes(), &[7; 16], &mut output)
                        .unwrap();
                    black_box(output);
                }
            });
        }
    });
    begin.elapsed()
}

async fn sign_in_all(authority: &Authority, cores: usize) -> Duration {
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..LOGINS {
        // Not all at once: the queue is bounded.
        while tasks.len() >= 4 * cores {
            tasks.join_next().await;
        }
        let authority = authority.clone();
        tasks.spawn(async move {
            let password = Some(PASSWORD.into());
            authority.sign_in(&user(n), password, Origin::default()).await.unwrap();
        });
    }
    tasks.join_all().await;
    begin.elapsed()
}

/// The best of five, in time of the processor: on a shared machine all else measures the neighbours.
fn best(name: &str, count: usize, mut work: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let begin = worked();
        work();
        best = best.min(worked() - begin);
    }
    row(name, best, count);
}

/// For how long a processor has worked for this thread; where the system does not say it, how long it is since the first look.
fn worked() -> Duration {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos.map_or_else(|| BEGIN.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

fn row(name: &str, time: Duration, count: usize) {
    let each = time.as_secs_f64() / f64::from(u32::try_from(count).unwrap());
    println!("{:>10.0} ns  {name}: {:.0} a second", each * 1e9, 1.0 / each);
}
