//! Who makes and checks hashes: a few at a time, away from the runtime's threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::available_parallelism;

use argon2::{Algorithm, Argon2, Params, Version};
use nsp::Password;
use tokio::sync::Semaphore;

use super::hash::{LegacyKey, PasswordHash};
use super::rules::PasswordRules;

/// What one guess costs whoever guesses, and one login us: the parameters of Argon2id. There is one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "what Argon2 has")]
pub struct Cost {
    /// Memory, in KiB. 19,456: with 2 passes it is what OWASP asks for.
    pub memory_kib: u32,
    /// Passes over it. 2.
    pub passes: u32,
}

impl Default for Cost {
    fn default() -> Self {
        Self { memory_kib: Params::DEFAULT_M_COST, passes: Params::DEFAULT_T_COST }
    }
}

impl Cost {
    /// Whether Argon2 takes it.
    pub(crate) fn check(self) -> Result<Self, CostError> {
        let fits = self.memory_kib <= 1024 * 1024 && self.passes <= 64;
        let params = Params::new(self.memory_kib, self.passes, 1, Some(32));
        if fits && params.is_ok() { Ok(self) } else { Err(CostError(self)) }
    }

    pub(super) fn argon2(self) -> Argon2<'static> {
        let params = Params::new(self.memory_kib, self.passes, 1, Some(32));
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params.expect("the cost was checked"))
    }
}

/// A cost that cannot be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Argon2 with {} KiB and {} passes: 8 to 1048576 KiB and 1 to 64 passes can be had", .0.memory_kib, .0.passes)]
pub struct CostError(Cost);

/// Everybody who may hash does, and everybody who may wait does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked")]
#[non_exhaustive]
pub struct HashingBusy;

/// How many wait for a core. 64: at 20 ms each on two cores, the last one waits for less than a second.
const QUEUE: usize = 64;

/// Makes and checks hashes.
///
/// As many at once as there are cores, for more would only take memory; so many wait, and the others are told. Work that was
/// begun is finished even when nobody waits for it any more, and keeps its place until then: dropping the future frees no core.
#[derive(Debug, Clone)]
pub(crate) struct Hasher {
    cost: Cost,
    cores: Arc<Semaphore>,
    present: Arc<AtomicUsize>,
    most: usize,
    /// Checked where there is no user, so that this takes as long.
    nobody: Arc<PasswordHash>,
    checked: Arc<AtomicU64>,
}

/// What was found about a password.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Whether it is right.
    pub(crate) is_right: bool,
    /// A better hash of it, if it is right and one made now is better.
    pub(crate) upgrade: Option<PasswordHash>,
}

