use nsp::authority::Permission;

use super::*;

#[test]
fn documented_policy_decides_as_the_table_says() {
    let policy = Policy::from_toml(&documented()).unwrap();
    let (nobody, bob, alice) = (None, Some("bobby"), Some("alice"));
    let open = |user, service| Access::new(user, Action::Open, service);
    let send = |user, service| Access::new(user, Action::Send, service);
    for (access, expected) in [
        // Nobody has proved who they are.
        (open(nobody, "Chat"), true),
        (send(nobody, "Chat"), false),
        (call(nobody, "Chat", "history"), false), // nobody has said that it reads
        (open(nobody, "Notes"), false),
        (call(nobody, "Notes", "get"), false),
        (open(nobody, "Other"), false),
        // Everybody has what is everybody's.
        (open(bob, "Chat"), true),
        (open(bob, "Notes"), true),
        (call(bob, "Notes", "listAll"), true),
        (call(bob, "Notes", "get"), true),
        (call(bob, "Notes", "add"), true),
        (call(bob, "Notes", "list"), true),
        (call(bob, "notes", "get"), false),
        // Only on one's own, and only where the service or the policy says that it is.
        (call(bob, "Notes", "remove"), false),
        (call(bob, "Notes", "remove").owner("bobby"), true),
        (call(bob, "Notes", "remove").owner("alice"), false),
        (call(nobody, "Notes", "remove").owner("bobby"), false),
        (call(bob, "Notes", "profile"), true),
        (call(bob, "Notes", "profile").owner("bobby"), true),
        (call(bob, "Notes", "profile").owner("alice"), false),
        // An update, as nobody has said anything else.
        (call(bob, "Notes", "rename"), false),
        (call(bob, "Notes", "rename").owner("bobby"), true),
        (send(bob, "Notes"), false),
        // An editor may do anything, but for what is denied.
        (call(alice, "Notes", "rename"), true),
        (call(alice, "NotesOld", "whatever"), true),
        (send(alice, "Notes"), true),
        (call(alice, "Notes", "remove"), true),
        (call(alice, "Notes", "readArchive"), true), // an update, and no deletion
        (open(alice, "Other"), false),
    ] {
        assert_eq!(granted(&policy, &access), expected, "{access:?}");
    }
    // Services, as the daemon knows them.
    for (access, service, expected) in [
        (call(nobody, "Notes", "get"), "NoMailer", true),
        (call(nobody, "Notes", "rename"), "NoMailer", false),
        (call(nobody, "Notes", "remove").owner("NoMailer"), "NoMailer", false), // services own nothing
        (call(nobody, "Notes", "profile"), "NoMailer", false),
        (open(nobody, "Notes"), "NoMailer", true),
        (call(nobody, "Notes", "get"), "Else", false),
        (open(nobody, "Chat"), "Else", false), // not even what anybody may
        (call(nobody, "Notes", "rename"), "alice", false), // she is no service
    ] {
        assert_eq!(granted(&policy, &access.calling_service(service)), expected, "{service}: {access:?}");
        assert_eq!(decide(&policy, &Subject::service(service), &access).is_granted(), expected);
    }
}

#[test]
fn denial_wins_over_every_grant() {
    let policy = Policy::from_toml(
        r#"
        [roles.user]
        grants = [{ may = "*", on = "*" }]
        denies = [{ may = "delete", on = "Notes" }, { may = "*", on = "Vault" }, { may = "read", on = "Log" }]
        [roles.muted]
        denies = [{ may = "update", on = "Chat", functions = "@send" }]
        [roles.own]
        denies = [{ may = "update:own", on = "Grades" }]
        [users]
        troll = ["muted"]
        pupil = "own"
        [functions."*"]
        "remove*" = "delete"
        "#,
    )
    .unwrap();
    let send = |user| Access::new(Some(user), Action::Send, "Chat");
    let open = |service| Access::new(Some("alice"), Action::Open, service);
    for (access, expected) in [
        (call(Some("alice"), "Notes", "remove"), false),
        (call(Some("alice"), "Notes", "add"), true),
        (call(Some("alice"), "Other", "remove"), true),
        (open("Notes"), true),
        (open("Vault"), false),
        (call(Some("alice"), "Vault", "x"), false),
        (open("Log"), true), // one may still write to it
        (send("alice"), true),
        (send("troll"), false),
        (call(Some("troll"), "Chat", "say"), true),
        (call(Some("pupil"), "Grades", "set"), true),
        (call(Some("pupil"), "Grades", "set").owner("pupil"), false),
        (call(Some("pupil"), "Grades", "set").owner("other"), true),
    ] {
        assert_eq!(granted(&policy, &access), expected, "{access:?}");
    }
}

#[test]
fn roles_of_the_authority_count_if_the_policy_knows_them() {
    let policy = Policy::from_toml("[roles.superuser]\ngrants = [{ may = '*', on = '*' }]").unwrap();
    let access = call(Some("admin"), "Notes", "x");
    let decided = |roles: &[&str]| decide(&policy, &Subject::of(&access, roles), &access).is_granted();
    assert!(decided(&["superuser"]));
    assert!(!decided(&[]));
    assert!(!decided(&["root", "SUPERUSER", ""]));
}

