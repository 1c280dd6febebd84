//! Users, logins and tokens.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{Daemon, PASSWORD, nsp, path, said};

const OTHER: &str = "another long password";

fn with_password(daemon: &Daemon, args: &[&str], password: &str) -> (i32, String, String) {
    said(&daemon.command(args).env("NSP_PASSWORD", password).output().unwrap())
}

#[test]
fn login_is_kept_shown_and_ended() {
    let daemon = Daemon::start(&[]);
    let (status, _, error) = daemon.run(&["whoami"]);
    assert!(status == 5 && error.contains("nobody is logged in"), "{status} {error}");
    let (status, printed, _) = with_password(&daemon, &["login", "Admin"], PASSWORD);
    assert_eq!((status, printed), (0, format!("logged in as admin at {}", daemon.url())));
    let tokens = daemon.dir.path().join("home/tokens.toml");
    assert_eq!(fs::metadata(&tokens).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(daemon.json(&["whoami", "--json"])["privilege"], json!(0));
    assert_eq!(daemon.run(&["logout"]), (0, "admin is logged out".to_owned(), String::new()));
    assert_eq!(daemon.run(&["whoami"]).0, 5);
    assert_eq!(daemon.run(&["logout"]).0, 5);
    assert!(!fs::read_to_string(&tokens).unwrap().contains("[[token]]"));
}

#[test]
fn password_comes_from_a_file_or_a_descriptor_and_a_wrong_one_is_refused() {
    let daemon = Daemon::start(&[]);
    let file = daemon.dir.path().join("admin.password");
    assert_eq!(daemon.run(&["login", "admin", "--password-file", path(&file)]).0, 0);
    let command = format!(
        "{} login admin --url {} --ca {} --home {} --password-fd 5 5< {}",
        env!("CARGO_BIN_EXE_nsp"),
        daemon.url(),
        path(&daemon.file("ca.pem")),
        path(&daemon.dir.path().join("home2")),
        path(&file)
    );
    let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
    assert_eq!(said(&output).0, 0, "{:?}", said(&output));
    for user in ["admin", "nobody1"] {
        let (status, _, error) = with_password(&daemon, &["login", user], "not the password");
        assert_eq!(
            (status, error.as_str()),
            (5, "nsp: the user or the password is wrong"),
            "one answer for both"
        );
    }
    let (status, _, error) = daemon.run(&["login", "admin"]);
    assert!(status == 5 && error.contains("no terminal to ask"), "{status} {error}");
}

/// Whether the system lets us use its keyring; containers often do not.
fn has_keyring(daemon: &Daemon) -> bool {
    let (status, _, error) = with_password(daemon, &["login", "admin", "--keyring"], PASSWORD);
    match status {
        0 => true,
        _ => {
            assert!(
                status == 1 && error.contains("the keyring of the system cannot be used"),
                "{status} {error}"
            );
            assert_eq!(daemon.run(&["whoami"]).0, 5, "it did not fall back to a file");
            eprintln!("skipped: {error}");
            false
        }
    }
}

#[test]
fn token_in_the_keyring_is_in_no_file_and_found_until_logout() {
    let daemon = Daemon::start(&[]);
    if !has_keyring(&daemon) {
        return;
    }
    let tokens = daemon.dir.path().join("home/tokens.toml");
    let text = fs::read_to_string(&tokens).unwrap();
    assert!(text.contains("keyring = true") && !text.contains("token ="), "{text}");
    assert_eq!(daemon.json(&["whoami", "--json"])["privilege"], json!(0), "nothing has to be said any more");

    // The next login goes where the one before is, without being told.
    assert_eq!(with_password(&daemon, &["login", "admin"], PASSWORD).0, 0);
    assert!(!fs::read_to_string(&tokens).unwrap().contains("token ="));
    let input = "login admin\nwhoami\n";
    let file = daemon.dir.path().join("admin.password");
    let (status, _, error) = daemon.feed(&["shell", "--password-file", path(&file)], input);
    assert_eq!(status, 0, "{error}");
    assert!(!fs::read_to_string(&tokens).unwrap().contains("token ="));

    assert_eq!(daemon.run(&["logout"]), (0, "admin is logged out".to_owned(), String::new()));
    assert_eq!(daemon.run(&["whoami"]).0, 5);
    assert_eq!(daemon.run(&["logout"]).0, 5);

    // Who says it by the environment says it for all logins.
    let login =
        daemon.command(&["login", "admin"]).env("NSP_KEYRING", "1").env("NSP_PASSWORD", PASSWORD).output();
    assert_eq!(said(&login.unwrap()).0, 0);
    assert!(fs::read_to_string(&tokens).unwrap().contains("keyring = true"));
    assert_eq!(daemon.run(&["logout"]).0, 0);
}

#[test]
fn token_that_the_keyring_has_lost_is_said_and_a_new_login_mends_it() {
    let daemon = Daemon::start(&[]);
    if !has_keyring(&daemon) {
        return;
    }
    assert_eq!(daemon.run(&["logout"]).0, 0);
    // As it is when the machine has started anew.
    let host = daemon.url().strip_prefix("nsps://").unwrap();
    let tokens = daemon.dir.path().join("home/tokens.toml");
    let lost = format!("[[token]]\ndaemon = \"{host}\"\nuser = \"admin\"\nkeyring = true\n");
    fs::write(&tokens, &lost).unwrap();
    let (status, _, error) = daemon.run(&["whoami"]);
    assert!(status == 5 && error.contains("the keyring has the token of admin"), "{status} {error}");
    assert_eq!(daemon.run(&["services"]).0, 0, "nobody asks for a token that is not needed");
    assert_eq!(with_password(&daemon, &["login", "admin"], PASSWORD).0, 0);
    assert_eq!(daemon.run(&["whoami"]).0, 0);
    assert_eq!(daemon.run(&["logout"]).0, 0);
    fs::write(&tokens, &lost).unwrap();
    let (status, printed, error) = daemon.run(&["logout"]);
    assert_eq!((status, printed.as_str()), (0, "admin was logged out"));
    assert!(error.contains("the daemon was not told"), "{error}");
    assert_eq!(daemon.run(&["logout"]).0, 5, "it is forgotten here");
}

#[test]
fn password_in_the_keyring_is_a_source_of_passwords_until_logout() {
    let daemon = Daemon::start(&[]);
    let (status, _, error) = daemon.run(&["login", "admin", "--password-keyring"]);
    if status == 1 {
        assert!(error.contains("the keyring of the system cannot be used"), "{error}");
        eprintln!("skipped: {error}");
        return;
    }
    assert!(status == 5 && error.contains("--keep-password"), "{status} {error}");
    let (status, _, error) = with_password(&daemon, &["login", "admin", "--keep-password"], "wrong password");
    assert_eq!(status, 5, "{error}");
    assert_eq!(daemon.run(&["login", "admin", "--password-keyring"]).0, 5, "only the right one is kept");
    assert_eq!(with_password(&daemon, &["login", "admin", "--keep-password"], PASSWORD).0, 0);
    assert_eq!(daemon.run(&["login", "admin", "--password-keyring"]).0, 0);
    assert_eq!(daemon.run(&["user", "ls"]).0, 0);
    assert_eq!(daemon.run(&["logout"]).0, 0);
    assert_eq!(daemon.run(&["login", "admin", "--password-keyring"]).0, 5, "it is forgotten");

    // A password that has changed is not kept on.
    assert_eq!(with_password(&daemon, &["login", "admin", "--keep-password"], PASSWORD).0, 0);
    let new = daemon.dir.path().join("new.password");
    fs::write(&new, OTHER).unwrap();
    let passwd = ["user", "passwd", "--new-password-file", path(&new), "--password-keyring"];
    assert_eq!(daemon.run(&passwd).0, 0);
    let (status, _, error) = daemon.run(&["login", "admin", "--password-keyring"]);
    assert!(status == 5 && error.contains("the keyring has no password"), "{status} {error}");
    assert_eq!(daemon.run(&["login", "admin", "--password-keyring", "--password-file", path(&new)]).0, 2);
}

#[test]
fn users_are_managed_over_the_wire() {
    let daemon = Daemon::start(&[]);
    let (status, _, error) = daemon.run(&["user", "ls"]);
    assert!(status == 5, "{error}");
    daemon.login("admin", PASSWORD);

    let added =
        daemon.json(&["user", "add", "alice", "--role", "editor", "--display-name", "Alice A.", "--json"]);
    let password = added["password"].as_str().unwrap().to_owned();
    assert_eq!(added["user"]["roles"], json!(["editor"]));
    assert_eq!(daemon.run(&["user", "add", "alice"]).0, 1, "there is one already");
    let file = daemon.dir.path().join("robot.password");
    fs::write(&file, OTHER).unwrap();
    let (status, printed, _) =
        daemon.run(&["user", "add", "robot", "--privilege", "5", "--new-password-file", path(&file)]);
    assert_eq!(
        (status, printed.as_str()),
        (0, "robot  privilege 5"),
        "a password that was given is not shown"
    );
    let (_, listed, _) = daemon.run(&["user", "ls"]);
    assert_eq!(listed, "admin  privilege 0\nalice  privilege 1  roles editor  Alice A.\nrobot  privilege 5");
    assert_eq!(daemon.run(&["user", "ls", "ro"]).1, "robot  privilege 5");

    let home = daemon.dir.path().join("alice");
    let alice = |args: &[&str], password: &str| {
        said(&daemon.command(args).env("NSP_HOME", &home).env("NSP_PASSWORD", password).output().unwrap())
    };
    let (status, _, hint) = alice(&["login", "alice"], &password);
    assert!(status == 0 && hint.contains("made by somebody else"), "{status} {hint}");
    let (status, _, error) = alice(&["user", "ls"], "");
    assert!(status == 6, "she is known, and may not: {status} {error}");
    let new = daemon.dir.path().join("new.password");
    fs::write(&new, "a password of my own").unwrap();
    let (status, _, error) = alice(&["user", "passwd", "--new-password-file", path(&new)], &password);
    assert_eq!(status, 0, "{error}");
    assert_eq!(alice(&["whoami"], "").0, 5, "her logins have ended");
    assert_eq!(alice(&["login", "alice"], &password).0, 5);
    assert_eq!(alice(&["login", "alice"], "a password of my own").0, 0);

    assert_eq!(daemon.json(&["user", "lock", "alice", "--json"])["locked"], json!(true));
    assert_eq!(alice(&["whoami"], "").0, 5);
    assert_eq!(alice(&["login", "alice"], "a password of my own").0, 5);
    assert_eq!(daemon.run(&["user", "unlock", "alice"]).0, 0);
    assert_eq!(alice(&["login", "alice"], "a password of my own").0, 0);
    assert_eq!(
        daemon.run(&["user", "privilege", "alice", "0"]).1,
        "alice  privilege 0  roles editor  Alice A."
    );
    assert_eq!(daemon.run(&["user", "roles", "alice"]).1, "alice  privilege 0  Alice A.");
    let (_, printed, _) = daemon.run(&["user", "passwd", "alice", "--generate"]);
    assert!(printed.starts_with("password "), "{printed}");
    assert_eq!(daemon.run(&["user", "rm", "alice"]).0, 0);
    let (status, _, error) = daemon.run(&["user", "show", "alice"]);
    assert!(status == 1 && error.contains("there is no such user (no_user"), "{status} {error}");
    let (status, _, error) = daemon.run(&["user", "rm", "admin"]);
    assert!(status == 1 && error.contains("last superuser"), "{status} {error}");
}

#[test]
fn tokens_are_listed_and_revoked_and_connections_end_with_them() {
    let daemon = Daemon::start(&[]);
    daemon.login("admin", PASSWORD);
    daemon.login("admin", PASSWORD);
    let (_, listed, _) = daemon.run(&["token", "ls"]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let tokens: Vec<Value> = daemon
        .run(&["token", "ls", "--json"])
        .1
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for token in &tokens {
        assert_eq!(daemon.run(&["token", "revoke", token["id"].as_str().unwrap(), "--of", "admin"]).2, "");
        if daemon.run(&["whoami"]).0 == 5 {
            break;
        }
    }
    assert_eq!(daemon.run(&["whoami"]).0, 5, "the one that was kept is gone");
    daemon.login("admin", PASSWORD);
    let (status, _, error) = daemon.run(&["token", "revoke", "0000000000000000"]);
    assert!(status == 1 && error.contains("no such token"), "{status} {error}");
    let (status, _, error) = daemon.run(&["token", "revoke", "xyz"]);
    assert!(status == 1 && error.contains("16 hexadecimal digits"), "{status} {error}");
    assert_eq!(daemon.run(&["token", "revoke"]).0, 2);
}

#[test]
fn folder_of_a_daemon_that_does_not_run_is_managed_without_it() {
    let daemon = Daemon::start(&[]);
    let data = daemon.dir.path().join("data");
    let local = |args: &[&str]| {
        let args = [args, &["--data", path(&data)]].concat();
        said(&nsp().args(args).env("NSP_HOME", data.join("home")).output().unwrap())
    };
    let (status, _, error) = local(&["user", "ls"]);
    assert!(status == 2 && error.contains("a daemon uses"), "{status} {error}");
    let _dir = daemon.stop();
    assert_eq!(local(&["user", "ls"]).1, "admin  privilege 0");
    assert_eq!(local(&["user", "add", "robot", "--generate"]).0, 0);
    assert_eq!(local(&["user", "ls"]).1, "admin  privilege 0\nrobot  privilege 1");
    let (_, listed, _) = local(&["token", "ls", "--of", "admin"]);
    assert_eq!(listed.lines().count(), 1, "only that of this command: {listed}");
    let nothing = tempfile::tempdir().unwrap();
    let output = nsp().args(["user", "ls", "--data", path(nothing.path())]).output().unwrap();
    assert_eq!(said(&output).0, 2);
}

#[test]
fn contexts_hold_where_and_as_whom() {
    let daemon = Daemon::start(&[]);
    let bare = |args: &[&str]| {
        said(&nsp().args(args).env("NSP_HOME", daemon.dir.path().join("home")).output().unwrap())
    };
    assert_eq!(bare(&["context", "ls"]).1, "* local  nsps://127.0.0.1:43580  -");
    assert_eq!(with_password(&daemon, &["login", "admin", "--save", "work"], PASSWORD).0, 0);
    assert_eq!(
        bare(&["whoami"]).1,
        format!("admin (superuser) at {}", daemon.url()),
        "nothing has to be said any more"
    );
    assert_eq!(
        bare(&["context", "ls"]).1.lines().nth(1).unwrap(),
        format!("* work  {}  admin", daemon.url())
    );
    assert_eq!(bare(&["context", "use", "local"]).0, 0);
    assert_eq!(bare(&["whoami", "--context", "work"]).0, 0);
    assert_eq!(bare(&["context", "add", "other", "ws://localhost:1", "--use"]).0, 0);
    assert_eq!(bare(&["services"]).0, 3);
    assert_eq!(bare(&["context", "rm", "other"]).0, 0);
    for (args, said) in [
        (&["context", "use", "nowhere"][..], "there is no context `nowhere`"),
        (&["context", "add", "x y", "ws://localhost:1"], "is no name of a context"),
        (&["context", "add", "x", "ftp://localhost:1"], "unknown scheme"),
        (&["services", "--context", "nowhere"], "there is no context"),
    ] {
        let (status, _, error) = bare(args);
        assert!(status == 2 && error.contains(said), "{args:?}: {status} {error}");
    }
}

#[test]
fn top_shows_and_ends_connections() {
    let daemon = Daemon::start(&[]);
    daemon.login("admin", PASSWORD);
    let mut listening = crate::support::Beside::start(daemon.command(&["listen", "NoActivity"]));
    assert_eq!(listening.error_line(), "listening to NoActivity");
    let (_, shown, _) = daemon.run(&["top", "--once"]);
    assert!(shown.starts_with("2 connections, 2 entities, "), "{shown}");
    assert!(shown.contains("NoActivity:admin?"), "a claim is marked: {shown}");
    let status = daemon.json(&["top", "--once", "--json"]);
    let entities = status["entities"].as_array().unwrap();
    let of_listening = entities.iter().find(|entity| entity["service"] == "NoActivity").unwrap();
    let id = of_listening["connection"].to_string();
    assert_eq!(daemon.run(&["top", "--kick", &id]), (0, String::new(), String::new()));
    let (status, _, error) = daemon.run(&["top", "--kick", "999999"]);
    assert!(status == 2 && error.contains("there is no connection"), "{status} {error}");
}

#[test]
fn users_of_the_original_are_imported_with_their_passwords() {
    let daemon = Daemon::start(&[]);
    daemon.login("admin", PASSWORD);
    let file = daemon.dir.path().join("original.db");
    // As the original hashes: HMAC-SHA256 with a key that everybody knows.
    let script = r#"
import hashlib, hmac, sqlite3, sys, uuid
connection = sqlite3.connect(sys.argv[1])
connection.execute("CREATE TABLE NoService_Model_NSUser (username, userid, displayname, pwdhash, privilege, detail, firstname, lastname, createdate)")
for name, password in [("magda", "a long old password"), ("konrad", "admin"), ("x", "y")]:
    digest = hmac.new(b"FATFROG", password.encode(), hashlib.sha256).hexdigest()
    connection.execute("INSERT INTO NoService_Model_NSUser VALUES (?,?,?,?,1,'','','','')", (name, str(uuid.uuid4()), name, digest))
connection.commit()
"#;
    let made = std::process::Command::new("python3").args(["-c", script, path(&file)]).status().unwrap();
    assert!(made.success());
    let (status, _, error) = daemon.run(&["user", "import", path(&file)]);
    assert!(status == 1 && error.contains("row 3 (x)"), "nothing is imported: {status} {error}");
    assert_eq!(daemon.run(&["user", "ls"]).1.lines().count(), 1);
    let (status, printed, notes) = daemon.run(&["user", "import", path(&file), "--skip-refused"]);
    assert_eq!((status, printed.as_str()), (11, "magda\nkonrad"), "{notes}");
    assert!(notes.contains("konrad is locked") && notes.contains("row 3 (x)"), "{notes}");
    let login = |user: &str, password: &str| with_password(&daemon, &["login", user], password).0;
    assert_eq!((login("magda", "a long old password"), login("konrad", "admin")), (0, 5));
    let (status, _, error) = daemon.run(&["user", "import", "/no/such.db", "--user", "admin"]);
    assert!(status == 1 && error.contains("/no/such.db"), "{status} {error}");
}
