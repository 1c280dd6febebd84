//! A service whose program runs beside the daemon: what its callers hold.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nsp::daemon::Manifest;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use super::manifest::Found;
use super::protocol::{Said, Says};
use super::{Caller, Fault};

/// Lines that wait for a program to read them; then who has the next one waits.
const QUEUE: usize = 64;

/// What one service may take, and how long it is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How long one call may take.
    pub(crate) call: Duration,
    /// How long it may take to say that it is ready.
    pub(crate) start: Duration,
    /// How long it may take to end when it is asked to.
    pub(crate) stop: Duration,
    /// How long it is waited until it is started again, the first time; twice as long each next time,
    pub(crate) pause: Duration,
    /// but no longer than this.
    pub(crate) longest_pause: Duration,
    /// Having run for so long, it is started again as if it had never failed.
    pub(crate) steady: Duration,
    /// Calls at once; the next ones are refused.
    pub(crate) calls: usize,
    /// Bytes of one line.
    pub(crate) line: u64,
    /// Memory of each of its processes, in bytes.
    pub(crate) memory: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(30),
            start: Duration::from_secs(10),
            stop: Duration::from_secs(5),
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(30),
            steady: Duration::from_secs(60),
            calls: 256,
            // An answer of the largest size that goes out, and what is around it.
            line: (1 << 20) + 4096,
            memory: 2 << 30,
        }
    }
}

/// A service, whether its program runs or not. Shared by all that call it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(super) found: Found,
    pub(super) pace: Pace,
    /// Where what the program wants goes.
    pub(super) said: mpsc::Sender<Said>,
    last_call: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The way to the program, while it is ready.
    lines: Option<mpsc::Sender<Vec<u8>>>,
    pending: HashMap<u64, oneshot::Sender<Result<Box<RawValue>, Fault>>>,
    /// Who is there, with the user that was proved: a program that is started again is told of them.
    entities: BTreeMap<String, Option<String>>,
}

impl Service {
    pub(crate) fn new(found: Found, pace: Pace, said: mpsc::Sender<Said>) -> Arc<Self> {
        Arc::new(Self { found, pace, said, last_call: AtomicU64::new(0), state: Mutex::default() })
    }

    pub(crate) const fn manifest(&self) -> &Manifest {
        &self.found.manifest
    }

    /// Whether only users may call a function who have logged in.
    pub(crate) fn needs_login(&self, function: &str) -> bool {
        self.found.logins.contains(function)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> Option<mpsc::Sender<Vec<u8>>> {
        self.state().lines.clone()
    }

    /// Asks the program. Dropped, the program is told that nobody waits any more.
    pub(crate) async fn call(
        &self,
        function: &str,
        data: &RawValue,
        caller: &Caller,
    ) -> Result<Box<RawValue>, Fault> {
        let down = || Fault::new("unavailable", "the service is not running now");
        let id = self.last_call.fetch_add(1, Ordering::Relaxed) + 1;
        let (answer, answered) = oneshot::channel();
        let lines = {
            let mut state = self.state();
            let lines = state.lines.clone().ok_or_else(down)?;
            if state.pending.len() >= self.pace.calls {
                return Err(Fault::new("busy", "too many calls of this service are under way"));
            }
            state.pending.insert(id, answer);
            lines
        };
        let mut asked = Asked { service: self, id, told: false };
        let user = caller.user.as_deref();
        let line = Says::Call { id, function, data, entity: &caller.entity, user }.line();
        let work = async {
            lines.send(line).await.map_err(|_| down())?;
            asked.told = true;
            answered.await.unwrap_or_else(|_| Err(down()))
        };
        tokio::time::timeout(self.pace.call, work).await.unwrap_or_else(|_| {
            tracing::warn!(service = %self.found.manifest.name, after = ?self.pace.call, "call timed out");
            let limit = nsp_cli::text::shown_time(self.pace.call);
            Err(Fault::new("timeout", format!("the service took longer than {limit}")))
        })
    }

    /// An activity was opened.
    pub(crate) async fn open(&self, entity: &str, user: Option<&str>) {
        let lines = {
            let mut state = self.state();
            state.entities.insert(entity.to_owned(), user.map(str::to_owned));
            state.lines.clone()
        };
        if let Some(lines) = lines {
            drop(lines.send(Says::Open { entity, user }.line()).await);
        }
    }

    /// An activity has sent data.
    pub(crate) async fn data(&self, entity: &str, user: Option<&str>, data: &RawValue) {
        self.say(&Says::Data { entity, user, data }).await;
    }

    /// An activity is gone.
    pub(crate) async fn close(&self, entity: &str) {
        self.state().entities.remove(entity);
        self.say(&Says::Close { entity }).await;
    }

    /// Tells the program, if it is there.
    async fn say(&self, says: &Says<'_>) {
        if let Some(lines) = self.lines() {
            drop(lines.send(says.line()).await);
        }
    }

    /// The program is there: calls go to it from now on, after it has been told who is here.
    pub(super) fn connected(&self, lines: mpsc::Sender<Vec<u8>>) {
        let mut state = self.state();
        let opened = state.entities.iter();
        let told: Vec<u8> =
            opened.flat_map(|(entity, user)| Says::Open { entity, user: user.as_deref() }.line()).collect();
        // The queue is empty as yet: nobody else has a way to it.
        drop(lines.try_send(told));
        state.lines = Some(lines);
    }

    /// The program is gone, or about to go: nobody waits for it any more.
    pub(super) fn disconnected(&self) {
        let pending = {
            let mut state = self.state();
            state.lines = None;
            std::mem::take(&mut state.pending)
        };
        for (_, waiting) in pending {
            drop(waiting.send(Err(Fault::new("unavailable", "the service has stopped"))));
        }
    }

    /// The program has answered. An answer that nobody waits for is none.
    pub(super) fn answered(&self, id: u64, data: Result<Box<RawValue>, Fault>) {
        let waiting = self.state().pending.remove(&id);
        if let Some(waiting) = waiting {
            drop(waiting.send(data));
        }
    }

    pub(super) fn queue() -> (mpsc::Sender<Vec<u8>>, mpsc::Receiver<Vec<u8>>) {
        mpsc::channel(QUEUE)
    }
}

/// A question that is under way.
struct Asked<'a> {
    service: &'a Service,
    id: u64,
    told: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let given_up = self.service.state().pending.remove(&self.id).is_some();
        if given_up
            && self.told
            && let Some(lines) = self.service.lines()
        {
            // Where there is no room the program has more to do than to be told what it need not.
            drop(lines.try_send(Says::Cancel { id: self.id }.line()));
        }
    }
}
