//! Managing users.

use nsp::Password;
use nsp::authority::Authority as _;
use nsp_auth::Authority;
use nsp_auth::store::Memory;
use nsp_auth::token::TokenId;
use nsp_auth::user::{Names, Profile};
use nsp_auth::users::{NewUser, UserError};

use crate::common::{Heard, PASSWORD, builder, judge, login, name, with_superuser, with_user};

fn text<T: std::fmt::Debug>(result: Result<T, UserError>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn the_first_admin_gets_a_password_that_nobody_chose() {
    let folder = tempfile::tempdir().unwrap();
    let authority = builder().open(folder.path().join("users.db")).await.unwrap();
    let (admin, password) = authority.users().first_admin().await.unwrap().unwrap();
    assert!(admin.is_superuser() && admin.must_change_password);
    assert_eq!(format!("{password:?}"), "Password(..)");
    // It is not asked for a new one before it may do anything; whoever shows a prompt does.
    login(&authority, "admin", password.reveal()).await.unwrap();
    assert!(authority.users().first_admin().await.unwrap().is_none());
    let admin = authority.users().set_password(&admin, PASSWORD.into()).await.unwrap();
    assert!(!admin.must_change_password);
    assert!(login(&authority, "admin", password.reveal()).await.is_err());
    login(&authority, "admin", PASSWORD).await.unwrap();
    assert!(login(&authority, "admin", "admin").await.is_err());
}

#[tokio::test]
async fn a_user_goes_through_life() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let authority = builder().open(&path).await.unwrap();
    let users = authority.users().by("admin");
    let names =
        Names { display_name: Some("Alice".into()), first_name: Some("Al".into()), ..Names::default() };
    let new =
        NewUser::new(name("Alice"), PASSWORD.into()).privilege(5).names(names).roles(vec!["reader".into()]);
    let alice = users.create(new).await.unwrap();
    assert_eq!(
        (alice.name.as_str(), alice.privilege, alice.roles.as_slice()),
        ("alice", 5, &["reader".to_owned()][..])
    );
    assert_eq!(
        (alice.display_name.as_str(), alice.first_name.as_str(), alice.last_name.as_str()),
        ("Alice", "Al", "")
    );
    assert_eq!(users.find(alice.id).await.unwrap(), Some(alice.clone()));

    users.set_names(&alice, Names { last_name: Some("Liddell".into()), ..Names::default() }).await.unwrap();
    let mut profile = Profile::default();
    profile.email = "alice@example.org".into();
    users.set_profile(&alice, profile).await.unwrap();
    users.set_privilege(&alice, 2).await.unwrap();
    users.set_roles(&alice, vec![]).await.unwrap();
    users.rename(&alice, name("alicia")).await.unwrap();
    users.lock(&alice).await.unwrap();
    assert!(login(&authority, "alicia", PASSWORD).await.is_err());
    users.unlock(&alice).await.unwrap();
    login(&authority, "alicia", PASSWORD).await.unwrap();

    // It survives the program.
    authority.close().await.unwrap();
    let authority = builder().open(&path).await.unwrap();
    let found = authority.users().find(name("alicia")).await.unwrap().unwrap();
    assert_eq!((found.id, found.last_name.as_str(), found.privilege), (alice.id, "Liddell", 2));
    assert_eq!(found.profile.email, "alice@example.org");
    assert_eq!(authority.users().find(name("alice")).await.unwrap(), None);
    authority.users().delete(alice.id).await.unwrap();
    assert!(login(&authority, "alicia", PASSWORD).await.is_err());
    assert_eq!(text(authority.users().delete(alice.id).await), "there is no such user");
}

