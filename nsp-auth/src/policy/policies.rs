use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use nsp::authority::{Access, Permission};

use super::cache::Cache;
use super::decide::{Decision, Subject, decide};
use super::error::PolicyError;
use super::explain::{Explanation, explain};
use super::load::MAX_BYTES;
use super::model::Policy;
use crate::audit;

/// The policy that holds now, with the decisions that were made by it.
///
/// Cheap to ask from any thread, and to be replaced while it is asked: every decision is made by one policy or by the other.
///
/// ```
/// use nsp::authority::{Access, Action, Permission};
/// use nsp_auth::policy::{Policies, Policy};
///
/// let policies = Policies::of(Policy::from_toml(r#"
///     [roles.user]
///     grants = [{ may = "read", on = "Notes", shows = ["*", "!secret"] }]
///     [functions.Notes]
///     "list*" = "read"
/// "#)?);
/// let access = Access::new(Some("alice"), Action::Call, "Notes").name("listAll");
/// let Permission::Granted { shows: Some(shows) } = policies.permits(&access, &[]) else { panic!() };
/// let answer = nsp::proto::RawJson::of(&serde_json::json!({"text": "milk", "secret": 1}))?;
/// assert_eq!(shows.show(answer).as_str(), r#"{"text":"milk"}"#);
///
/// let access = Access::new(None, Action::Call, "Notes").name("listAll");
/// assert!(matches!(policies.permits(&access, &[]), Permission::Denied));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Policies {
    /// `None` is no policy: everything is permitted, and the functions guard themselves.
    held: RwLock<Option<Arc<Held>>>,
    /// Where it is read from again.
    path: Option<PathBuf>,
    epoch: AtomicU64,
}

#[derive(Debug)]
struct Held {
    policy: Policy,
    /// It goes with its policy, so it never knows what another has decided.
    cache: Cache,
}

impl Policies {
    /// No policy: everything is permitted. That is where a daemon begins.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// This policy: what it does not grant is denied.
    #[must_use]
    pub fn of(policy: Policy) -> Self {
        let policies = Self::default();
        policies.replace(Some(policy));
        policies
    }

    /// The policy in this file, `.toml` or `.json`.
    ///
    /// Reads the file here and now; it is small.
    ///
    /// # Errors
    /// When it cannot be read, or is no policy.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, PolicyError> {
        let path = path.into();
        let policies = Self { path: Some(path), ..Self::default() };
        policies.reload()?;
        Ok(policies)
    }

    /// Reads the file again. Without a file there is nothing to do.
    ///
    /// # Errors
    /// When it cannot be read, or is no policy. Then the one that held holds on.
    pub fn reload(&self) -> Result<(), PolicyError> {
        let Some(path) = &self.path else { return Ok(()) };
        let policy = read(path).map_err(|error| error.in_file(path));
        match policy {
            Ok(policy) => {
                self.replace(Some(policy));
                Ok(())
            }
            Err(error) => {
                audit::policy_refused(path, &error);
                Err(error)
            }
        }
    }

    /// Has another policy hold from now on, or none.
    pub fn replace(&self, policy: Option<Policy>) {
        let rules = policy.as_ref().map(Policy::rule_count);
        if policy.as_ref().is_some_and(|policy| !policy.names_superusers()) {
            tracing::warn!(
                "the policy has no role `superuser`: superusers may what every user may, and no more"
            );
        }
        let held = policy.map(|policy| Arc::new(Held { policy, cache: Cache::new() }));
        let before = {
            let mut place = self.held.write().unwrap_or_else(PoisonError::into_inner);
            // Under the lock: whoever sees the new number sees the new policy.
            self.epoch.fetch_add(1, Ordering::Release);
            std::mem::replace(&mut *place, held)
        };
        let change = match (before.is_some(), rules.is_some()) {
            (false, true) => "set",
            (true, true) => "replaced",
            (_, false) => "removed",
        };
        audit::policy_changed(change, rules, self.path.as_deref());
    }

    /// Whether there is a policy.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        // Asked at every call: nothing is cloned for it.
        self.held.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// A number that grows with every policy that comes to hold: part of [`Authority::epoch`](nsp::authority::Authority::epoch).
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether somebody may do something, who has these roles beside those in the policy. Without a policy they may.
    ///
    /// Roles are part of what is remembered: a user whose roles change is decided about anew.
    #[must_use]
    pub fn permits(&self, access: &Access<'_>, roles: &[&str]) -> Permission {
        self.decide(&Subject::of(access, roles), access)
            .map_or(Permission::Granted { shows: None }, |decision| decision.permission)
    }

    /// As [`permits`](Self::permits), for any subject, and with the rule; `None` without a policy.
    #[must_use]
    pub fn decide(&self, subject: &Subject<'_>, access: &Access<'_>) -> Option<Decision> {
        let held = self.held()?;
        Some(held.cache.get(subject, access, || decide(&held.policy, subject, access)))
    }

    /// Why somebody may do something or may not; `None` without a policy.
    #[must_use]
    pub fn explain(&self, subject: &Subject<'_>, access: &Access<'_>) -> Option<Explanation> {
        Some(explain(&self.held()?.policy, subject, access))
    }

    fn held(&self) -> Option<Arc<Held>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read(path: &Path) -> Result<Policy, PolicyError> {
    let parse = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => Policy::from_toml,
        Some("json") => Policy::from_json,
        _ => return Err(PolicyError::Format { path: path.into() }),
    };
    let text = || -> io::Result<String> {
        let mut text = String::new();
        // One more than is accepted, so that it is refused for its size.
        fs::File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    parse(&text().map_err(|source| PolicyError::Read { path: path.into(), source })?)
}
