//! A daemon that runs, and commands that talk to it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

/// What the first user has in tests.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// One RSA key for all daemons of a run.
static KEY: LazyLock<String> =
    LazyLock::new(|| nsp::secure::ServerKey::generate().unwrap().to_pem().unwrap().to_string());

/// Hashing passwords is to be slow; tests are not.
const CHEAP: &str = "[passwords]\nmemory = \"8KiB\"\npasses = 1\n";

pub(crate) fn nsp() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nsp"));
    command.env_clear().stdin(Stdio::null());
    // NODE_PATH and the like are none of the program's business; PATH finds interpreters, HOME is theirs.
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Its status, standard output and standard error.
pub(crate) fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// A daemon, and a folder of settings for those who talk to it. Killed when the test ends before it.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    pub(crate) urls: Vec<String>,
    /// What it says after where it listens, up to the log.
    pub(crate) greeting: String,
    pub(crate) dir: TempDir,
    errors: BufReader<ChildStderr>,
}

impl Daemon {
    /// On one port that the system chooses, over TLS; with a password that is known.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), "", args, |_| {})
    }

    pub(crate) fn configured(config: &str, args: &[&str]) -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), config, args, |_| {})
    }

    pub(crate) fn start_with(
        dir: TempDir,
        config: &str,
        args: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let data = dir.path().join("data");
        fs::create_dir_all(&data).unwrap();
        // Tables come last in a file, and what a test adds may be none.
        fs::write(data.join("nsp.toml"), format!("{config}\n{CHEAP}")).unwrap();
        if !args.contains(&"--first-start") {
            // Making one takes a good part of a second.
            fs::write(data.join("sp.key"), KEY.as_str()).unwrap();
        }
        let password = dir.path().join("admin.password");
        fs::write(&password, format!("{PASSWORD}\n")).unwrap();
        let mut command = nsp();
        command.args(["daemon", "--data", path(&data)]);
        let has = |flag: &str| args.contains(&flag);
        if !has("--listen") {
            command.args(["--listen", "nsps://127.0.0.1:0"]);
        }
        if !has("--first-start") {
            command.args(["--admin-password-file", path(&password)]);
        }
        command.args(args.iter().filter(|arg| **arg != "--first-start"));
        change(&mut command);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let (mut urls, mut greeting) = (Vec::new(), String::new());
        loop {
            let mut line = String::new();
            errors.read_line(&mut line).unwrap();
            match line.strip_prefix("listening ") {
                Some(url) if greeting.is_empty() => urls.push(url.trim_end().to_owned()),
                _ => greeting.push_str(&line),
            }
            if line.is_empty() || line.starts_with("log in:") {
                break;
            }
        }
        assert!(!urls.is_empty(), "it does not listen: {greeting}");
        Self { child, urls, greeting, dir, errors }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    pub(crate) fn url(&self) -> &str {
        &self.urls[0]
    }

    /// A command that talks to it, and trusts its CA.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = nsp();
        command.args(args).env("NSP_URL", self.url()).env("NSP_HOME", self.dir.path().join("home"));
        if self.url().starts_with("nsps:") || self.url().starts_with("wss:") {
            command.env("NSP_CA", self.file("ca.pem"));
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> (i32, String, String) {
        said(&self.command(args).output().unwrap())
    }

    /// The one JSON value that a command prints.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let (status, printed, error) = self.run(args);
        assert_eq!((status, error.as_str()), (0, ""), "{args:?}");
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    #[track_caller]
    pub(crate) fn login(&self, user: &str, password: &str) {
        let output = self.command(&["login", user]).env("NSP_PASSWORD", password).output().unwrap();
        assert_eq!(said(&output).0, 0, "{:?}", said(&output));
    }

    pub(crate) fn feed(&self, args: &[&str], input: &str) -> (i32, String, String) {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        said(&child.wait_with_output().unwrap())
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// The next line of its log that has this text in it.
    #[track_caller]
    pub(crate) fn log_line(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            self.errors.read_line(&mut line).unwrap();
            assert!(!line.is_empty(), "it ended before it said {text:?}");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits for it to end; gives its status and the rest of standard error.
    pub(crate) fn end(mut self) -> (i32, String) {
        let mut errors = String::new();
        self.errors.read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap().code().unwrap(), errors)
    }

    /// Ends it in peace, and keeps its folder.
    pub(crate) fn stop(mut self) -> TempDir {
        self.signal("-TERM");
        let mut rest = String::new();
        self.errors.read_to_string(&mut rest).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{rest}");
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    /// Ends it without any peace (`SIGKILL`), and keeps its folder. What it had to say is shown when the test fails.
    pub(crate) fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut rest = String::new();
        self.errors.read_to_string(&mut rest).unwrap();
        eprint!("{rest}");
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A command that runs beside the test; killed when the test ends before it.
pub(crate) struct Beside {
    pub(crate) child: Child,
    pub(crate) output: BufReader<std::process::ChildStdout>,
    pub(crate) errors: BufReader<ChildStderr>,
}

impl Beside {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let errors = BufReader::new(child.stderr.take().unwrap());
        Self { child, output, errors }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn error_line(&mut self) -> String {
        let mut line = String::new();
        self.errors.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
