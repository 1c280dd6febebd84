//! Who an entity is: how it is asked, what is remembered of it, and for how long.
//!
//! ```text
//!  prove ─▶ remembered, and it still holds ───────────────────────────▶ passed     (no lock but one, no allocation)
//!    │
//!    └────▶ Check ─▶ ask the client ─▶ ask the authority ─▶ remember ─▶ passed
//!                    (one at a time)    (and again, if something was revoked meanwhile)
//! ```

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::call::Current;
use super::connection::{Command, Secret, now};
use super::entity::{Entity, User};
use super::fail::{Fail, code, of_denied};
use super::shared::Shared;
use crate::authority::{Denied, Proved, Revoked, RevokedToken};
use crate::machine::check::{Check, Demand, Step, Subject, Verdict};
use crate::machine::daemon::PushError;
use crate::proto::au::Notice;
use crate::secret::Token;

/// What an entity has proved, and what the authority has said about it.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub(crate) user: User,
    token: Option<Token>,
    is_superuser: bool,
    until: Instant,
    epoch: u64,
}

impl Remembered {
    /// Whether it may be relied on without asking anybody.
    pub(crate) fn holds(&self, epoch: u64, now: Instant) -> bool {
        self.epoch == epoch && now < self.until
    }

    /// Whether it is what is demanded. A password is demanded anew each time.
    pub(crate) fn shows(&self, demand: Demand) -> bool {
        self.token.is_some()
            && match demand {
                Demand::Token => true,
                Demand::Superuser => self.is_superuser,
                Demand::Password => false,
            }
    }
}

/// What is known of an entity without asking anybody. It is looked at once a call.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It has proved nothing.
    Nobody,
    /// It has, too long ago, or something was revoked since.
    Stale,
    /// This holds.
    Proved(Arc<Remembered>),
}

/// What a proof has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Passed {
    /// The user who has shown it; `None` for a trusted daemon, which acts for whomever it says.
    pub user: Option<User>,
}

/// Why an entity has not proved what was demanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// It speaks for nobody; it was asked to sign in.
    #[error("nobody is signed in")]
    NoOwner,
    /// The client was asked, and did not say.
    #[error("the client has shown nothing")]
    Declined,
    /// The authority says no, or cannot say.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The user has proved who they are, and is no superuser.
    #[error("the user is no superuser")]
    NotSuperuser,
    /// It says that it is a daemon, and has not the key or does not come from a trusted address.
    #[error("not a trusted daemon")]
    NotTrusted,
    /// Somebody may read along, so it was not even asked.
    #[error("the connection is not safe enough for secrets")]
    Insecure,
    /// So many questions wait for the client that it was not asked.
    #[error("too many questions wait for the client")]
    TooManyQuestions,
    /// It is not there any more.
    #[error("the entity is gone")]
    Gone,
}

impl ProveError {
    /// What the caller is told.
    pub(crate) fn fail(&self) -> Fail {
        let code = match self {
            Self::Denied(denied) => return of_denied(denied),
            Self::NotSuperuser => code::FORBIDDEN,
            Self::Insecure => code::INSECURE,
            Self::TooManyQuestions => code::BUSY,
            _ => code::AUTH_FAILED,
        };
        Fail::new(code, format!("AuthFailed: {self}"))
    }
}

impl Entity {
    /// Demands a proof: a [token](Demand::Token), a [password](Demand::Password), or the token of a [superuser](Demand::Superuser).
    ///
    /// A token that was shown before is remembered: while the authority said one may rely on it, and nothing was
    /// revoked, it costs nothing, and after that the authority is asked again. Otherwise the client is asked; it hears `TF` or `PF` if what it says
    /// is wrong, and `SI` if it speaks for nobody. A password is asked for each time.
    ///
    /// # Errors
    /// A [`ProveError`], which a function can hand on to its caller by `?`.
    ///
    /// # Cancel safety
    /// Dropping it forgets the answer to a question that was asked.
    pub async fn prove(&self, demand: Demand) -> Result<Passed, ProveError> {
        match self.prove_now(demand) {
            Some(passed) => Ok(passed),
            // Boxed: it is large, and seldom needed.
            None => Box::pin(self.prove_by_asking(demand)).await,
        }
    }

