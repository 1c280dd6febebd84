//! What every store promises, asked of each.

use std::time::Duration;

use nsp_auth::clock::Timestamp;
use nsp_auth::password::PasswordHash;
use nsp_auth::store::{Account, Change, Counted, Memory, Note, Sqlite, Store};
use nsp_auth::token::{Lifetime, TokenHash, TokenRecord};
use nsp_auth::user::{Names, Profile, User, UserId, Username, Who};

/// Asks both kinds of store.
macro_rules! each {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::$name(&super::Memory::new()).await; })+
        }
        mod sqlite {
            $(#[tokio::test] async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                let store = super::Sqlite::open(folder.path().join("users.db")).await.unwrap();
                super::$name(&store).await;
                super::Store::close(&store).await.unwrap();
            })+
        }
    };
}

each!(
    users_are_found_by_exactly_their_name_and_id,
    names_and_ids_are_unique,
    changes_change_what_they_say,
    the_last_superuser_stays,
    an_import_is_whole_or_nothing,
    a_search_goes_through_pages_and_has_no_wildcards,
    tokens_are_kept_listed_and_ended,
    a_hash_is_replaced_only_if_it_is_still_the_same,
    counters_and_notes_are_kept,
);

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

fn hash(n: u8) -> PasswordHash {
    let letter = char::from(b'a' + n);
    PasswordHash::parse(&format!(
        "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ${}",
        String::from(letter).repeat(42) + "o"
    ))
    .unwrap()
}

fn account(text: &str, privilege: i64) -> Account {
    Account { user: User::new(UserId::random(), name(text), privilege, Timestamp::EPOCH), password: hash(0) }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1000)
}

async fn create(store: &dyn Store, text: &str, privilege: i64) -> Account {
    let account = account(text, privilege);
    store.change(Change::Create(account.clone())).await.unwrap();
    account
}

async fn users_are_found_by_exactly_their_name_and_id(store: &dyn Store) {
    let alice = create(store, "alice", 1).await;
    assert_eq!(store.account(name("ALICE").into()).await.unwrap(), Some(alice.clone()));
    assert_eq!(store.account(alice.user.id.into()).await.unwrap(), Some(alice));
    assert_eq!(store.account(name("alice2").into()).await.unwrap(), None);
    assert_eq!(store.account(UserId::random().into()).await.unwrap(), None);
}

async fn names_and_ids_are_unique(store: &dyn Store) {
    let alice = create(store, "alice", 1).await;
    let error = store.change(Change::Create(account("alice", 1))).await.unwrap_err();
    assert_eq!(error.to_string(), "there is a user alice already");
    let mut same_id = account("bobby", 1);
    same_id.user.id = alice.user.id;
    assert!(store.change(Change::Create(same_id)).await.is_err());
    create(store, "carol", 1).await;
    let error = store.change(Change::Rename(name("carol").into(), name("alice"), at(9))).await.unwrap_err();
    assert_eq!(error.to_string(), "there is a user alice already");
    assert_eq!(store.search(String::new(), None, 9).await.unwrap().len(), 2);
}

async fn changes_change_what_they_say(store: &dyn Store) {
    let before = create(store, "alice", 1).await;
    let who = || Who::from(name("alice"));
    let mut profile = Profile::default();
    profile.email = "alice@example.org".into();
    let names =
        Names { first_name: Some("Alice".into()), profile: Some(profile.clone()), ..Names::default() };
    for change in [
        Change::Names(who(), names, at(1)),
        Change::Roles(who(), vec!["reader".into()], at(2)),
        Change::Privilege(who(), -3, at(3)),
        Change::Lock(who(), true, at(4)),
        Change::Password(who(), hash(1), true, at(5)),
    ] {
        let changed = store.change(change).await.unwrap();
        assert_eq!(changed.before.unwrap().id, before.user.id);
        assert_eq!(changed.after, store.account(who()).await.unwrap().map(|account| account.user));
    }
    let mut expected = before.clone();
    expected.user.first_name = "Alice".into();
    expected.user.profile = profile;
    expected.user.roles = vec!["reader".into()];
    expected.user.privilege = -3;
    expected.user.locked = true;
    expected.user.must_change_password = true;
    expected.user.modified = at(5);
    expected.password = hash(1);
    assert_eq!(store.account(who()).await.unwrap(), Some(expected.clone()));
    store.change(Change::Rename(who(), name("alicia"), at(6))).await.unwrap();
    expected.user.name = name("alicia");
    expected.user.modified = at(6);
    assert_eq!(store.account(before.user.id.into()).await.unwrap(), Some(expected));
    assert_eq!(store.account(who()).await.unwrap(), None);
    let changed = store.change(Change::Delete(name("alicia").into())).await.unwrap();
    assert_eq!((changed.before.unwrap().name, changed.after), (name("alicia"), None));
    for change in [
        Change::Delete(who()),
        Change::Lock(who(), true, at(7)),
        Change::RevokeTokens(who()),
        Change::Rename(who(), name("bobby"), at(7)),
    ] {
        assert_eq!(store.change(change).await.unwrap_err().to_string(), "there is no such user");
    }
}

