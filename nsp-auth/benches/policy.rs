//! What a decision costs under a policy of 1,000 rules: one thread, decisions a second.
//!
//! `cargo bench -p nsp-auth --bench policy`. A user has 4 of 50 roles with 20 rules each, about 100 services with 20 functions each; what is
//! asked goes through all of them in turn.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it is a program that prints a table")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use nsp::authority::{Access, Action};
use nsp_auth::policy::{Policies, Policy, Subject, decide};

fn main() {
    let text = written();
    let policy = Policy::from_toml(&text).unwrap();
    assert_eq!(policy.rule_count(), 1000);
    let names: Vec<(String, String)> =
        (0..2000_u32).map(|n| (format!("Service{}", n % 100), format!("function{}", n / 100))).collect();
    let asked: Vec<Access<'_>> = names
        .iter()
        .map(|(service, function)| Access::new(Some("alice"), Action::Call, service).name(function))
        .collect();

    let granted =
        asked.iter().filter(|access| decide(&policy, &Subject::of(access, &[]), access).is_granted());
    println!("{} of 2000 are granted", granted.count());
    row("decided anew", &asked, |access| {
        black_box(decide(&policy, &Subject::of(access, &[]), access));
    });
    let policies = Policies::of(policy);
    row("from the cache, 2,000 different", &asked, |access| {
        black_box(policies.permits(access, &[]));
    });
    let one = asked.iter().take(1).copied().collect::<Vec<_>>();
    row("from the cache, the same", &one, |access| {
        black_box(policies.permits(access, &[]));
    });
    row("from the cache, with a role of the authority", &one, |access| {
        black_box(policies.permits(access, &["superuser"]));
    });
    let (begin, loads) = (Instant::now(), 20);
    for _ in 0..loads {
        black_box(Policy::from_toml(&text).unwrap());
    }
    let millis = begin.elapsed().as_secs_f64() * 1e3 / f64::from(loads);
    println!("{millis:>14.1} ms  to load it");
}

/// 1,000 rules: one in ten denies, one in five is about services with a `*`.
fn written() -> String {
    let mut text = String::new();
    for role in 0..50 {
        writeln!(text, "[roles.role{role}]").unwrap();
        for (key, count) in [("grants", 18), ("denies", 2)] {
            writeln!(text, "{key} = [").unwrap();
            for n in 0..count {
                let (service, star) =
                    if n % 5 == 0 { (role % 10, "*") } else { ((role * 7 + n * 11) % 100, "") };
                let may = ["read", "update", "create:own", "delete"].iter().cycle().nth(n).unwrap();
                writeln!(
                    text,
                    "{{ may = '{may}', on = 'Service{service}{star}', functions = 'function{}*' }},",
                    n % 10
                )
                .unwrap();
            }
            writeln!(text, "]").unwrap();
        }
    }
    text.push_str("[users]\nalice = ['role1', 'role2', 'role3', 'role4']\n[functions.'*']\n");
    text.push_str("'function1*' = 'read'\n'function2' = 'create'\n'function3' = 'delete'\n");
    text
}

/// Repeats for about a second in five parts, and prints the best one: on a shared machine the others measure the neighbours.
fn row(name: &str, asked: &[Access<'_>], mut decide: impl FnMut(&Access<'_>)) {
    let part = Duration::from_millis(200);
    let mut best = f64::MAX;
    for _ in 0..5 {
        let (begin, mut count) = (Instant::now(), 0_usize);
        while begin.elapsed() < part {
            for access in asked.iter().cycle().take(2000) {
                decide(access);
            }
            count += 2000;
        }
        #[allow(clippy::cast_precision_loss, reason = "a number to be read")]
        let nanos = begin.elapsed().as_secs_f64() * 1e9 / count as f64;
        best = best.min(nanos);
    }
    println!("{:>14.0} a second, {best:>6.0} ns  {name}", 1e9 / best);
}
