//! The throttle against a model that keeps all that has happened and counts it anew for each question.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Somebody tries an account from a network, or from none.
    Try(u8, Option<u8>),
    /// One of those under way ends.
    End(usize, Outcome),
    /// Seconds pass.
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![8 => Just(Outcome::Wrong), 1 => Just(Outcome::Right), 1 => Just(Outcome::Void)];
    prop_oneof![
        6 => (0..3_u8, proptest::option::of(0..2_u8)).prop_map(|(account, network)| Step::Try(account, network)),
        6 => (any::<usize>(), outcome).prop_map(|(which, outcome)| Step::End(which, outcome)),
        3 => (0..20_u64).prop_map(Step::Pass),
        1 => (0..2_000_u64).prop_map(Step::Pass),
        1 => (80_000..90_000_u64).prop_map(Step::Pass),
    ]
}

/// Whom a counter is about: an account, a network, or one from the other.
type Whom = (Option<u8>, Option<u8>);

#[derive(Default)]
struct Model {
    now: u64,
    /// When what ended how, of which account, from where.
    history: Vec<(u64, u8, Option<u8>, Outcome)>,
    under_way: Vec<(u8, Option<u8>)>,
}

impl Model {
    fn is_about((account, network): Whom, of: u8, from: Option<u8>) -> bool {
        account.is_none_or(|account| account == of) && (network.is_none() || network == from)
    }

    /// Failures that count, and when the last one was.
    fn failures(&self, whom: Whom) -> (u32, u64) {
        let day = 24 * 60 * 60;
        let (mut failures, mut last) = (0, 0);
        let about = self.history.iter().filter(|(_, of, from, _)| Self::is_about(whom, *of, *from));
        for (at, .., outcome) in about {
            if at - last >= day {
                failures = 0;
            }
            match outcome {
                Outcome::Wrong => (failures, last) = (failures + 1, *at),
                // A network is not cleared by a login.
                Outcome::Right if whom.0.is_some() => failures = 0,
                _ => {}
            }
        }
        if self.now - last >= day { (0, 0) } else { (failures, last) }
    }

    fn wait(&self, whom: Whom) -> u64 {
        let (failures, last) = self.failures(whom);
        if failures < 5 {
            return 0;
        }
        let whole = 2_u64.checked_pow(failures - 5).map_or(900, |seconds| seconds.min(900));
        let wait = whole.saturating_sub(self.now - last);
        let busy = self.under_way.iter().any(|(of, from)| Self::is_about(whom, *of, *from));
        if busy { wait.max(1) } else { wait }
    }

    fn admit(&self, account: u8, network: Option<u8>) -> Result<(), Refused> {
        let days = 90 * 24 * 60 * 60;
        let known = self.history.iter().any(|(at, of, from, outcome)| {
            (*of, *from, *outcome) == (account, network, Outcome::Right) && self.now - at < days
        });
        let is_known = network.is_some() && known;
        let mut wait = if is_known { 0 } else { self.wait((Some(account), None)) };
        if network.is_some() {
            wait = wait.max(self.wait((None, network))).max(self.wait((Some(account), network)));
        }
        if wait > 0 {
            return Err(Refused::Wait(Duration::from_secs(wait)));
        }
        let of_account = self.under_way.iter().filter(|(of, _)| *of == account).count();
        if of_account >= 16 { Err(Refused::Busy) } else { Ok(()) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn throttle_admits_whom_its_model_admits(steps in proptest::collection::vec(step(), 0..200)) {
        let begin = 1_700_000_000;
        let mut model = Model { now: begin, ..Model::default() };
        let mut throttle = Throttle::default();
        let mut attempts = Vec::new();
        for step in steps {
            let now = Timestamp::from_millis(i64::try_from(model.now * 1000).unwrap());
            match step {
                Step::Pass(seconds) => model.now += seconds,
                Step::Try(account, network) => {
                    let from = network.map(|network| Network::of([10, 0, network, 1].into()));
                    let admitted = throttle.admit(Account::of(&format!("user {account}")), from, now);
                    prop_assert_eq!(admitted.as_ref().err().copied(), model.admit(account, network).err());
                    if let Ok(attempt) = admitted {
                        attempts.push(attempt);
                        model.under_way.push((account, network));
                    }
                }
                Step::End(which, outcome) => {
                    let Some(which) = which.checked_rem(attempts.len()) else { continue };
                    let attempt = attempts.swap_remove(which);
                    let (account, network) = model.under_way.swap_remove(which);
                    throttle.settle(&attempt, outcome, now);
                    model.history.push((model.now, account, network, outcome));
                }
            }
        }
    }
}
