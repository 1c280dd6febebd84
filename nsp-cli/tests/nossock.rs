//! The program `nossock`, run as its users run it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

fn nossock() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nossock"));
    command.env_clear().stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

fn run(args: &[&str]) -> Output {
    nossock().args(args).output().unwrap()
}

/// Its status, standard output and standard error.
fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// A program that listens; killed when the test ends before it.
struct Listening {
    child: Child,
    url: String,
    errors: BufReader<std::process::ChildStderr>,
}

impl Listening {
    fn start(args: &[&str]) -> Self {
        let mut child = nossock().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        let url = line.strip_prefix("listening ").unwrap_or_else(|| panic!("the first line is {line:?}"));
        Self { url: url.trim_end().to_owned(), child, errors }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Waits for it to end; gives its status, standard output and the rest of standard error.
    fn end(mut self) -> (i32, String, String) {
        let mut output = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        let mut errors = String::new();
        self.errors.read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap().code().unwrap(), output, errors)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn certs() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (status, listed, _) = said(&run(&["cert", "new", path(dir.path())]));
    assert_eq!((status, listed.lines().count()), (0, 3));
    dir
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn file(dir: &TempDir, name: &str) -> String {
    path(&dir.path().join(name)).to_owned()
}

#[test]
fn echo_answers_requests_and_drains_on_sigterm() {
    let server = Listening::start(&["serve", "tcp://127.0.0.1:0", "--echo"]);
    for body in ["null", "[1,{\"a\":\"é\"}]", "\"text\"", "-0.5"] {
        assert_eq!(said(&run(&["request", &server.url, "any", body])), (0, body.to_owned(), String::new()));
    }
    assert_eq!(said(&run(&["request", &server.url, "any"])).1, "null");
    assert_eq!(said(&run(&["request", &server.url, "any", "not json", "--text"])).1, "\"not json\"");
    assert_eq!(run(&["request", &server.url, "any", "ab", "--raw"]).stdout, b"ab");
    server.signal("-TERM");
    assert_eq!(server.end().0, 0);
}

#[test]
fn commands_answer_and_their_failures_are_errors() {
    let server = Listening::start(&[
        "serve",
        "127.0.0.1:0",
        "--exec",
        "upper",
        "tr a-z A-Z",
        "--exec",
        "fail",
        "echo first >&2; echo 'disk on fire' >&2; exit 7",
        "--exec",
        "sleep",
        "sleep 60",
        "--exec-timeout",
        "200ms",
    ]);
    assert_eq!(said(&run(&["request", &server.url, "upper", "\"abc\""])).1, "\"ABC\"");
    assert_eq!(run(&["request", &server.url, "upper", "abc", "--raw"]).stdout, b"ABC");
    let (status, printed, error) = said(&run(&["request", &server.url, "fail", "--json"]));
    let line: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(line["error"], json!({"code": "exit", "status": 7, "message": "disk on fire"}));
    assert_eq!((status, error.as_str()), (1, "nossock: disk on fire (exit)"));
    let (status, _, error) = said(&run(&["request", &server.url, "sleep"]));
    assert_eq!((status, error.as_str()), (1, "nossock: the command ran longer than 200ms (timeout)"));
    let (status, _, error) = said(&run(&["request", &server.url, "other"]));
    assert_eq!((status, error.as_str()), (7, "nossock: nobody handles `other` here (no_handler)"));
}

#[test]
fn listen_prints_one_json_line_a_frame_and_ends_after_count() {
    let listener = Listening::start(&["listen", "tcp://127.0.0.1:0", "--json", "--count", "3"]);
    assert_eq!(said(&run(&["send", &listener.url, "hello", "{\"b\":1,\"a\":2}"])).0, 0);
    assert_eq!(said(&run(&["send", &listener.url, "bytes", "abc", "--raw"])).0, 0);
    assert_eq!(said(&run(&["request", &listener.url, "question", "7"])).0, 7);
    let (status, output, _) = listener.end();
    let lines: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(status, 0);
    assert!(lines[0]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(output.contains(r#""body":{"b":1,"a":2}"#), "the body is printed as it came: {output}");
    assert_eq!(
        (&lines[1]["kind"], &lines[1]["size"], &lines[1]["body_b64"]),
        (&json!("raw"), &json!(3), &json!("YWJj"))
    );
    assert_eq!((&lines[2]["name"], &lines[2]["request"]), (&json!("question"), &json!(true)));
}

#[test]
fn listen_ends_by_silence_and_by_time() {
    for flag in ["--idle", "--max-time"] {
        assert_eq!(Listening::start(&["listen", "tcp://127.0.0.1:0", flag, "50ms"]).end().0, 0);
    }
}

#[test]
fn names_and_bodies_cannot_command_the_terminal() {
    let listener = Listening::start(&["listen", "tcp://127.0.0.1:0", "--count", "1"]);
    assert_eq!(said(&run(&["send", &listener.url, "a\u{1b}[2J", "\"b\u{9b}31m\"",])).0, 0);
    let output = listener.end().1;
    assert!(
        output.contains("a\\u{1b}[2J") && !output.contains('\u{1b}') && !output.contains('\u{9b}'),
        "{output:?}"
    );
}

#[test]
fn file_arrives_whole_over_tls_with_client_certificates() {
    let certs = certs();
    let work = tempfile::tempdir().unwrap();
    let saved = work.path().join("saved");
    let content: Vec<u8> =
        (0..5 * 1024 * 1024 + 13_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let sent = work.path().join("photo.png");
    fs::write(&sent, &content).unwrap();
    let (ca, cert, key) = (file(&certs, "ca.pem"), file(&certs, "server.pem"), file(&certs, "server.key"));
    let listener = Listening::start(&[
        "listen",
        "tls://127.0.0.1:0",
        "--cert",
        &cert,
        "--key",
        &key,
        "--client-ca",
        &ca,
        "--require-client-cert",
        "--save",
        path(&saved),
        "--json",
        "--count",
        "3",
    ]);
    let (client, client_key) = (file(&certs, "client.pem"), file(&certs, "client.key"));
    let at = format!("@{}", path(&sent));
    let tls = ["--ca", &ca, "--cert", &client, "--key", &client_key];
    let send = |name: &str| {
        let args = [&["send", &listener.url, name, &at, "--raw", "--sha256"][..], &tls].concat();
        said(&run(&args))
    };
    let (status, printed, error) = send("photo.png");
    assert_eq!((status, error.as_str()), (0, ""));
    assert_eq!(send("../../photo.png").0, 0);
    let small = [&["send", &listener.url, ".hidden", "abc", "--raw"][..], &tls].concat();
    assert_eq!(said(&run(&small)).0, 0);
    let (status, output, errors) = listener.end();
    assert_eq!((status, errors.as_str()), (0, ""));
    let lines: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(printed.split(' ').next().unwrap(), lines[0]["sha256"].as_str().unwrap());
    let mut names: Vec<_> = fs::read_dir(&saved).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(
        names,
        ["hidden", "photo.1.png", "photo.png"],
        "nothing partial, nothing outside, nothing written over"
    );
    for name in ["photo.png", "photo.1.png"] {
        assert!(fs::read(saved.join(name)).unwrap() == content, "{name} differs");
    }
}

#[test]
fn file_that_is_sent_to_an_echo_does_not_block() {
    let server = Listening::start(&["serve", "tcp://127.0.0.1:0", "--echo"]);
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("f"), vec![7; 8 * 1024 * 1024]).unwrap();
    let (status, _, error) =
        said(&run(&["send", &server.url, "f", &format!("@{}", file(&work, "f")), "--raw"]));
    assert_eq!((status, error.as_str()), (0, ""));
}

#[test]
fn trust_is_asked_for_and_failures_have_their_status() {
    let certs = certs();
    let other = self::certs();
    let (ca, cert, key) = (file(&certs, "ca.pem"), file(&certs, "server.pem"), file(&certs, "server.key"));
    let server = Listening::start(&[
        "serve",
        "tls://127.0.0.1:0",
        "--cert",
        &cert,
        "--key",
        &key,
        "--client-ca",
        &ca,
        "--require-client-cert",
        "--echo",
    ]);
    let ask = |flags: &[&str]| said(&run(&[&["request", &server.url, "x", "1"], flags].concat()));
    let (client, client_key) = (file(&certs, "client.pem"), file(&certs, "client.key"));
    assert_eq!(ask(&["--ca", &ca, "--cert", &client, "--key", &client_key]).1, "1");
    let (status, _, error) = ask(&["--ca", &file(&other, "ca.pem")]);
    assert_eq!(status, 4);
    assert!(error.contains("issued by nobody trusted here"), "{error}");
    let (status, _, error) = ask(&["--ca", &ca]);
    assert_eq!(status, 4);
    assert!(error.contains("requires a client certificate"), "{error}");
    let (status, _, error) =
        ask(&["--ca", &ca, "--sni", "example.org", "--cert", &client, "--key", &client_key]);
    assert_eq!(status, 4);
    assert!(
        error.contains("is for") && error.contains("localhost") && error.contains("example.org"),
        "{error}"
    );
    let (status, _, error) = ask(&["--insecure", "--cert", &client, "--key", &client_key]);
    assert_eq!(status, 0);
    assert!(error.starts_with("nossock: warning: --insecure accepts any certificate"), "{error}");
}

#[test]
fn certificate_for_one_run_can_be_pinned() {
    let mut server = Listening::start(&["serve", "tls://127.0.0.1:0", "--echo"]);
    let mut note = String::new();
    server.errors.read_line(&mut note).unwrap();
    let pin = note.trim_end().rsplit(' ').next().unwrap();
    assert_eq!(said(&run(&["request", &server.url, "x", "1", "--pin", pin])).1, "1");
    let wrong = format!("{}{}", if pin.starts_with('A') { "B" } else { "A" }, &pin[1..]);
    assert_eq!(said(&run(&["request", &server.url, "x", "1", "--pin", &wrong])).0, 4);
    let (status, shown, _) = said(&run(&["cert", "show", &server.url, "--json"]));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((status, shown["sha256"].as_str().unwrap()), (0, pin));
}

#[test]
fn bad_input_has_one_line_and_its_status() {
    let server = Listening::start(&["serve", "tcp://127.0.0.1:0", "--echo"]);
    let url = server.url.clone();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let tls = url.replace("tcp:", "tls:");
    for (args, status, text) in [
        (&["request", &closed, "x"][..], 3, "Connection refused"),
        (&["request", "http://127.0.0.1:80", "x"], 2, "unknown scheme `http`"),
        (&["request", "tcp://127.0.0.1", "x"], 2, "port"),
        (&["send", &url, "x", "{bad"], 2, "the body is not JSON"),
        (&["send", &url, "x", "@/no/such/file"], 1, "/no/such/file"),
        (&["send", &url, &"n".repeat(256), "1"], 2, "the name is 256 bytes long"),
        (&["request", &tls, "x", "1", "--insecure"], 4, "may not speak TLS"),
        (&["request", &url, "x", "\"0123456789\"", "--max-body", "5"], 10, "more than 5 bytes"),
        (&["cert", "show", "/no/such/file"], 1, "/no/such/file"),
        (&["serve", &url, "--echo"], 3, "cannot listen"),
        (&["serve", "tcp://127.0.0.1:0"], 2, "nothing to serve"),
        (&["listen", "tcp://127.0.0.1:0", "--idle", "soon"], 2, "is no time"),
        (&["bench", &closed], 3, "Connection refused"),
    ] {
        let (code, _, error) = said(&run(args));
        assert_eq!(code, status, "{args:?}: {error}");
        assert!(error.contains(text), "{args:?}: {error}");
    }
    assert_eq!(said(&run(&["request", &url, "x", "1"])).0, 0, "the server goes on");
}

#[test]
fn every_command_that_connects_says_that_nobody_is_there_or_not_trusted() {
    let certs = certs();
    let (cert, key) = (file(&certs, "server.pem"), file(&certs, "server.key"));
    let server = Listening::start(&["serve", "tls://127.0.0.1:0", "--cert", &cert, "--key", &key, "--echo"]);
    let one_line = |args: &[&str], status: i32, text: &str| {
        let (code, printed, error) = said(&run(args));
        assert_eq!(code, status, "{args:?}: {printed} {error}");
        assert!(error.starts_with("nossock: ") && error.lines().count() == 1, "{args:?}: {error}");
        assert!(error.contains(text), "{args:?}: {error}");
    };
    for command in ["send", "request", "bench"] {
        let args = |url| if command == "bench" { vec![command, url] } else { vec![command, url, "x", "1"] };
        one_line(&args("tcp://127.0.0.1:1"), 3, "Connection refused");
        one_line(&args(&server.url), 4, "issued by nobody trusted here");
    }
    one_line(&["cert", "show", "tls://127.0.0.1:1"], 3, "Connection refused");
    let listening = Listening::start(&["listen", "tcp://127.0.0.1:0"]);
    one_line(&["bench", &listening.url], 7, "no_handler");
    for command in ["send", "request"] {
        one_line(&[command, &listening.url, "x", "{bad"], 2, "the body is not JSON");
    }
}

#[test]
fn full_disk_is_said_by_every_command_that_prints_or_writes() {
    let certs = certs();
    let server = Listening::start(&["serve", "tcp://127.0.0.1:0", "--echo"]);
    let recorded = certs.path().join("recorded");
    fs::write(&recorded, b"j\x05hello\0\0\0\x07\"world\"").unwrap();
    let new = certs.path().join("new");
    for args in [
        &["request", &server.url, "x", "1"][..],
        &["request", &server.url, "x", "1", "--json"],
        &["bench", &server.url, "--duration", "10ms"],
        &["send", &server.url, "x", "1", "--sha256"],
        &["decode", path(&recorded)],
        &["cert", "show", &file(&certs, "ca.pem")],
        &["cert", "new", path(&new)],
        &["completions", "bash"],
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let (status, _, error) =
            said(&nossock().args(args).stdout(full).stderr(Stdio::piped()).output().unwrap());
        assert_eq!(status, 1, "{args:?}: {error}");
        assert_eq!(error, "nossock: standard output: No space left on device (os error 28)", "{args:?}");
    }
    // A file that cannot be kept is said, and whoever listens goes on.
    let saved = certs.path().join("saved");
    let mut listener =
        Listening::start(&["listen", "tcp://127.0.0.1:0", "--save", path(&saved), "--count", "1"]);
    fs::remove_dir(&saved).unwrap();
    assert_eq!(said(&run(&["send", &listener.url, "lost", "abc", "--raw"])).0, 0);
    let mut error = String::new();
    listener.errors.read_line(&mut error).unwrap();
    assert!(error.starts_with("nossock: ") && error.contains("No such file"), "{error}");
    fs::create_dir(&saved).unwrap();
    assert_eq!(said(&run(&["send", &listener.url, "kept", "abc", "--raw"])).0, 0);
    assert_eq!(listener.end().0, 0);
    assert_eq!(fs::read(saved.join("kept")).unwrap(), b"abc");
}

#[test]
fn peer_that_goes_and_peer_that_is_silent_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = listener.local_addr().unwrap().to_string();
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
    assert_eq!(said(&run(&["request", &url, "x", "1"])).0, 9);
    let (status, _, error) = said(&run(&["request", &url, "x", "1", "--timeout", "100ms"]));
    assert_eq!((status, error.as_str()), (8, "nossock: `x` got no answer within 100ms"));
    let (status, _, error) = said(&run(&["request", &url, "x", "1"]));
    assert_eq!(status, 10);
    assert!(error.contains("looks like HTTP"), "{error}");
    drop(peer.join().unwrap());
}

#[test]
fn decode_shows_offsets_and_the_byte_where_it_breaks() {
    let decode = |bytes: &[u8]| {
        let mut child = nossock()
            .arg("decode")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        said(&child.wait_with_output().unwrap())
    };
    let good = b"j\x05hello\0\0\0\x07\"world\"b\x01x\0\0\0\x02abj\x01y\0\0\0\x01{c\0\0\0\0\x0a{\"ping\":7}";
    let (status, output, _) = decode(good);
    let lines: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let offsets: Vec<u64> = lines.iter().map(|line| line["offset"].as_u64().unwrap()).collect();
    assert_eq!((status, offsets.as_slice()), (0, &[0, 18, 27, 35][..]));
    assert_eq!((&lines[0]["body"], &lines[1]["body_b64"]), (&json!("world"), &json!("YWI=")));
    assert!(lines[2]["error"].as_str().unwrap().starts_with("the body is not JSON"));
    assert_eq!((&lines[3]["kind"], &lines[3]["body"]["ping"]), (&json!("control"), &json!(7)));
    let (status, output, error) = decode(b"b\x01x\0\0\0\x02abXYZ");
    assert_eq!((status, output.lines().count()), (10, 1));
    assert_eq!(error, "nossock: at byte 9: the peer sent 0x58 where a frame begins");
    let (status, _, error) = decode(b"b\x01x\0\0\0\x02a");
    assert_eq!(status, 10);
    assert_eq!(
        error,
        "nossock: the input ends at byte 8, in the frame `x`, 1 bytes before its end; the frame begins at byte 0"
    );
}

#[test]
fn certificates_are_not_written_over_and_keys_are_private() {
    let certs = certs();
    let (status, _, error) = said(&run(&["cert", "new", path(certs.path())]));
    assert_eq!(status, 2);
    assert!(error.contains("is there already"), "{error}");
    #[cfg(unix)]
    for key in ["ca.key", "server.key", "client.key"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(certs.path().join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let (status, shown, _) = said(&run(&["cert", "show", &file(&certs, "server.pem"), "--json"]));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((status, &shown["ca"]), (0, &json!(false)));
    assert_eq!(shown["names"], json!(["localhost", "127.0.0.1", "::1"]));
    assert_eq!(said(&run(&["cert", "new", path(certs.path()), "--force"])).0, 0);
}

#[test]
fn environment_stands_in_for_flags_and_bench_reports() {
    let server = Listening::start(&["serve", "tcp://127.0.0.1:0", "--echo"]);
    let output = nossock()
        .args(["bench", "--duration", "100ms", "--inflight", "4"])
        .env("NOSSOCK_URL", &server.url)
        .env("NOSSOCK_JSON", "true")
        .output()
        .unwrap();
    let (status, output, error) = said(&output);
    assert_eq!((status, error.as_str()), (0, ""));
    let line: Value = serde_json::from_str(&output).unwrap();
    assert!(line["requests"].as_u64().unwrap() > 4 && line["p50_us"].is_u64(), "{line}");
}

#[test]
fn output_that_nobody_reads_ends_quietly() {
    let server = Listening::start(&["serve", "tcp://127.0.0.1:0", "--echo"]);
    let mut child = nossock()
        .args(["request", &server.url, "x", "1", "--repeat", "100000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "1\n");
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!((child.wait().unwrap().code(), errors.as_str()), (Some(0), ""));
}

#[test]
fn completions_manual_and_help_are_there() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (status, script, _) = said(&run(&["completions", shell]));
        assert!(status == 0 && script.contains("nossock"), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(said(&run(&["man", path(dir.path())])).0, 0);
    assert!(fs::read_to_string(dir.path().join("nossock-send.1")).unwrap().contains("NAME#ID@OFFSET/TOTAL"));
    for command in ["listen", "send", "request", "serve", "bench", "decode"] {
        let (status, help, _) = said(&run(&[command, "--help"]));
        assert!(status == 0 && help.contains("Example"), "{command}");
    }
    assert!(said(&run(&["--help"])).1.contains("Exit status: 0 done"));
}