#[tokio::test]
async fn what_is_not_good_enough_is_refused_with_the_reason() {
    let authority = builder().open_store(Memory::new()).await.unwrap();
    with_superuser(&authority, "admin").await;
    let users = authority.users();
    let create =
        async |password: &str| text(users.create(NewUser::new(name("alice"), Password::new(password))).await);
    assert_eq!(create("short").await, "a password has at least 15 characters");
    assert_eq!(create(&"x".repeat(1 << 20)).await, "a password has at most 1024 bytes");
    assert_eq!(create("passwordpassword").await, "this password is among the first that are tried");
    assert_eq!(
        text(users.set_password(name("admin"), "admin".into()).await),
        "a password has at least 15 characters"
    );
    let named = |text: &str| Names { detail: Some(text.into()), ..Names::default() };
    assert_eq!(
        text(users.set_names(name("admin"), named(&"x".repeat(5000))).await),
        "the detail has more than 4096 bytes"
    );
    assert_eq!(
        text(users.set_names(name("admin"), named("a\0b")).await),
        "the detail has a control character"
    );
    let long = NewUser::new(name("administrator"), "administrator26".into());
    assert_eq!(text(users.create(long).await), "the password is hardly more than the user name");
    let new = NewUser::new(name("ADMIN"), PASSWORD.into());
    assert_eq!(text(users.create(new).await), "there is a user admin already");
    let last = "this is the last superuser who can log in: make another one first";
    assert_eq!(text(users.delete(name("admin")).await), last);
    assert_eq!(text(users.lock(name("admin")).await), last);
    assert_eq!(text(users.set_privilege(name("admin"), 1).await), last);
    assert_eq!(text(users.rename(name("nobody"), name("other")).await), "there is no such user");
    assert_eq!(text(users.tokens(name("nobody")).await), "there is no such user");
    let id = TokenId::parse("0123456789abcdef").unwrap();
    assert_eq!(text(users.revoke_token(name("admin"), id).await), "the user has no such token");
}

#[tokio::test]
async fn a_shorter_password_is_taken_where_the_daemon_says_so() {
    let authority = builder().min_password_characters(8).open_store(Memory::new()).await.unwrap();
    let users = authority.users();
    users.create(NewUser::new(name("alice"), "t7%kqwp2".into())).await.unwrap();
    login(&authority, "alice", "t7%kqwp2").await.unwrap();
    let short = users.set_password(name("alice"), "t7%kqwp".into()).await;
    assert_eq!(text(short), "a password has at least 8 characters");
}

#[tokio::test]
async fn users_are_searched_page_by_page() {
    let authority = builder().open_store(Memory::new()).await.unwrap();
    for n in 0..7 {
        with_user(&authority, &format!("user{n}")).await;
    }
    with_user(&authority, "zebra").await;
    let users = authority.users();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = users.search("USER", after.as_ref(), 3).await.unwrap();
        assert!(page.users.len() <= 3);
        found.extend(page.users.into_iter().map(|user| user.name.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, ["user0", "user1", "user2", "user3", "user4", "user5", "user6"]);
    assert_eq!(users.search("", None, usize::MAX).await.unwrap().users.len(), 8);
    for text in ["%", "user_", "_", "' OR 1=1 --", "user\0", &"u".repeat(1 << 20)] {
        assert_eq!(users.search(text, None, 10).await.unwrap().users, [], "{}", text.len());
    }
}

#[tokio::test]
async fn tokens_are_listed_by_label_and_revoked_by_id() {
    let authority = builder().open_store(Memory::new()).await.unwrap();
    with_user(&authority, "alice").await;
    let users = authority.users();
    let (kept, _) = users.issue_token(name("alice"), "backup at night").await.unwrap();
    let (ended, record) = users.issue_token(name("alice"), "old laptop").await.unwrap();
    let mut labels: Vec<_> =
        users.tokens(name("alice")).await.unwrap().into_iter().map(|token| token.label).collect();
    labels.sort();
    assert_eq!(labels, ["backup at night", "old laptop"]);
    users.revoke_token(name("alice"), record.id()).await.unwrap();
    assert!(judge(&authority, "alice", &kept).await.is_ok());
    assert!(judge(&authority, "alice", &ended).await.is_err());
    users.lock(name("alice")).await.unwrap();
    assert_eq!(text(users.issue_token(name("alice"), "x").await), "the user was changed meanwhile");
    assert_eq!(text(users.issue_token(name("alice"), "a\nb").await), "the label has a control character");
}

#[tokio::test]
async fn a_caller_who_hangs_up_does_not_stop_a_revocation() {
    let folder = tempfile::tempdir().unwrap();
    let authority: Authority = builder().open(folder.path().join("users.db")).await.unwrap();
    with_user(&authority, "alice").await;
    let token = login(&authority, "alice", PASSWORD).await.unwrap();
    judge(&authority, "alice", &token).await.unwrap();
    let heard = Heard::by(&authority);
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let _guard = authority.on_revoked(std::sync::Arc::new(move |_| sender.send(()).unwrap()));
    {
        let mut lock = Box::pin(authority.users().lock(name("alice")));
        let waker = std::task::Waker::noop();
        assert!(lock.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
    }
    told.recv().await.unwrap();
    assert_eq!(heard.take().len(), 1);
    assert!(judge(&authority, "alice", &token).await.is_err());
    assert!(authority.users().find(name("alice")).await.unwrap().unwrap().locked);
}
