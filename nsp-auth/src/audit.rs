//! What happened to users and at logins, for whoever has to know later.
//!
//! Events of `tracing` under the target `nsp_auth::audit`, each with the fields that apply:
//!
//! | field | what |
//! |---|---|
//! | `event` | `login`, `proof`, `refused`, `throttled`, `revoked`, `user`, `import`, `forbidden`, `policy` |
//! | `user` | who it is about; what a peer claims is shown escaped, and cut at 64 characters |
//! | `address` | from where it was asked, or `local` |
//! | `reason` | why it was refused: `unknown`, `locked`, `password`, `token`, `busy` |
//! | `change` | what was changed of a user: `created`, `removed`, `renamed`, `password`, `privilege`, `names`, `roles`, `locked`, `unlocked`, `token` (one was made) |
//! | | of the policy: `set`, `replaced`, `removed`, `refused` (the file has mistakes, and the old one holds on) |
//! | `rules`, `path` | of a policy: how many, and from which file |
//! | `error` | what is the matter with that file: the line, the field, and what is wrong there |
//! | `actor` | who changed it |
//! | `token` | the id of a token, of which it says nothing |
//! | `retry_after` | seconds until it may be tried again |
//! | `count` | how many |
//! | `action`, `service`, `function` | what a user who was proved may not do, or a service that calls another one |
//! | `calling_service` | that service; there is no `user` then |
//! | `loaded` | whether the policy that was read again holds now |
//!
//! None of them is a secret. The reasons go further than what a peer is told: whoever reads this knows which users exist.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use nsp::authority::{Access, Origin};
use tracing::field::display;
use tracing::{info, warn};

use crate::policy::PolicyError;
use crate::token::TokenId;
use crate::user::Username;

/// The target of all of them.
pub const TARGET: &str = "nsp_auth::audit";

/// What a peer claims, fit to be shown.
struct Claimed<'a>(&'a str);

impl fmt::Display for Claimed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .take(Username::MAX_LENGTH)
            .flat_map(char::escape_debug)
            .try_for_each(|char| write!(f, "{char}"))
    }
}

struct From(Option<IpAddr>);

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => write!(f, "{}", address.to_canonical()),
            None => f.write_str("local"),
        }
    }
}

pub(crate) fn login(user: &Username, origin: Origin, token: TokenId) {
    info!(target: TARGET, event = "login", %user, address = %From(origin.address), %token);
}

pub(crate) fn proof(user: &Username, origin: Origin) {
    info!(target: TARGET, event = "proof", %user, address = %From(origin.address));
}

pub(crate) fn refused(claimed: &str, origin: Origin, reason: &'static str) {
    info!(target: TARGET, event = "refused", user = %Claimed(claimed), address = %From(origin.address), reason);
}

pub(crate) fn throttled(claimed: &str, origin: Origin, retry_after: Duration) {
    let retry_after = retry_after.as_secs_f64().ceil();
    warn!(target: TARGET, event = "throttled", user = %Claimed(claimed), address = %From(origin.address), retry_after);
}

pub(crate) fn revoked(user: &Username, actor: &str, count: usize) {
    info!(target: TARGET, event = "revoked", %user, actor = %Claimed(actor), count);
}

pub(crate) fn changed(user: &Username, actor: &str, change: &'static str) {
    info!(target: TARGET, event = "user", %user, actor = %Claimed(actor), change);
}

pub(crate) fn imported(actor: &str, count: usize) {
    info!(target: TARGET, event = "import", actor = %Claimed(actor), count);
}

pub(crate) fn forbidden(access: &Access<'_>) {
    let [user, calling_service] =
        [access.user, access.calling_service].map(|who| who.map(Claimed).map(display));
    let (service, name) = (Claimed(access.service), Claimed(access.name.unwrap_or_default()));
    info!(target: TARGET, event = "forbidden", user, calling_service, action = ?access.action, %service, function = %name);
}

/// Another policy holds, or none.
pub(crate) fn policy_changed(change: &'static str, rules: Option<usize>, path: Option<&Path>) {
    let path = path.map(|path| display(path.display()));
    info!(target: TARGET, event = "policy", change, rules, path);
}

/// A file is no policy, and the one that held holds on.
pub(crate) fn policy_refused(path: &Path, error: &PolicyError) {
    let path = path.display();
    warn!(target: TARGET, event = "policy", change = "refused", %path, %error);
}

pub(crate) fn policy(actor: &str, is_loaded: bool) {
    info!(target: TARGET, event = "policy", actor = %Claimed(actor), loaded = is_loaded);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_claims_is_escaped_and_cut() {
        assert_eq!(Claimed("a\n\u{1b}[31mb\0").to_string(), "a\\n\\u{1b}[31mb\\0");
        assert_eq!(Claimed(&"x".repeat(1 << 20)).to_string().len(), 64);
        assert_eq!(From(Some("::ffff:10.1.2.3".parse().unwrap())).to_string(), "10.1.2.3");
        assert_eq!(From(None).to_string(), "local");
    }
}
