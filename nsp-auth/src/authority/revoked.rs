//! Who is told when live connections have to be cut.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use nsp::authority::Revoked;

type Callback = Arc<dyn Fn(&Revoked) + Send + Sync>;

/// Everybody who wants to know.
#[derive(Clone, Default)]
pub(super) struct Listeners(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    next: u64,
    callbacks: BTreeMap<u64, Callback>,
}

impl Listeners {
    pub(super) fn add(&self, callback: Callback) -> Listening {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = state.next;
        state.next += 1;
        state.callbacks.insert(key, callback);
        Listening { of: self.clone(), key }
    }

    /// Tells all of them, outside the lock: one of them may drop its guard.
    pub(super) fn tell(&self, revoked: &Revoked) {
        let callbacks: Vec<_> = {
            let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.callbacks.values().cloned().collect()
        };
        for callback in callbacks {
            callback(revoked);
        }
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listeners(..)")
    }
}

/// Ends the telling when dropped.
#[derive(Debug)]
pub(super) struct Listening {
    of: Listeners,
    key: u64,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut state = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = state.callbacks.remove(&self.key);
        drop(state);
        // What it holds is dropped outside the lock.
        drop(removed);
    }
}
