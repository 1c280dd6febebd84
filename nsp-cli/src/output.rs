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

/// Says something on standard error, for [`note!`](crate::note). Where that cannot be written to, a full disk behind it for one, it is
/// not said, and nothing else changes: the macros of the standard library would end the program.
pub fn note(text: std::fmt::Arguments<'_>) {
    let mut errors = std::io::stderr().lock();
    // One piece, so that lines of several threads do not mix.
    drop(errors.write_all(format!("{text}").as_bytes()).and_then(|()| errors.flush()));
}

/// Says a line on standard error, as `eprintln!` does.
#[macro_export]
macro_rules! note {
    ($($text:tt)*) => {
        $crate::output::note(format_args!("{}\n", format_args!($($text)*)))
    };
}

/// Says the beginning of a line on standard error, as `eprint!` does.
#[macro_export]
macro_rules! note_part {
    ($($text:tt)*) => {
        $crate::output::note(format_args!($($text)*))
    };
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
