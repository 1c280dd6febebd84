use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the bytes that connections carry, for who wants to show how far a long transfer is.
///
/// Bytes count when the system has taken them, or given them: those of packets and of what carries them, before TLS. What the system
/// has taken may wait there for the network. A clone counts the same.
///
/// ```
/// use nsp::carrier::{ConnectOptions, Meter};
///
/// let meter = Meter::default();
/// let options = ConnectOptions { meter: Some(meter.clone()), ..ConnectOptions::default() };
/// assert_eq!(meter.sent(), 0);
/// # drop(options);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Counts>);

/// Each is a number of bytes. They are only shown, so nothing hangs on the order in which others see them change.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
    /// Of the message that is arriving; 0 without one.
    here: AtomicU64,
    whole: AtomicU64,
}

impl Meter {
    /// Bytes that have left.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// Bytes that have come.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }

    /// Of the message that is arriving, the bytes that have come and those that it has in all. `None` when none has begun, and on
    /// WebSocket, which does not say.
    #[must_use]
    pub fn arriving(&self) -> Option<(u64, u64)> {
        match self.0.whole.load(Ordering::Relaxed) {
            0 => None,
            whole => Some((self.0.here.load(Ordering::Relaxed).min(whole), whole)),
        }
    }

    pub(super) fn count_sent(&self, bytes: usize) {
        self.0.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count_received(&self, bytes: usize) {
        self.0.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn set_arriving(&self, here: usize, whole: u64) {
        self.0.here.store(here as u64, Ordering::Relaxed);
        self.0.whole.store(whole, Ordering::Relaxed);
    }
}
