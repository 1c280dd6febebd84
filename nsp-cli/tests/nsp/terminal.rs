//! What only happens on a terminal: passwords that are not shown, questions, and the shell with its editor.

use std::fs;
use std::process::Command;

use tests::{Await, terminal};

use crate::support::{Daemon, PASSWORD, example, path, said};

/// A program on a terminal, that knows the daemon.
fn beside(daemon: &Daemon, trusts: bool, program: &str, steps: &[Await]) -> Command {
    let mut command = terminal(program, steps);
    command.env("NSP_URL", daemon.url()).env("NSP_HOME", daemon.dir.path().join("home")).env("TERM", "xterm");
    if trusts {
        command.env("NSP_CA", daemon.file("ca.pem"));
    }
    command
}

/// Runs a command on a terminal; gives its status and all that it has shown.
fn on_terminal(daemon: &Daemon, trusts: bool, args: &[&str], steps: &[(&str, &str)]) -> (i32, String) {
    let steps: Vec<Await> = steps.iter().map(|(shown, keys)| Await::then_type(*shown, *keys)).collect();
    let mut command = beside(daemon, trusts, env!("CARGO_BIN_EXE_nsp"), &steps);
    let (status, shown, error) = said(&command.args(args).output().unwrap());
    (status, format!("{shown}{error}"))
}

#[test]
fn password_is_asked_for_and_not_shown() {
    let daemon = Daemon::start(&[]);
    let typed = format!("{PASSWORD}\n");
    let (status, shown) =
        on_terminal(&daemon, true, &["login", "admin"], &[("Password of admin at", &typed)]);
    assert!(status == 0 && shown.contains("logged in as admin"), "{status} {shown}");
    assert!(!shown.contains(PASSWORD), "{shown}");

    let steps = [("New password of alice: ", "first password here\n"), ("Once more: ", "another password\n")];
    let (status, shown) = on_terminal(&daemon, true, &["user", "add", "alice"], &steps);
    assert!(status == 2 && shown.contains("the two are not the same"), "{status} {shown}");
    assert_eq!(daemon.run(&["user", "show", "alice"]).0, 1, "nobody was made");

    let new = "a new password to have\n";
    let steps = [("New password of admin: ", new), ("Once more: ", new), ("Password of admin at", &typed)];
    let (status, shown) = on_terminal(&daemon, true, &["user", "passwd"], &steps);
    assert!(status == 0 && shown.contains("the password is changed"), "{status} {shown}");
    daemon.login("admin", new.trim_end());
}

#[test]
fn prompt_is_there_when_nothing_is_shown_any_more_and_ctrl_c_leaves_the_terminal_as_it_was() {
    let daemon = Daemon::start(&[]);
    for _ in 0..10 {
        // Typed by a machine, in the instant that the prompt is there.
        let steps = [("Password of admin at", "secret\u{7f}\u{7f}typed\n")];
        let (status, shown) = on_terminal(&daemon, true, &["login", "admin"], &steps);
        assert!(status == 5 && shown.contains("the password is wrong"), "{status} {shown}");
        assert!(!shown.contains("secr") && !shown.contains("typed"), "{shown}");
    }
    let steps = [Await::then_type("Password of admin at", "half\u{3}")];
    let mut command = beside(&daemon, true, "/bin/bash", &steps);
    // A shell that does not repair the terminal itself.
    let line = format!("{} login admin; echo status $?; stty -a", env!("CARGO_BIN_EXE_nsp"));
    let (status, shown, _) = said(&command.args(["-c", &line]).output().unwrap());
    assert_eq!(status, 0, "{shown}");
    assert!(shown.contains("status 130") && !shown.contains("half"), "{shown}");
    for mode in [" echo ", " icanon ", "isig "] {
        assert!(shown.contains(mode), "{mode}: {shown}");
    }
}

