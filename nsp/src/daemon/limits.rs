//! How much a daemon lets in.

use std::time::Duration;

use crate::machine::daemon as machine;

/// Every bound that a daemon keeps; none is infinite. Those of one connection are in [`machine::Limits`].
///
/// | field | default | why |
/// |---|---|---|
/// | `connections` | 10000 | at once; each takes a file descriptor and up to 6 KiB when idle |
/// | `connections_per_address` | 256 | at once, for an IPv4 address or an IPv6 /64 |
/// | `fresh_per_address` | 32 | of these without an entity: more is somebody who only knocks |
/// | `handshakes` | 256 | TLS and WebSocket handshakes at once; they cost a core a millisecond each |
/// | `handshake_time` | 10 s | from the first packet to the end of the handshakes |
/// | `accept_rate` | 200 | connections a second, for long, |
/// | `accept_burst` | 400 | and at once |
/// | `push_queue` | 1024 | data and events that may wait for one connection |
/// | `push_queue_bytes` | 4194304 | bytes in them |
/// | `push_wait` | 10 s | for room in that queue, where the rule is to wait |
/// | `answers` | 262144 | bytes of answers that may wait; nothing is read from who does not take its answers |
/// | `write_stall` | 10 s | a peer that takes nothing for this long is cut off |
/// | `data_queue` | 262144 | bytes of data that may wait for a service; reading stops at this |
/// | `close_time` | 10 s | for the service to say goodbye to an entity that is gone |
/// | `grace` | 10 s | for connections to finish when the daemon stops |
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made to be written as a literal with ..Default::default()")]
pub struct Limits {
    /// Connections at once; the next ones wait in the kernel's backlog.
    pub connections: usize,
    /// Connections at once of one address; the next one is closed.
    pub connections_per_address: usize,
    /// Connections at once of one address that have no entity; the next one is closed.
    pub fresh_per_address: usize,
    /// Handshakes at once; the next ones wait.
    pub handshakes: usize,
    /// How long a handshake may take.
    pub handshake_time: Duration,
    /// Connections that are accepted a second, in the long run.
    pub accept_rate: u32,
    /// Connections that are accepted at once after a pause.
    pub accept_burst: u32,
    /// Data and events that may wait for one connection.
    pub push_queue: usize,
    /// Bytes of data and events that may wait for one connection.
    pub push_queue_bytes: usize,
    /// How long who sends waits for room, where the rule is to wait.
    pub push_wait: Duration,
    /// Bytes of answers that may wait for one connection until it is read no further.
    pub answers: usize,
    /// How long a peer may take nothing of what is written.
    pub write_stall: Duration,
    /// Bytes of data that may wait for the services of one connection until it is read no further.
    pub data_queue: usize,
    /// How long a service may take to say goodbye to an entity.
    pub close_time: Duration,
    /// How long connections may take to finish when the daemon stops.
    pub grace: Duration,
    /// What one connection may make the daemon keep.
    pub connection: machine::Limits,
}

impl Limits {
    /// Most bytes of data that fit into a message, beside the words around it.
    pub(crate) const fn largest_body(&self) -> usize {
        const AROUND: usize = 2048;
        self.connection.message.saturating_sub(AROUND)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 256,
            fresh_per_address: 32,
            handshakes: 256,
            handshake_time: Duration::from_secs(10),
            accept_rate: 200,
            accept_burst: 400,
            push_queue: 1024,
            push_queue_bytes: 4 * 1024 * 1024,
            push_wait: Duration::from_secs(10),
            answers: 256 * 1024,
            write_stall: Duration::from_secs(10),
            data_queue: 256 * 1024,
            close_time: Duration::from_secs(10),
            grace: Duration::from_secs(10),
            connection: machine::Limits::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_defaults_are_the_constants() {
        let rows = include_str!("limits.rs").lines().filter_map(|line| line.strip_prefix("/// | `"));
        let documented: Vec<String> = rows
            .map(|row| {
                let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`'));
                let (name, value) = (cells.next().unwrap(), cells.next().unwrap());
                format!("{name}: {}", value.replace(" s", "s"))
            })
            .collect();
        let debug = format!("{:?}", Limits::default());
        let (_, fields) = debug.split_once("{ ").unwrap();
        let (fields, _) = fields.split_once(", connection: ").unwrap();
        assert_eq!(documented, fields.split(", ").collect::<Vec<_>>());
    }
}