async fn the_last_superuser_stays(store: &dyn Store) {
    create(store, "admin", 0).await;
    create(store, "other", 0).await;
    create(store, "alice", 1).await;
    let last = "this is the last superuser who can log in: make another one first";
    // Two are not one: whichever goes, the other stays.
    store.change(Change::Lock(name("other").into(), true, at(1))).await.unwrap();
    for change in [
        Change::Delete(name("admin").into()),
        Change::Lock(name("ADMIN").into(), true, at(1)),
        Change::Privilege(name("admin").into(), 1, at(1)),
    ] {
        let before = store.account(name("admin").into()).await.unwrap();
        assert_eq!(store.change(change).await.unwrap_err().to_string(), last);
        assert_eq!(store.account(name("admin").into()).await.unwrap(), before);
    }
    store.change(Change::Rename(name("admin").into(), name("chief"), at(1))).await.unwrap();
    store.change(Change::Privilege(name("alice").into(), 0, at(1))).await.unwrap();
    store.change(Change::Delete(name("chief").into())).await.unwrap();
    store.change(Change::Delete(name("other").into())).await.unwrap();
    assert_eq!(store.change(Change::Delete(name("alice").into())).await.unwrap_err().to_string(), last);
}

async fn an_import_is_whole_or_nothing(store: &dyn Store) {
    create(store, "carol", 1).await;
    let accounts = ["alice", "bobby", "carol", "david"].map(|text| account(text, 1));
    let error = store.change(Change::Import(accounts.to_vec())).await.unwrap_err();
    assert_eq!(error.to_string(), "there is a user carol already");
    assert_eq!(store.search(String::new(), None, 9).await.unwrap().len(), 1);
    store.change(Change::Import(accounts[..2].to_vec())).await.unwrap();
    assert_eq!(store.search(String::new(), None, 9).await.unwrap().len(), 3);
}

async fn a_search_goes_through_pages_and_has_no_wildcards(store: &dyn Store) {
    for n in 0..25 {
        create(store, &format!("user{n:02}"), 1).await;
    }
    create(store, "userz", 1).await;
    create(store, "zebra", 1).await;
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.search("user".into(), after.clone(), 10).await.unwrap();
        if page.is_empty() {
            break;
        }
        after = page.last().map(|user| user.name.clone());
        seen.extend(page.into_iter().map(|user| user.name));
    }
    assert_eq!(seen.len(), 26);
    assert!(seen.is_sorted());
    assert_eq!(store.search("user1".into(), None, 99).await.unwrap().len(), 10);
    for text in
        ["%", "user_", "u%", "_____", "us*r", "user[0-9]", "user' OR 1=1 --", "user\0", "USER", "\u{7f}", "é"]
    {
        assert_eq!(store.search(text.into(), None, 99).await.unwrap(), [], "{text:?}");
    }
}

fn token(user: UserId, n: u8, used: i64) -> TokenRecord {
    let day = Duration::from_secs(24 * 60 * 60);
    let lifetime = Lifetime { absolute: day, idle: day };
    let mut token =
        TokenRecord::new(TokenHash::from_bytes([n; 32]), user, format!("token {n}"), lifetime, at(0));
    token.last_used = at(used);
    token
}

