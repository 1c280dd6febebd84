use std::fs;

use nsp::authority::Permission;

use super::*;

const GRANTS: &str = "[roles.user]\ngrants = [{ may = 'update', on = 'Notes' }]";

fn permitted(policies: &Policies, access: &Access<'_>, roles: &[&str]) -> bool {
    matches!(policies.permits(access, roles), Permission::Granted { .. })
}

#[test]
fn without_a_policy_everything_is_permitted_and_with_one_nothing_else() {
    let policies = Policies::none();
    let access = call(None, "Notes", "x");
    assert!(permitted(&policies, &access, &[]) && !policies.is_loaded());
    assert!(policies.explain(&Subject::of(&access, &[]), &access).is_none());
    policies.replace(Some(Policy::from_toml(GRANTS).unwrap()));
    assert!(!permitted(&policies, &access, &[]));
    policies.replace(None);
    assert!(permitted(&policies, &access, &[]));
}

#[test]
fn decision_is_dropped_with_its_policy() {
    let policies = Policies::of(Policy::from_toml(GRANTS).unwrap());
    let access = call(Some("alice"), "Notes", "x");
    assert!(permitted(&policies, &access, &[]) && permitted(&policies, &access, &[]));
    let before = policies.epoch();
    policies.replace(Some(Policy::from_toml("").unwrap()));
    assert!(policies.epoch() > before);
    assert!(!permitted(&policies, &access, &[]));
}

#[test]
fn decision_does_not_outlive_a_role_of_the_user() {
    let policies =
        Policies::of(Policy::from_toml("[roles.superuser]\ngrants = [{ may = '*', on = '*' }]").unwrap());
    let access = call(Some("admin"), "Notes", "x");
    for _ in 0..2 {
        assert!(permitted(&policies, &access, &["superuser"]));
        assert!(!permitted(&policies, &access, &[]));
        assert!(!permitted(&policies, &access, &["super", "user"]));
    }
}

#[test]
fn remembered_decision_is_that_of_the_same_question_only() {
    let policy = r#"
        [roles.user]
        grants = [{ may = "update:own", on = "Notes" }]
        [roles.svc]
        grants = [{ may = "*", on = "*" }]
        [services]
        alice = "svc"
        [functions.Notes]
        mine = "update:own"
    "#;
    let policies = Policies::of(Policy::from_toml(policy).unwrap());
    let access = call(Some("alice"), "Notes", "x");
    for _ in 0..2 {
        assert!(permitted(&policies, &access.owner("alice"), &[]));
        assert!(!permitted(&policies, &access.owner("bobby"), &[]));
        assert!(!permitted(&policies, &access, &[]));
        assert!(permitted(&policies, &call(Some("alice"), "Notes", "mine"), &[]));
        assert!(!permitted(&policies, &call(Some("alice"), "Notes", "mine").owner("bobby"), &[]));
        let service = Subject::service("alice");
        assert!(
            policies.decide(&service, &access).unwrap().is_granted(),
            "a service of a user's name is another"
        );
        assert!(!policies.decide(&Subject::of(&access, &[]), &access).unwrap().is_granted());
    }
}

#[test]
fn more_questions_than_places_are_all_answered_rightly() {
    let policies = Policies::of(
        Policy::from_toml("[roles.user]\ngrants = [{ may = '*', on = 'S', functions = '*7' }]").unwrap(),
    );
    for _ in 0..2 {
        for n in 0..super::super::cache::PLACES * 3 {
            let name = n.to_string();
            let access = call(Some("alice"), "S", &name);
            assert_eq!(permitted(&policies, &access, &[]), name.ends_with('7'), "{name}");
        }
    }
}

#[test]
fn reload_takes_a_good_file_and_keeps_the_old_policy_on_a_bad_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let open = |path: &std::path::Path| Policies::open(path).unwrap_err().to_string();
    assert!(open(&path).ends_with("No such file or directory (os error 2)"));
    fs::write(&path, GRANTS).unwrap();
    let policies = Policies::open(&path).unwrap();
    let access = call(Some("alice"), "Notes", "x");
    assert!(permitted(&policies, &access, &[]));

    fs::write(&path, "[roles.user]\ngrants = 1").unwrap();
    let (before, error) = (policies.epoch(), policies.reload().unwrap_err().to_string());
    let expected =
        format!("{}:2: roles.user.grants: a list belongs here, and this is a number", path.display());
    assert_eq!(error, expected);
    assert!(permitted(&policies, &access, &[]));
    assert_eq!(policies.epoch(), before);

    fs::write(&path, [0xff]).unwrap();
    assert!(policies.reload().is_err());
    fs::write(&path, " ".repeat(2 << 20)).unwrap();
    assert!(policies.reload().unwrap_err().to_string().contains("at most 1048576 bytes"));
    assert!(permitted(&policies, &access, &[]));

    fs::write(&path, "").unwrap();
    policies.reload().unwrap();
    assert!(!permitted(&policies, &access, &[]));

    let json = folder.path().join("policy.json");
    fs::write(&json, "{}").unwrap();
    assert!(!permitted(&Policies::open(&json).unwrap(), &access, &[]));
    let other = folder.path().join("policy.yaml");
    fs::write(&other, "").unwrap();
    assert!(open(&other).ends_with("is neither .toml nor .json"));
}

#[test]
fn policy_is_replaced_while_others_ask() {
    let policies = Policies::of(Policy::from_toml(GRANTS).unwrap());
    let access = call(Some("alice"), "Notes", "x");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while policies.epoch() < 200 {
                let _ = permitted(&policies, &access, &[]);
                asked += 1;
            }
            asked
        });
        for n in 0..199 {
            let text = if n % 2 == 0 { "" } else { GRANTS };
            policies.replace(Some(Policy::from_toml(text).unwrap()));
            assert_eq!(permitted(&policies, &access, &[]), n % 2 == 1);
        }
        assert!(asking.join().unwrap() > 0);
    });
}
