//! Who may come in: how many at once, how many of one address, and how fast.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nossock::Seldom;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::connection::now;
use super::limits::Limits;
use super::shared::Shared;

/// The seats of a daemon.
#[derive(Debug)]
pub(crate) struct Seats {
    connections: Arc<Semaphore>,
    handshakes: Semaphore,
    addresses: Mutex<HashMap<IpAddr, Count>>,
    bucket: Mutex<Bucket>,
    per_address: usize,
    fresh_per_address: usize,
    /// An address had too many.
    pub(crate) crowded: Seldom,
}

/// The connections of one address.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    all: usize,
    /// Those without an entity.
    fresh: usize,
}

/// What a connection holds of its daemon, given back when it ends in whatever way.
#[derive(Debug)]
pub(crate) struct Seat {
    daemon: Arc<Shared>,
    address: Option<IpAddr>,
    is_fresh: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Seats {
    pub(crate) fn new(limits: &Limits) -> Self {
        let semaphore = |permits: usize| Semaphore::new(permits.min(Semaphore::MAX_PERMITS));
        Self {
            connections: Arc::new(semaphore(limits.connections)),
            handshakes: semaphore(limits.handshakes),
            addresses: Mutex::default(),
            bucket: Mutex::new(Bucket::new(limits.accept_rate, limits.accept_burst)),
            per_address: limits.connections_per_address,
            fresh_per_address: limits.fresh_per_address,
            crowded: Seldom::new(),
        }
    }

    /// Waits until one more connection may be accepted: there is a seat, and it is not too soon.
    pub(crate) async fn room(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.connections).acquire_owned().await;
        loop {
            let wait = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now());
            match wait {
                None => break,
                Some(wait) => tokio::time::sleep(wait).await,
            }
        }
        permit.expect("the semaphore is never closed")
    }

    /// Waits until one more handshake may be made.
    pub(crate) async fn handshake(&self) -> SemaphorePermit<'_> {
        self.handshakes.acquire().await.expect("the semaphore is never closed")
    }

    /// Counts one more connection of an address, if it has not too many.
    fn admits(&self, address: IpAddr) -> bool {
        self.with(|addresses| {
            let count = addresses.entry(address).or_default();
            let has_room = count.all < self.per_address && count.fresh < self.fresh_per_address;
            if has_room {
                count.all += 1;
                count.fresh += 1;
            } else if count.all == 0 {
                addresses.remove(&address); // a limit of 0 keeps everybody out, and remembers nobody
            }
            has_room
        })
    }

    fn with<R>(&self, act: impl FnOnce(&mut HashMap<IpAddr, Count>) -> R) -> R {
        act(&mut self.addresses.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Seat {
    /// A seat for a connection from an address; `None` when that has too many. Who is in this process has no address, and needs no permit.
    pub(crate) fn take(
        daemon: &Arc<Shared>,
        address: Option<IpAddr>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Option<Self> {
        let address = address.map(network);
        let seats = &daemon.seats;
        if address.is_some_and(|address| !seats.admits(address)) {
            return None;
        }
        Some(Self { daemon: Arc::clone(daemon), address, is_fresh: true, _permit: permit })
    }

    /// The connection has an entity now.
    pub(crate) fn settle(&mut self) {
        if std::mem::take(&mut self.is_fresh) {
            self.count(|count| count.fresh -= 1);
        }
    }

    fn count(&self, act: impl FnOnce(&mut Count)) {
        let Some(address) = self.address else { return };
        self.daemon.seats.with(|addresses| {
            if let Some(count) = addresses.get_mut(&address) {
                act(count);
                if count.all == 0 {
                    addresses.remove(&address);
                }
            }
        });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let fresh = usize::from(self.is_fresh);
        self.count(|count| {
            count.all -= 1;
            count.fresh -= fresh;
        });
    }
}

/// Whom an address stands for: an IPv4 address itself, an IPv6 address the /64 that one customer is given.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// Tokens that come at a rate and are taken one a connection.
#[derive(Debug)]
struct Bucket {
    every: Duration,
    most: Duration,
    /// How much time is saved up.
    saved: Duration,
    at: Option<Instant>,
}

impl Bucket {
    fn new(rate: u32, burst: u32) -> Self {
        let every = Duration::from_secs(1) / rate.max(1);
        let most = every * burst.max(1);
        Self { every, most, saved: most, at: None }
    }

    /// Takes one; or says how long to wait for it.
    fn take(&mut self, now: Instant) -> Option<Duration> {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(now);
        self.saved = (self.saved + passed).min(self.most);
        match self.saved.checked_sub(self.every) {
            Some(rest) => {
                self.saved = rest;
                None
            }
            None => Some(self.every - self.saved),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_lets_a_burst_through_and_then_the_rate() {
        let start = crate::testing::epoch();
        let mut bucket = Bucket::new(10, 3);
        for _ in 0..3 {
            assert_eq!(bucket.take(start), None);
        }
        assert_eq!(bucket.take(start), Some(Duration::from_millis(100)));
        assert_eq!(bucket.take(start + Duration::from_millis(40)), Some(Duration::from_millis(60)));
        assert_eq!(bucket.take(start + Duration::from_millis(100)), None);
        let later = start + Duration::from_secs(60);
        assert_eq!((0..10).filter(|_| bucket.take(later).is_none()).count(), 3);
    }

    #[test]
    fn limit_of_nobody_remembers_nobody() {
        for (connections_per_address, fresh_per_address) in [(0, 9), (9, 0), (1, 1)] {
            let limits = Limits { connections_per_address, fresh_per_address, ..Limits::default() };
            let seats = Seats::new(&limits);
            let admitted = [1, 2, 1].map(|n| seats.admits(IpAddr::from([10, 0, 0, n])));
            let expected = connections_per_address.min(fresh_per_address) == 1;
            assert_eq!(admitted, [expected, expected, false]);
            assert_eq!(seats.with(|addresses| addresses.len()), if expected { 2 } else { 0 });
        }
    }

    #[test]
    fn addresses_of_one_customer_are_one() {
        let network = |address: &str| network(address.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
    }
}