    /// What can be said without asking anybody.
    #[doc(hidden)]
    #[must_use]
    pub fn prove_now(&self, demand: Demand) -> Option<Passed> {
        let Standing::Proved(remembered) = self.standing(&*self.daemon()?, now()) else { return None };
        remembered.shows(demand).then(|| Passed { user: Some(remembered.user.clone()) })
    }

    /// What is known of it now.
    #[inline]
    pub(crate) fn standing(&self, daemon: &Shared, now: Instant) -> Standing {
        match self.remembered() {
            None => Standing::Nobody,
            Some(remembered) if remembered.holds(daemon.authority.epoch(), now) => {
                Standing::Proved(remembered)
            }
            Some(_) => Standing::Stale,
        }
    }

    /// Whether what it has proved is what is demanded, and holds now.
    pub(crate) fn shows(&self, demand: Demand, daemon: &Shared, now: Instant) -> bool {
        let proof = self.0.proof.lock().unwrap_or_else(PoisonError::into_inner);
        let holds =
            |proof: &Arc<Remembered>| proof.holds(daemon.authority.epoch(), now) && proof.shows(demand);
        proof.as_ref().is_some_and(holds)
    }

    async fn prove_by_asking(&self, demand: Demand) -> Result<Passed, ProveError> {
        let daemon = self.daemon().ok_or(ProveError::Gone)?;
        // Many calls may need the same token at once: one asks for it, the others find it.
        let _turn = match demand {
            Demand::Password => None,
            Demand::Token | Demand::Superuser => self.0.turn.acquire().await.ok(),
        };
        if let Some(passed) = self.prove_now(demand) {
            return Ok(passed);
        }
        let (mut shown, mut attempts) = (None, 0);
        loop {
            attempts += 1;
            let epoch = daemon.authority.epoch();
            let (passed, proved) = self.check(&daemon, demand, shown.take()).await?;
            let Some((proof, rely_for)) = proved else { return Ok(passed) };
            shown.clone_from(&proof.token);
            // A password is not asked for again: it was right when it was said.
            if self.remember_proof(&daemon, proof, rely_for, epoch, demand)
                || demand == Demand::Password
                || attempts == ATTEMPTS
            {
                return Ok(passed);
            }
            // Something was revoked while the authority looked: it may have been this, which it says when it looks again.
        }
    }

    /// Notes what was proved; `false` if something was revoked since `epoch`.
    fn remember_proof(
        &self,
        daemon: &Shared,
        proof: Proof,
        rely: Proved,
        epoch: u64,
        demand: Demand,
    ) -> bool {
        let mut registry = daemon.registry_mut();
        // Under the lock: whoever revokes has raised the epoch before, and takes the lock after.
        if daemon.authority.epoch() != epoch {
            return false;
        }
        if registry.entities.get(&self.0.id).is_none() {
            return true;
        }
        let until = now() + rely.rely_for.min(MOST_RELIANCE);
        let before = self.remembered().filter(|before| before.user == proof.user);
        let is_superuser = demand == Demand::Superuser
            || before.as_ref().is_some_and(|before| before.is_superuser && before.holds(epoch, now()));
        // A password says who it is, but is not remembered in the place of a token.
        let remembered = match (proof.token, before) {
            (None, Some(before)) if before.token.is_some() => before,
            (token, _) => {
                Arc::new(Remembered { user: proof.user.clone(), token, is_superuser, until, epoch })
            }
        };
        registry.entities.prove(&self.0.id, &proof.user, remembered.token.clone());
        self.remember(Some(remembered));
        true
    }

