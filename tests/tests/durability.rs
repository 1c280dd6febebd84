//! A daemon that is killed at any moment, again and again, while users change and tokens come and go: every change that a client was told of is
//! there afterwards, the file opens, and no token works that was revoked before.
//!
//! `KILLS=200 cargo test -p tests --test durability` kills it two hundred times in place of ten.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "prints the figures")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nsp::authority::{Authority as _, Origin};
use nsp::client::Activity;
use nsp::{Client, Token};
use nsp_auth::Authority;
use nsp_auth::password::Cost;
use nsp_auth::user::Username;
use tests::{Chance, Process, in_time};
use tokio::task::JoinSet;

const PASSWORD: &str = "correct horse battery";

/// Who changes users at once, each its own.
const WORKERS: u64 = 4;

/// What was acknowledged of a user.
#[derive(Debug, Default, Clone)]
struct Known {
    locked: bool,
    deleted: bool,
    live: Vec<Token>,
    revoked: Vec<Token>,
    /// What was asked for and not acknowledged: it may have happened.
    pending: Option<&'static str>,
}

type Book = Arc<Mutex<BTreeMap<String, Known>>>;

/// Changes users until the daemon is gone.
async fn change(client: Client, users: Activity, book: Book, session: u64, worker: u64) {
    let mut chance = Chance(session << 8 | worker);
    for n in 0.. {
        let user = format!("user{session}x{worker}x{n}");
        let note = |pending, done: &dyn Fn(&mut Known)| {
            let mut book = book.lock().unwrap();
            let known = book.entry(user.clone()).or_default();
            done(known);
            known.pending = pending;
        };
        note(Some("create"), &|_| ());
        if users.call::<()>("create", &(&user, PASSWORD)).await.is_err() {
            return;
        }
        note(None, &|_| ());
        for _ in 0..chance.below(8) {
            let is_locked = book.lock().unwrap().get(&user).unwrap().locked;
            let what = match chance.below(5) {
                _ if is_locked => "unlock",
                0 => "lock",
                1 => "revoke",
                _ => "token",
            };
            note(Some(what), &|_| ());
            if what == "token" {
                let Ok(token) = client.token(&user, PASSWORD).await else { return };
                note(None, &|known| known.live.push(token.clone()));
                continue;
            }
            if users.call::<()>(what, &user).await.is_err() {
                return;
            }
            note(None, &|known| match what {
                "unlock" => known.locked = false,
                "lock" => {
                    known.locked = true;
                    known.live.clear();
                }
                _ => known.revoked.append(&mut known.live),
            });
        }
        if chance.below(4) == 0 {
            note(Some("delete"), &|_| ());
            if users.call::<()>("delete", &user).await.is_err() {
                return;
            }
            note(None, &|known| {
                known.deleted = true;
                known.revoked.append(&mut known.live);
            });
        }
    }
}

async fn open(path: &Path) -> Authority {
    let cheap = Cost { memory_kib: 8, passes: 1 };
    Authority::builder().cost(cheap).open(path).await.expect("the file opens")
}

/// Holds what the file says against what was acknowledged; gives how many facts were looked at.
async fn check(authority: &Authority, book: &BTreeMap<String, Known>) -> usize {
    let mut facts = 0;
    for (user, known) in book {
        let pending = |what: &[&str]| known.pending.is_some_and(|pending| what.contains(&pending));
        let found = authority.users().find(Username::parse(user).unwrap()).await.unwrap();
        match &found {
            None => assert!(
                known.deleted || pending(&["create", "delete"]),
                "{user} was acknowledged and is lost"
            ),
            Some(found) => {
                assert!(!known.deleted, "{user} was deleted and is there again");
                assert!(found.locked == known.locked || pending(&["lock", "unlock"]), "{user}: {known:?}");
            }
        }
        let judge = async |token: &Token| authority.judge_token(user, token, Origin::default()).await;
        for token in &known.live {
            let may_be_gone = pending(&["lock", "revoke", "delete"]);
            assert!(
                judge(token).await.is_ok() || may_be_gone,
                "a token of {user} was acknowledged and is lost"
            );
        }
        for token in &known.revoked {
            assert!(judge(token).await.is_err(), "a token of {user} was revoked and works");
        }
        facts += 2 + known.live.len() + known.revoked.len();
    }
    facts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemon_that_is_killed_at_any_moment_loses_no_change_and_revives_no_token() {
    let kills = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(10);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let mut all = BTreeMap::new();
    let (mut facts, mut pending) = (0, 0);
    for session in 0..kills {
        let daemon = Process::start(env!("CARGO_BIN_EXE_keeper"), 1000, &[path.to_str().unwrap()]);
        let book = Book::default();
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let client = Client::connect(daemon.said()).no_reconnect().await.unwrap();
            let users = client.activity("Users").open().await.unwrap();
            workers.spawn(change(client, users, Arc::clone(&book), session, worker));
        }
        let moment = Chance(session).below(300) as u64;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        drop(daemon); // SIGKILL
        in_time("the end of who changes", workers.join_all()).await;
        let book = Arc::into_inner(book).unwrap().into_inner().unwrap();
        let authority = open(&path).await;
        facts += check(&authority, &book).await;
        authority.close().await.unwrap();
        pending += book.values().filter(|known| known.pending.is_some()).count();
        all.extend(book);
    }
    let authority = open(&path).await;
    facts += check(&authority, &all).await;
    let tokens = all.values().map(|known| known.live.len() + known.revoked.len()).sum::<usize>();
    let revoked = all.values().map(|known| known.revoked.len()).sum::<usize>();
    println!(
        "| kills | {kills} |\n| users | {} |\n| tokens | {tokens} |\n| of them revoked | {revoked} |\n\
         | changes under way at a kill | {pending} |\n| facts looked at | {facts} |",
        all.len()
    );
    assert!(all.len() as u64 > kills && revoked > 0 && pending > 0);
}
