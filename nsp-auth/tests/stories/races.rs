//! Checks and revocations at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nsp::authority::Denied;

use crate::common::{builder, judge, name, with_user};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_token_that_was_revoked_is_good_for_nothing_however_many_are_looking_it_up() {
    let folder = tempfile::tempdir().unwrap();
    let authority = builder().open(folder.path().join("users.db")).await.unwrap();
    with_user(&authority, "alice").await;
    for round in 0..60 {
        let (token, record) = authority.users().issue_token(name("alice"), "race").await.unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let mut lookers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (authority, token, done) = (authority.clone(), token.clone(), done.clone());
            lookers.spawn(async move {
                while !done.load(Ordering::Acquire) {
                    // Good or not: it is being revoked.
                    let _ = judge(&authority, "alice", &token).await;
                    tokio::task::yield_now().await;
                }
            });
        }
        // Sometimes before the first look-up is over, sometimes long after.
        for _ in 0..round % 7 {
            tokio::task::yield_now().await;
        }
        if round % 2 == 0 {
            authority.users().revoke_token(name("alice"), record.id()).await.unwrap();
        } else {
            authority.users().lock(name("alice")).await.unwrap();
        }
        // From here on, for good.
        for _ in 0..20 {
            assert_eq!(judge(&authority, "alice", &token).await, Err(Denied::Wrong), "in round {round}");
        }
        done.store(true, Ordering::Release);
        lookers.join_all().await;
        assert_eq!(judge(&authority, "alice", &token).await, Err(Denied::Wrong));
        authority.users().unlock(name("alice")).await.unwrap();
    }
}
