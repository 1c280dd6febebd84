//! Stories of a daemon: what policies and extractors let through, over the wire.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod extract;
mod policy;
mod services;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use nsp::authority::{Access, Answer, Authority, Denied, Origin, Permission, Proved};
use nsp::{DaemonKey, Password, Token};
use nsp_auth::policy::Policies;

/// Users whose token is `token of NAME`; `admin` is a superuser. A policy says what they may.
pub(crate) struct Book {
    policies: Arc<Policies>,
}

impl Book {
    pub(crate) fn with(policies: &Arc<Policies>) -> Self {
        Self { policies: Arc::clone(policies) }
    }
}

impl Authority for Book {
    fn sign_in<'a>(
        &'a self,
        _: &'a str,
        _: Option<Password>,
        _: Origin,
    ) -> Answer<'a, Result<Token, Denied>> {
        Answer::now(Err(Denied::Wrong))
    }

    fn judge_token<'a>(
        &'a self,
        user: &'a str,
        token: &'a Token,
        _: Origin,
    ) -> Answer<'a, Result<Proved, Denied>> {
        let is_right = token.reveal() == format!("token of {user}");
        Answer::now(is_right.then_some(Proved { rely_for: Duration::from_secs(60) }).ok_or(Denied::Wrong))
    }

    fn judge_password<'a>(
        &'a self,
        _: &'a str,
        _: &'a Password,
        _: Origin,
    ) -> Answer<'a, Result<Proved, Denied>> {
        Answer::now(Err(Denied::Wrong))
    }

    fn privilege<'a>(&'a self, user: &'a str) -> Answer<'a, Result<Option<i64>, Denied>> {
        Answer::now(Ok(Some(if user == "admin" { 0 } else { 1 })))
    }

    fn trusts(&self, _: std::net::IpAddr) -> bool {
        true
    }

    fn is_daemon_key(&self, key: &DaemonKey) -> bool {
        *key == DaemonKey::new("the key")
    }

    fn permits<'a>(&'a self, access: &'a Access<'a>) -> Answer<'a, Permission> {
        let roles: &[&str] = if access.user == Some("admin") { &["superuser"] } else { &[] };
        Answer::now(self.policies.permits(access, roles))
    }

    fn epoch(&self) -> u64 {
        self.policies.epoch()
    }
}
