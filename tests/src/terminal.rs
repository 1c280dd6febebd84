//! A terminal of its own for a program, with somebody who reads and types.

use std::path::Path;
use std::process::Command;

/// Waits until this is shown.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(into = "Vec<String>")]
pub struct Await {
    shown: String,
    keys: String,
    file: Option<String>,
}

impl Await {
    /// Types these keys then.
    #[must_use]
    pub fn then_type(shown: impl Into<String>, keys: impl Into<String>) -> Self {
        Self { shown: shown.into(), keys: keys.into(), file: None }
    }

    /// Makes this file then, for others who wait for it.
    #[must_use]
    pub fn then_make(shown: impl Into<String>, file: &Path) -> Self {
        let file = Some(file.to_str().unwrap().to_owned());
        Self { shown: shown.into(), keys: String::new(), file }
    }
}

impl From<Await> for Vec<String> {
    fn from(step: Await) -> Self {
        [step.shown, step.keys].into_iter().chain(step.file).collect()
    }
}

/// A program on a terminal: its standard output is all that the terminal has shown, without what only moves and colours, and its status that
/// of the program. Arguments are to be added. It needs Python 3.
#[must_use]
pub fn terminal(program: &str, steps: &[Await]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/terminal.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(serde_json::to_string(steps).unwrap()).arg(program);
    command
}

/// Whether there can be one. Where CI runs there has to be.
#[must_use]
pub fn has_terminal() -> bool {
    let is_there = Command::new("python3").arg("--version").output().is_ok();
    assert!(is_there || std::env::var_os("CI").is_none(), "CI has to have python3");
    if !is_there {
        eprintln!("skipped: this needs python3");
    }
    is_there
}
