use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use crate::in_time;

/// How long npm may take to install.
const INSTALL: Duration = Duration::from_secs(180);

/// The original package, installed.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Original {}

/// A script that runs in Node: told what to do, and telling what happened, in lines of JSON.
///
/// Dropped, it is killed; and when the test dies first, the end of its stdin ends it.
#[derive(Debug)]
pub struct Node {
    child: Child,
    stdin: ChildStdin,
    events: UnboundedReceiver<Value>,
    /// Told, and not asked for yet.
    waiting: VecDeque<Value>,
    stderr: Arc<Mutex<String>>,
    stderr_read: JoinHandle<()>,
}

/// Runs a story with the original package.
///
/// It is installed first, if it is not there. Where Node or the package cannot be had the story is skipped, and
/// says so; where the environment has `CI` it fails.
///
/// # Cancel safety
/// Dropping it drops the story.
pub async fn with_original(story: impl AsyncFnOnce(Original)) {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    match INSTALLED.get_or_init(install) {
        Ok(()) => story(Original {}).await,
        Err(why) if std::env::var_os("CI").is_some_and(|ci| !ci.is_empty()) => {
            panic!("the original package cannot be had: {why}")
        }
        Err(why) => {
            // Not by `eprintln!`, which the test harness keeps to itself when a test passes.
            let _ = writeln!(std::io::stderr(), "SKIPPED, the original package cannot be had: {why}");
        }
    }
}

impl Original {
    /// Starts `original.js`, which does with the package what it is told.
    ///
    /// # Cancel safety
    /// Dropping it kills what was started.
    pub async fn start(&self) -> Node {
        Node::start("original.js").await
    }

    /// Starts `bare.js`, which has a bare socket.
    ///
    /// # Cancel safety
    /// Dropping it kills what was started.
    pub async fn start_bare(&self) -> Node {
        Node::start("bare.js").await
    }

    /// Starts `websocket.js`, which speaks NSP with the package `ws`.
    ///
    /// # Cancel safety
    /// Dropping it kills what was started.
    pub async fn start_websocket(&self) -> Node {
        Node::start("websocket.js").await
    }

    /// Starts `noservice.js`, a NoService client written by hand.
    ///
    /// # Cancel safety
    /// Dropping it kills what was started.
    pub async fn start_noservice(&self) -> Node {
        Node::start("noservice.js").await
    }

    /// Starts a server of the original, without routes, and says its port.
    ///
    /// # Cancel safety
    /// Dropping it kills what was started.
    pub async fn listen(&self, requests: Value) -> (Node, u16) {
        let mut node = self.start().await;
        node.tell(json!({"do": "listen", "type": "tcp", "requests": requests})).await;
        let port = node.port().await;
        (node, port)
    }

    /// Starts a client of the original, connected to a port of this machine.
    ///
    /// # Cancel safety
    /// Dropping it kills what was started.
    pub async fn connect(&self, port: u16, requests: Value) -> Node {
        let mut node = self.start().await;
        node.tell(json!({"do": "connect", "type": "tcp", "options": {"port": port}, "requests": requests}))
            .await;
        node.hear("connected").await;
        node
    }

