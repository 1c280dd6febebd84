//! Standard output: results only.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::Mutex;

use serde::Serialize;

use crate::exit::Failure;

/// Lines of several connections do not mix.
static LINES: Mutex<()> = Mutex::new(());

/// Writes all of it.
pub fn write(bytes: &[u8]) -> Result<(), Failure> {
    let _whole = LINES.lock();
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Other(format!("standard output: {error}")),
    })
}

/// Writes a line.
pub fn line(text: &str) -> Result<(), Failure> {
    write(format!("{text}\n").as_bytes())
}

/// One object a line.
pub fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    line(&serde_json::to_string(value).map_err(|error| Failure::Other(error.to_string()))?)
}

/// Whether somebody looks at it.
#[must_use]
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// What a terminal would obey is escaped; a peer chose the text.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let (plain, escaped) =
                if c.is_control() { (None, Some(c.escape_default())) } else { (Some(c), None) };
            plain.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}
