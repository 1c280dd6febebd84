//! A script as a function: started for each call.
//!
//! ```text
//!   call ──▶ JSON on standard input ──▶ script ──▶ standard output: JSON, the answer       status 0
//!                                          │  └──▶ standard output: {"code":…,"message":…} other status: the error
//!                                          └─────▶ standard error: lines of the daemon's log
//! ```
//!
//! A script that fails without saying why is the error `exit`, with its status; what it wrote to standard error the daemon's log has, and
//! never the caller. It learns who calls from its environment: `NSP_SERVICE`, `NSP_FUNCTION`, `NSP_USER` (proved, or empty) and
//! `NSP_ENTITY`.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::Fault;
use super::group::{Group, Start};

/// How much of what a script writes to standard error is read and logged, in bytes: a traceback or two.
const ERRORS: u64 = 64 * 1024;

/// How long the message of an error may be, in bytes: longer is not read by anybody.
const MESSAGE: usize = 1024;

/// What one script may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// How long one call may take, waiting for its turn included.
    pub(crate) timeout: Duration,
    /// Memory of each process, in bytes.
    pub(crate) memory: u64,
    /// Bytes of an answer.
    pub(crate) output: u64,
    /// Calls at once; the next ones wait.
    pub(crate) parallel: usize,
    /// Calls that wait; the next ones are refused.
    pub(crate) waiting: usize,
}

impl Default for Bounds {
    /// As many calls at once as fit a small machine, and ten seconds: whoever needs longer says so.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), memory: 1 << 30, output: 1 << 20, parallel: 4, waiting: 64 }
    }
}

/// Who calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// The user that was proved.
    pub(crate) user: Option<String>,
    pub(crate) entity: String,
}

/// A function that a script answers.
#[derive(Debug)]
pub(crate) struct Function {
    service: String,
    name: String,
    command: Vec<PathBuf>,
    folder: PathBuf,
    bounds: Bounds,
    turns: Semaphore,
    present: AtomicUsize,
}

/// What a script may say on standard output when it fails.
#[derive(Deserialize)]
struct Failed {
    #[serde(default = "failed_code")]
    code: String,
    message: String,
}

fn failed_code() -> String {
    "failed".to_owned()
}

impl Function {
    pub(crate) fn new(
        service: &str,
        name: &str,
        command: Vec<PathBuf>,
        folder: PathBuf,
        bounds: Bounds,
    ) -> Arc<Self> {
        Arc::new(Self {
            service: service.to_owned(),
            name: name.to_owned(),
            command,
            folder,
            bounds,
            turns: Semaphore::new(bounds.parallel),
            present: AtomicUsize::new(0),
        })
    }

    /// Runs the script for one call. Dropped, the script is killed with everything it has started.
    pub(crate) async fn call(&self, data: &str, caller: &Caller) -> Result<Box<RawValue>, Fault> {
        let _present = Present::enter(&self.present, self.bounds.parallel + self.bounds.waiting)
            .ok_or_else(|| Fault::new("busy", "too many calls of this function wait already"))?;
        let work = async {
            // The semaphore is never closed.
            let _turn = self.turns.acquire().await;
            self.run(data, caller).await
        };
        match tokio::time::timeout(self.bounds.timeout, work).await {
            Ok(result) => result,
            Err(_) => {
                tracing::warn!(service = %self.service, function = %self.name, after = ?self.bounds.timeout, "script timed out");
                Err(Fault::new(
                    "timeout",
                    format!(
                        "the function took longer than {}",
                        nsp_cli::text::shown_time(self.bounds.timeout)
                    ),
                ))
            }
        }
    }

