//! What goes wrong: one clear line, and the status that is documented.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Stdio;

use crate::support::{Daemon, PASSWORD, example, nsp, path, said};

#[test]
fn bad_input_has_one_line_and_its_status() {
    let function = format!("Text.Upper={}", path(&example("functions/upper.js")));
    let daemon = Daemon::start(&["--listen", "nsps://127.0.0.1:0,ws://127.0.0.1:0", "--function", &function]);
    let ws = daemon.urls[1].clone();
    let as_frames = ws.replace("ws:", "nsp:").trim_end_matches('/').to_owned();
    let closed = format!("nsp://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let missing = daemon.dir.path().join("nowhere");
    let home = daemon.dir.path().join("bad-home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("contexts.toml"), "what is this").unwrap();
    let token = daemon.dir.path().join("token");
    fs::write(&token, "not a token\n").unwrap();
    for (args, status, text) in [
        (&["call", "Text", "Upper", "{bad"][..], 2, "the argument is not JSON"),
        (&["call", "Text", "Upper", "@/no/such/file"], 1, "/no/such/file"),
        (&["call", "Text"], 2, "<FUNCTION>"),
        (&["call", "Nowhere", "f"], 7, "there is no service `Nowhere`"),
        (&["call", "Text", "Nothing"], 7, "no_function"),
        (&["call", "Text", "Upper", "1", "--blob", path(&token)], 7, "no_function"),
        (&["call", "Text", "Upper", "\"x\"", "--out", "/no/such/folder/file"], 1, "/no/such/folder/file"),
        (&["call", "NoAdmin", "users"], 5, "nsp login"),
        (&["call", "NoAdmin", "users", "--user", "admin", "--token-file", path(&token)], 5, "auth_failed"),
        (&["call", "Text", "Upper", "1", "--url", &closed], 3, "Connection refused"),
        (&["call", "Text", "Upper", "1", "--url", "nsp://no.such.host.invalid:1"], 3, "no.such.host.invalid"),
        (&["call", "Text", "Upper", "1", "--url", "http://127.0.0.1:80"], 2, "unknown scheme `http`"),
        (&["call", "Text", "Upper", "1", "--url", "nsps://127.0.0.1"], 2, "port"),
        (&["call", "Text", "Upper", "1", "--timeout", "soon"], 2, "is no time"),
        (&["call", "Text", "Upper", "1", "--pin", "AB:CD"], 2, "SHA256:"),
        (&["call", "Text", "Upper", "1", "--ca", path(&missing)], 4, "nowhere"),
        (&["call", "Text", "Upper", "1", "--home", path(&home)], 2, "contexts.toml cannot be read"),
        (&["call", "Text", "Upper", "1", "--token-file", path(&missing)], 1, "nowhere"),
        (&["send", "Text", "{bad"], 2, "not JSON"),
        (&["send", "Nowhere", "1"], 7, "there is no service `Nowhere`"),
        (&["listen", "Nowhere"], 7, "there is no service `Nowhere`"),
        (&["services", "Nowhere"], 7, "there is no service `Nowhere`"),
        (&["ping", "--function", "x"], 2, "is not SERVICE.FUNCTION"),
        (&["bench", "Text", "Nothing"], 7, "no_function"),
        (&["login"], 2, "as whom"),
        (&["login", "admin", "--password-file", path(&missing)], 1, "nowhere"),
        (&["user", "show", "x"], 5, "nsp login"),
        (&["trust", "add", "nowhere"], 2, "is no URL of a daemon"),
        (&["trust", "add", "nsp://127.0.0.1:1", "--key", "x"], 2, "SHA256:"),
        (&["doctor", "x"], 2, "is no URL of a daemon"),
        (&["daemon", "--listen", "ftp://127.0.0.1:0", "--data", path(&missing)], 2, "unknown scheme `ftp`"),
        (&["daemon", "--function", "Hello", "--data", path(&missing)], 2, "write SERVICE.FUNCTION=FILE"),
        (&["daemon", "--function", "A.b=/no/such.py", "--data", path(&missing)], 2, "/no/such.py"),
        (&["daemon", "--config", "/no/such.toml", "--data", path(&missing)], 1, "/no/such.toml"),
        (&["daemon", "--data", "/dev/null/x"], 1, "/dev/null/x"),
        (&["daemon", "--listen", &ws, "--data", path(&missing)], 3, "Address already in use"),
    ] {
        let (code, _, error) = daemon.run(args);
        assert_eq!(code, status, "{args:?}: {error}");
        assert!(error.contains(text), "{args:?}: {error}");
        // The log of a daemon that was about to start, and the usage of clap, come on further lines.
        let lines = error.lines().filter(|line| line.starts_with("nsp: ")).count();
        assert!(lines == 1 || error.starts_with("error: "), "{args:?}: {error}");
    }
    let (status, _, error) = daemon.run(&["services", "--url", &as_frames, "--timeout", "2s"]);
    assert!([8, 9, 10].contains(&status) && error.lines().count() == 1, "{status} {error}");
    assert_eq!(daemon.run(&["call", "Text", "Upper", "\"x\""]).1, "\"X\"", "the daemon goes on");
}

#[test]
fn argument_over_the_limit_is_refused() {
    let function = format!("Text.Upper={}", path(&example("functions/upper.js")));
    let daemon = Daemon::start(&["--function", &function]);
    let (status, _, error) =
        daemon.feed(&["call", "Text", "Upper", "-"], &format!("\"{}\"", "x".repeat(2 << 20)));
    assert!(status == 10 && error.lines().count() == 1, "{status} {error}");
    assert_eq!(daemon.run(&["call", "Text", "Upper", "\"x\""]).1, "\"X\"", "the daemon goes on");
}

#[test]
fn peer_that_goes_and_peer_that_is_silent_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nsp://{}", listener.local_addr().unwrap());
    let home = tempfile::tempdir().unwrap();
    let call = |more: &[&str]| {
        let args = [&["call", "A", "b", "--url", &url, "--home", path(home.path())], more].concat();
        said(&nsp().args(args).output().unwrap())
    };
    let peer = std::thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        let mut byte = [0];
        first.read_exact(&mut byte).unwrap();
        drop(first);
        let (second, _) = listener.accept().unwrap();
        let (mut third, _) = listener.accept().unwrap();
        third.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        (second, third)
    });
    assert_eq!(call(&[]).0, 9);
    let (status, _, error) = call(&["--timeout", "200ms"]);
    assert_eq!(status, 8, "{error}");
    let (status, _, error) = call(&[]);
    assert!(status == 10 && error.contains("HTTP"), "{status} {error}");
    drop(peer.join().unwrap());
}