async fn tokens_are_kept_listed_and_ended(store: &dyn Store) {
    let (alice, bobby) = (create(store, "alice", 1).await.user, create(store, "bobby", 1).await.user);
    for n in 1..=4 {
        store.change(Change::AddToken(token(alice.id, n, i64::from(n)), 10, None)).await.unwrap();
    }
    store.change(Change::AddToken(token(bobby.id, 9, 1), 10, Some(hash(0)))).await.unwrap();
    let hashes =
        |tokens: &[TokenRecord]| tokens.iter().map(|token| token.hash.as_bytes()[0]).collect::<Vec<_>>();
    assert_eq!(hashes(&store.tokens(alice.id).await.unwrap()), [4, 3, 2, 1]);
    let found = store.token(TokenHash::from_bytes([3; 32])).await.unwrap();
    assert_eq!(found, Some((token(alice.id, 3, 3), alice.clone())));
    assert_eq!(store.token(TokenHash::from_bytes([5; 32])).await.unwrap(), None);

    // One too many: the one that was used last of all stays.
    store.note(Note::Used(TokenHash::from_bytes([1; 32]), at(50)));
    let changed = store.change(Change::AddToken(token(alice.id, 5, 5), 3, None)).await.unwrap();
    let mut ended: Vec<_> = changed.tokens.iter().map(|hash| hash.as_bytes()[0]).collect();
    ended.sort_unstable();
    assert_eq!(ended, [2, 3]);
    assert_eq!(hashes(&store.tokens(alice.id).await.unwrap()), [1, 5, 4]);

    let id = token(alice.id, 4, 0).id();
    let error = store.change(Change::RevokeToken(bobby.name.clone().into(), id)).await.unwrap_err();
    assert_eq!(error.to_string(), "the user has no such token", "it is somebody else's");
    let changed = store.change(Change::RevokeToken(alice.name.clone().into(), id)).await.unwrap();
    assert_eq!(changed.tokens, [TokenHash::from_bytes([4; 32])]);
    let changed = store.change(Change::Lock(alice.name.clone().into(), true, at(9))).await.unwrap();
    assert_eq!(changed.tokens.len(), 2);
    assert_eq!(store.tokens(alice.id).await.unwrap(), []);
    // Whoever was locked, or has another password by now, gets no token for the old one.
    let error = store.change(Change::AddToken(token(alice.id, 6, 6), 3, Some(hash(0)))).await.unwrap_err();
    assert_eq!(error.to_string(), "the user was changed meanwhile");
    let error = store.change(Change::AddToken(token(bobby.id, 6, 6), 3, Some(hash(1)))).await.unwrap_err();
    assert_eq!(error.to_string(), "the user was changed meanwhile");
    assert_eq!(store.change(Change::Delete(bobby.id.into())).await.unwrap().tokens.len(), 1);
    assert_eq!(store.token(TokenHash::from_bytes([9; 32])).await.unwrap(), None);
}

async fn a_hash_is_replaced_only_if_it_is_still_the_same(store: &dyn Store) {
    let alice = create(store, "alice", 1).await.user;
    store.change(Change::AddToken(token(alice.id, 1, 1), 10, None)).await.unwrap();
    let changed = store.change(Change::Rehash(alice.id, hash(0), hash(1))).await.unwrap();
    assert_eq!(changed.tokens, [], "the password is the same");
    let error = store.change(Change::Rehash(alice.id, hash(0), hash(2))).await.unwrap_err();
    assert_eq!(error.to_string(), "the user was changed meanwhile");
    assert_eq!(store.account(alice.id.into()).await.unwrap().unwrap().password, hash(1));
}

async fn counters_and_notes_are_kept(store: &dyn Store) {
    let alice = create(store, "alice", 1).await.user;
    let counted = |key: &str, failures| Counted {
        key: key.into(),
        failures,
        failed: at(failures.into()),
        succeeded: at(0),
    };
    store.change(Change::Count(vec![counted("a", 1), counted("b", 2)])).await.unwrap();
    store.change(Change::Count(vec![counted("a", 3)])).await.unwrap();
    let mut all = store.counted().await.unwrap();
    all.sort_by(|one, other| one.key.cmp(&other.key));
    assert_eq!(all, [counted("a", 3), counted("b", 2)]);
    store.change(Change::Count(vec![counted("c", 5), counted("c", 0), counted("d", 0)])).await.unwrap();
    assert_eq!(store.counted().await.unwrap().len(), 2, "what counts nothing is not kept");
    store.change(Change::AddToken(token(alice.id, 1, 1), 10, None)).await.unwrap();
    store.note(Note::Used(TokenHash::from_bytes([1; 32]), at(7)));
    store.note(Note::Sweep { tokens: at(1), counted: at(3) });
    // A change is made after the notes before it.
    store.change(Change::Count(vec![])).await.unwrap();
    assert_eq!(store.counted().await.unwrap(), [counted("a", 3)]);
    assert_eq!(store.tokens(alice.id).await.unwrap()[0].last_used, at(7));
    store.note(Note::Sweep { tokens: at(1_000_000), counted: at(0) });
    store.change(Change::Count(vec![])).await.unwrap();
    assert_eq!(store.tokens(alice.id).await.unwrap(), []);
}
