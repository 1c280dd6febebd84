use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn begin() -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000)
}

fn home() -> Option<Network> {
    Some(Network::of([10, 0, 0, 1].into()))
}

fn elsewhere(n: u8) -> Option<Network> {
    Some(Network::of([192, 168, n, 1].into()))
}

fn alice() -> Account {
    Account::of("alice")
}

/// Fails once it may, and says when that was.
fn fail(
    throttle: &mut Throttle,
    account: Account,
    network: Option<Network>,
    mut now: Timestamp,
) -> Timestamp {
    loop {
        match throttle.admit(account, network, now) {
            Ok(attempt) => {
                throttle.settle(&attempt, Outcome::Wrong, now);
                return now;
            }
            Err(Refused::Wait(wait)) => now = now.after(wait),
            Err(Refused::Busy) => panic!("nobody else is trying"),
        }
    }
}

fn wait(throttle: &mut Throttle, account: Account, network: Option<Network>, now: Timestamp) -> Duration {
    match throttle.admit(account, network, now) {
        Ok(attempt) => {
            throttle.settle(&attempt, Outcome::Void, now);
            Duration::ZERO
        }
        Err(Refused::Wait(wait)) => wait,
        Err(Refused::Busy) => panic!("nobody else is trying"),
    }
}

#[test]
fn five_failures_begin_a_wait_that_doubles_to_a_quarter_of_an_hour() {
    let mut throttle = Throttle::default();
    let mut now = begin();
    for expected in [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
        now = fail(&mut throttle, alice(), home(), now);
        assert_eq!(wait(&mut throttle, alice(), home(), now), SECOND * expected);
    }
    for _ in 0..100 {
        now = fail(&mut throttle, alice(), home(), now);
    }
    assert_eq!(wait(&mut throttle, alice(), home(), now), SECOND * 900);
}

#[test]
fn success_clears_the_account_but_not_the_network() {
    let mut throttle = Throttle::default();
    let mut now = begin();
    for _ in 0..6 {
        now = fail(&mut throttle, alice(), home(), now);
    }
    now = now.after(SECOND * 2);
    let attempt = throttle.admit(alice(), home(), now).unwrap();
    throttle.settle(&attempt, Outcome::Right, now);
    // At once from another network; the old one has its six failures, and the seventh makes it wait.
    assert_eq!(wait(&mut throttle, alice(), elsewhere(1), now), Duration::ZERO);
    now = fail(&mut throttle, Account::of("bobby"), home(), now);
    assert_eq!(wait(&mut throttle, alice(), home(), now), SECOND * 4);
}

#[test]
fn an_unknown_account_is_counted_like_any_other_whatever_its_capitals() {
    let mut throttle = Throttle::default();
    for n in 0..5 {
        fail(&mut throttle, Account::of("Nobody"), elsewhere(n), begin());
    }
    assert_eq!(wait(&mut throttle, Account::of("nobodY"), elsewhere(9), begin()), SECOND);
}

#[test]
fn a_network_that_tries_many_accounts_has_to_wait() {
    let mut throttle = Throttle::default();
    for name in ["user1", "user2", "user3", "user4", "user5"] {
        fail(&mut throttle, Account::of(name), Some(Network::of([10, 0, 0, 7].into())), begin());
    }
    assert_eq!(wait(&mut throttle, alice(), Some(Network::of([10, 0, 0, 8].into())), begin()), SECOND);
    assert_eq!(
        wait(&mut throttle, alice(), Some(Network::of([10, 0, 1, 8].into())), begin()),
        Duration::ZERO
    );
    let mapped = "::ffff:10.0.0.9".parse::<IpAddr>().unwrap();
    assert_eq!(wait(&mut throttle, alice(), Some(Network::of(mapped)), begin()), SECOND);
    let (one, same, other): (IpAddr, IpAddr, IpAddr) = (
        "2001:db8::1".parse().unwrap(),
        "2001:db8::ffff:1".parse().unwrap(),
        "2001:db8:0:1::1".parse().unwrap(),
    );
    assert_eq!(Network::of(one), Network::of(same));
    assert_ne!(Network::of(one), Network::of(other));
}

#[test]
fn failures_of_others_elsewhere_do_not_lock_out_the_owner_where_she_was_before() {
    let mut throttle = Throttle::default();
    let mut now = begin();
    let attempt = throttle.admit(alice(), home(), now).unwrap();
    throttle.settle(&attempt, Outcome::Right, now);
    for n in 0..30 {
        now = fail(&mut throttle, alice(), elsewhere(n), now);
    }
    assert_eq!(wait(&mut throttle, alice(), home(), now), Duration::ZERO);
    // Where she never was, for the documented bound and not a moment longer.
    let bound = Settings::default().longest;
    assert_eq!(wait(&mut throttle, alice(), elsewhere(99), now), bound);
    assert_eq!(wait(&mut throttle, alice(), elsewhere(99), now.after(bound)), Duration::ZERO);
    // Her own failures at home count there.
    for _ in 0..5 {
        now = fail(&mut throttle, alice(), home(), now);
    }
    assert_eq!(wait(&mut throttle, alice(), home(), now), SECOND);
}

