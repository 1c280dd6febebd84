//! A database that can be read and not be written: a full disk, one that became read-only.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nsp::authority::Denied;
use nsp_auth::store::{
    Account, Change, ChangeError, Changed, Counted, Memory, Note, Pending, Store, StoreError,
};
use nsp_auth::token::{TokenHash, TokenRecord};
use nsp_auth::user::{User, UserId, Username, Who};

use crate::common::{Heard, PASSWORD, builder, judge, login, name, with_user};

/// A store that makes no change while there is something the matter with its disk.
#[derive(Debug, Default)]
struct Failing {
    memory: Memory,
    fault: Arc<Mutex<Option<StoreError>>>,
}

impl Store for Failing {
    fn account(&self, who: Who) -> Pending<'_, Option<Account>> {
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
        match &*self.fault.lock().unwrap() {
            Some(fault) => Box::pin(std::future::ready(Err(fault.clone().into()))),
            None => self.memory.change(change),
        }
    }

    fn note(&self, note: Note) {
        self.memory.note(note);
    }

    fn close(&self) -> Pending<'_, ()> {
        self.memory.close()
    }
}

#[tokio::test]
async fn with_a_disk_that_takes_nothing_nobody_comes_in_and_who_is_in_stays() {
    let path = || "nsp.db".into();
    for (fault, text) in [
        (StoreError::Full { path: path() }, "there is no room for nsp.db: the disk is full"),
        (StoreError::ReadOnly { path: path() }, "nsp.db is read-only"),
        (StoreError::Locked { path: path() }, "nsp.db is locked by a program that is no daemon"),
    ] {
        let store = Failing::default();
        let disk = store.fault.clone();
        let authority = builder().open_store(store).await.unwrap();
        with_user(&authority, "alice").await;
        let token = login(&authority, "alice", PASSWORD).await.unwrap();
        let unseen = login(&authority, "alice", PASSWORD).await.unwrap();
        judge(&authority, "alice", &token).await.unwrap();
        *disk.lock().unwrap() = Some(fault);

        let heard = Heard::by(&authority);
        assert_eq!(login(&authority, "alice", PASSWORD).await, Err(Denied::Unavailable), "{text}");
        for token in [&token, &unseen] {
            assert!(judge(&authority, "alice", token).await.is_ok(), "{text}");
        }
        let users = authority.users();
        let new = nsp_auth::users::NewUser::new(name("bobby"), PASSWORD.into());
        for failed in [
            users.create(new).await.unwrap_err(),
            users.lock(name("alice")).await.unwrap_err(),
            users.set_password(name("alice"), "another horse battery".into()).await.unwrap_err(),
            users.revoke_tokens(name("alice")).await.unwrap_err(),
            users.delete(name("alice")).await.unwrap_err(),
        ] {
            assert_eq!(failed.to_string(), text);
        }
        // What was not done is not announced, and guesses are counted all the same.
        assert_eq!(heard.take(), []);
        assert!(judge(&authority, "alice", &token).await.is_ok());
        for _ in 0..5 {
            assert_eq!(login(&authority, "alice", "wrong").await, Err(Denied::Wrong), "{text}");
        }
        let throttled = Denied::Throttled { retry_after: Duration::from_secs(1) };
        assert_eq!(login(&authority, "alice", PASSWORD).await, Err(throttled));

        *disk.lock().unwrap() = None;
        assert_eq!(users.search("", None, 9).await.unwrap().users.len(), 1, "as it was");
        users.lock(name("alice")).await.unwrap();
        assert_eq!(judge(&authority, "alice", &token).await, Err(Denied::Wrong));
    }
}