    async fn run(&self, data: &str, caller: &Caller) -> Result<Box<RawValue>, Fault> {
        let start = Start {
            command: &self.command,
            folder: &self.folder,
            environment: vec![
                ("NSP_SERVICE", self.service.clone()),
                ("NSP_FUNCTION", self.name.clone()),
                ("NSP_USER", caller.user.clone().unwrap_or_default()),
                ("NSP_ENTITY", caller.entity.clone()),
            ],
            memory: self.bounds.memory,
        };
        let mut group = Group::start(&start).map_err(|error| {
            tracing::error!(service = %self.service, function = %self.name, %error, "script cannot be started");
            Fault::new("unavailable", "the function cannot be run now")
        })?;
        let (stdin, stdout, stderr) = group.pipes();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A script need not read what it is given.
                drop(stdin.write_all(data.as_bytes()).await);
                drop(stdin.write_all(b"\n").await);
            }
        };
        let over = self.bounds.output.saturating_add(1);
        let (output, (), errors) = tokio::join!(read(stdout, over), feed, read(stderr, ERRORS));
        // Nothing reads it any more: one that goes on writing would never end.
        if output.len() as u64 >= over {
            group.kill();
            return Err(Fault::new(
                "too_large",
                format!("the answer is larger than {}", nsp_cli::text::shown_size(self.bounds.output)),
            ));
        }
        let status = group.wait().await;
        self.log(&errors);
        match status {
            Ok(status) if status.success() => self.answer(&output),
            Ok(status) => Err(self.failure(&output, status)),
            Err(error) => {
                tracing::error!(service = %self.service, function = %self.name, %error, "script cannot be waited for");
                Err(Fault::new("unavailable", "the function cannot be run now"))
            }
        }
    }

    fn answer(&self, output: &[u8]) -> Result<Box<RawValue>, Fault> {
        if output.trim_ascii().is_empty() {
            return Ok(RawValue::NULL.to_owned());
        }
        serde_json::from_slice(output).map_err(|error| {
            tracing::error!(service = %self.service, function = %self.name, %error, "script printed something that is not JSON");
            Fault::new("bad_answer", "the function gave an answer that is not JSON")
        })
    }

    fn failure(&self, output: &[u8], status: ExitStatus) -> Fault {
        tracing::warn!(service = %self.service, function = %self.name, %status, "script failed");
        if let Ok(failed) = serde_json::from_slice::<Failed>(output) {
            return Fault::new(short(failed.code), short(failed.message));
        }
        match status.code() {
            Some(code) => Fault::new("exit", format!("the function ended with status {code}")),
            None => Fault::new("exit", "the function was ended by a signal"),
        }
    }

    fn log(&self, errors: &[u8]) {
        for line in String::from_utf8_lossy(errors).lines().filter(|line| !line.trim().is_empty()) {
            tracing::warn!(service = %self.service, function = %self.name, line = %line.escape_debug(), "script");
        }
    }
}

fn short(mut text: String) -> String {
    let mut end = MESSAGE.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// Reads to the end, or to the limit.
async fn read(from: Option<impl AsyncRead + Unpin>, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What was read before an error is what there is.
        drop(from.take(limit).read_to_end(&mut bytes).await);
    }
    bytes
}

/// One of those that are counted.
#[derive(Debug)]
struct Present<'a>(&'a AtomicUsize);

impl<'a> Present<'a> {
    fn enter(count: &'a AtomicUsize, limit: usize) -> Option<Self> {
        let entered = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < limit).then_some(entered)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;

    /// A shell script as a function.
    fn script(dir: &tempfile::TempDir, text: &str, bounds: Bounds) -> Arc<Function> {
        let path = dir.path().join("script.sh");
        fs::write(&path, text).unwrap();
        let command = super::super::command_for(&path).unwrap();
        Function::new("Test", "Run", command, dir.path().to_owned(), bounds)
    }

    async fn call(text: &str, bounds: Bounds) -> Result<String, Fault> {
        let dir = tempfile::tempdir().unwrap();
        let function = script(&dir, text, bounds);
        function.call("{\"a\":1}", &Caller::default()).await.map(|value| value.get().to_owned())
    }

    fn fault(code: &str, message: &str) -> Result<String, Fault> {
        Err(Fault::new(code, message))
    }

