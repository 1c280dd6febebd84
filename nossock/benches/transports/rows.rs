//! The rows of the table: what is done in each, and who is asked to do it.

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
        ROWS.into_iter().find(|row| row.name == name)
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

const RTT: Load = Load::Calls { connections: 1, depth: 1 };
const ONE_BY_64: Load = Load::Calls { connections: 1, depth: 64 };
const SIXTEEN_BY_16: Load = Load::Calls { connections: 16, depth: 16 };
const SMALL: Load = Load::Blobs { size: 64 * 1024 };
const LARGE: Load = Load::Blobs { size: 4 * 1024 * 1024 };
const FAN: Load = Load::Fan { clients: 1000 };
const IDLE: Load = Load::Idle { connections: 10_000 };

const CALLERS: &[&str] = &["nossock", "tungstenite", "codec", "tarpc"];
const SENDERS: &[&str] = &["nossock", "tungstenite", "codec"];

/// All of them, in the order of the table.
pub(crate) const ROWS: [Row; 15] = [
    Row { name: "rtt", load: RTT, tls: false, reference: "mux", peers: CALLERS },
    Row { name: "pipe1x64", load: ONE_BY_64, tls: false, reference: "mux", peers: CALLERS },
    Row { name: "pipe16x16", load: SIXTEEN_BY_16, tls: false, reference: "mux", peers: CALLERS },
    Row { name: "oneway", load: Load::Notes, tls: false, reference: "rawj", peers: SENDERS },
    Row { name: "bulk64k", load: SMALL, tls: false, reference: "raw", peers: SENDERS },
    Row { name: "bulk4m", load: LARGE, tls: false, reference: "raw", peers: SENDERS },
    Row { name: "fanout", load: FAN, tls: false, reference: "raw", peers: SENDERS },
    Row { name: "idle", load: IDLE, tls: false, reference: "raw", peers: SENDERS },
    Row { name: "tls-rtt", load: RTT, tls: true, reference: "mux", peers: SENDERS },
    Row { name: "tls-pipe1x64", load: ONE_BY_64, tls: true, reference: "mux", peers: SENDERS },
    Row { name: "tls-pipe16x16", load: SIXTEEN_BY_16, tls: true, reference: "mux", peers: SENDERS },
    Row { name: "tls-oneway", load: Load::Notes, tls: true, reference: "rawj", peers: SENDERS },
    Row { name: "tls-bulk64k", load: SMALL, tls: true, reference: "raw", peers: SENDERS },
    Row { name: "tls-bulk4m", load: LARGE, tls: true, reference: "raw", peers: SENDERS },
    Row { name: "tls-idle", load: IDLE, tls: true, reference: "raw", peers: SENDERS },
];
