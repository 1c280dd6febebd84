//! Keeps the program of a service running: starts it, listens to it, starts it again when it ends, and stops it with the daemon.
//!
//! ```text
//!            ┌────────────── pause, twice as long each time ──────────────┐
//!            ▼                                                            │
//!   start ─▶ starting ── {"op":"ready"} ──▶ ready ── ends, or says what is none ──┘
//!                │                            │
//!                └── too slow: killed         └── stop: told, given its time, killed
//! ```

use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::group::{Group, Start};
use super::protocol::{Heard, Says};
use super::service::Service;

/// Bytes of a line that is logged.
const LOG_LINE: u64 = 16 * 1024;

/// Why a program does not run any more.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It was told to.
    Stopped,
    /// By itself, or by us because of what it said.
    Ended(String),
}

impl Service {
    /// Keeps the program running until `stop` turns true; returns when it has ended.
    pub(crate) async fn keep_running(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let name = self.manifest().name.clone();
        let mut pause = self.pace.pause;
        loop {
            let started = Instant::now();
            let outcome = self.run(&mut stop).await;
            self.disconnected();
            match outcome {
                Outcome::Stopped => return tracing::info!(service = %name, "service stopped"),
                Outcome::Ended(reason) => {
                    if started.elapsed() >= self.pace.steady {
                        pause = self.pace.pause;
                    }
                    tracing::error!(service = %name, %reason, again_in = ?pause, "service ended");
                }
            }
            tokio::select! {
                () = stopped(&mut stop) => return,
                () = sleep(pause) => {}
            }
            pause = (pause * 2).min(self.pace.longest_pause);
        }
    }

    /// One life of the program.
    async fn run(&self, stop: &mut watch::Receiver<bool>) -> Outcome {
        let start = Start {
            command: &self.found.command,
            folder: &self.found.folder,
            environment: vec![("NSP_SERVICE", self.manifest().name.clone())],
            memory: self.pace.memory,
        };
        let mut group = match Group::start(&start) {
            Ok(group) => group,
            Err(error) => return Outcome::Ended(format!("cannot be started: {error}")),
        };
        let (Some(stdin), Some(stdout), Some(stderr)) = group.pipes() else {
            return Outcome::Ended("it has no pipes".to_owned());
        };
        let (lines, queue) = Self::queue();
        let (ended, mut stopping) = watch::channel(false);
        let outcome = {
            let write = write(stdin, self.manifest().name.clone(), queue, &mut stopping);
            let read = self.read(BufReader::new(stdout), lines);
            let log = log(self.manifest().name.clone(), stderr);
            tokio::pin!(write, read, log);
            let (mut logged, mut written) = (false, false);
            let first = loop {
                tokio::select! {
                    () = stopped(stop) => break Outcome::Stopped,
                    reason = &mut read => break Outcome::Ended(reason),
                    () = &mut log, if !logged => logged = true,
                    // A program that closes its input can still answer what it was asked.
                    () = &mut write, if !written => written = true,
                }
            };
            if first == Outcome::Stopped {
                self.disconnected();
                ended.send_replace(true);
                // It is told, and read until it ends by itself: a program that waits for its output to be taken never would.
                let end = async {
                    tokio::join!(
                        async {
                            if !written {
                                write.await;
                            }
                        },
                        async { drop(read.await) },
                        async {
                            if !logged {
                                log.await;
                            }
                        },
                    );
                };
                if timeout(self.pace.stop, end).await.is_err() {
                    tracing::warn!(service = %self.manifest().name, after = ?self.pace.stop, "service does not stop; killed");
                    return Outcome::Stopped;
                }
            }
            first
        };
        // What has closed its output has its moment to end; the status tells why it did.
        let status = timeout(self.pace.stop, group.wait()).await;
        match (outcome, status) {
            (Outcome::Ended(reason), Ok(Ok(status))) if reason.is_empty() => {
                Outcome::Ended(format!("the program ended: {status}"))
            }
            (Outcome::Ended(reason), _) if reason.is_empty() => {
                Outcome::Ended("the program closed its output".to_owned())
            }
            (outcome, _) => outcome,
        }
    }

    /// Listens to the program until it says no more, or what it must not: then it says why, or nothing where it just ended.
    async fn read(&self, mut from: BufReader<ChildStdout>, lines: mpsc::Sender<Vec<u8>>) -> String {
        let Ok(first) = timeout(self.pace.start, self.line(&mut from)).await else {
            return format!("it was not ready within {:?}", self.pace.start);
        };
        match first {
            Ok(Some(Heard::Ready)) => {}
            Ok(Some(_)) => return "the first thing it said was not {\"op\":\"ready\"}".to_owned(),
            Ok(None) => return String::new(),
            Err(error) => return error,
        }
        self.connected(lines);
        tracing::info!(service = %self.manifest().name, "service ready");
        loop {
            match self.line(&mut from).await {
                Ok(Some(Heard::Ready)) => {}
                Ok(Some(Heard::Answer { id, data })) => self.answered(id, data),
                Ok(Some(Heard::Said(said))) => drop(self.said.send(said).await),
                Ok(None) => return String::new(),
                Err(error) => return error,
            }
        }
    }