impl Hasher {
    pub(crate) fn new(cost: Cost) -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let nobody = PasswordHash::new(super::one_time().reveal().as_bytes(), cost);
        Self {
            cost,
            cores: Arc::new(Semaphore::new(cores)),
            present: Arc::new(AtomicUsize::new(0)),
            most: cores + QUEUE,
            nobody: Arc::new(nobody),
            checked: Arc::default(),
        }
    }

    /// Checks a password, of nobody where there is no hash: that takes as long and is never right.
    pub(crate) async fn verify(
        &self,
        hash: Option<PasswordHash>,
        password: Option<Password>,
    ) -> Result<Verdict, HashingBusy> {
        let (cost, nobody, checked) = (self.cost, self.nobody.clone(), self.checked.clone());
        self.run(move || {
            let is_of = |hash: &PasswordHash, password: &[u8]| {
                checked.fetch_add(1, Ordering::Relaxed);
                hash.is_of(password)
            };
            // A password nobody could have chosen is not hashed, but the time is spent.
            let possible = password.filter(|password| password.reveal().len() <= PasswordRules::MAX_BYTES);
            let (Some(hash), Some(password)) = (hash, possible) else {
                is_of(&nobody, b"");
                return Verdict { is_right: false, upgrade: None };
            };
            let password = password.reveal().as_bytes();
            let is_right = is_of(&hash, password);
            let upgrade = (is_right && hash.is_weaker_than(cost)).then(|| PasswordHash::new(password, cost));
            Verdict { is_right, upgrade }
        })
        .await
    }

    /// How many hashes were checked so far.
    pub(crate) fn checked(&self) -> u64 {
        self.checked.load(Ordering::Relaxed)
    }

    /// Makes the hash of a new password.
    pub(crate) async fn hash(&self, password: Password) -> Result<PasswordHash, HashingBusy> {
        let cost = self.cost;
        self.run(move || PasswordHash::new(password.reveal().as_bytes(), cost)).await
    }

    /// Wraps a hash of the original. It waits for a core however many do: there is one import at a time, and it is in no hurry.
    pub(crate) async fn wrap(&self, hmac: [u8; 32], key: LegacyKey) -> Result<PasswordHash, HashingBusy> {
        let cost = self.cost;
        self.on_a_core(None, move || PasswordHash::wrap(&hmac, key, cost)).await
    }

    /// # Cancel safety
    ///
    /// Dropped while it waits for a core, it leaves the queue; dropped later, the work is done in vain.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HashingBusy> {
        let place = Place::take(&self.present, self.most).ok_or(HashingBusy)?;
        self.on_a_core(Some(place), work).await
    }

    async fn on_a_core<T: Send + 'static>(
        &self,
        place: Option<Place>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HashingBusy> {
        let core = self.cores.clone().acquire_owned().await.map_err(|_| HashingBusy)?;
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop((core, place));
            result
        });
        // It does not panic; a runtime that shuts down before it has begun cancels it.
        task.await.map_err(|_| HashingBusy)
    }
}

/// A place at a core or in the queue, given back when dropped.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(present: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let one_more = |count| (count < most).then_some(count + 1);
        present.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Self(present.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1 };

    #[tokio::test]
    async fn nobody_has_no_password() {
        let hasher = Hasher::new(CHEAP);
        let hash = hasher.hash("correct horse".into()).await.unwrap();
        let verdict = hasher.verify(Some(hash.clone()), Some("correct horse".into())).await.unwrap();
        assert!(verdict.is_right && verdict.upgrade.is_none());
        for (hash, password) in [
            (None, Some("correct horse")),
            (Some(hash.clone()), None),
            (None, None),
            (Some(hash), Some("wrong")),
        ] {
            let verdict = hasher.verify(hash, password.map(Password::new)).await.unwrap();
            assert!(!verdict.is_right && verdict.upgrade.is_none());
        }
    }

    #[tokio::test]
    async fn a_password_of_a_mebibyte_is_wrong_without_being_hashed() {
        let hasher = Hasher::new(CHEAP);
        let password = Password::new("x".repeat(1 << 20));
        // Even if somebody had managed to store its hash.
        let hash = hasher.hash(password.clone()).await.unwrap();
        assert!(!hasher.verify(Some(hash), Some(password)).await.unwrap().is_right);
    }

    #[tokio::test]
    async fn nineteen_mebibytes_and_two_passes_are_what_it_costs_unless_told() {
        let hash = Hasher::new(Cost::default()).hash("correct horse".into()).await.unwrap();
        assert!(hash.reveal().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.reveal());
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let hasher = Hasher::new(CHEAP);
        let cores = available_parallelism().map_or(1, usize::from);
        let all = hasher.cores.clone().acquire_many_owned(u32::try_from(cores).unwrap()).await.unwrap();
        let mut waiting: Vec<_> = (0..cores + QUEUE).map(|_| Box::pin(hasher.hash("x".into()))).collect();
        for one in &mut waiting {
            assert!(futures_poll(one).is_pending());
        }
        let refused = hasher.hash("x".into()).await.unwrap_err();
        assert_eq!(refused.to_string(), "too many passwords are being checked");
        // Who gives up makes room.
        waiting.pop();
        let mut next = Box::pin(hasher.hash("x".into()));
        assert!(futures_poll(&mut next).is_pending());
        drop((all, waiting));
        assert!(next.await.is_ok());
    }

    fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
        std::pin::Pin::new(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }
}
