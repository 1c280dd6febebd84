//! Logging in, being known by a token, and being cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nsp::authority::{Answer, Authority as _, Denied, Origin, Proved, Revoked};
use nsp::{Password, Token};
use nsp_auth::Authority;
use nsp_auth::password::Cost;
use nsp_auth::store::{Account, Change, ChangeError, Changed, Counted, Memory, Note, Pending, Sqlite, Store};
use nsp_auth::token::{Lifetime, TokenHash, TokenRecord};
use nsp_auth::user::{User, UserId, Username, Who};

use crate::common::{
    DAY, Hand, Heard, PASSWORD, builder, from, judge, login, name, with_superuser, with_user,
};

#[tokio::test]
async fn a_password_is_exchanged_for_a_token_that_proves_its_user_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let authority = builder().open(folder.path().join("users.db")).await.unwrap();
    with_user(&authority, "alice").await;
    with_user(&authority, "bobby").await;
    let token = login(&authority, "Alice", PASSWORD).await.unwrap();
    assert_eq!(judge(&authority, "alice", &token).await, Ok(Proved { rely_for: Duration::from_secs(30) }));
    assert_eq!(judge(&authority, "ALICE", &token).await, Ok(Proved { rely_for: Duration::from_secs(30) }));
    for other in ["bobby", "alic_", "al%", "_____", "alice' --", "alice\0", "", "nobody"] {
        assert_eq!(judge(&authority, other, &token).await, Err(Denied::Wrong), "{other:?}");
    }
    for other in ["", "x", "\0", "null", &token.reveal()[1..], &"x".repeat(1 << 20)] {
        assert_eq!(judge(&authority, "alice", &Token::new(other)).await, Err(Denied::Wrong));
    }
    let again = login(&authority, "alice", PASSWORD).await.unwrap();
    assert_ne!(again, token, "one per login");
    assert!(judge(&authority, "alice", &token).await.is_ok());
}

#[tokio::test]
async fn a_token_that_was_seen_before_is_known_at_once() {
    let authority = builder().open_store(Memory::new()).await.unwrap();
    with_user(&authority, "alice").await;
    let token = login(&authority, "alice", PASSWORD).await.unwrap();
    assert!(matches!(authority.judge_token("alice", &token, Origin::default()), Answer::Later(_)));
    judge(&authority, "alice", &token).await.unwrap();
    let cached = authority.judge_token("alice", &token, Origin::default());
    assert!(matches!(cached, Answer::Now(Some(Ok(_)))), "{cached:?}");
    assert!(matches!(authority.privilege("alice"), Answer::Now(Some(Ok(Some(1))))));
    assert_eq!(authority.privilege("nobody").await, Ok(None));
    assert_eq!(authority.privilege("%").await, Ok(None));
}

#[tokio::test]
async fn wrong_unknown_and_locked_have_one_answer() {
    let authority = builder().open_store(Memory::new()).await.unwrap();
    with_user(&authority, "alice").await;
    with_user(&authority, "bobby").await;
    authority.users().lock(name("bobby")).await.unwrap();
    for (user, password) in [
        ("alice", Some("wrong")),
        ("alice", Some("")),
        ("alice", None),
        ("bobby", Some(PASSWORD)),
        ("nobody", Some(PASSWORD)),
        ("adm%", Some(PASSWORD)),
        ("", Some(PASSWORD)),
        ("alice\0", Some(PASSWORD)),
    ] {
        let answer = authority.sign_in(user, password.map(Password::new), Origin::default()).await;
        assert_eq!(answer, Err(Denied::Wrong), "{user} {password:?}");
        assert_eq!(Denied::Wrong.to_string(), "user or secret is wrong");
    }
    let proof = authority.judge_password("alice", &PASSWORD.into(), Origin::default()).await;
    assert_eq!(proof, Ok(Proved { rely_for: Duration::from_secs(30) }));
    let proof = authority.judge_password("bobby", &PASSWORD.into(), Origin::default()).await;
    assert_eq!(proof, Err(Denied::Wrong));
}

