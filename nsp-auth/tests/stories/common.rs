//! What the stories share.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nsp::authority::{Authority as _, Denied, Origin, Proved, Revoked};
use nsp::{Password, Token};
use nsp_auth::Authority;
use nsp_auth::authority::Builder;
use nsp_auth::clock::Clock;
use nsp_auth::password::Cost;
use nsp_auth::user::{User, Username};
use nsp_auth::users::NewUser;

pub(crate) const PASSWORD: &str = "correct horse battery";
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A clock that is set by hand. The steady one goes on with [`pass`](Self::pass) only.
#[derive(Debug, Clone)]
pub(crate) struct Hand(Arc<Mutex<(SystemTime, Duration)>>);

impl Default for Hand {
    fn default() -> Self {
        Self(Arc::new(Mutex::new((UNIX_EPOCH + Duration::from_secs(1_800_000_000), Duration::ZERO))))
    }
}

impl Hand {
    pub(crate) fn pass(&self, time: Duration) {
        let mut clock = self.0.lock().unwrap();
        clock.0 += time;
        clock.1 += time;
    }

    pub(crate) fn jump_forward(&self, time: Duration) {
        self.0.lock().unwrap().0 += time;
    }

    pub(crate) fn jump_back(&self, time: Duration) {
        self.0.lock().unwrap().0 -= time;
    }
}

impl Clock for Hand {
    fn wall(&self) -> SystemTime {
        self.0.lock().unwrap().0
    }

    fn steady(&self) -> Duration {
        self.0.lock().unwrap().1
    }
}

/// Hashes that cost next to nothing.
pub(crate) fn builder() -> Builder {
    Authority::builder().cost(Cost { memory_kib: 8, passes: 1 })
}

pub(crate) fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

pub(crate) async fn with_user(authority: &Authority, text: &str) -> User {
    authority.users().create(NewUser::new(name(text), PASSWORD.into())).await.unwrap()
}

pub(crate) async fn with_superuser(authority: &Authority, text: &str) -> User {
    authority.users().create(NewUser::new(name(text), PASSWORD.into()).privilege(0)).await.unwrap()
}

pub(crate) fn from(address: &str) -> Origin {
    Origin { address: Some(address.parse::<IpAddr>().unwrap()) }
}

pub(crate) async fn login(authority: &Authority, user: &str, password: &str) -> Result<Token, Denied> {
    authority.sign_in(user, Some(Password::new(password)), Origin::default()).await
}

pub(crate) async fn judge(authority: &Authority, user: &str, token: &Token) -> Result<Proved, Denied> {
    authority.judge_token(user, token, Origin::default()).await
}

/// Everything that is revoked from now on.
pub(crate) struct Heard {
    pub(crate) heard: Arc<Mutex<Vec<Revoked>>>,
    _guard: Box<dyn Send + Sync>,
}

impl Heard {
    pub(crate) fn by(authority: &Authority) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = heard.clone();
        let hear = Arc::new(move |revoked: &Revoked| hears.lock().unwrap().push(revoked.clone()));
        Self { heard, _guard: authority.on_revoked(hear).unwrap() }
    }

    pub(crate) fn take(&self) -> Vec<Revoked> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }
}
