//! An authority that a test can look into and change.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nsp::authority::{
    Access, Action, Answer, Authority, Denied, Origin, Permission, Proved, Revoked, RevokedToken, Shows,
};
use nsp::proto::RawJson;
use nsp::{DaemonKey, Password, Token};
use sha2::{Digest, Sha256};

type Callback = Arc<dyn Fn(&Revoked) + Send + Sync>;

/// Users whose token is `token of NAME`, and whose password is `password of NAME`.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) users: Mutex<HashMap<String, i64>>,
    pub(crate) rules: Mutex<Option<Rules>>,
    pub(crate) asked: AtomicU64,
    epoch: AtomicU64,
    callback: Mutex<Option<Callback>>,
    /// Answers come later, and not at once.
    pub(crate) is_slow: AtomicBool,
    pub(crate) is_throttled: AtomicBool,
    /// Something is revoked whenever it looks.
    pub(crate) is_restless: AtomicBool,
}

/// Who may what: user, or `service NAME`; action, function.
pub(crate) type Rules = fn(Option<&str>, Action, Option<&str>) -> Permission;

impl Book {
    pub(crate) fn of(users: &[(&str, i64)]) -> Arc<Self> {
        let users = users.iter().map(|(name, privilege)| ((*name).to_owned(), *privilege)).collect();
        Arc::new(Self { users: Mutex::new(users), ..Self::default() })
    }

    pub(crate) fn with_rules(self: Arc<Self>, rules: Rules) -> Arc<Self> {
        *self.rules.lock().unwrap() = Some(rules);
        self
    }

    /// How often it was asked about a token or password since the last time.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.swap(0, Ordering::Relaxed)
    }

    /// Something has changed that is nobody's loss.
    pub(crate) fn next_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn revoke_user(&self, user: &str) {
        self.users.lock().unwrap().remove(user);
        self.next_epoch();
        let callback = self.callback.lock().unwrap().clone().unwrap();
        callback(&Revoked::User { user: user.to_owned() });
    }

    pub(crate) fn revoke_token(&self, user: &str, token: &str) {
        self.next_epoch();
        let callback = self.callback.lock().unwrap().clone().unwrap();
        let token = RevokedToken(Sha256::digest(token.as_bytes()).into());
        callback(&Revoked::Token { user: user.to_owned(), token });
    }

    fn answer<T: Send + Unpin + 'static>(&self, value: T) -> Answer<'static, T> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.is_restless.load(Ordering::Relaxed) {
            self.next_epoch();
        }
        if self.is_slow.load(Ordering::Relaxed) {
            Answer::later(async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                value
            })
        } else {
            Answer::now(value)
        }
    }

    fn judge(&self, user: &str, secret: &str, kind: &str) -> Result<Proved, Denied> {
        if self.is_throttled.load(Ordering::Relaxed) {
            return Err(Denied::Throttled { retry_after: Duration::from_secs(9) });
        }
        let is_right = self.users.lock().unwrap().contains_key(user) && secret == format!("{kind} of {user}");
        is_right.then_some(Proved { rely_for: Duration::from_secs(60) }).ok_or(Denied::Wrong)
    }
}

impl Authority for Book {
    fn sign_in<'a>(
        &'a self,
        user: &'a str,
        password: Option<Password>,
        _: Origin,
    ) -> Answer<'a, Result<Token, Denied>> {
        let password = password.as_ref().map_or("", Password::reveal);
        let judged = self.judge(user, password, "password");
        self.answer(judged.map(|_| Token::new(format!("token of {user}"))))
    }

    fn judge_token<'a>(
        &'a self,
        user: &'a str,
        token: &'a Token,
        _: Origin,
    ) -> Answer<'a, Result<Proved, Denied>> {
        self.answer(self.judge(user, token.reveal(), "token"))
    }

    fn judge_password<'a>(
        &'a self,
        user: &'a str,
        password: &'a Password,
        _: Origin,
    ) -> Answer<'a, Result<Proved, Denied>> {
        self.answer(self.judge(user, password.reveal(), "password"))
    }

    fn privilege<'a>(&'a self, user: &'a str) -> Answer<'a, Result<Option<i64>, Denied>> {
        self.answer(Ok(self.users.lock().unwrap().get(user).copied()))
    }

    fn trusts(&self, address: std::net::IpAddr) -> bool {
        address.is_loopback()
    }

    fn is_daemon_key(&self, key: &DaemonKey) -> bool {
        *key == DaemonKey::new("the key")
    }

    fn permits<'a>(&'a self, access: &'a Access<'a>) -> Answer<'a, Permission> {
        let rules = *self.rules.lock().unwrap();
        assert!(access.user.is_none() || access.calling_service.is_none(), "it is one or the other");
        let service = access.calling_service.map(|service| format!("service {service}"));
        let who = access.user.or(service.as_deref());
        Answer::now(rules.map_or(granted(), |rules| rules(who, access.action, access.name)))
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    fn on_revoked(&self, callback: Callback) -> Option<Box<dyn Send + Sync>> {
        *self.callback.lock().unwrap() = Some(callback);
        None
    }
}

pub(crate) fn granted() -> Permission {
    Permission::Granted { shows: None }
}

/// Shows nothing of an answer but this.
#[derive(Debug)]
pub(crate) struct Only(pub(crate) &'static str);

impl Shows for Only {
    fn show(&self, _: RawJson) -> RawJson {
        RawJson::of(self.0).unwrap()
    }
}
