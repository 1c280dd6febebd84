//! What changes users.

use std::path::Path;
use std::time::Duration;

use nsp::Token;
use nsp::authority::Authority as _;
use nsp_auth::Authority;
use nsp_auth::import::Import;
use nsp_auth::policy::Policies;
use nsp_auth::store::Memory;
use nsp_auth::token::TokenId;
use nsp_auth::user::{Names, Profile, User};
use nsp_auth::users::{NewUser, UserError};

use crate::dropping::{drop_after, drops, settle};
use crate::{NOBODY, PASSWORD, WRITTEN, builder, name};

/// Polls of one future; each of the operations below is over after fewer.
const POLLS: usize = 8;

/// What is done, and what is written down of it.
const CHANGES: [(&str, &str); 15] = [
    ("create", "change=\"created\""),
    ("delete", "change=\"removed\""),
    ("rename", "change=\"renamed\""),
    ("set_password", "change=\"password\""),
    ("reset_password", "change=\"password\""),
    ("set_privilege", "change=\"privilege\""),
    ("set_names", "change=\"names\""),
    ("set_profile", "change=\"names\""),
    ("set_roles", "change=\"roles\""),
    ("lock", "change=\"locked\""),
    ("unlock", "change=\"unlocked\""),
    ("issue_token", "change=\"token\""),
    ("revoke_token", "event=\"revoked\""),
    ("revoke_tokens", "event=\"revoked\""),
    ("sign_in", "event=\"login\""),
];

/// All that can be seen of a user.
#[derive(Debug, PartialEq)]
struct Seen {
    user: Option<User>,
    renamed: Option<User>,
    tokens: Vec<TokenId>,
}

async fn look(authority: &Authority, who: &str) -> Seen {
    let users = authority.users();
    let tokens = users.tokens(name(who)).await.unwrap_or_default();
    Seen {
        user: users.find(name(who)).await.unwrap(),
        renamed: users.find(name(&format!("{who}x"))).await.unwrap(),
        tokens: tokens.iter().map(|token| token.hash.id()).collect(),
    }
}

async fn change(authority: &Authority, what: &str, who: &str, token: TokenId) -> Result<(), UserError> {
    let (users, user) = (authority.users().by("somebody"), name(who));
    let mut profile = Profile::default();
    profile.about_me = "all".into();
    let names = Names { display_name: Some("Shown".into()), ..Names::default() };
    match what {
        "create" => users.create(NewUser::new(user, PASSWORD.into())).await.map(drop),
        "delete" => users.delete(user).await.map(drop),
        "rename" => users.rename(user, name(&format!("{who}x"))).await.map(drop),
        "set_password" => users.set_password(user, "another horse battery".into()).await.map(drop),
        "reset_password" => users.reset_password(user).await.map(drop),
        "set_privilege" => users.set_privilege(user, 0).await.map(drop),
        "set_names" => users.set_names(user, names).await.map(drop),
        "set_profile" => users.set_profile(user, profile).await.map(drop),
        "set_roles" => users.set_roles(user, vec!["editor".into()]).await.map(drop),
        "lock" => users.lock(user).await.map(drop),
        "unlock" => users.unlock(user).await.map(drop),
        "issue_token" => users.issue_token(user, "a program").await.map(drop),
        "revoke_token" => users.revoke_token(user, token).await,
        "revoke_tokens" => users.revoke_tokens(user).await.map(drop),
        "sign_in" => {
            authority.sign_in(who, Some(PASSWORD.into()), NOBODY).await.unwrap();
            Ok(())
        }
        _ => unreachable!("{what}"),
    }
}

