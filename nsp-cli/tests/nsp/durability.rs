//! The daemon is killed at any moment, again and again, while users change and tokens come and go over the wire: every change that a client was told
//! of is there afterwards, the file opens, and no token works that was revoked before.
//!
//! `KILLS=200 cargo test -p nsp-cli --test nsp durability -- --nocapture` kills it two hundred times in place of eight, and prints the figures.
#![allow(clippy::print_stdout, reason = "prints the figures")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nossock::transport::tls::ClientTls;
use nsp::authority::{Authority as _, Origin};
use nsp::client::{Activity, CallError, Login};
use nsp::{Client, Token};
use nsp_auth::Authority;
use nsp_auth::user::Username;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{Daemon, PASSWORD};

/// Who changes users at once, each its own.
const WORKERS: u64 = 4;

/// The longest time until a kill, in milliseconds.
const LATEST: u64 = 400;

/// Tokens that are shown to the daemon after each kill; all of them are held against the file.
const SHOWN: usize = 6;

const PATIENCE: Duration = Duration::from_secs(30);

/// Numbers that look like chance, and are the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % most
    }
}

/// What was acknowledged of a user.
#[derive(Debug, Default, Clone)]
struct Known {
    password: String,
    locked: bool,
    deleted: bool,
    live: Vec<Token>,
    revoked: Vec<Token>,
    /// What was asked for and not acknowledged: it may have happened.
    pending: Option<&'static str>,
}

impl Known {
    fn is_pending(&self, any_of: &[&str]) -> bool {
        self.pending.is_some_and(|pending| any_of.contains(&pending))
    }
}

type Book = Arc<Mutex<BTreeMap<String, Known>>>;

/// A daemon in a process of its own, and how to reach it.
fn start(folder: TempDir) -> (Daemon, ClientTls) {
    let args = ["--log", "error", "--open-registration", "1000000"];
    let daemon = Daemon::start_with(folder, "", &args, |_| {});
    let tls = ClientTls::builder().ca_file(daemon.file("ca.pem")).build().unwrap();
    (daemon, tls)
}

/// A client, unless the daemon is gone.
async fn connect(url: &str, tls: &ClientTls, login: Option<Login>) -> Option<Client> {
    let connector = Client::connect(url).tls(tls.clone()).no_reconnect();
    let connector = match login {
        Some(login) => connector.credentials(login),
        None => connector,
    };
    timeout(PATIENCE, connector.connect()).await.expect("it answers, or is gone").ok()
}

/// Waits for the answer; `None` when the daemon is gone. It refuses nothing of what is asked here.
fn acknowledged<T>(answer: Result<T, CallError>) -> Option<T> {
    match answer {
        Ok(value) => Some(value),
        Err(error @ (CallError::Failed(_) | CallError::SignIn)) => panic!("it was refused: {error}"),
        Err(_) => None,
    }
}

/// Changes users until the daemon is gone.
async fn change(url: String, tls: ClientTls, book: Book, session: u64, worker: u64) -> Option<()> {
    let somebody = connect(&url, &tls, None).await?;
    let token = acknowledged(somebody.token("admin", PASSWORD).await)?;
    let registering = somebody.activity("NoUser").open().await.ok()?;
    let admin = connect(&url, &tls, Some(Login::new("admin").token(token))).await?;
    let users = admin.activity("NoAdmin").owner("admin").open().await.ok()?;
    let mut chance = Chance(session << 8 | worker);
    for n in 0.. {
        let name = format!("user{session}x{worker}x{n}");
        let note = |pending, done: &dyn Fn(&mut Known)| {
            let mut book = book.lock().unwrap();
            let known = book.entry(name.clone()).or_default();
            done(known);
            known.pending = pending;
        };
        note(Some("create"), &|known| known.password = PASSWORD.to_owned());
        if n % 2 == 0 {
            let made = users.call::<Value>("addUser", &json!({"name": name, "password": PASSWORD})).await;
            acknowledged(made)?;
        } else {
            let user = json!({"un": name, "pw": PASSWORD, "cp": PASSWORD});
            let made = acknowledged(registering.call::<Value>("createUser", &user).await)?;
            assert_eq!(made["e"], Value::Null, "{made}");
        }
        note(None, &|_| ());
        for _ in 0..chance.below(8) {
            let known = book.lock().unwrap().get(&name).unwrap().clone();
            let what = match chance.below(6) {
                _ if known.locked => "unlockUser",
                0 => "lockUser",
                1 => "revokeTokens",
                2 => "setPassword",
                _ => "token",
            };
            note(Some(what), &|_| ());
            let other = format!("{PASSWORD} {}", chance.below(1 << 40));
            match what {
                "token" => {
                    let token = acknowledged(somebody.token(&name, known.password).await)?;
                    note(None, &|known| known.live.push(token.clone()));
                }
                "setPassword" => {
                    change_one(&users, what, &json!({"name": name, "password": other})).await?;
                    note(None, &|known| {
                        known.password = other.clone();
                        known.revoked.append(&mut known.live);
                    });
                }
                _ => {
                    change_one(&users, what, &json!({"name": name})).await?;
                    note(None, &|known| {
                        known.locked = match what {
                            "lockUser" => true,
                            "unlockUser" => false,
                            _ => known.locked,
                        };
                        if what != "unlockUser" {
                            known.revoked.append(&mut known.live);
                        }
                    });
                }
            }
        }
        if chance.below(4) == 0 {
            note(Some("removeUser"), &|_| ());
            change_one(&users, "removeUser", &json!({"name": name})).await?;
            note(None, &|known| {
                known.deleted = true;
                known.revoked.append(&mut known.live);
            });
        }
    }
    None
}