    async fn line(&self, from: &mut BufReader<ChildStdout>) -> Result<Option<Heard>, String> {
        loop {
            let mut line = Vec::new();
            match limited(from, self.pace.line, &mut line).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) if line.last() != Some(&b'\n') && line.len() as u64 >= self.pace.line => {
                    return Err(format!("it wrote a line of more than {} bytes", self.pace.line));
                }
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) => {
                    let heard = Heard::parse(&line);
                    return heard
                        .map(Some)
                        .map_err(|error| format!("it wrote a line that is wrong: {error}"));
                }
            }
        }
    }
}

/// Writes to the program what is queued; when it is to stop, that, and then nothing more.
async fn write(
    mut to: ChildStdin,
    service: String,
    mut queue: mpsc::Receiver<Vec<u8>>,
    stopping: &mut watch::Receiver<bool>,
) {
    if to.write_all(&Says::Hello { protocol: 1, service: &service }.line()).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            biased;
            () = stopped(stopping) => break,
            line = queue.recv() => match line {
                Some(line) if to.write_all(&line).await.is_ok() => {}
                _ => return,
            },
        }
    }
    drop(to.write_all(&Says::Stop.line()).await);
}

/// Hands what the program writes to standard error to the log, line by line.
async fn log(service: String, from: ChildStderr) {
    let mut from = BufReader::new(from);
    loop {
        let mut line = Vec::new();
        if !matches!(limited(&mut from, LOG_LINE, &mut line).await, Ok(1..)) {
            return;
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if !line.is_empty() {
            tracing::info!(service = %service, line = %line.escape_debug(), "service says");
        }
    }
}

async fn limited<R: AsyncRead + Unpin>(
    from: &mut BufReader<R>,
    limit: u64,
    line: &mut Vec<u8>,
) -> std::io::Result<usize> {
    from.take(limit).read_until(b'\n', line).await
}

/// Ready when it turns true, or can no more.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stopped| *stopped).await);
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use serde_json::value::RawValue;

    use super::super::protocol::{Recipient, Said};
    use super::super::service::Pace;
    use super::super::{Caller, Fault, Found};
    use super::*;

    /// A service in Python, running.
    struct Running {
        service: Arc<Service>,
        said: mpsc::Receiver<Said>,
        stop: watch::Sender<bool>,
        task: tokio::task::JoinHandle<()>,
        dir: tempfile::TempDir,
    }

    const PRELUDE: &str = r#"
import json, os, sys
def say(**line): print(json.dumps(line), flush=True)
def lines():
    for line in sys.stdin: yield json.loads(line)
"#;

    fn running(body: &str, pace: Pace) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("Test");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("manifest.json"), r#"{"name":"Test"}"#).unwrap();
        fs::write(folder.join("entry.py"), format!("{PRELUDE}{body}")).unwrap();
        let (tell, said) = mpsc::channel(16);
        let service = Service::new(Found::at(&folder).unwrap(), pace, tell);
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(Arc::clone(&service).keep_running(stopping));
        Running { service, said, stop, task, dir }
    }

    impl Running {
        async fn call(&self, function: &str, data: &str) -> Result<String, Fault> {
            let data = RawValue::from_string(data.to_owned()).unwrap();
            let caller = Caller { user: Some("ann".into()), entity: "e1".into() };
            self.service.call(function, &data, &caller).await.map(|value| value.get().to_owned())
        }

        /// Calls until the service is there.
        async fn call_when_ready(&self, function: &str, data: &str) -> Result<String, Fault> {
            let begin = Instant::now();
            loop {
                assert!(begin.elapsed() < Duration::from_secs(30), "the service never came up");
                match self.call(function, data).await {
                    Err(fault) if fault.code == "unavailable" => {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    result => return result,
                }
            }
        }

        async fn end(self) {
            self.stop.send(true).unwrap();
            self.task.await.unwrap();
        }

        fn file(&self, name: &str) -> String {
            fs::read_to_string(self.folder().join(name)).unwrap_or_default()
        }

        fn folder(&self) -> std::path::PathBuf {
            Path::new(self.dir.path()).join("Test")
        }
    }

    const ECHO: &str = r#"
say(op="ready")
for line in lines():
    if line["op"] == "call":
        if line["function"] == "fail":
            say(op="answer", id=line["id"], error={"code": "no", "message": "never"})
        elif line["function"] == "die":
            os._exit(3)
        elif line["function"] == "emit":
            say(op="event", name="n", data=line["data"], to={"any": ["room"]})
            say(op="join", entity=line["entity"], groups=["room"])
            say(op="answer", id=line["id"])
        elif line["function"] != "silent":
            say(op="answer", id=line["id"], data=[line["function"], line["user"], line["data"]])
    elif line["op"] == "open":
        open("opened", "a").write(line["entity"] + "\n")
    elif line["op"] == "cancel":
        open("cancelled", "a").write(str(line["id"]))
    elif line["op"] == "stop":
        open("stopped", "w").write("yes")
"#;

    #[tokio::test]
    async fn calls_are_answered_and_events_come_out() {
        let mut running = running(ECHO, Pace::default());
        assert_eq!(
            running.call_when_ready("a", "{\"x\":1}").await.as_deref(),
            Ok("[\"a\", \"ann\", {\"x\": 1}]")
        );
        assert_eq!(running.call("fail", "1").await, Err(Fault::new("no", "never")));
        assert_eq!(running.call("emit", "7").await.as_deref(), Ok("null"));
        let Some(Said::Event { name, data, to }) = running.said.recv().await else { panic!("an event") };
        assert_eq!((name.as_str(), data.get(), to), ("n", "7", Recipient::Any(vec!["room".into()])));
        let Some(Said::Join { entity, groups }) = running.said.recv().await else { panic!("a join") };
        assert_eq!((entity.as_str(), groups), ("e1", vec!["room".to_owned()]));
        let stopped = running.folder().join("stopped");
        let dir = running.dir.path().to_owned();
        running.stop.send(true).unwrap();
        (&mut running.task).await.unwrap();
        assert!(stopped.exists(), "it was told before it ended; {dir:?}");
    }

    #[tokio::test]
    async fn program_that_dies_is_started_again_and_told_who_is_there() {
        let pace = Pace { pause: Duration::from_millis(1), ..Pace::default() };
        let running = running(ECHO, pace);
        assert!(running.call_when_ready("a", "1").await.is_ok());
        running.service.open("first", Some("ann")).await;
        assert_eq!(running.call("die", "1").await.unwrap_err().code, "unavailable");
        assert!(running.call_when_ready("a", "2").await.is_ok(), "it is there again");
        assert_eq!(running.file("opened"), "first\nfirst\n");
        running.service.close("first").await;
        running.end().await;
    }

    #[tokio::test]
    async fn call_that_takes_too_long_is_given_up_on_both_sides() {
        let pace = Pace { call: Duration::from_millis(200), calls: 1, ..Pace::default() };
        let running = running(ECHO, pace);
        let fault = running.call_when_ready("silent", "1").await.unwrap_err();
        assert_eq!(fault, Fault::new("timeout", "the service took longer than 200ms"));
        assert!(running.call("a", "1").await.is_ok(), "its place is free again");
        assert!(!running.file("cancelled").is_empty());
        running.end().await;
    }

    #[tokio::test]
    async fn program_that_never_is_ready_or_talks_nonsense_does_not_get_calls() {
        let pace = Pace {
            start: Duration::from_millis(300),
            pause: Duration::from_millis(1),
            stop: Duration::from_millis(100),
            line: 1000,
            ..Pace::default()
        };
        for body in [
            "import time\nopen('runs', 'a').write('x')\ntime.sleep(600)",
            "open('runs', 'a').write('x')\nsay(op='answer', id=1)\nfor line in lines(): pass",
            "open('runs', 'a').write('x')\nprint('hello', flush=True)\nfor line in lines(): pass",
            "open('runs', 'a').write('x')\nprint('x' * 5000, flush=True)\nfor line in lines(): pass",
        ] {
            let running = running(body, pace);
            while running.file("runs").len() < 2 {
                assert_eq!(running.call("a", "1").await.unwrap_err().code, "unavailable");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            running.end().await;
        }
    }

    #[tokio::test]
    async fn program_that_does_not_stop_is_killed() {
        let pace = Pace { stop: Duration::from_millis(100), ..Pace::default() };
        let body = "import time\nsay(op='ready')\nopen('pid', 'w').write(str(os.getpid()))\nsay(op='join', entity='e', groups=[])\ntime.sleep(600)";
        let mut running = running(body, pace);
        assert!(matches!(running.said.recv().await, Some(Said::Join { .. })));
        let pid: i32 = running.file("pid").parse().unwrap();
        running.end().await;
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        // It was killed; tokio collects it in its own time.
        let gone = async {
            while rustix::process::test_kill_process(pid).is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(10), gone).await.unwrap();
    }
}
