//! Who may do what, by a policy and by registration.

use std::fs;

use serde_json::json;

use crate::support::{Daemon, PASSWORD, example, path};

const POLICY: &str = r#"
[roles.anonymous]
grants = [{ may = "*", on = ["Text", "NoDiscovery"] }]
[roles.superuser]
grants = [{ may = "*", on = "*" }]
"#;

#[test]
fn policy_decides_and_is_read_again_at_a_hangup() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    fs::write(&policy, POLICY).unwrap();
    let function = format!("Text.Upper={}", path(&example("functions/upper.js")));
    let mut daemon = Daemon::start(&["--function", &function, "--policy", path(&policy)]);
    assert_eq!(daemon.json(&["call", "Text", "Upper", "\"a\""]), json!("A"));
    let (status, listed, _) = daemon.run(&["services"]);
    assert_eq!(
        (status, listed.lines().count()),
        (0, 2),
        "of what one may not open one does not learn: {listed}"
    );
    let (status, _, error) = daemon.run(&["call", "NoShell", "sendC", "{\"c\":\"help\"}"]);
    assert!([5, 6].contains(&status) && error.lines().count() == 1, "{status} {error}");
    daemon.login("admin", PASSWORD);
    assert_eq!(daemon.run(&["call", "NoShell", "sendC", "{\"c\":\"help\"}"]).0, 0);
    assert_eq!(daemon.run(&["user", "ls"]).0, 0);

    fs::write(&policy, POLICY.replace("\"Text\", ", "")).unwrap();
    daemon.signal("-HUP");
    daemon.log_line("reloaded");
    assert_eq!(daemon.run(&["logout"]).0, 0);
    assert!([5, 6].contains(&daemon.run(&["call", "Text", "Upper", "\"a\""]).0));
    fs::write(&policy, "roles = 7").unwrap();
    daemon.signal("-HUP");
    daemon.log_line("not reloaded");
    let check = ["daemon", "check", "--policy", path(&policy), "--data", path(dir.path())];
    let (status, _, error) = daemon.run(&check);
    assert!(status == 2 && error.contains("policy.toml") && error.lines().count() == 1, "{status} {error}");
}

#[test]
fn registration_is_closed_unless_it_is_opened() {
    let new = r#"{"un":"alice","dn":"Alice","pw":"a password of my own","cp":"a password of my own","fn":"A","ln":"B"}"#;
    let closed = Daemon::start(&[]);
    let answer = closed.json(&["call", "NoUser", "createUser", new]);
    assert_eq!(answer["e"], json!(true), "{answer}");
    let open = Daemon::start(&["--open-registration", "10"]);
    let answer = open.json(&["call", "NoUser", "createUser", new]);
    assert_eq!(answer["e"], json!(null), "{answer}");
    open.login("alice", "a password of my own");
    assert_eq!(open.json(&["whoami", "--json"])["privilege"], json!(1));
    let (status, _, error) = open.run(&["user", "ls"]);
    assert_eq!(status, 6, "{error}");
}