async fn change_one(users: &Activity, what: &str, argument: &Value) -> Option<()> {
    acknowledged(users.call::<Value>(what, argument).await).map(drop)
}

/// Holds what the file says against what was acknowledged; gives how many facts were looked at.
async fn check_file(path: &Path, book: &BTreeMap<String, Known>) -> usize {
    let authority = Authority::open(path).await.expect("the file opens");
    let mut facts = 0;
    for (user, known) in book {
        let found = authority.users().find(Username::parse(user).unwrap()).await.unwrap();
        match &found {
            None => assert!(
                known.deleted || known.is_pending(&["create", "removeUser"]),
                "{user} was acknowledged and is lost"
            ),
            Some(found) => {
                assert!(!known.deleted, "{user} was removed and is there again");
                assert!(
                    found.locked == known.locked || known.is_pending(&["lockUser", "unlockUser"]),
                    "{user}: {known:?}"
                );
            }
        }
        let judge = async |token: &Token| authority.judge_token(user, token, Origin::default()).await.is_ok();
        for token in &known.live {
            let may_be_gone = known.is_pending(&["lockUser", "revokeTokens", "setPassword", "removeUser"]);
            assert!(judge(token).await || may_be_gone, "a token of {user} was acknowledged and is lost");
        }
        for token in &known.revoked {
            assert!(!judge(token).await, "a token of {user} was revoked and works");
        }
        facts += 2 + known.live.len() + known.revoked.len();
    }
    authority.close().await.unwrap();
    facts
}

/// Shows some of the tokens to the daemon itself, as their users would.
async fn check_served(url: &str, tls: &ClientTls, book: &BTreeMap<String, Known>) -> usize {
    let settled = book.iter().filter(|(_, known)| known.pending.is_none());
    let tokens = settled.flat_map(|(user, known)| {
        let live = known.live.iter().map(|token| (token, true)).take(1);
        let revoked = known.revoked.iter().map(|token| (token, false)).take(1);
        live.chain(revoked).map(move |(token, is_live)| (user, token, is_live))
    });
    let mut shown = 0;
    for (user, token, is_live) in tokens.take(SHOWN) {
        let login = Login::new(user.as_str()).token(token.clone());
        let client = connect(url, tls, Some(login)).await.expect("it serves");
        let me = client.activity("NoAdmin").owner(user.as_str()).open().await.unwrap();
        let whoami = timeout(PATIENCE, me.call::<Value>("whoami", &())).await.expect("an answer");
        assert_eq!(whoami.is_ok(), is_live, "{user}: {whoami:?}");
        client.close().await;
        shown += 1;
    }
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemon_that_is_killed_at_any_moment_loses_no_change_and_revives_no_token() {
    let kills = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8);
    let mut folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/nsp.db");
    let mut all = BTreeMap::new();
    let mut before = BTreeMap::new();
    let (mut facts, mut pending) = (0, 0);
    for session in 0..kills {
        let (daemon, tls) = start(folder);
        facts += check_served(daemon.url(), &tls, &before).await;
        let book = Book::default();
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let url = daemon.url().to_owned();
            workers.spawn(change(url, tls.clone(), Arc::clone(&book), session, worker));
        }
        let moment = 100 + Chance(session).below(LATEST - 100);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        folder = daemon.kill();
        timeout(PATIENCE, workers.join_all()).await.expect("who changes learns that the daemon is gone");
        let book = Arc::into_inner(book).unwrap().into_inner().unwrap();
        facts += check_file(&path, &book).await;
        pending += book.values().filter(|known| known.pending.is_some()).count();
        all.extend(book.clone());
        before = book;
    }
    facts += check_file(&path, &all).await;
    let tokens = all.values().map(|known| known.live.len() + known.revoked.len()).sum::<usize>();
    let revoked = all.values().map(|known| known.revoked.len()).sum::<usize>();
    println!(
        "| kills | {kills} |\n| users | {} |\n| tokens | {tokens} |\n| of them revoked | {revoked} |\n\
         | changes under way at a kill | {pending} |\n| facts looked at | {facts} |",
        all.len()
    );
    assert!(all.len() as u64 > kills && tokens > 0 && pending > 0, "hardly anything was changed");
}
