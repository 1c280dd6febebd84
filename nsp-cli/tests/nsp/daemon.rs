//! How the daemon starts, reloads and ends.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use crate::support::{Beside, Daemon, PASSWORD, nsp, path, said};

/// The password that a first start shows.
fn shown_password(greeting: &str) -> Option<&str> {
    greeting.lines().find_map(|line| line.strip_prefix("user admin, password "))?.split(' ').next()
}

#[test]
fn first_start_makes_everything_and_prints_commands_that_work() {
    let daemon = Daemon::start(&["--first-start"]);
    let password = shown_password(&daemon.greeting).unwrap().to_owned();
    for line in daemon.greeting.lines() {
        let Some((_, command)) =
            line.split_once("call it: nsp ").or_else(|| line.split_once("log in:  nsp "))
        else {
            continue;
        };
        // Exactly as it is printed, by a shell.
        let output = Command::new("sh")
            .args(["-c", &format!("{} {command}", env!("CARGO_BIN_EXE_nsp"))])
            .env("NSP_HOME", daemon.dir.path().join("home"))
            .env("NSP_PASSWORD", &password)
            .output()
            .unwrap();
        assert_eq!(said(&output).0, 0, "{command}: {:?}", said(&output));
    }
    let (status, who, _) = daemon.run(&["whoami"]);
    assert_eq!((status, who), (0, format!("admin (superuser) at {}", daemon.url())));
    for name in ["ca.key", "tls.key", "sp.key", "nsp.db"] {
        let mode = fs::metadata(daemon.file(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
    let key = daemon.greeting.lines().find(|line| line.starts_with("key SHA256:")).unwrap().to_owned();

    let again = Daemon::start_with(daemon.stop(), "", &["--first-start"], |_| {});
    assert_eq!(shown_password(&again.greeting), None, "it is shown once");
    assert!(again.greeting.contains(&key), "the key stays: {}", again.greeting);
}

#[test]
fn listeners_say_where_they_are_and_all_carriers_work() {
    let dir = tempfile::tempdir().unwrap();
    let unix = format!("nsp+unix:{}", path(&dir.path().join("socket")));
    let mut daemon = Daemon::start(&[
        "--listen",
        "nsps://127.0.0.1:0,nsp://127.0.0.1:0,ws://127.0.0.1:0",
        "--listen",
        "wss://127.0.0.1:0",
        "--listen",
        "noservice://127.0.0.1:0",
        "--listen",
        &unix,
        "--legacy-clients",
        "noservice://127.0.0.1:0",
    ]);
    let schemes: Vec<&str> = daemon.urls.iter().map(|url| url.split(':').next().unwrap()).collect();
    assert_eq!(schemes, ["nsps", "nsp", "ws", "wss", "noservice", "nsp+unix", "noservice"]);
    let warning = daemon.log_line("open to clients of the original");
    assert!(warning.contains("WARN") && warning.contains(&daemon.urls[6]), "{warning}");
    for url in &daemon.urls {
        assert!(!url.ends_with(":0"), "{url}");
        let (status, listed, error) = daemon.run(&["services", "--url", url, "--trust", "accept-new"]);
        assert_eq!((status, error.as_str()), (0, ""), "{url}");
        assert!(listed.contains("NoActivity") && listed.contains("NoShell"), "{listed}");
    }
}

#[test]
fn first_start_that_fails_does_not_swallow_the_password() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("nsps://{}", taken.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (status, _, error) =
        said(&nsp().args(["daemon", "--data", path(&data), "--listen", &taken]).output().unwrap());
    assert!(status == 3 && error.contains("Address already in use"), "{status} {error}");
    let daemon = Daemon::start_with(dir, "", &["--first-start"], |_| {});
    assert!(shown_password(&daemon.greeting).is_some(), "{}", daemon.greeting);
}

/// What a daemon answers to a browser that shows a page of this origin.
fn upgraded(url: &str, origin: &str) -> String {
    let host = url.strip_prefix("ws://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: {origin}\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn web_pages_get_in_only_where_they_are_named() {
    let closed = Daemon::start(&["--listen", "ws://127.0.0.1:0"]);
    assert_eq!(upgraded(closed.url(), "https://chat.example.org"), "HTTP/1.1 403");
    let open =
        Daemon::configured("origins = [\"https://chat.example.org\"]", &["--listen", "ws://127.0.0.1:0"]);
    assert_eq!(upgraded(open.url(), "https://chat.example.org"), "HTTP/1.1 101");
    assert_eq!(upgraded(open.url(), "https://evil.example.org"), "HTTP/1.1 403");
}

#[test]
fn one_folder_is_for_one_daemon() {
    let daemon = Daemon::start(&[]);
    let output = nsp()
        .args(["daemon", "--listen", "nsps://127.0.0.1:0", "--data", path(&daemon.dir.path().join("data"))])
        .output()
        .unwrap();
    let (status, _, error) = said(&output);
    assert_eq!(status, 2);
    assert!(error.contains("another daemon uses") && error.lines().count() == 1, "{error}");
}

#[test]
fn stop_gives_a_call_that_runs_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("slow.sh");
    fs::write(&script, "touch begun; while [ ! -e go ]; do sleep 0.02; done; echo '\"done\"'").unwrap();
    let mut daemon = Daemon::start(&["--function", &format!("Test.Slow={}", path(&script))]);
    let mut call = Beside::start(daemon.command(&["call", "Test", "Slow"]));
    while !dir.path().join("begun").exists() {
        std::thread::yield_now();
    }
    daemon.signal("-TERM");
    daemon.log_line("stopping");
    fs::write(dir.path().join("go"), "").unwrap();
    assert_eq!(call.line(), "\"done\"");
    let (status, rest) = daemon.end();
    assert_eq!(status, 0, "{rest}");
    assert!(rest.contains("nsp: 1 connections ended in peace"), "{rest}");
}

#[test]
fn grace_is_finite_and_the_summary_says_who_was_cut() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("stuck.sh");
    fs::write(&script, "touch begun; sleep 600").unwrap();
    let function = format!("Test.Stuck={}", path(&script));
    let daemon = Daemon::start(&["--function", &function, "--function-timeout", "5m", "--grace", "300ms"]);
    let _call = Beside::start(daemon.command(&["call", "Test", "Stuck"]));
    while !dir.path().join("begun").exists() {
        std::thread::yield_now();
    }
    daemon.signal("-TERM");
    let (status, rest) = daemon.end();
    assert_eq!(status, 11, "{rest}");
    assert!(rest.contains("1 had to be cut"), "{rest}");
}

#[test]
fn second_interrupt_ends_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("stuck.sh");
    fs::write(&script, "touch begun; sleep 600").unwrap();
    let function = format!("Test.Stuck={}", path(&script));
    let mut daemon = Daemon::start(&["--function", &function, "--function-timeout", "5m", "--grace", "5m"]);
    let _call = Beside::start(daemon.command(&["call", "Test", "Stuck"]));
    while !dir.path().join("begun").exists() {
        std::thread::yield_now();
    }
    daemon.signal("-INT");
    daemon.log_line("stopping");
    daemon.signal("-INT");
    assert_eq!(daemon.end().0, 130);
}

#[test]
fn hangup_reads_certificate_and_level_again() {
    let mut daemon = Daemon::configured("log = \"info\"", &[]);
    let before = fs::read(daemon.file("tls.pem")).unwrap();
    fs::write(
        daemon.file("nsp.toml"),
        "log = \"info,nsp::daemon=debug\"\n[tls]\nnames = [\"chat.example.org\"]\n",
    )
    .unwrap();
    daemon.signal("-HUP");
    daemon.log_line("reloaded");
    assert_ne!(fs::read(daemon.file("tls.pem")).unwrap(), before, "it has a name more");
    let (status, _, error) = daemon.run(&["services", "--sni", "chat.example.org"]);
    assert_eq!((status, error.as_str()), (0, ""), "new connections get it");
    assert!(daemon.log_line("\"DEBUG\"").contains("nsp::daemon"), "more is logged");
    fs::write(daemon.file("nsp.toml"), "log = 7\n").unwrap();
    daemon.signal("-HUP");
    let line = daemon.log_line("not reloaded");
    assert!(line.contains("nsp.toml:1: log: "), "{line}");
    assert_eq!(daemon.run(&["services"]).0, 0, "it goes on as before");
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("notify");
    let socket = UnixDatagram::bind(&name).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let daemon = Daemon::start_with(tempfile::tempdir().unwrap(), "", &[], |command| {
        command.env("NOTIFY_SOCKET", &name);
    });
    let received = || {
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    assert_eq!(received(), "READY=1");
    daemon.signal("-TERM");
    assert_eq!(received(), "STOPPING=1");
    assert_eq!(daemon.end().0, 0);
}

#[test]
fn metrics_count_what_happens() {
    let mut daemon = Daemon::start(&["--metrics", "127.0.0.1:0"]);
    let line = daemon.log_line("/metrics");
    let at = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    assert_eq!(daemon.run(&["services"]).0, 0);
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("\nnsp_calls_total 1\n"), "{text}");
    let output =
        nsp().args(["daemon", "check", "--metrics", "0.0.0.0:0", "--data", path(daemon.dir.path())]).output();
    let (status, _, error) = said(&output.unwrap());
    assert!(status == 2 && error.contains("not a loopback address"), "{status} {error}");
}

#[test]
fn check_starts_nothing_and_names_line_and_field() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("nsp.toml");
    let check = |text: &str, more: &[&str]| {
        fs::write(&config, text).unwrap();
        let data = dir.path().join("data");
        let args = [&["daemon", "check", "--config", path(&config), "--data", path(&data)], more].concat();
        said(&nsp().args(args).output().unwrap())
    };
    let (status, printed, _) = check("grace = \"3s\"\n[limits]\nmessage = \"2MiB\"\n", &[]);
    assert_eq!(status, 0);
    for line in ["listen     nsps://127.0.0.1:43580", "grace      3s", "limit      message = 2 MiB"] {
        assert!(printed.lines().any(|printed| printed == line), "{line}: {printed}");
    }
    let (status, printed, _) = check("", &["--json"]);
    let plan: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((status, &plan["limits"]["entities"]), (0, &serde_json::json!("64")));
    for (text, said) in [
        ("\n[limits]\nmessage = \"lots\"\n", "nsp.toml:3: limits.message: `lots` is no size"),
        (
            "[[function]]\nname = \"Hello\"\ncommand = \"x\"\n",
            "nsp.toml:2: function.name: `Hello` is not SERVICE.FUNCTION",
        ),
        ("[[function]]\nname = \"A.b\"\ncommand = \"nowhere.py\"\n", "nsp.toml:3: function.command: "),
        ("listen = [\"http://x\"]\n", "unknown scheme"),
        ("log = \"nsp=loud\"\n", "is no level of the log"),
        ("legacy_clients = [\"nsps://127.0.0.1:1\"]\n", "come by noservice:// or ws://"),
    ] {
        let (status, _, error) = check(text, &[]);
        assert_eq!(status, 2, "{text}: {error}");
        assert!(error.contains(said) && error.lines().count() == 1, "{text}: {error}");
    }
    assert!(!dir.path().join("data").exists(), "nothing was made");
}

