//! The log: on standard error, for people on a terminal and as JSON otherwise, at a level that can be changed while it runs.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use nsp_cli::exit::Failure;

/// What is logged unless somebody says otherwise.
pub(super) const DEFAULT: &str = "info";

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// The log, once it is there.
#[derive(Clone)]
pub(super) struct Log {
    level: reload::Handle<EnvFilter, Registry>,
    gate: Gate,
}

impl Log {
    /// Begins to log. Nothing is written before [`open`](Self::open): the first lines on standard error are those that say where the
    /// daemon listens, for programs to read.
    pub(super) fn start(level: &str, format: Format) -> Result<Self, Failure> {
        let (filter, handle) = reload::Layer::new(filter(level)?);
        let gate = Gate::default();
        let is_pretty = match format {
            Format::Auto => io::stderr().is_terminal(),
            Format::Pretty => true,
            Format::Json => false,
        };
        let lines = if is_pretty {
            let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let colour = io::stderr().is_terminal() && !is_plain;
            tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(gate.clone()).boxed()
        } else {
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(gate.clone()).boxed()
        };
        // Twice would be a mistake of ours, and harmless.
        drop(tracing_subscriber::registry().with(filter).with(lines).try_init());
        Ok(Self { level: handle, gate })
    }

    /// Writes what has waited, and from now on everything at once.
    pub(super) fn open(&self) {
        self.gate.open();
    }

    /// Logs from this level on.
    pub(super) fn set_level(&self, level: &str) -> Result<(), Failure> {
        self.level.reload(filter(level)?).map_err(|error| Failure::Other(error.to_string()))
    }
}

/// What is wrong with a level, before it is needed.
pub(super) fn check(level: &str) -> Result<(), Failure> {
    filter(level).map(drop)
}

fn filter(level: &str) -> Result<EnvFilter, Failure> {
    EnvFilter::try_new(level).map_err(|error| {
        Failure::Usage(format!(
            "`{}` is no level of the log: {error}; write info, debug or nsp=trace",
            level.escape_debug()
        ))
    })
}

/// Holds lines back until it is opened. There are few: those of the start.
#[derive(Debug, Clone, Default)]
struct Gate(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    lines: Vec<u8>,
    is_open: bool,
}

impl Gate {
    fn open(&self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.is_open = true;
        // Where standard error is gone there is nobody to tell.
        drop(io::stderr().write_all(&std::mem::take(&mut held.lines)));
    }
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_open {
            // A log that cannot be written, for the disk behind it is full, is no reason to stop serving; and whoever is told of
            // this error would want to print it, at the same place.
            drop(io::stderr().write_all(bytes));
        } else {
            held.lines.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Gate {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_that_is_none_is_named() {
        assert!(check("info,nsp=trace").is_ok());
        let failure = check("nsp=loud").unwrap_err();
        assert!(failure.to_string().starts_with("`nsp=loud` is no level of the log"), "{failure}");
    }

    #[test]
    fn lines_wait_until_the_gate_is_open() {
        let mut gate = Gate::default();
        gate.write_all(b"").unwrap();
        assert!(!gate.0.lock().unwrap().is_open);
        gate.open();
        assert!(gate.0.lock().unwrap().lines.is_empty() && gate.0.lock().unwrap().is_open);
    }
}
