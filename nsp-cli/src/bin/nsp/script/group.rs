//! A program with everything it starts, so that all of it ends with it.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::ENVIRONMENT;

/// A running program that leads a process group. Dropped, all of the group is killed.
#[derive(Debug)]
pub(super) struct Group {
    child: Child,
}

/// How a program is to be started.
#[derive(Debug, Clone)]
pub(super) struct Start<'a> {
    /// The program and its arguments.
    pub(super) command: &'a [PathBuf],
    /// Where it runs.
    pub(super) folder: &'a Path,
    /// What it is told besides what it sees of our environment.
    pub(super) environment: Vec<(&'static str, String)>,
    /// How much memory each of its processes may take, in bytes.
    pub(super) memory: u64,
}

impl Group {
    pub(super) fn start(start: &Start<'_>) -> io::Result<Self> {
        let mut command = limited(start);
        command
            .current_dir(start.folder)
            .env_clear()
            .envs(ENVIRONMENT.iter().filter_map(|name| std::env::var_os(name).map(|value| (*name, value))))
            .envs(start.environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        Ok(Self { child: command.spawn()? })
    }

    pub(super) const fn pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take())
    }

    /// Waits for the program itself.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends all of it at once.
    pub(super) fn kill(&mut self) {
        // While the leader has not been waited for, its number is nobody else's.
        #[cfg(unix)]
        if let Some(pid) =
            self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
        {
            // It may have gone by itself.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        drop(self.child.start_kill());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The shell sets the limit, for setting it between fork and exec would take unsafe code here. `ulimit -d` counts memory that can be
/// written, so that interpreters which reserve large ranges without using them are not refused.
#[cfg(unix)]
fn limited(start: &Start<'_>) -> Command {
    let mut command = Command::new("/bin/sh");
    let kibibytes = (start.memory / 1024).max(1);
    command.arg("-c").arg(format!("ulimit -d {kibibytes} && exec \"$@\"")).arg("sh");
    command.args(start.command.iter().map(|word| word.as_os_str() as &OsStr));
    command
}

#[cfg(not(unix))]
fn limited(start: &Start<'_>) -> Command {
    let mut words = start.command.iter().map(|word| word.as_os_str() as &OsStr);
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}
