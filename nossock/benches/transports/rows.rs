//! The rows of the table, and what the program says of itself.

pub(crate) use crate::load::{Load, Row, Unit};

/// Over the table.
pub(crate) const TITLE: &str = "nossock beside others, on loopback";

/// What is printed for `--help`, before the options.
pub(crate) const ABOUT: &str = "\
Measures nossock beside references made by hand and beside other libraries, on loopback.

cargo bench -p nossock -- [OPTIONS]

Rows: rtt pipe1x64 pipe16x16 oneway bulk64k bulk4m fanout idle, and all but fanout with tls- in front.
";

/// What `cargo test --benches` runs, briefly.
pub(crate) const SMOKE: &str = "rtt,oneway";

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
