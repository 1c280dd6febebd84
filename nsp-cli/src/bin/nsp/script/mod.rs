//! Programs that answer: a script is started for each call, a service runs for as long as the daemon.

mod function;
mod group;
mod manifest;
mod protocol;
mod service;
mod supervisor;

pub(crate) use function::{Bounds, Caller, Function};
pub(crate) use manifest::Found;
pub(crate) use protocol::{Recipient, Said};
pub(crate) use service::{Pace, Service};

use std::path::{Path, PathBuf};

/// Why a program gave no answer: what the caller is told, and what the log is told besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// A word for programs: `timeout`, `busy`, `exit`…
    pub(crate) code: String,
    /// A sentence for people, without anything that only concerns the daemon's owner.
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

/// The program that runs a file, and the arguments that come before its own: the file itself when it may be executed, else the
/// interpreter that its name speaks of.
pub(crate) fn command_for(file: &Path) -> Result<Vec<PathBuf>, String> {
    let file = std::path::absolute(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let metadata = std::fs::metadata(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    if metadata.is_dir() {
        return Err(format!("{} is a folder", file.display()));
    }
    if is_executable(&metadata) {
        return Ok(vec![file]);
    }
    let interpreter = match file.extension().and_then(|extension| extension.to_str()) {
        Some("py") => "python3",
        Some("js" | "mjs" | "cjs") => "node",
        Some("sh") => "sh",
        _ => {
            return Err(format!(
                "{} may not be executed, and is no .py, .js or .sh: chmod +x it",
                file.display()
            ));
        }
    };
    Ok(vec![interpreter.into(), file])
}

#[cfg(unix)]
fn is_executable(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &std::fs::Metadata) -> bool {
    false
}

/// What a program sees of the daemon's environment: enough to find interpreters and to speak the user's language, and none of the
/// secrets that the daemon may have been started with.
pub(crate) const ENVIRONMENT: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "TEMP",
    "SYSTEMROOT",
    "NODE_PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
];