    /// Runs a program for Node to its end, with the packages at hand; gives what it prints.
    ///
    /// # Cancel safety
    /// Dropping it kills what was started.
    pub async fn run(&self, program: &Path, arguments: &[&str]) -> String {
        let mut command = Command::new("node");
        command
            .env("NODE_NO_WARNINGS", "1")
            .arg(program)
            .args(arguments)
            .env("NODE_PATH", directory().join("node_modules"));
        let output = in_time("the end of the program", command.kill_on_drop(true).output()).await.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} ended with {}: {errors}", program.display(), output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Has Node encrypt a private key with a passphrase.
    ///
    /// # Cancel safety
    /// Dropping it kills what was started.
    pub async fn encrypt(&self, key: &Path, encrypted: &Path, passphrase: &str) {
        let mut command = node("encrypt.js");
        command.arg(key).arg(encrypted).arg(passphrase).stdin(Stdio::null());
        let status = in_time("encrypting a key", command.status()).await.unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Node {
    async fn start(script: &str) -> Self {
        let mut child = node(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Node was there a moment ago");
        let stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut pipe = child.stderr.take().unwrap();
        let (tell, events) = unbounded_channel();
        // Both are read always: a script whose pipe is full would stand still.
        tokio::spawn(async move {
            while let Ok(Some(line)) = stdout.next_line().await {
                let event =
                    serde_json::from_str(&line).unwrap_or_else(|_| json!({"event": "noise", "line": line}));
                if tell.send(event).is_err() {
                    break;
                }
            }
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let text = Arc::clone(&stderr);
        let stderr_read = tokio::spawn(async move {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut bytes).await {
                text.lock().unwrap().push_str(&String::from_utf8_lossy(bytes.get(..n).unwrap_or_default()));
            }
        });
        let mut node = Self { child, stdin, events, waiting: VecDeque::new(), stderr, stderr_read };
        node.hear("ready").await;
        node
    }

    /// Tells the script to do something.
    ///
    /// # Cancel safety
    /// Dropping it may leave half a line told.
    pub async fn tell(&mut self, command: Value) {
        let line = format!("{command}\n");
        in_time("telling Node something", self.stdin.write_all(line.as_bytes())).await.unwrap();
    }

    /// Waits for the next event of a kind. Events of other kinds are kept until they are asked for.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub async fn hear(&mut self, event: &str) -> Value {
        let is_it = |told: &Value| told.get("event").is_some_and(|kind| kind == event);
        if let Some(told) = self.waiting.iter().position(is_it).and_then(|at| self.waiting.remove(at)) {
            return told;
        }
        let hearing = async {
            while let Some(told) = self.events.recv().await {
                if is_it(&told) {
                    return Some(told);
                }
                self.waiting.push_back(told);
            }
            None
        };
        match tokio::time::timeout(crate::PATIENCE, hearing).await {
            Ok(Some(told)) => told,
            outcome => {
                let why = if outcome.is_ok() { "the script ended" } else { "it does not come" };
                let stderr = self.stderr.lock().unwrap();
                panic!("no event `{event}`: {why}; told were {:?}; stderr:\n{stderr}", self.waiting);
            }
        }
    }

    /// Tells the script something, and waits for the event that follows from it.
    ///
    /// # Cancel safety
    /// As [`tell`](Self::tell).
    pub async fn ask(&mut self, command: Value, event: &str) -> Value {
        self.tell(command).await;
        self.hear(event).await
    }

    /// The port that the script says it listens on.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub async fn port(&mut self) -> u16 {
        let port = self.hear("listening").await.get("port").and_then(Value::as_u64);
        port.and_then(|port| u16::try_from(port).ok()).expect("a port")
    }

    /// Waits until the script ends by itself; gives its status and what it said on stderr.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub async fn exit(&mut self) -> (ExitStatus, String) {
        let status = in_time("the end of the script", self.child.wait()).await.unwrap();
        in_time("the end of stderr", &mut self.stderr_read).await.unwrap();
        (status, self.stderr.lock().unwrap().clone())
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("node")
}

fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(directory().join(script)).kill_on_drop(true);
    // The package is of a time before Node warned of its way to make buffers.
    command.env("NODE_NO_WARNINGS", "1");
    command
}

/// Installs what `package-lock.json` pins, unless it is there.
///
/// Test binaries run side by side: a file that is locked lets one of them install, and the others wait for it. They
/// do not wait for ever, because the one that installs does not take for ever.
fn install() -> Result<(), String> {
    let directory = directory();
    let modules = directory.join("node_modules");
    let lock = File::create(directory.join(".lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;

    run(&directory, "node", &["--version"])?;
    let pinned =
        fs::read_to_string(directory.join("package-lock.json")).map_err(|error| error.to_string())?;
    let stamp = modules.join(".installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == pinned) {
        return Ok(());
    }
    run(&directory, "npm", &["ci", "--no-audit", "--no-fund", "--ignore-scripts"])?;
    fs::write(stamp, pinned).map_err(|error| error.to_string())
}

fn run(directory: &Path, program: &str, arguments: &[&str]) -> Result<(), String> {
    let failed = |why: String| format!("`{program} {}`: {why}", arguments.join(" "));
    let log = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let stderr = log.reopen().map_err(|error| error.to_string())?;
    let mut child = std::process::Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < INSTALL => std::thread::sleep(Duration::from_millis(10)),
            outcome => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(
                    outcome.map_or_else(|error| error.to_string(), |_| "it takes too long".into()),
                ));
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(log.path()).unwrap_or_default();
    Err(failed(format!("{status}\n{said}")))
}