#[test]
fn full_disk_is_said() {
    let daemon = Daemon::start(&[]);
    daemon.login("admin", PASSWORD);
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for args in
        [&["services"][..], &["whoami"], &["token", "ls"], &["completions", "bash"], &["daemon", "check"]]
    {
        let output = daemon.command(args).stdout(full()).stderr(Stdio::piped()).output().unwrap();
        let (status, _, error) = said(&output);
        assert_eq!(status, 1, "{args:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains("standard output: No space left on device"), "{args:?}: {error}");
    }
    let (status, _, error) =
        daemon.run(&["call", "NoShell", "sendC", "{\"c\":\"help\"}", "--out", "/dev/full"]);
    assert!(status == 1 && error.contains("/dev/full: No space left"), "{status} {error}");
}

#[test]
fn daemon_whose_log_cannot_be_written_serves() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("nsp+unix:{}", path(&dir.path().join("socket")));
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut daemon = nsp()
        .args(["daemon", "--listen", &url, "--data", path(&dir.path().join("data"))])
        .stdout(Stdio::null())
        .stderr(full.try_clone().unwrap())
        .spawn()
        .unwrap();
    while !dir.path().join("socket").exists() {
        assert!(daemon.try_wait().unwrap().is_none(), "it has ended");
        std::thread::yield_now();
    }
    let run = |service: &str| {
        let args =
            ["call", service, "sendC", "{\"c\":\"echo x\"}", "--url", &url, "--home", path(dir.path())];
        nsp().args(args).stderr(full.try_clone().unwrap()).output().unwrap().status.code()
    };
    let begin = std::time::Instant::now();
    // The socket is there a moment before it is listened at.
    while run("NoShell") != Some(0) {
        assert!(begin.elapsed().as_secs() < 30, "it does not serve");
    }
    assert_eq!(run("Nowhere"), Some(7), "and who cannot be told why still has the status");
    assert!(
        std::process::Command::new("kill")
            .args(["-TERM", &daemon.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
}

#[test]
fn output_that_nobody_reads_ends_quietly() {
    let daemon = Daemon::start(&[]);
    let mut child = daemon
        .command(&["ping", "--count", "100000", "--interval", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("connect"), "{line}");
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!((child.wait().unwrap().code(), errors.as_str()), (Some(0), ""));
}

#[test]
fn completions_manual_and_help_are_there() {
    let run = |args: &[&str]| said(&nsp().args(args).output().unwrap());
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (status, script, _) = run(&["completions", shell]);
        assert!(status == 0 && script.contains("nsp"), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(&["man", path(dir.path())]).0, 0);
    assert!(fs::read_to_string(dir.path().join("nsp-daemon.1")).unwrap().contains("listening URL"));
    for command in [
        "daemon", "login", "call", "send", "listen", "services", "user", "token", "trust", "context", "ping",
        "bench", "top", "doctor", "shell",
    ] {
        let (status, help, _) = run(&[command, "--help"]);
        assert!(status == 0 && help.contains("Example"), "{command}: {help}");
    }
    assert!(run(&["--help"]).1.contains("Exit status: 0 done"));
    assert!(
        run(&["login", "--help"]).1.contains("in memory only"),
        "how long a keyring keeps a token is said"
    );
}