#[test]
fn empty_policy_denies_everything() {
    let policy = Policy::from_toml("").unwrap();
    for action in [Action::Open, Action::Call, Action::Send] {
        for user in [None, Some("alice")] {
            assert!(!granted(&policy, &Access::new(user, action, "Notes")));
        }
    }
}

#[test]
fn the_more_a_pattern_says_the_earlier_it_counts() {
    let policy = Policy::from_toml(
        r#"
        [roles.user]
        grants = [{ may = "read", on = "*" }]
        [functions."*"]
        "*" = "delete"
        "get*" = "read"
        getAll = "create"
        [functions."No*"]
        "get*" = "create"
        [functions.Notes]
        "get*" = "delete"
        "getA*" = "read"
        getAbc = "delete"
        "#,
    )
    .unwrap();
    for (service, function, reads) in [
        ("Other", "getX", true),
        ("Other", "getAll", false),
        ("Other", "x", false),
        ("Nobody", "getX", false),
        ("Notes", "getX", false),
        ("Notes", "getA", true),
        ("Notes", "getAbc", false),
        ("Notes", "getAll", true), // the service by its name goes first
    ] {
        assert_eq!(granted(&policy, &call(Some("alice"), service, function)), reads, "{service}.{function}");
    }
}

#[test]
fn what_several_grants_show_adds_up() {
    let policy = Policy::from_toml(
        r#"
        [roles.user]
        grants = [{ may = "update", on = "Notes", shows = ["id"] }]
        [roles.friend]
        inherits = "user"
        grants = [{ may = "update", on = "No*", shows = ["name", "address.city"] }]
        [roles.admin]
        inherits = "friend"
        grants = [{ may = "update", on = "Notes" }]
        [users]
        carol = "friend"
        dave = "admin"
        "#,
    )
    .unwrap();
    let answer = r#"{"id":1,"name":"n","address":{"city":"c","street":"s"}}"#;
    for (user, expected) in [
        ("alice", r#"{"id":1}"#),
        ("carol", r#"{"id":1,"name":"n","address":{"city":"c"}}"#),
        ("dave", answer),
    ] {
        let access = call(Some(user), "Notes", "x");
        let decision = decide(&policy, &Subject::of(&access, &[]), &access);
        let Permission::Granted { shows } = decision.permission else { panic!("{user}") };
        let answer = nsp::proto::RawJson::new(answer).unwrap();
        let shown = shows.map_or_else(|| answer.clone(), |shows| shows.show(answer.clone()));
        assert_eq!(shown.as_str(), expected, "{user}");
    }
}

fn explained(policy: &Policy, access: &Access<'_>) -> String {
    explain(policy, &Subject::of(access, &[]), access).to_string()
}

#[test]
fn explanation_names_the_rule_and_its_line() {
    let policy = Policy::from_toml(&documented()).unwrap();
    for (access, expected) in [
        (
            call(Some("bobby"), "Notes", "listAll"),
            "bobby may call Notes.listAll: it counts as read, and the role user grants create:any, read:any, update:own, \
             delete:own on Notes (grants[0], line 7); of the answer they see *, !secret",
        ),
        (
            call(Some("alice"), "Notes", "remove"),
            "alice may call Notes.remove: it counts as delete, and the role editor grants create:any, read:any, \
             update:any, delete:any on Notes* (grants[0], line 12)",
        ),
        (
            call(Some("bobby"), "Notes", "remove"),
            "bobby may not call Notes.remove: it counts as delete, and none of their roles grants it (anonymous, user); \
             on what is their own it would be granted",
        ),
        (
            Access::new(None, Action::Open, "Notes"),
            "anonymous may not open Notes: none of their roles grants it (anonymous)",
        ),
        (
            Access::new(None, Action::Send, "Chat"),
            "anonymous may not send to Chat: it counts as update, and none of their roles grants it (anonymous)",
        ),
    ] {
        assert_eq!(explained(&policy, &access), expected);
    }
    let nobody = Policy::from_toml("").unwrap();
    assert_eq!(
        explained(&nobody, &Access::new(Some("al\u{1b}ce"), Action::Open, "Notes")),
        "al\\u{1b}ce may not open Notes: they have no role"
    );
}

#[test]
fn explanation_is_an_object_for_programs() {
    let policy =
        Policy::from_toml(&documented().replace("\"delete\", on = \"*\"", "\"update\", on = \"*\"")).unwrap();
    let access = call(Some("alice"), "Notes", "readArchive");
    let explanation = explain(&policy, &Subject::of(&access, &[]), &access);
    let expected = serde_json::json!({
        "subject": "alice",
        "roles": ["anonymous", "editor", "user"],
        "action": "call",
        "service": "Notes",
        "name": "readArchive",
        "verb": "update",
        "own": false,
        "granted": false,
        "rule": {
            "role": "editor",
            "field": "denies[0]",
            "line": 13,
            "text": "update:any on *, functions *Archive",
        },
        "shows": [],
        "granted_for_own": false,
    });
    assert_eq!(serde_json::to_value(&explanation).unwrap(), expected);
}
