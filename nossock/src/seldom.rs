use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Something that a stranger can bring about as often as they like, and that is told once a second, with how often it was.
///
/// ```
/// use std::time::{Duration, Instant};
/// # use nossock::Seldom;
///
/// static TOO_MANY: Seldom = Seldom::new();
///
/// let now = Instant::now();
/// assert_eq!(TOO_MANY.times(now), Some(1));
/// assert_eq!(TOO_MANY.times(now), None);
/// assert_eq!(TOO_MANY.times(now + Duration::from_secs(1)), Some(2));
/// ```
#[derive(Debug)]
pub struct Seldom(Mutex<State>);

#[derive(Debug)]
struct State {
    /// When it may be told again.
    next: Option<Instant>,
    untold: u64,
}

/// The time between two lines.
const EVERY: Duration = Duration::from_secs(1);

impl Seldom {
    /// It has not happened yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(State { next: None, untold: 0 }))
    }

    /// It has happened: how often since it was told last, if it is to be told now.
    #[must_use]
    pub fn times(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.untold += 1;
        if state.next.is_some_and(|next| now < next) {
            return None;
        }
        state.next = Some(now + EVERY);
        Some(std::mem::take(&mut state.untold))
    }
}

impl Default for Seldom {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_is_one_line_a_second_and_none_of_it_is_forgotten() {
        let (start, seldom) = (Instant::now(), Seldom::new());
        let told: Vec<u64> =
            (0..10_000).filter_map(|n| seldom.times(start + Duration::from_micros(n * 300))).collect();
        assert_eq!(told, [1, 3334, 3334]);
        assert_eq!(seldom.times(start + Duration::from_secs(60)), Some(3332));
    }
}