/// Does each of them, dropped at each moment, and then to its end if it was not done.
async fn changing(authority: &Authority, store: &str, polls: usize) {
    let users = authority.users();
    users.create(NewUser::new(name("chief"), PASSWORD.into()).privilege(0)).await.unwrap();
    let (mut undone, mut done_all_the_same) = (0, 0);
    for (what, said) in CHANGES {
        for (n, drop) in drops(polls).enumerate() {
            let who = format!("{store}{what}{n}u").replace('_', "");
            let mut token = Token::new("none");
            let mut id = TokenId::parse("0000000000000000").unwrap();
            if what != "create" {
                users.create(NewUser::new(name(&who), PASSWORD.into())).await.unwrap();
                let (made, record) = users.issue_token(name(&who), "first").await.unwrap();
                (token, id) = (made, record.id());
                // So that the cache knows it.
                authority.judge_token(&who, &token, NOBODY).await.unwrap();
            }
            if what == "unlock" {
                users.lock(name(&who)).await.unwrap();
            }
            let user = format!(" user={who} ");
            let parts = [user.as_str(), said];
            let written = WRITTEN.count(&parts);
            let before = look(authority, &who).await;
            let ended = drop_after(change(authority, what, &who, id), drop, settle).await;
            // What is under way goes on by itself; what comes after it is made after it.
            tokio::time::sleep(Duration::from_millis(2)).await;
            users.set_names(name("chief"), Names::default()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            let after = look(authority, &who).await;
            let is_done = before != after;
            assert!(is_done || ended.is_none(), "{who}: {ended:?}");
            let is_good = authority.judge_token(&who, &token, NOBODY).await.is_ok();
            let was_good = before.tokens.contains(&id);
            assert_eq!(is_good, was_good && after.tokens.contains(&id), "{who}: {before:?} {after:?}");
            assert_eq!(WRITTEN.count(&parts) - written, usize::from(is_done), "{who}: {drop:?} {ended:?}");
            match (is_done, &ended) {
                (false, _) => {
                    undone += 1;
                    change(authority, what, &who, id).await.unwrap();
                    assert_ne!(look(authority, &who).await, before);
                    assert_eq!(WRITTEN.count(&parts) - written, 1, "{who}");
                }
                (true, None) => done_all_the_same += 1,
                (true, Some(_)) => {}
            }
        }
    }
    assert!(done_all_the_same > 0, "{undone} {done_all_the_same}");
}

#[tokio::test]
async fn changes_that_are_dropped_are_made_wholly_or_not_at_all_and_written_down() {
    // What is dropped: `create`, `delete`, `rename`, `set_password`, `reset_password`, `set_privilege`, `set_names`, `set_profile`,
    // `set_roles`, `lock`, `unlock`, `issue_token`, `revoke_token`, `revoke_tokens`, and `sign_in`.
    assert_eq!(WRITTEN.count(&["nothing of this"]), 0);
    changing(&builder().open_store(Memory::new()).await.unwrap(), "memory", POLLS).await;
    let folder = tempfile::tempdir().unwrap();
    changing(&builder().open(folder.path().join("users.db")).await.unwrap(), "sqlite", 4).await;
}

#[tokio::test]
async fn first_admin_that_nobody_waited_for_can_be_helped() {
    for drop in drops(POLLS) {
        let authority = builder().open_store(Memory::new()).await.unwrap();
        let users = authority.users();
        let made = drop_after(users.first_admin(), drop, settle).await;
        settle().await;
        let password = match (made, users.first_admin().await.unwrap()) {
            (Some(made), None) => made.unwrap().unwrap().1,
            (None, Some((_, password))) => password,
            // It is there, and nobody has heard the password: it is given another one.
            (None, None) => users.reset_password(name("admin")).await.unwrap().1,
            (Some(_), Some(_)) => panic!("{drop:?}: there are two first ones"),
        };
        authority.sign_in("admin", Some(password), NOBODY).await.unwrap();
    }
}

/// A database of the original with two users.
fn original(path: &Path, tag: usize) {
    let connection = rusqlite::Connection::open(path).unwrap();
    let table = "CREATE TABLE NoService_Model_NSUser (username VARCHAR(255), userid VARCHAR(255), displayname VARCHAR(255), \
        pwdhash VARCHAR(255), token VARCHAR(255), tokenexpire DATETIME, privilege INTEGER, detail TEXT, firstname VARCHAR(255), \
        lastname VARCHAR(255), createdate DATETIME, modifydate DATETIME, PRIMARY KEY (username, userid))";
    connection.execute_batch(table).unwrap();
    for n in 0..2 {
        let row = format!(
            "INSERT INTO NoService_Model_NSUser VALUES ('old{n}x{tag}', '1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4b{n:02x}', 'Shown', \
             '{}', '', '2026-12-01 00:00:00', 1, '', '', '', '2020-02-29 12:34:56', '2021-01-01 00:00:00')",
            "ab".repeat(32)
        );
        connection.execute(&row, []).unwrap();
    }
}

#[tokio::test]
async fn import_that_is_dropped_has_imported_everybody_or_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let said = "event=\"import\"";
    let (mut nobody, mut everybody) = (0, 0);
    for (tag, drop) in drops(2 * POLLS).enumerate() {
        let path = folder.path().join(format!("{tag}.sqlite3"));
        original(&path, tag);
        let authority = builder().open_store(Memory::new()).await.unwrap();
        let actor = format!("importer{tag}");
        let users = authority.users().by(&actor);
        let ended = drop_after(users.import(Import::new(&path)), drop, settle).await;
        assert!(ended.as_ref().is_none_or(Result::is_ok), "{ended:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
        let found = users.search("old", None, 9).await.unwrap().users.len();
        assert!(found == 0 || found == 2, "{drop:?}: {found}");
        assert!(found == 2 || ended.is_none());
        assert_eq!(WRITTEN.count(&[said, &actor]), found / 2, "{drop:?}");
        *if found == 0 { &mut nobody } else { &mut everybody } += 1;
        if found == 0 {
            assert_eq!(users.import(Import::new(&path)).await.unwrap().users.len(), 2);
        }
    }
    assert!(nobody > 0 && everybody > 0, "{nobody} {everybody}");
}

#[tokio::test]
async fn policy_that_is_read_again_is_written_down_though_nobody_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    std::fs::write(&path, "[roles.user]\ngrants = [{ may = \"*\", on = \"*\" }]\n").unwrap();
    let policies = Policies::open(&path).unwrap();
    let authority = builder().policies(policies).open_store(Memory::new()).await.unwrap();
    for (n, drop) in drops(3).enumerate() {
        let (epoch, actor) = (authority.policies().epoch(), format!("reader{n}"));
        std::fs::write(&path, format!("[roles.user{n}]\ngrants = [{{ may = \"*\", on = \"*\" }}]\n"))
            .unwrap();
        let read = drop_after(authority.reload_policy(&actor), drop, settle).await;
        assert!(read.is_none_or(|read| read.is_ok()));
        for _ in 0..200 {
            if authority.policies().epoch() > epoch {
                break;
            }
            settle().await;
        }
        assert!(authority.policies().epoch() > epoch, "{drop:?}: it is read all the same");
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(WRITTEN.count(&["event=\"policy\"", &actor, "loaded=true"]), 1, "{drop:?}");
    }
}
