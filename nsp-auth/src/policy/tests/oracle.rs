//! Policies at random, against a second reading of the rules that is short and slow.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
struct Rule {
    denies: bool,
    may: Vec<(usize, bool)>,
    on: &'static str,
    function: &'static str,
}

const VERBS: [&str; 4] = ["create", "read", "update", "delete"];
const ROLES: [&str; 4] = ["anonymous", "r1", "r2", "user"];
const SERVICES: [&str; 4] = ["A", "B", "A*", "*"];
const FUNCTIONS: [&str; 5] = ["create", "read", "r*", "*", "@send"];

fn rule() -> impl Strategy<Value = Rule> {
    let may = prop::collection::vec((0..4_usize, any::<bool>()), 1..4);
    (any::<bool>(), may, prop::sample::select(&SERVICES[..]), prop::sample::select(&FUNCTIONS[..]))
        .prop_map(|(denies, may, on, function)| Rule { denies, may, on, function })
}

/// Functions are called as what they do.
fn written(rules: &[Vec<Rule>]) -> String {
    let mut text = String::new();
    for (role, rules) in ROLES.iter().zip(rules) {
        writeln!(text, "[roles.{role}]").unwrap();
        if *role == "r2" {
            writeln!(text, "inherits = 'r1'").unwrap();
        }
        for (key, denies) in [("grants", false), ("denies", true)] {
            writeln!(text, "{key} = [").unwrap();
            for rule in rules.iter().filter(|rule| rule.denies == denies) {
                let may: Vec<String> = (rule.may.iter())
                    .map(|(verb, own)| format!("'{}:{}'", VERBS[*verb], if *own { "own" } else { "any" }))
                    .collect();
                writeln!(
                    text,
                    "{{ may = [{}], on = '{}', functions = '{}' }},",
                    may.join(","),
                    rule.on,
                    rule.function
                )
                .unwrap();
            }
            writeln!(text, "]").unwrap();
        }
    }
    text.push_str("[users]\nalice = 'r2'\nbobby = 'r1'\n[services]\nbobby = 'r2'\n[functions.'*']\ncreate = 'create'\nread = 'read'\nremove = 'delete'\n");
    text
}

fn matches(pattern: &str, text: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == text, |start| text.starts_with(start))
}

/// Whether (a denial, a grant) applies.
fn applying(rules: &[Vec<Rule>], access: &Access<'_>) -> (bool, bool) {
    let roles: &[usize] = match (access.user, access.calling_service) {
        (Some("alice"), _) => &[1, 2, 3],
        (Some("bobby"), _) => &[1, 3],
        (Some(_), _) => &[3],
        (None, Some("bobby")) => &[1, 2],
        (None, Some(_)) => &[],
        (None, None) => &[0],
    };
    let function = if access.action == Action::Send { "@send" } else { access.name.unwrap_or("") };
    let verb = match function {
        "create" => 0,
        "read" => 1,
        "remove" => 3,
        _ => 2,
    };
    let own = access.user.is_some() && access.owner == access.user;
    let mut found = (false, false);
    for rule in roles.iter().flat_map(|role| &rules[*role]) {
        let covers = |verb| rule.may.iter().any(|(v, only_own)| *v == verb && (own || !only_own));
        let applies = matches(rule.on, access.service)
            && match (access.action, rule.denies) {
                (Action::Open, false) => true,
                (Action::Open, true) => {
                    matches(rule.function, "@open") && (0..4).all(|v| rule.may.contains(&(v, false)))
                }
                _ => covers(verb) && matches(rule.function, function),
            };
        if applies && rule.denies {
            found.0 = true;
        } else if applies {
            found.1 = true;
        }
    }
    found
}

proptest! {
    #[test]
    fn denied_thing_is_never_granted_and_a_granted_one_always(
        rules in prop::collection::vec(prop::collection::vec(rule(), 0..5), 4),
    ) {
        let policy = Policy::from_toml(&written(&rules)).unwrap();
        let policies = Policies::of(Policy::from_toml(&written(&rules)).unwrap());
        let nobody = || Access::new(None, Action::Call, "");
        let users = ["alice", "bobby", "carol"].map(|user| Access::new(Some(user), Action::Call, ""));
        let services = ["bobby", "alice"].map(|service| nobody().calling_service(service));
        for who in users.into_iter().chain(services).chain([nobody()]) {
            for action in [Action::Open, Action::Call, Action::Send] {
                for service in ["A", "AB", "B", "C"] {
                    for name in [None, Some("create"), Some("read"), Some("rewrite"), Some("remove")] {
                        for owner in [None, Some("alice")] {
                            let name = name.filter(|_| action == Action::Call);
                            let mut access = who;
                            (access.action, access.service) = (action, service);
                            (access.name, access.owner) = (name, owner);
                            let subject = Subject::of(&access, &[]);
                            let decision = decide(&policy, &subject, &access);
                            let (denies, grants) = applying(&rules, &access);
                            prop_assert_eq!(decision.is_granted(), grants && !denies, "{:?}", access);
                            prop_assert_eq!(decision.rule.is_some(), grants || denies, "{:?}", access);
                            let explanation = explain(&policy, &subject, &access);
                            prop_assert_eq!(explanation.granted, grants && !denies);
                            if let Some(rule) = explanation.rule {
                                prop_assert_eq!(rule.field.starts_with("denies"), denies);
                            }
                            // Decided twice: once now, once from memory.
                            for _ in 0..2 {
                                let again = policies.decide(&subject, &access).unwrap();
                                prop_assert_eq!(again.is_granted(), grants && !denies);
                                prop_assert_eq!(again.rule, decision.rule);
                            }
                        }
                    }
                }
            }
        }
    }
}