    #[tokio::test]
    async fn input_becomes_output_and_silence_becomes_null() {
        let bounds = Bounds::default();
        assert_eq!(call("cat", bounds).await.as_deref(), Ok("{\"a\":1}"));
        assert_eq!(
            call("exit 0", bounds).await.as_deref(),
            Ok("null"),
            "input that nobody reads is no error"
        );
        assert_eq!(call("echo; echo ' [1] '", bounds).await.as_deref(), Ok("[1]"));
        let told = call("printf '\"%s.%s\"' \"$NSP_SERVICE\" \"$NSP_FUNCTION\"", bounds).await;
        assert_eq!(told.as_deref(), Ok("\"Test.Run\""));
    }

    #[tokio::test]
    async fn failure_is_told_without_what_only_concerns_the_owner() {
        let bounds = Bounds::default();
        assert_eq!(
            call("echo /secret/path >&2; exit 7", bounds).await,
            fault("exit", "the function ended with status 7")
        );
        assert_eq!(call("kill -9 $$", bounds).await, fault("exit", "the function was ended by a signal"));
        let said = "echo '{\"code\":\"no_room\",\"message\":\"full\"}'; exit 1";
        assert_eq!(call(said, bounds).await, fault("no_room", "full"));
        assert_eq!(
            call("echo hello", bounds).await,
            fault("bad_answer", "the function gave an answer that is not JSON")
        );
    }

    #[tokio::test]
    async fn answer_over_the_limit_is_refused_though_the_script_never_stops() {
        let bounds = Bounds { output: 1000, ..Bounds::default() };
        assert_eq!(call("yes", bounds).await, fault("too_large", "the answer is larger than 1000 B"));
    }

    #[tokio::test]
    async fn memory_over_the_limit_ends_the_script() {
        let bounds = Bounds { memory: 16 << 20, ..Bounds::default() };
        let text = "v=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#v}";
        let result = call(text, bounds).await;
        assert!(matches!(&result, Err(fault) if fault.code == "exit"), "{result:?}");
    }

    #[tokio::test]
    async fn timeout_ends_the_script_and_all_it_has_started() {
        let dir = tempfile::tempdir().unwrap();
        let bounds = Bounds { timeout: Duration::from_millis(300), ..Bounds::default() };
        let text = "sleep 600 & echo $! > pid; wait";
        let begin = Instant::now();
        let function = script(&dir, text, bounds);
        let result = function.call("null", &Caller::default()).await;
        assert_eq!(result.map(drop), Err(Fault::new("timeout", "the function took longer than 300ms")));
        assert!(begin.elapsed() < Duration::from_secs(30));
        let pid: i32 = fs::read_to_string(dir.path().join("pid")).unwrap().trim().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        // It is gone as soon as whoever adopts it has looked.
        let deadline = Instant::now() + Duration::from_secs(10);
        while rustix::process::test_kill_process(pid).is_ok() && !is_zombie(pid) {
            assert!(Instant::now() < deadline, "what the script has started lives on");
            tokio::task::yield_now().await;
        }
    }

    fn is_zombie(pid: rustix::process::Pid) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
    }

    #[tokio::test]
    async fn calls_beyond_those_that_may_wait_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let bounds = Bounds { parallel: 1, waiting: 1, ..Bounds::default() };
        let function = script(&dir, "while [ ! -e go ]; do sleep 0.01; done; echo 1", bounds);
        let caller = Caller::default();
        let (first, second) = (function.call("1", &caller), function.call("2", &caller));
        tokio::pin!(first, second);
        assert!(polled_once(first.as_mut()).await.is_none());
        assert!(polled_once(second.as_mut()).await.is_none());
        let third = function.call("3", &caller).await;
        assert_eq!(third.map(drop).unwrap_err().code, "busy");
        fs::write(dir.path().join("go"), "").unwrap();
        assert!(first.await.is_ok() && second.await.is_ok(), "those that waited get their turn");
        assert!(function.call("4", &caller).await.is_ok());
    }

    /// Polls once.
    async fn polled_once<F: Future + Unpin>(future: F) -> Option<F::Output> {
        let mut future = future;
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
