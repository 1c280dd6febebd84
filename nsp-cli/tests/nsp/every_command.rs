//! Each kind of bad input, to every command that can meet it: one clear line, and the status that is documented.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Daemon, PASSWORD, nsp, path, said};

/// Every command that talks to a daemon. `URL` stands for the daemon where a command takes it by itself.
const CONNECTING: [&[&str]; 29] = [
    &["login", "admin", "--password-file", "FILE"],
    &["logout", "--token-file", "FILE"],
    &["whoami"],
    &["call", "NoShell", "sendC"],
    &["send", "NoShell", "1"],
    &["listen", "NoShell"],
    &["services"],
    &["services", "NoShell"],
    &["user", "ls"],
    &["user", "show", "alice"],
    &["user", "add", "alice"],
    &["user", "passwd", "alice"],
    &["user", "passwd", "--new-password-file", "FILE"],
    &["user", "privilege", "alice", "1"],
    &["user", "roles", "alice", "editor"],
    &["user", "lock", "alice"],
    &["user", "unlock", "alice"],
    &["user", "rm", "alice"],
    &["user", "import", "FILE"],
    &["token", "ls"],
    &["token", "revoke", "0000000000000000"],
    &["token", "revoke", "--all", "--of", "alice"],
    &["trust", "add", "URL"],
    &["ping"],
    &["bench", "--duration", "10ms"],
    &["top"],
    &["top", "--kick", "1"],
    &["doctor"],
    &["shell"],
];

/// Commands that need no daemon, or are one.
const ALONE: [&str; 5] = ["daemon", "context", "completions", "man", "help"];

/// What a table of commands is run with.
struct Bench<'a> {
    url: &'a str,
    home: &'a Path,
    file: &'a Path,
}

impl Bench<'_> {
    fn command(&self, args: &[&str], more: &[&str]) -> Command {
        let args = args.iter().map(|arg| match *arg {
            "URL" => self.url,
            "FILE" => path(self.file),
            arg => arg,
        });
        let mut command = nsp();
        command.args(args).args(more).env("NSP_URL", self.url).env("NSP_HOME", self.home);
        if !more.contains(&"--user") {
            command.env("NSP_USER", "admin");
        }
        command
    }

    /// Runs every command, and fails unless each ends with that status and says one line with that in it.
    #[track_caller]
    fn all_end(&self, commands: &[&[&str]], more: &[&str], status: i32, text: &str) {
        for args in commands {
            let (code, printed, error) = said(&self.command(args, more).output().unwrap());
            assert_eq!(code, status, "{args:?}: {printed} {error}");
            assert!(error.starts_with("nsp: ") && error.lines().count() == 1, "{args:?}: {error}");
            assert!(error.contains(text), "{args:?}: {error}");
        }
    }
}

#[test]
fn tables_name_every_command() {
    let (_, help, _) = said(&nsp().arg("--help").output().unwrap());
    let list = help.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    let there: BTreeSet<&str> = list
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let named = CONNECTING.iter().map(|args| args[0]).chain(ALONE).collect();
    assert_eq!(there, named, "{help}");
}

#[test]
fn no_daemon_is_said_by_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "a text\n").unwrap();
    for url in ["nsps://127.0.0.1:1", "ws://127.0.0.1:1"] {
        let bench = Bench { url, home: dir.path(), file: &file };
        bench.all_end(&CONNECTING, &[], 3, "Connection refused");
    }
    let bench = Bench { url: "nsp+unix:/no/such/socket", home: dir.path(), file: &file };
    bench.all_end(&CONNECTING, &[], 3, "No such file");
}

#[test]
fn peer_that_is_silent_and_peer_of_another_kind_are_told_by_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "a text\n").unwrap();
    // Connections are made, and nobody takes them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nsps://{}", silent.local_addr().unwrap());
    let bench = Bench { url: &url, home: dir.path(), file: &file };
    bench.all_end(&CONNECTING, &["--timeout", "50ms"], 8, "50ms");

    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nsp://{}", web.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in web.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
            open.push(stream);
        }
    });
    let bench = Bench { url: &url, home: dir.path(), file: &file };
    bench.all_end(&CONNECTING, &[], 10, "HTTP");
}

#[test]
fn stranger_and_changed_key_are_refused_by_every_command() {
    let daemon = Daemon::start(&[]);
    let (home, file) = (daemon.dir.path().join("stranger"), daemon.dir.path().join("admin.password"));
    fs::create_dir(&home).unwrap();
    let bench = Bench { url: daemon.url(), home: &home, file: &file };
    bench.all_end(&CONNECTING, &[], 4, "nsp trust add");
    assert!(!home.join("known_daemons").exists(), "nothing is remembered");

    let host = daemon.url().strip_prefix("nsps://").unwrap();
    let known = format!("{host} tls SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\n");
    fs::write(home.join("known_daemons"), known).unwrap();
    bench.all_end(&CONNECTING, &[], 4, "has changed");
    bench.all_end(&CONNECTING, &["--trust", "accept-new"], 4, "has changed");
}

