//! What was acknowledged survives the death of the process.
//!
//! The test starts itself again as a child, which changes users and says so, line by line, after each change was acknowledged.
//! In the middle it is killed in a way that leaves it no time for anything.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use nsp_auth::users::NewUser;

use crate::common::{PASSWORD, builder, login, name};

const FOLDER: &str = "NSP_AUTH_DURABILITY_FOLDER";
const CHANGES: usize = 1000;

/// The child: 1,000 changes, eight at a time, so that some share a transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_changes_users() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let authority = builder().open(std::path::Path::new(&folder).join("users.db")).await.unwrap();
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..8 {
        let users = authority.users().clone();
        workers.spawn(async move {
            for n in (worker..CHANGES).step_by(8) {
                let user = name(&format!("user{n:04}"));
                users.create(NewUser::new(user.clone(), PASSWORD.into())).await.unwrap();
                let said = if n % 4 == 0 {
                    users.lock(&user).await.unwrap();
                    format!("locked {user}")
                } else {
                    format!("created {user}")
                };
                // One write, so that a line is whole or not there.
                std::io::stdout().write_all(format!("acknowledged {said}\n").as_bytes()).unwrap();
            }
        });
    }
    workers.join_all().await;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_thousand_changes_loses_none_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "durability::child_that_changes_users", "--nocapture"])
        .env(FOLDER, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut acknowledged = BTreeMap::new();
    let mut killed = false;
    for line in lines {
        let Some(said) = line.split("acknowledged ").nth(1) else { continue };
        let (what, user) = said.split_once(' ').unwrap();
        acknowledged
            .entry(user.to_owned())
            .and_modify(|locked| *locked |= what == "locked")
            .or_insert(what == "locked");
        if acknowledged.len() == 1 {
            // Two daemons on one file: the second is told, and the first goes on.
            let error = builder().open(folder.path().join("users.db")).await.unwrap_err().to_string();
            assert!(error.ends_with("users.db is in use by another daemon or program"), "{error}");
        }
        if acknowledged.len() == CHANGES / 2 && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    assert!(!child.wait().unwrap().success());
    assert!(killed && acknowledged.len() < 3 * CHANGES / 4, "{} changes", acknowledged.len());

    // The lock went with the process, the file opens, and everything is there.
    let authority = builder().open(folder.path().join("users.db")).await.unwrap();
    for (user, locked) in &acknowledged {
        let found = authority.users().find(name(user)).await.unwrap();
        let found = found.unwrap_or_else(|| panic!("{user} was acknowledged and is lost"));
        assert!(found.locked || !locked, "the lock of {user} was acknowledged and is lost");
    }
    let (user, _) = acknowledged.iter().find(|(_, locked)| !**locked).unwrap();
    login(&authority, user, PASSWORD).await.unwrap();
}