    async fn check(
        &self,
        daemon: &Arc<Shared>,
        demand: Demand,
        shown: Option<Token>,
    ) -> Result<(Passed, Option<(Proof, Proved)>), ProveError> {
        let connection = &self.0.connection;
        let secret = if demand == Demand::Token { Secret::Token } else { Secret::Password };
        if !connection.is_safe_for(secret) {
            return Err(ProveError::Insecure);
        }
        let subject = Subject {
            mode: self.0.mode,
            owner: self.0.owner.as_deref().map(str::to_owned),
            remembered: shown.or_else(|| self.remembered().and_then(|remembered| remembered.token.clone())),
            trusted_daemon: self.0.trusted_daemon,
        };
        let (origin, authority) = (connection.origin(), &daemon.authority);
        let mut why = if subject.mode == crate::proto::cs::Mode::Daemon {
            ProveError::NotTrusted
        } else {
            ProveError::NoOwner
        };
        let mut rely = Proved { rely_for: MOST_RELIANCE };
        let (mut check, mut step) = Check::begin(demand, subject);
        loop {
            step = match step {
                Step::Ask { question, user } => {
                    let answer = connection.ask(question, &user).await;
                    why = ProveError::Declined;
                    check.answered(answer.map_err(|error| match error {
                        PushError::NoEntity => ProveError::Gone,
                        _ => ProveError::TooManyQuestions,
                    })?)
                }
                Step::JudgeToken { user, token } => {
                    let judged = authority.judge_token(&user, &token, origin).await;
                    check.judged(right(judged, &mut rely, &mut why)?)
                }
                Step::JudgePassword { user, password } => {
                    let judged = authority.judge_password(&user, &password, origin).await;
                    check.judged(right(judged, &mut rely, &mut why)?)
                }
                Step::JudgePrivilege { user } => {
                    why = ProveError::NotSuperuser;
                    check.judged(authority.privilege(&user).await? == Some(0))
                }
                Step::Done(Verdict::Passed { user, remember }) => {
                    let user = user.as_deref().map(User::new);
                    let proof = user.clone().map(|user| (Proof { user, token: remember }, rely));
                    return Ok((Passed { user }, proof));
                }
                Step::Done(Verdict::Refused { notice }) => {
                    if let Some(notice) = notice {
                        let _ = connection.with(|core| core.machine.tell(notice, &self.0.id));
                    }
                    return Err(why);
                }
            }
        }
    }

    /// Asks the client to let somebody sign in (`SI`), and does not wait for it.
    pub fn ask_to_sign_in(&self) {
        let _ = self.0.connection.with(|core| core.machine.tell(Notice::SignIn, &self.0.id));
    }

    /// Forgets what it has proved.
    pub fn forget_proof(&self) {
        if let Some(daemon) = self.daemon() {
            daemon.registry_mut().entities.forget_proof(&self.0.id);
        }
        self.remember(None);
    }
}

/// How often the authority looks at a proof because something was revoked meanwhile. Where that never ends, what it says last counts for
/// this once and is not remembered, so that nobody is kept out by the revocations of others.
const ATTEMPTS: usize = 3;

/// Longest time for which anything is relied on, whatever an authority says. An hour: it is asked again at no cost to anybody.
const MOST_RELIANCE: std::time::Duration = std::time::Duration::from_secs(3600);

struct Proof {
    user: User,
    token: Option<Token>,
}

/// Whether it is right; anything but right and wrong ends the check.
fn right(
    judged: Result<Proved, Denied>,
    rely: &mut Proved,
    why: &mut ProveError,
) -> Result<bool, ProveError> {
    match judged {
        Ok(proved) => {
            *rely = proved;
            Ok(true)
        }
        Err(Denied::Wrong) => {
            *why = Denied::Wrong.into();
            Ok(false)
        }
        Err(denied) => Err(denied.into()),
    }
}

/// Voids proofs, and cuts the connections that lived by them.
pub(crate) fn revoke(daemon: &Shared, revoked: &Revoked) {
    let (user, token) = match revoked {
        Revoked::User { user } => (user, None),
        Revoked::Token { user, token } => (user, Some(token)),
    };
    let concerned: Vec<Entity> = {
        let mut registry = daemon.registry_mut();
        let of_user = registry.proved_by(user);
        let concerned = of_user.into_iter().filter(|entity| {
            let Some(token) = token else { return true };
            let remembered = entity.remembered().and_then(|remembered| remembered.token.clone());
            remembered.is_some_and(|remembered| is_hash_of(token, &remembered))
        });
        let concerned: Vec<_> = concerned.collect();
        for entity in &concerned {
            registry.entities.forget_proof(entity.id());
            entity.remember(None);
        }
        concerned
    };
    if !concerned.is_empty() {
        tracing::info!(user = %user.escape_debug(), entities = concerned.len(), "access was revoked");
    }
    let current = Current::get();
    for entity in concerned {
        let connection = &entity.0.connection;
        let by = current.filter(|current| current.connection == connection.id).map(|current| current.key);
        connection.command(Command::Revoked { by });
    }
}

fn is_hash_of(hash: &RevokedToken, token: &Token) -> bool {
    Sha256::digest(token.reveal().as_bytes()).as_slice() == hash.0
}