#[test]
fn wrong_password_is_refused_by_every_command_that_needs_one() {
    let daemon = Daemon::start(&[]);
    let (home, file) = (daemon.dir.path().join("home"), daemon.dir.path().join("wrong"));
    fs::write(&file, "not the password at all\n").unwrap();
    let bench = Bench { url: daemon.url(), home: &home, file: &file };
    let ca = daemon.file("ca.pem");
    let needing: Vec<&[&str]> = CONNECTING
        .into_iter()
        .filter(|args| ["login", "user", "token", "top"].contains(&args[0]))
        .filter(|args| !args.contains(&"import"))
        .collect();
    for args in &needing {
        let more: &[&str] =
            if args.contains(&"--password-file") { &[] } else { &["--password-file", path(&file)] };
        let mut command = bench.command(args, more);
        let (status, printed, error) = said(&command.env("NSP_CA", &ca).output().unwrap());
        assert_eq!(status, 5, "{args:?}: {printed} {error}");
        assert!(error.starts_with("nsp: ") && error.lines().count() == 1, "{args:?}: {error}");
    }
    let (status, _, error) = daemon.feed(&["shell", "--password-file", path(&file)], "login admin\n");
    assert!(status == 5 && error.lines().count() == 1, "{status} {error}");
}

#[test]
fn unknown_service_and_wrong_json_are_told_by_every_command_that_takes_them() {
    let daemon = Daemon::start(&[]);
    let one_line = |args: &[&str], status: i32, text: &str| {
        let (code, printed, error) = daemon.run(args);
        assert_eq!(code, status, "{args:?}: {printed} {error}");
        assert!(error.lines().count() == 1 && error.contains(text), "{args:?}: {error}");
    };
    for args in [
        &["call", "Nowhere", "f"][..],
        &["send", "Nowhere", "1"],
        &["listen", "Nowhere"],
        &["services", "Nowhere"],
        &["ping", "--function", "Nowhere.f"],
        &["bench", "Nowhere", "f"],
        &["shell", "Nowhere"],
    ] {
        one_line(args, 7, "Nowhere");
    }
    for args in [
        &["call", "NoShell", "sendC", "{\"c\":"][..],
        &["send", "NoShell", "nonsense"],
        &["bench", "NoShell", "sendC", "[1,"],
    ] {
        one_line(args, 2, "is not JSON");
    }
    for (line, status, text) in [
        ("use Nowhere", 7, "Nowhere"),
        ("call Nowhere f", 7, "Nowhere"),
        ("send Nowhere 1", 7, "Nowhere"),
        ("watch Nowhere", 7, "Nowhere"),
        ("services Nowhere", 7, "Nowhere"),
        ("call NoShell sendC {", 2, "is not JSON"),
        ("send NoShell {", 2, "is not JSON"),
    ] {
        let (code, _, error) = daemon.feed(&["shell"], line);
        assert_eq!(code, status, "{line}: {error}");
        assert!(error.lines().count() == 1 && error.contains(text), "{line}: {error}");
    }
}

#[test]
fn output_that_is_full_is_told_by_every_command_that_prints() {
    let daemon = Daemon::start(&[]);
    let key = daemon.greeting.lines().find_map(|line| line.strip_prefix("key ")).unwrap();
    assert_eq!(daemon.run(&["trust", "add", "nsps://localhost:1", "--key", key]).0, 0);
    daemon.login("admin", PASSWORD);
    for args in [
        &["services"][..],
        &["services", "NoShell"],
        &["services", "--json"],
        &["whoami"],
        &["call", "NoShell", "sendC", "{\"c\":\"help\"}"],
        &["call", "NoShell", "sendC", "{\"c\":\"help\"}", "--json"],
        &["listen", "NoShell", "--count", "1"],
        &["user", "ls"],
        &["user", "show", "admin"],
        &["user", "add", "alice"],
        &["user", "passwd", "alice"],
        &["user", "privilege", "alice", "2"],
        &["user", "roles", "alice"],
        &["user", "lock", "alice"],
        &["user", "unlock", "alice"],
        &["user", "rm", "alice"],
        &["token", "ls"],
        &["token", "revoke", "--all", "--of", "nobody1"],
        &["ping", "--count", "1"],
        &["bench", "--duration", "10ms"],
        &["top", "--once"],
        &["doctor"],
        &["trust", "ls"],
        &["trust", "add", daemon.url(), "--yes"],
        &["context", "ls"],
        &["completions", "bash"],
        &["daemon", "check"],
        &["login", "admin"],
        &["logout"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = daemon.command(args);
        let output = command.env("NSP_PASSWORD", PASSWORD).stdout(full).stderr(Stdio::piped()).output();
        let (status, _, error) = said(&output.unwrap());
        if args.contains(&"nobody1") {
            // Nobody of that name: that comes first, and nothing is printed.
            assert_eq!(status, 1, "{error}");
            continue;
        }
        assert_eq!(status, 1, "{args:?}: {error}");
        let lines: Vec<&str> = error.lines().filter(|line| line.starts_with("nsp: ")).collect();
        assert_eq!(lines, ["nsp: standard output: No space left on device (os error 28)"], "{args:?}");
    }
}

/// Runs lines of a shell with a file system of a MiB at `$1`, of which `fill` takes what is left. `None` where a user may not make one.
fn with_small_disk(dir: &Path, lines: &str) -> Option<String> {
    let script = format!(
        "mount -t tmpfs -o size=1m tmpfs \"$1\" || exit 99\n\
         fill() {{ head -c 2000000 /dev/zero > \"$1/filler\" 2>/dev/null; }}\n\
         nsp() {{ '{}' \"$@\"; echo \"status $?\"; }}\n\
         set -- \"$1\"\n{lines}",
        env!("CARGO_BIN_EXE_nsp")
    );
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script, "sh", path(dir)]).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap()).env("NSP_HOME", dir);
    let output = command.stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {
            let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
            Some(text.concat())
        }
        refused => {
            eprintln!("skipped: no small disk can be made here: {refused:?}");
            None
        }
    }
}