#[test]
fn log_is_json_off_a_terminal_and_has_no_password() {
    let daemon = Daemon::start(&[]);
    daemon.login("admin", PASSWORD);
    daemon.signal("-TERM");
    let (status, rest) = daemon.end();
    assert_eq!(status, 0);
    let lines: Vec<&str> = rest.lines().filter(|line| line.starts_with('{')).collect();
    assert!(lines.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{rest}");
    assert!(lines.iter().any(|line| line.contains("\"event\":\"login\"")), "{rest}");
    assert!(lines.iter().any(|line| line.contains("connections_per_address = 256")), "its limits: {rest}");
    assert!(!rest.contains(PASSWORD));
}

#[test]
fn configuration_of_the_readme_is_one() {
    let readme = include_str!("../../README.md");
    let text = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("nsp.toml");
    fs::write(&config, text).unwrap();
    fs::write(dir.path().join("policy.toml"), "[roles.superuser]\ngrants = [{ may = \"*\", on = \"*\" }]\n")
        .unwrap();
    fs::write(dir.path().join("hello.py"), "").unwrap();
    let output =
        nsp().args(["daemon", "check", "--config", path(&config), "--data", path(dir.path())]).output();
    let (status, printed, error) = said(&output.unwrap());
    assert_eq!((status, error.as_str()), (0, ""));
    assert!(printed.contains("function   Chat.Hello") && printed.contains("grace      10s"), "{printed}");
}