#[test]
fn a_thousand_at_once_are_not_a_thousand_guesses() {
    let mut throttle = Throttle::default();
    let (mut attempts, mut busy) = (Vec::new(), 0);
    for _ in 0..1000 {
        match throttle.admit(alice(), home(), begin()) {
            Ok(attempt) => attempts.push(attempt),
            Err(refused) => {
                assert_eq!(refused, Refused::Busy);
                busy += 1;
            }
        }
    }
    assert_eq!((attempts.len(), busy), (16, 984));
    for attempt in &attempts {
        throttle.settle(attempt, Outcome::Wrong, begin());
    }
    assert_eq!(wait(&mut throttle, alice(), home(), begin()), SECOND * 900);
    // And from then on, one at a time.
    let later = begin().after(SECOND * 900);
    let one = throttle.admit(alice(), home(), later).unwrap();
    assert_eq!(throttle.admit(alice(), home(), later).unwrap_err(), Refused::Wait(SECOND));
    throttle.settle(&one, Outcome::Void, later);
    assert!(throttle.admit(alice(), home(), later).is_ok());
}

#[test]
fn counters_survive_a_restart() {
    let mut throttle = Throttle::default();
    let mut kept = HashMap::new();
    for _ in 0..16 {
        let now = begin();
        // Whatever the wait: these were admitted before it began.
        let attempt = Attempt { account: alice(), network: home() };
        for counted in throttle.settle(&attempt, Outcome::Wrong, now) {
            kept.insert(counted.key.clone(), counted);
        }
    }
    assert_eq!(kept.len(), 3);
    let mut again = Throttle::new(Settings::default(), kept.into_values());
    let now = begin().after(SECOND * 100);
    assert_eq!(wait(&mut again, alice(), home(), now), SECOND * 800);
    assert_eq!(wait(&mut again, alice(), elsewhere(1), now), SECOND * 800);
    assert_eq!(wait(&mut again, Account::of("bobby"), home(), now), SECOND * 800);
}

#[test]
fn a_clock_that_jumps_locks_nobody_out_for_good() {
    let mut throttle = Throttle::default();
    let future = begin().after(SECOND * 86_400 * 3650);
    let mut now = future;
    for _ in 0..20 {
        now = fail(&mut throttle, alice(), home(), now);
    }
    // The clock is set right, ten years back: the wait is what it would be at most, and it passes.
    assert_eq!(wait(&mut throttle, alice(), home(), begin()), SECOND * 900);
    assert_eq!(wait(&mut throttle, alice(), home(), begin().after(SECOND * 300)), SECOND * 600);
    assert_eq!(wait(&mut throttle, alice(), home(), begin().after(SECOND * 900)), Duration::ZERO);
}

#[test]
fn the_table_is_bounded_and_keeps_those_who_failed_most() {
    let settings = Settings { capacity: 100, ..Settings::default() };
    let mut throttle = Throttle::new(settings, []);
    let mut now = begin();
    for _ in 0..8 {
        now = fail(&mut throttle, alice(), None, now);
    }
    let mut kept = HashMap::new();
    for n in 0..10_000_u32 {
        let network = Network::of((n << 8).to_be_bytes().into());
        let attempt = throttle.admit(Account::of(&format!("user{n}")), Some(network), now).unwrap();
        for counted in throttle.settle(&attempt, Outcome::Wrong, now) {
            if counted.is_void() {
                kept.remove(&counted.key);
            } else {
                kept.insert(counted.key.clone(), counted);
            }
        }
    }
    assert!((200..=300).contains(&kept.len()), "the store keeps {}", kept.len());
    assert!(throttle.accounts.len() <= 100 && throttle.networks.len() <= 100 && throttle.pairs.len() <= 100);
    assert_eq!(wait(&mut throttle, alice(), None, now), SECOND * 8);
}

#[test]
fn failures_are_forgotten_after_a_day() {
    let mut throttle = Throttle::default();
    let mut now = begin();
    for _ in 0..20 {
        now = fail(&mut throttle, alice(), home(), now);
    }
    now = now.after(Settings::default().forget);
    for expected in [0, 0, 0, 0, 1] {
        now = fail(&mut throttle, alice(), home(), now);
        assert_eq!(wait(&mut throttle, alice(), home(), now), SECOND * expected);
    }
}

#[test]
fn keys_are_read_as_they_were_written() {
    let network = Network::of("2001:db8::1".parse().unwrap());
    for key in [
        Key::Account(alice()),
        Key::Network(network),
        Key::Pair(alice(), network),
        Key::Pair(alice(), home().unwrap()),
    ] {
        assert_eq!(Key::from_bytes(&key.to_bytes()), Some(key));
    }
    for bytes in [b"".as_slice(), b"a", b"n12", b"p123", b"x1234"] {
        assert_eq!(Key::from_bytes(bytes), None);
    }
}