#[test]
fn stranger_is_asked_about_and_remembered_only_after_a_yes() {
    let daemon = Daemon::start(&[]);
    let key = daemon.greeting.lines().find_map(|line| line.strip_prefix("key ")).unwrap();
    let question = "Is it the same? (yes/no)";
    let (status, shown) = on_terminal(&daemon, false, &["services"], &[(question, "no\n")]);
    assert!(status == 4 && shown.contains(key), "{status} {shown}");
    let (status, shown) = on_terminal(&daemon, false, &["services"], &[(question, "yes\n")]);
    assert!(status == 0 && shown.contains("NoDiscovery"), "{status} {shown}");
    let (status, shown) = on_terminal(&daemon, false, &["services"], &[]);
    assert!(status == 0 && !shown.contains(question), "{status} {shown}");
}

#[test]
fn shell_completes_shows_events_and_forgets_secrets() {
    let mut daemon = Daemon::start(&["--services", path(&example("services"))]);
    for _ in 0..2 {
        daemon.log_line("service ready");
    }
    let (status, shown) = on_terminal(
        &daemon,
        true,
        &["shell"],
        &[
            ("> ", "ca\t"),
            ("call ", "Co\t"),
            ("Counter ", "ad\t"),
            ("add ", "40\n"),
            ("\n40\n", ""),
            ("> ", "watch Clock\n"), // before the prompt it would be the terminal's, and might be lost
            ("watch Clock\nnobody@", ""),
            ("> ", "watch Counter\n"),
            ("watch Counter\nnobody@", ""),
            ("> ", "call Counter join\n"),
            ("\nnull\n", ""),
            ("> ", "call Counter add 2\n"),
            ("Counter count 42", ""),
            ("> ", "call Clock ring \t"),
            (r#"{"text":"…"}"#, "\n"),
            ("Clock ring {", "call Nowhere f\n"),
            ("there is no service `Nowhere`", ""),
            ("[7] ", "call NoUser createUser {\"pw\":\"x\"}\n"),
            ("[1] ", "status\n"),
            ("\n1\n", ""),
            ("> ", "\u{4}"),
        ],
    );
    assert_eq!(status, 0, "{shown}");
    let history = fs::read_to_string(daemon.dir.path().join("home/history")).unwrap();
    assert!(history.contains("call Counter add 40") && history.contains("call Nowhere f"), "{history}");
    assert!(!history.contains("createUser"), "{history}");
}

#[test]
fn log_is_for_people_on_a_terminal_and_has_colours_unless_they_are_not_wanted() {
    for (no_colour, is_coloured) in [("", true), ("1", false)] {
        let dir = tempfile::tempdir().unwrap();
        // Ctrl-C, when the log has said that it listens.
        let steps = [Await::then_type("log in:", ""), Await::then_type("listening", "\u{3}")];
        let mut command = terminal(env!("CARGO_BIN_EXE_nsp"), &steps);
        command.args(["daemon", "--data", path(dir.path()), "--listen", "nsps://127.0.0.1:0"]);
        command.env("TERMINAL_COLOURS", "1").env("NO_COLOR", no_colour);
        let (status, shown, error) = said(&command.output().unwrap());
        assert_eq!(status, 0, "{shown}{error}");
        let (greeting, log) = shown.split_once("log in:").unwrap();
        assert!(
            greeting.starts_with("listening nsps://127.0.0.1:") && !greeting.contains('\u{1b}'),
            "{shown}"
        );
        assert!(log.contains("listening") && !log.contains("{\""), "{shown}");
        assert_eq!(log.contains("\u{1b}["), is_coloured, "{shown}");
        assert!(log.trim_end().ends_with("nsp: 0 connections ended in peace"), "{shown}");
    }
}

#[test]
fn top_shows_again_and_again_until_it_is_interrupted() {
    let daemon = Daemon::start(&[]);
    daemon.login("admin", PASSWORD);
    let steps = [("1 connections, 1 entities", ""), (" a second)", ""), ("NoAdmin:admin", "\u{3}")];
    let (status, shown) = on_terminal(&daemon, true, &["top", "--interval", "50ms"], &steps);
    assert_eq!(status, 0, "{shown}");
}