#[tokio::test]
async fn a_password_of_a_mebibyte_and_a_name_of_one_are_wrong_and_no_more() {
    let authority = builder().open_store(Memory::new()).await.unwrap();
    with_user(&authority, "alice").await;
    let large = "x".repeat(1 << 20);
    assert_eq!(login(&authority, "alice", &large).await, Err(Denied::Wrong));
    assert_eq!(login(&authority, &large, PASSWORD).await, Err(Denied::Wrong));
    assert!(login(&authority, "alice", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn whatever_ends_the_right_to_be_somebody_ends_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let authority = builder().open(folder.path().join("users.db")).await.unwrap();
    with_superuser(&authority, "admin").await;
    let users = authority.users();
    let everything = || Revoked::User { user: "alice".into() };
    for what in ["one", "all", "lock", "password", "reset", "privilege", "rename", "delete"] {
        if users.find(name("alice")).await.unwrap().is_none() {
            with_user(&authority, "alice").await;
        }
        users.unlock(name("alice")).await.unwrap();
        let (token, record) = users.issue_token(name("alice"), what).await.unwrap();
        judge(&authority, "alice", &token).await.unwrap();
        assert!(
            matches!(authority.judge_token("alice", &token, Origin::default()), Answer::Now(_)),
            "{what}: is cached"
        );
        let (heard, epoch) = (Heard::by(&authority), authority.epoch());
        let mut expected = vec![everything()];
        match what {
            "one" => {
                users.revoke_token(name("alice"), record.id()).await.unwrap();
                let token = nsp::authority::RevokedToken(*TokenHash::of(&token).as_bytes());
                expected = vec![Revoked::Token { user: "alice".into(), token }];
            }
            "all" => assert_eq!(users.revoke_tokens(name("alice")).await.unwrap(), 1),
            "lock" => drop(users.lock(name("alice")).await.unwrap()),
            "password" => drop(users.set_password(name("alice"), PASSWORD.into()).await.unwrap()),
            "reset" => drop(users.reset_password(name("alice")).await.unwrap()),
            "privilege" => drop(users.set_privilege(name("alice"), 0).await.unwrap()),
            "rename" => drop(users.rename(name("alice"), name("alicia")).await.unwrap()),
            _ => drop(users.delete(name("alice")).await.unwrap()),
        }
        assert_eq!(heard.take(), expected, "{what}");
        assert!(authority.epoch() > epoch, "{what}");
        assert_eq!(judge(&authority, "alice", &token).await, Err(Denied::Wrong), "{what}");
        assert_eq!(judge(&authority, "alicia", &token).await, Err(Denied::Wrong), "{what}");
    }
}

#[tokio::test]
async fn what_ends_no_right_cuts_nobody_off() {
    let authority = builder().open_store(Memory::new()).await.unwrap();
    with_user(&authority, "alice").await;
    let token = login(&authority, "alice", PASSWORD).await.unwrap();
    let heard = Heard::by(&authority);
    let epoch = authority.epoch();
    login(&authority, "alice", PASSWORD).await.unwrap();
    assert_eq!(authority.epoch(), epoch, "a login changes nothing for the others");
    authority.users().set_names(name("alice"), Default::default()).await.unwrap();
    authority.users().set_privilege(name("alice"), 7).await.unwrap();
    assert!(authority.epoch() > epoch);
    assert_eq!(authority.privilege("alice").await, Ok(Some(7)));
    assert_eq!(heard.take(), []);
    assert!(judge(&authority, "alice", &token).await.is_ok());
}

#[tokio::test]
async fn a_guard_that_is_dropped_hears_no_more() {
    let authority = builder().open_store(Memory::new()).await.unwrap();
    with_user(&authority, "alice").await;
    let heard = Heard::by(&authority);
    let kept = heard.heard.clone();
    drop(heard);
    authority.users().lock(name("alice")).await.unwrap();
    assert_eq!(*kept.lock().unwrap(), []);
}

#[tokio::test]
async fn tokens_end_by_age_and_by_idleness_whatever_the_cache_holds() {
    let hand = Hand::default();
    let lifetime = Lifetime { absolute: DAY * 10, idle: DAY * 3 };
    let authority =
        builder().clock(hand.clone()).token_lifetime(lifetime).open_store(Memory::new()).await.unwrap();
    with_user(&authority, "alice").await;
    let (used, unused) = (
        login(&authority, "alice", PASSWORD).await.unwrap(),
        login(&authority, "alice", PASSWORD).await.unwrap(),
    );
    for token in [&used, &unused] {
        judge(&authority, "alice", token).await.unwrap();
    }
    for _ in 0..4 {
        hand.pass(DAY * 2);
        judge(&authority, "alice", &used).await.unwrap();
    }
    assert_eq!(judge(&authority, "alice", &unused).await, Err(Denied::Wrong));
    hand.pass(DAY * 2 - Duration::from_secs(10));
    assert_eq!(judge(&authority, "alice", &used).await, Ok(Proved { rely_for: Duration::from_secs(10) }));
    hand.pass(Duration::from_secs(10));
    assert_eq!(judge(&authority, "alice", &used).await, Err(Denied::Wrong));
}

#[tokio::test]
async fn superusers_have_to_log_in_every_day() {
    let hand = Hand::default();
    let authority = builder().clock(hand.clone()).open_store(Memory::new()).await.unwrap();
    with_superuser(&authority, "admin").await;
    let token = login(&authority, "admin", PASSWORD).await.unwrap();
    hand.pass(DAY / 2 - Duration::from_secs(1));
    judge(&authority, "admin", &token).await.unwrap();
    hand.pass(Duration::from_secs(1));
    assert_eq!(judge(&authority, "admin", &token).await, Err(Denied::Wrong));
}

#[tokio::test]
async fn clocks_that_jump_let_nobody_in_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let hand = Hand::default();
    let authority = builder().clock(hand.clone()).open(&path).await.unwrap();
    with_user(&authority, "alice").await;
    let token = login(&authority, "alice", PASSWORD).await.unwrap();
    // Set forward by a year it has expired; set right, it is good again.
    hand.jump_forward(DAY * 365);
    assert_eq!(judge(&authority, "alice", &token).await, Err(Denied::Wrong));
    hand.jump_back(DAY * 365);
    assert!(judge(&authority, "alice", &token).await.is_ok());
    // Set back while time passes, it lives no longer for that.
    hand.pass(DAY * 20);
    hand.jump_back(DAY * 20);
    hand.pass(DAY * 20);
    assert_eq!(judge(&authority, "alice", &token).await, Err(Denied::Wrong));
    // One that was made under a clock ten years ahead is good for nothing once the clock is right.
    hand.jump_forward(DAY * 3650);
    let future = login(&authority, "alice", PASSWORD).await.unwrap();
    authority.close().await.unwrap();
    hand.jump_back(DAY * 3650);
    let authority = builder().clock(hand.clone()).open(&path).await.unwrap();
    assert_eq!(judge(&authority, "alice", &future).await, Err(Denied::Wrong));
    assert!(login(&authority, "alice", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn failures_are_throttled_over_a_restart_and_pass() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let hand = Hand::default();
    let authority = builder().clock(hand.clone()).open(&path).await.unwrap();
    with_user(&authority, "alice").await;
    let sign_in = async |authority: &Authority, password: &str, address: &str| {
        authority.sign_in("alice", Some(password.into()), from(address)).await
    };
    sign_in(&authority, PASSWORD, "10.0.0.1").await.unwrap();
    for _ in 0..5 {
        assert_eq!(sign_in(&authority, "wrong", "192.0.2.1").await, Err(Denied::Wrong));
    }
    let throttled = Err(Denied::Throttled { retry_after: Duration::from_secs(1) });
    // The right password does not help there, nor at a neighbour's; where the owner was before, it does.
    assert_eq!(sign_in(&authority, PASSWORD, "192.0.2.1").await, throttled);
    assert_eq!(sign_in(&authority, PASSWORD, "::ffff:192.0.2.77").await, throttled);
    assert_eq!(sign_in(&authority, PASSWORD, "198.51.100.1").await, throttled);
    authority.close().await.unwrap();
    drop(authority);
    let authority = builder().clock(hand.clone()).open(&path).await.unwrap();
    assert_eq!(sign_in(&authority, PASSWORD, "192.0.2.1").await, throttled);
    assert!(sign_in(&authority, PASSWORD, "10.0.0.9").await.is_ok());
    hand.pass(Duration::from_secs(1));
    assert!(sign_in(&authority, PASSWORD, "192.0.2.1").await.is_ok());
    let error = Denied::Throttled { retry_after: Duration::from_secs(90) };
    assert_eq!(error.to_string(), "too many failures; try again in 90 s");
}

/// A store that stops answering who somebody is.
#[derive(Debug, Default)]
struct Silent {
    memory: Memory,
    is_silent: Arc<AtomicBool>,
}

impl Store for Silent {
    fn account(&self, who: Who) -> Pending<'_, Option<Account>> {
        if self.is_silent.load(Ordering::Relaxed) {
            return Box::pin(std::future::pending());
        }
        self.memory.account(who)
    }

    fn search(&self, prefix: String, after: Option<Username>, most: usize) -> Pending<'_, Vec<User>> {
        self.memory.search(prefix, after, most)
    }

    fn token(&self, hash: TokenHash) -> Pending<'_, Option<(TokenRecord, User)>> {
        self.memory.token(hash)
    }

    fn tokens(&self, user: UserId) -> Pending<'_, Vec<TokenRecord>> {
        self.memory.tokens(user)
    }

    fn counted(&self) -> Pending<'_, Vec<Counted>> {
        self.memory.counted()
    }

    fn change(&self, change: Change) -> Pending<'_, Changed, ChangeError> {
        self.memory.change(change)
    }

    fn note(&self, note: Note) {
        self.memory.note(note);
    }

    fn close(&self) -> Pending<'_, ()> {
        self.memory.close()
    }
}

