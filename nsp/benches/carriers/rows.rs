//! The rows of the table, and what the program says of itself.

pub(crate) use crate::load::{Load, Row, Unit};

/// Over the table.
pub(crate) const TITLE: &str = "NSP on its carriers, on loopback";

/// What is printed for `--help`, before the options.
pub(crate) const ABOUT: &str = "\
Measures service functions, events and blobs on every carrier, beside requests of nossock.

cargo bench -p nsp --bench carriers -- [OPTIONS]
cargo bench -p nsp --bench carriers -- --count PEER CONNECTIONS DEPTH CALLS

The second form makes so many calls between two ends in one thread, and nothing else: to be run under callgrind.

Rows: rtt pipe1x64 pipe16x16 blob1m fanout idle, with tls- in front rtt pipe1x64 pipe16x16, and with token- in
front the same three. The congestion control is always the system's.
";

/// What `cargo test --benches` runs, briefly.
pub(crate) const SMOKE: &str = "rtt,tls-rtt,token-rtt";

const RTT: Load = Load::Calls { connections: 1, depth: 1 };
const ONE_BY_64: Load = Load::Calls { connections: 1, depth: 64 };
const SIXTEEN_BY_16: Load = Load::Calls { connections: 16, depth: 16 };
const BLOB: Load = Load::Blobs { size: 1024 * 1024 };
const FAN: Load = Load::Fan { clients: 1000 };
const IDLE: Load = Load::Idle { connections: 10_000 };

const CALLS: &[&str] = &["nsp", "nsp+sp", "ws", "ws+sp", "noservice", "noservice+sp", "memory"];
const REST: &[&str] = &["nsp", "ws", "noservice"];
const TLS: &[&str] = &["nsps", "wss"];
const TOKEN: &[&str] = &["nsp+token"];

/// All of them, in the order of the table.
pub(crate) const ROWS: [Row; 12] = [
    Row { name: "rtt", load: RTT, tls: false, reference: "nossock", peers: CALLS },
    Row { name: "pipe1x64", load: ONE_BY_64, tls: false, reference: "nossock", peers: CALLS },
    Row { name: "pipe16x16", load: SIXTEEN_BY_16, tls: false, reference: "nossock", peers: CALLS },
    Row { name: "blob1m", load: BLOB, tls: false, reference: "nossock", peers: CALLS },
    Row { name: "fanout", load: FAN, tls: false, reference: "nossock", peers: REST },
    Row { name: "idle", load: IDLE, tls: false, reference: "nossock", peers: REST },
    Row { name: "tls-rtt", load: RTT, tls: true, reference: "nossock", peers: TLS },
    Row { name: "tls-pipe1x64", load: ONE_BY_64, tls: true, reference: "nossock", peers: TLS },
    Row { name: "tls-pipe16x16", load: SIXTEEN_BY_16, tls: true, reference: "nossock", peers: TLS },
    Row { name: "token-rtt", load: RTT, tls: false, reference: "nsp", peers: TOKEN },
    Row { name: "token-pipe1x64", load: ONE_BY_64, tls: false, reference: "nsp", peers: TOKEN },
    Row { name: "token-pipe16x16", load: SIXTEEN_BY_16, tls: false, reference: "nsp", peers: TOKEN },
];