#[test]
fn disk_that_is_full_is_told_by_every_command_that_writes() {
    let daemon = Daemon::start(&["--listen", "nsp://127.0.0.1:0"]);
    let small = tempfile::tempdir().unwrap();
    let (url, password) = (daemon.url(), daemon.dir.path().join("admin.password"));
    for (command, file) in [
        (format!("login admin --url {url} --password-file {}", path(&password)), "tokens.toml"),
        (format!("context add here {url}"), "contexts.toml"),
        (format!("call NoShell sendC '{{\"c\":\"help\"}}' --url {url} --out $1/out"), "out"),
        (
            "trust add nsps://localhost:1 --key SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"
                .to_owned(),
            "known_daemons",
        ),
        ("man $1/man".to_owned(), "man"),
        ("daemon --data $1/data --listen nsp://127.0.0.1:0".to_owned(), "data"),
    ] {
        let Some(said) = with_small_disk(small.path(), &format!("fill $1\nnsp {command} 2>&1")) else {
            return;
        };
        let lines: Vec<&str> = said.lines().collect();
        let [error, "status 1"] = lines[..] else { panic!("{command}: {said}") };
        assert!(error.starts_with("nsp: ") && error.contains("No space left on device"), "{command}: {said}");
        assert!(error.contains(file), "{command}: {said}");
    }
    assert_eq!(daemon.run(&["services"]).0, 0, "the daemon goes on");
}

#[test]
fn daemon_whose_disk_fills_says_so_and_goes_on() {
    let small = tempfile::tempdir().unwrap();
    let password = small.path().with_extension("password");
    fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    // Of the shell, that waits for the daemon and ends it.
    let lines = format!(
        "mkdir $1/data && printf '[passwords]\\nmemory = \"8KiB\"\\npasses = 1\\n' > $1/data/nsp.toml\n\
         '{}' daemon --data $1/data --listen nsp+unix:$1/socket --admin-password-file {password} 2> $1/log & daemon=$!\n\
         until grep -q '^log in:' $1/log; do kill -0 $daemon || exit 1; done\n\
         export NSP_URL=nsp+unix:$1/socket NSP_PASSWORD='{PASSWORD}'\n\
         nsp login admin 2>&1\nfill $1\n\
         for name in $(seq 1 200); do nsp user add robot$name --json > $1/../said.$$ 2>&1; grep -q 'status 0' $1/../said.$$ || break; done\n\
         cat $1/../said.$$; rm $1/../said.$$ $1/filler\n\
         nsp call NoShell sendC '{{\"c\":\"echo x\"}}' 2>&1\nnsp user add alice 2>&1\n\
         kill -TERM $daemon; wait $daemon; echo daemon $?\n",
        env!("CARGO_BIN_EXE_nsp"),
        password = path(&password),
    );
    let said = with_small_disk(small.path(), &lines);
    fs::remove_file(&password).unwrap();
    let Some(said) = said else { return };
    assert!(said.contains("nsp: ") && said.contains("status 1"), "the change is refused: {said}");
    assert!(said.contains("{\"r\":\"x\"}\nstatus 0"), "what needs no disk goes on: {said}");
    assert!(said.contains("alice  privilege 1"), "and so does the rest when there is room again: {said}");
    assert!(said.contains("daemon 0"), "{said}");
}