#[tokio::test]
async fn a_login_that_is_hung_up_on_is_no_free_guess() {
    let hand = Hand::default();
    let store = Silent::default();
    let is_silent = store.is_silent.clone();
    let authority = builder().clock(hand.clone()).open_store(store).await.unwrap();
    with_user(&authority, "alice").await;
    is_silent.store(true, Ordering::Relaxed);
    for _ in 0..5 {
        let mut attempt = authority.sign_in("alice", Some("wrong".into()), Origin::default());
        let waker = std::task::Waker::noop();
        assert!(
            std::pin::Pin::new(&mut attempt).poll(&mut std::task::Context::from_waker(waker)).is_pending()
        );
    }
    is_silent.store(false, Ordering::Relaxed);
    let throttled = Denied::Throttled { retry_after: Duration::from_secs(1) };
    assert_eq!(login(&authority, "alice", PASSWORD).await, Err(throttled));
    hand.pass(Duration::from_secs(1));
    assert!(login(&authority, "alice", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn too_many_logins_of_one_account_at_once_are_told_so() {
    let store = Silent::default();
    let is_silent = store.is_silent.clone();
    let authority = builder().open_store(store).await.unwrap();
    with_user(&authority, "alice").await;
    is_silent.store(true, Ordering::Relaxed);
    let mut waiting: Vec<_> = (0..16).map(|_| authority.sign_in("alice", None, Origin::default())).collect();
    for one in &mut waiting {
        let waker = std::task::Waker::noop();
        assert!(std::pin::Pin::new(one).poll(&mut std::task::Context::from_waker(waker)).is_pending());
    }
    let busy = login(&authority, "alice", PASSWORD).await.unwrap_err();
    assert_eq!(
        (busy.clone(), busy.to_string().as_str()),
        (Denied::Busy, "too many logins at once; try again")
    );
}

#[tokio::test]
async fn what_has_expired_is_swept_away_after_a_week() {
    let hand = Hand::default();
    let lifetime = Lifetime { absolute: DAY, idle: DAY };
    let authority =
        builder().clock(hand.clone()).token_lifetime(lifetime).open_store(Memory::new()).await.unwrap();
    with_user(&authority, "alice").await;
    login(&authority, "alice", PASSWORD).await.unwrap();
    let mut counts = Vec::new();
    for _ in 0..3 {
        hand.pass(DAY * 5);
        login(&authority, "alice", PASSWORD).await.unwrap();
        counts.push(authority.users().tokens(name("alice")).await.unwrap().len());
    }
    // The first and the second have been gone for more than a week in the end.
    assert_eq!(counts, [2, 2, 2]);
}

#[tokio::test]
async fn a_hash_is_replaced_when_parameters_have_risen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let authority = builder().open(&path).await.unwrap();
    with_user(&authority, "alice").await;
    authority.close().await.unwrap();
    let risen = Cost { memory_kib: 64, passes: 2 };
    let authority = Authority::builder().cost(risen).open(&path).await.unwrap();
    let earlier = login(&authority, "alice", PASSWORD).await.unwrap();
    authority.close().await.unwrap();
    let store = Sqlite::open(&path).await.unwrap();
    let kept = store.account(name("alice").into()).await.unwrap().unwrap();
    assert!(kept.password.reveal().starts_with("$argon2id$v=19$m=64,t=2,p=1$"), "{}", kept.password.reveal());
    store.close().await.unwrap();
    let authority = Authority::builder().cost(risen).open(&path).await.unwrap();
    assert!(login(&authority, "alice", PASSWORD).await.is_ok());
    assert!(judge(&authority, "alice", &earlier).await.is_ok(), "it was the same password all the time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_at_once_get_a_token_each_even_while_the_hash_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let authority = builder().open(&path).await.unwrap();
    with_user(&authority, "alice").await;
    authority.close().await.unwrap();
    let authority = Authority::builder().cost(Cost { memory_kib: 64, passes: 2 }).open(&path).await.unwrap();
    let mut logins = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let authority = authority.clone();
        logins.spawn(async move { login(&authority, "alice", PASSWORD).await });
    }
    for result in logins.join_all().await {
        result.unwrap();
    }
    assert_eq!(authority.users().tokens(name("alice")).await.unwrap().len(), 12);
}

#[tokio::test]
async fn a_user_has_so_many_tokens_and_the_idlest_goes() {
    let hand = Hand::default();
    let authority = builder().clock(hand.clone()).tokens_per_user(3).open_store(Memory::new()).await.unwrap();
    with_user(&authority, "alice").await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(login(&authority, "alice", PASSWORD).await.unwrap());
        hand.pass(Duration::from_secs(3600));
    }
    judge(&authority, "alice", &tokens[0]).await.unwrap();
    let heard = Heard::by(&authority);
    tokens.push(login(&authority, "alice", PASSWORD).await.unwrap());
    assert_eq!(heard.take().len(), 1);
    let mut good = Vec::new();
    for token in &tokens {
        good.push(judge(&authority, "alice", token).await.is_ok());
    }
    assert_eq!(good, [true, false, true, true]);
}

#[tokio::test]
async fn only_the_right_key_from_the_right_place_is_a_daemons() {
    let authority = builder()
        .daemon_key("a key of daemons".into())
        .trust("10.1.2.3".parse().unwrap())
        .trust("::ffff:10.1.2.4".parse().unwrap())
        .open_store(Memory::new())
        .await
        .unwrap();
    assert!(authority.is_daemon_key(&"a key of daemons".into()));
    for key in ["", "a key of daemon", "a key of daemons ", "WHATAKEY"] {
        assert!(!authority.is_daemon_key(&key.into()), "{key}");
    }
    for (address, trusted) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("10.1.2.4", true),
        ("10.1.2.5", false),
        ("127.0.0.1", false),
    ] {
        assert_eq!(authority.trusts(address.parse().unwrap()), trusted, "{address}");
    }
    // Without a key none is right, not even none.
    let authority = builder().open_store(Memory::new()).await.unwrap();
    assert!(!authority.is_daemon_key(&"".into()));
    assert!(!authority.is_daemon_key(&"WHATAKEY".into()));
    let error = builder().daemon_key("".into()).open_store(Memory::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "the daemon key is empty: leave it out if no daemon is to be trusted");
    let error =
        builder().cost(Cost { memory_kib: 1, passes: 1 }).open_store(Memory::new()).await.unwrap_err();
    let text = "Argon2 with 1 KiB and 1 passes: 8 to 1048576 KiB and 1 to 64 passes can be had";
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn without_its_store_nobody_is_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let authority = builder().open(folder.path().join("users.db")).await.unwrap();
    with_user(&authority, "alice").await;
    let token = login(&authority, "alice", PASSWORD).await.unwrap();
    authority.close().await.unwrap();
    assert_eq!(judge(&authority, "alice", &token).await, Err(Denied::Unavailable));
    assert_eq!(login(&authority, "alice", PASSWORD).await, Err(Denied::Unavailable));
    assert_eq!(authority.privilege("alice").await, Err(Denied::Unavailable));
    assert_eq!(Denied::Unavailable.to_string(), "the users cannot be looked up now");
    let error = authority.users().lock(name("alice")).await.unwrap_err();
    assert_eq!(error.to_string(), "the store of users is closed");
}

#[tokio::test]
async fn wrong_unknown_and_locked_take_the_work_of_a_right_one() {
    let authority = builder().open_store(Memory::new()).await.unwrap();
    for user in ["alice", "bobby"] {
        with_user(&authority, user).await;
    }
    authority.users().lock(name("bobby")).await.unwrap();
    let large = "x".repeat(1 << 20);
    // Counted in hashes: beside them everything else is nothing.
    for (net, user, password) in [
        (0, "alice", Some(PASSWORD)),
        (1, "alice", Some("wrong")),
        (2, "bobby", Some(PASSWORD)),
        (3, "nobody", Some(PASSWORD)),
        (4, "no such name", Some(PASSWORD)),
        (5, "nobody", None),
        (6, "alice", None),
        (7, "alice", Some(&*large)),
    ] {
        let before = authority.passwords_checked();
        let answer =
            authority.sign_in(user, password.map(Password::new), from(&format!("10.0.{net}.1"))).await;
        assert_eq!(answer.is_ok(), net == 0);
        assert_eq!(authority.passwords_checked(), before + 1, "{user} in {net}");
    }
}
