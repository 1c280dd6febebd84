//! The shell, fed by standard input. On a terminal the editor is between, whose parts have tests of their own.

use std::io::Write;
use std::process::Stdio;

use crate::support::{Beside, Daemon, PASSWORD, example, path};

#[test]
fn lines_of_standard_input_are_commands_and_the_last_one_decides() {
    let function = format!("Text.Upper={}", path(&example("functions/upper.js")));
    let daemon = Daemon::start(&["--function", &function]);
    let input = "# a comment\n\ncall Text Upper \"a\"\nuse Text\nUpper \"b\"\nNope\nstatus\n!echo local\n";
    let (status, printed, error) = daemon.feed(&["shell"], input);
    assert_eq!(printed, "\"A\"\n\"B\"\n7\nlocal");
    assert_eq!(status, 0, "{error}");
    assert!(error.starts_with("nsp: ") && error.contains("no_function"), "{error}");

    let (status, _, error) = daemon.feed(&["shell"], "call Text Upper {\n");
    assert!(status == 2 && error.contains("not JSON"), "{status} {error}");
    assert_eq!(daemon.feed(&["shell"], "call Nowhere f\nexit\ncall Nowhere g\n").0, 7);
    assert_eq!(daemon.feed(&["shell", "Text"], "Upper \"c\"\n").1, "\"C\"");
    let (status, printed, _) = daemon.feed(&["shell"], "help\nservices\n");
    assert!(
        status == 0 && printed.contains("unwatch SERVICE") && printed.contains("NoDiscovery"),
        "{printed}"
    );
}

#[test]
fn events_are_shown_as_they_come() {
    let daemon = Daemon::start(&[]);
    let mut command = daemon.command(&["shell"]);
    command.stdin(Stdio::piped());
    let mut shell = Beside::start(command);
    let mut input = shell.child.stdin.take().unwrap();
    input.write_all(b"watch NoShell\n").unwrap();
    let line = shell.line();
    assert!(line.starts_with("NoShell welcome \"nsp daemon"), "{line}");
    drop(input);
    assert_eq!(shell.child.wait().unwrap().code(), Some(0));
    let (status, _, error) = daemon.feed(&["shell"], "unwatch NoShell\n");
    assert!(status == 2 && error.contains("is not watched"), "{status} {error}");
}

#[test]
fn login_inside_the_shell_goes_on_as_that_user() {
    let daemon = Daemon::start(&[]);
    let file = daemon.dir.path().join("admin.password");
    let input = "whoami\nlogin admin\nwhoami\n";
    let (status, printed, error) = daemon.feed(&["shell", "--password-file", path(&file)], input);
    assert_eq!(status, 0, "{error}");
    assert!(printed.contains("admin (superuser) at "), "{printed}");
    assert_eq!(daemon.run(&["whoami"]).0, 0, "the token is kept");
    assert!(!printed.contains(PASSWORD) && !error.contains(PASSWORD));
}
