//! What asks, opens and closes.

use std::time::Duration;

use nsp::authority::{Access, Action, Authority as _, Permission};
use nsp_auth::policy::{Policies, Policy};
use nsp_auth::store::{Change, Memory, Sqlite, Store};
use nsp_auth::token::TokenHash;
use nsp_auth::user::Who;
use nsp_auth::users::NewUser;
use nsp_auth::{Authority, password};

use crate::dropping::{drop_after, drops, settle};
use crate::{NOBODY, PASSWORD, builder, name};

const POLICY: &str = "[roles.user]\ngrants = [{ may = \"*\", on = \"Notes\" }]\n";

#[tokio::test]
async fn questions_that_are_dropped_are_answered_the_next_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let policies = || Policies::of(Policy::from_toml(POLICY).unwrap());
    let authority = builder().policies(policies()).open(&path).await.unwrap();
    let mut all = Vec::new();
    for (n, drop) in drops(6).enumerate() {
        let who = format!("user{n}");
        authority.users().create(NewUser::new(name(&who), PASSWORD.into())).await.unwrap();
        let (token, _) = authority.users().issue_token(name(&who), "first").await.unwrap();
        all.push((drop, who, token));
    }
    // One that remembers nothing, so that all has to be looked up.
    authority.close().await.unwrap();
    let authority = builder().policies(policies()).open(&path).await.unwrap();
    let users = authority.users();
    for (drop, who, token) in all {
        let access = Access::new(Some(&who), Action::Call, "Notes").name("list");
        let explained = drop_after(authority.explain(&access), drop, settle).await;
        assert!(explained.is_none_or(|explained| explained.unwrap().is_some()));
        let permitted = drop_after(authority.permits(&access), drop, settle).await;
        assert!(permitted.is_none_or(|permission| matches!(permission, Permission::Granted { .. })));
        let privilege = drop_after(authority.privilege(&who), drop, settle).await;
        assert!(privilege.is_none_or(|privilege| privilege == Ok(Some(1))));
        let judged = drop_after(authority.judge_token(&who, &token, NOBODY), drop, settle).await;
        assert!(judged.is_none_or(|judged| judged.is_ok()));
        let judged = drop_after(authority.judge_password(&who, &PASSWORD.into(), NOBODY), drop, settle).await;
        assert!(judged.is_none_or(|judged| judged.is_ok()));
        let found = drop_after(users.find(name(&who)), drop, settle).await;
        assert!(found.is_none_or(|found| found.unwrap().is_some()));
        let found = drop_after(users.search(&who, None, 1), drop, settle).await;
        assert!(found.is_none_or(|page| page.unwrap().users.len() == 1));
        let tokens = drop_after(users.tokens(name(&who)), drop, settle).await;
        assert!(tokens.is_none_or(|tokens| tokens.unwrap().len() == 1));

        assert!(matches!(authority.permits(&access).await, Permission::Granted { .. }), "{drop:?}");
        assert!(authority.explain(&access).await.unwrap().is_some());
        assert_eq!(authority.privilege(&who).await, Ok(Some(1)));
        authority.judge_token(&who, &token, NOBODY).await.unwrap();
        authority.judge_password(&who, &PASSWORD.into(), NOBODY).await.unwrap();
        assert_eq!(users.tokens(name(&who)).await.unwrap().len(), 1);
        assert_eq!(users.search(&who, None, 1).await.unwrap().users[0].name, name(&who));
    }
}

#[tokio::test]
async fn opening_and_closing_that_are_dropped_leave_the_file_free() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let (mut dropped, mut closed) = (0, 0);
    for drop in drops(5) {
        for which in ["Authority::open", "Builder::open", "Builder::open_store"] {
            let opened = match which {
                "Authority::open" => drop_after(Authority::open(&path), drop, settle).await,
                "Builder::open" => drop_after(builder().open(&path), drop, settle).await,
                _ => drop_after(builder().open_store(Memory::new()), drop, settle).await,
            };
            dropped += u32::from(opened.is_none());
            if let Some(opened) = opened {
                // Somebody else may hold it for a moment: whoever was dropped lets go of it in a thread of its own.
                let Ok(opened) = opened else { continue };
                closed += u32::from(drop_after(opened.close(), drop, settle).await.is_some());
            }
            let again = async {
                loop {
                    match builder().open(&path).await {
                        Ok(authority) => break authority,
                        Err(_) => settle().await,
                    }
                }
            };
            let again = tokio::time::timeout(Duration::from_secs(10), again).await;
            again.unwrap_or_else(|_| panic!("{which} {drop:?}: the file is not free")).close().await.unwrap();
        }
    }
    assert!(dropped > 0 && closed > 0, "{dropped} {closed}");
}

/// All that a store gives.
async fn storing(store: &dyn Store) {
    let authority = builder().open_store(Memory::new()).await.unwrap();
    let mut count = 0;
    for (n, drop) in drops(4).enumerate() {
        let who = name(&format!("user{n}"));
        let user = authority.users().create(NewUser::new(who.clone(), PASSWORD.into())).await.unwrap();
        let account = nsp_auth::store::Account {
            user: user.clone(),
            password: password::PasswordHash::parse(HASH).unwrap(),
        };
        let changed = drop_after(store.change(Change::Create(account.clone())), drop, settle).await;
        assert!(changed.is_none_or(|changed| changed.is_ok()));
        let found = drop_after(store.account(Who::Name(who.clone())), drop, settle).await;
        assert!(found.is_none_or(|found| found.is_ok()));
        let found = drop_after(store.search("user".into(), None, 99), drop, settle).await;
        assert!(found.is_none_or(|found| found.is_ok()));
        let hash = TokenHash::of(&"no token".into());
        assert!(
            drop_after(store.token(hash), drop, settle).await.is_none_or(|found| found.unwrap().is_none())
        );
        assert!(drop_after(store.tokens(user.id), drop, settle).await.is_none_or(|found| found.is_ok()));
        assert!(drop_after(store.counted(), drop, settle).await.is_none_or(|counted| counted.is_ok()));
        // It was begun and is made before this, or it was not and can be.
        store.change(Change::Count(Vec::new())).await.unwrap();
        if store.account(Who::Name(who.clone())).await.unwrap().is_none() {
            store.change(Change::Create(account)).await.unwrap();
        }
        count += 1;
        assert_eq!(store.search("user".into(), None, 99).await.unwrap().len(), count, "{drop:?}");
    }
    let _ = drop_after(store.close(), (1, crate::dropping::Moment::AtOnce), settle).await;
    store.close().await.unwrap();
}

/// Of a password that nobody has.
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$\
                    Zm9ydHktdHdvIGJ5dGVzIG9mIG5vdGhpbmcgYXQgYWw";

#[tokio::test]
async fn futures_of_a_store_that_are_dropped_leave_it_as_it_was() {
    // What is dropped: `account`, `search`, `token`, `tokens`, `counted`, `change`, and `close`; and `Sqlite::open`.
    storing(&Memory::new()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    for drop in drops(4) {
        std::mem::drop(drop_after(Sqlite::open(&path), drop, settle).await);
    }
    let open = async {
        loop {
            match Sqlite::open(&path).await {
                Ok(store) => break store,
                Err(_) => settle().await,
            }
        }
    };
    let store = tokio::time::timeout(Duration::from_secs(10), open).await.expect("the file is free");
    storing(&store).await;
}
