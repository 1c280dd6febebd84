//! What a row of the table is: what is done in it, and who is asked to do it.

use std::fmt;

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) load: Load,
    pub(crate) tls: bool,
    /// Whom ratios are taken to.
    pub(crate) reference: &'static str,
    /// Who else runs, unless the command line says so.
    pub(crate) peers: &'static [&'static str],
}

/// What a client does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Requests of 32 bytes of JSON: `depth` in flight on each of `connections`.
    Calls { connections: usize, depth: usize },
    /// One-way messages of 64 bytes of JSON on one connection.
    Notes,
    /// One-way raw bodies of `size` bytes on one connection.
    Blobs { size: usize },
    /// The server sends one message of 64 bytes to `clients`, and again when all have it.
    Fan { clients: usize },
    /// Connections that said one thing each and then nothing.
    Idle { connections: usize },
}

/// What a row's main figure is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unit {
    OperationsPerSecond,
    GibPerSecond,
    BytesPerConnection,
}

impl Row {
    /// What its main figure is.
    pub(crate) fn unit(&self) -> Unit {
        match self.load {
            Load::Calls { .. } | Load::Notes | Load::Fan { .. } => Unit::OperationsPerSecond,
            Load::Blobs { .. } => Unit::GibPerSecond,
            Load::Idle { .. } => Unit::BytesPerConnection,
        }
    }

    /// The row with that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        crate::rows::ROWS.into_iter().find(|row| row.name == name)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OperationsPerSecond => "ops/s",
            Self::GibPerSecond => "GiB/s",
            Self::BytesPerConnection => "bytes/connection",
        })
    }
}
