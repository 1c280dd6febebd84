//! Clocks that are wrong, and are set right.

use std::time::Duration;

use nsp::authority::{Authority as _, Denied};
use nsp_auth::store::Memory;

use crate::common::{DAY, Hand, PASSWORD, builder, from, judge, login, name, with_user};

#[tokio::test]
async fn a_clock_that_is_ahead_for_a_while_throws_no_token_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let hand = Hand::default();
    let authority = builder().clock(hand.clone()).open(&path).await.unwrap();
    with_user(&authority, "alice").await;
    with_user(&authority, "bobby").await;
    let token = login(&authority, "alice", PASSWORD).await.unwrap();
    hand.jump_forward(DAY * 365);
    assert_eq!(judge(&authority, "alice", &token).await, Err(Denied::Wrong));
    // A login has what is too old swept away.
    login(&authority, "bobby", PASSWORD).await.unwrap();
    hand.jump_back(DAY * 365);
    authority.close().await.unwrap();
    let authority = builder().clock(hand.clone()).open(&path).await.unwrap();
    assert_eq!(authority.users().tokens(name("alice")).await.unwrap().len(), 1);
    assert!(judge(&authority, "alice", &token).await.is_ok());
}

#[tokio::test]
async fn no_jump_of_a_clock_leaves_a_token_that_a_lock_does_not_end() {
    let hand = Hand::default();
    let authority = builder().clock(hand.clone()).open_store(Memory::new()).await.unwrap();
    with_user(&authority, "alice").await;
    with_user(&authority, "bobby").await;
    let token = login(&authority, "alice", PASSWORD).await.unwrap();
    judge(&authority, "alice", &token).await.unwrap();
    hand.jump_forward(DAY * 365);
    login(&authority, "bobby", PASSWORD).await.unwrap();
    hand.jump_back(DAY * 365);
    authority.users().lock(name("alice")).await.unwrap();
    assert_eq!(judge(&authority, "alice", &token).await, Err(Denied::Wrong), "it is still in the cache");
}

#[tokio::test]
async fn a_clock_that_jumps_neither_waives_a_wait_nor_makes_it_longer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let hand = Hand::default();
    let authority = builder().clock(hand.clone()).open(&path).await.unwrap();
    with_user(&authority, "alice").await;
    for _ in 0..5 {
        let wrong = authority.sign_in("alice", Some("wrong".into()), from("192.0.2.1")).await;
        assert_eq!(wrong, Err(Denied::Wrong));
    }
    let right = async |authority: &nsp_auth::Authority| {
        authority.sign_in("alice", Some(PASSWORD.into()), from("192.0.2.1")).await
    };
    let throttled = Err(Denied::Throttled { retry_after: Duration::from_secs(1) });
    hand.jump_back(DAY * 3650);
    assert_eq!(right(&authority).await, throttled, "set back while it runs");
    // Set back while it does not: those failures lie in the future, and count as of now.
    authority.close().await.unwrap();
    let authority = builder().clock(hand.clone()).open(&path).await.unwrap();
    assert_eq!(right(&authority).await, throttled);
    hand.pass(Duration::from_secs(1));
    assert!(right(&authority).await.is_ok());
    authority.close().await.unwrap();
    // Ten years ahead, and right again.
    hand.jump_forward(DAY * 3650);
    let authority = builder().clock(hand.clone()).open(&path).await.unwrap();
    for _ in 0..4 {
        let wrong = authority.sign_in("alice", Some("wrong".into()), from("198.51.100.1")).await;
        assert_eq!(wrong, Err(Denied::Wrong));
    }
    hand.jump_back(DAY * 3650);
    let wrong = authority.sign_in("alice", Some("wrong".into()), from("198.51.100.1")).await;
    assert_eq!(wrong, Err(Denied::Wrong));
    let other = authority.sign_in("alice", Some(PASSWORD.into()), from("198.51.100.2")).await;
    assert_eq!(other, throttled, "the fifth, whatever the clock says");
}
