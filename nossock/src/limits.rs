use std::time::Duration;

const KIB: usize = 1024;

/// Every bound that a connection keeps; none is infinite.
///
/// | field | default | why |
/// |---|---|---|
/// | `max_body` | 1048576 | bytes; what NATS and socket.io found enough, larger things go in pieces |
/// | `max_skip` | 67108864 | bytes; a refused body up to this is read past, a larger one ends the connection |
/// | `send_queue` | 262144 | bytes; fits the second-level cache, and is more than one system call takes |
/// | `receive_queue` | 262144 | bytes; what may wait for handlers or for `recv` before reading stops |
/// | `read_step` | 65536 | bytes; room for one read, and the step in which memory follows what arrives |
/// | `requests_out` | 256 | requests of ours under way; the next one waits, inside its deadline |
/// | `requests_in` | 256 | requests of the peer being handled; more wait in the receive queue |
/// | `controls` | 1024 | control frames of the peer within 10 s beyond the requests it sent: as many as four full sets of late cancels |
/// | `frame_time` | 30 s | a frame that has begun is to end within this, |
/// | `frame_rate` | 1024 | and within its bytes divided by this many a second, whichever is longer |
/// | `write_stall` | 30 s | a peer that takes nothing for this long is cut off |
/// | `connect` | 10 s | from the first packet to the end of the TLS handshake and of the introduction, on either side |
/// | `close_grace` | 5 s | for running handlers to end at a close, and again for what is queued to leave |
/// | `ping_after` | 25 s | of silence, when the peer knows pings |
/// | `ping_wait` | 20 s | for anything to come after a ping |
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made to be written as a literal with ..Default::default()")]
pub struct Limits {
    /// The largest body that is accepted or sent, in bytes.
    pub max_body: u32,
    /// The largest body that is skipped rather than the connection closed, in bytes.
    pub max_skip: u32,
    /// Bytes that may wait to be written; a message is let in while there are fewer, so the largest message
    /// comes on top.
    pub send_queue: usize,
    /// Bytes that may wait for handlers or for [`recv`](crate::Socket::recv); reading stops at this.
    pub receive_queue: usize,
    /// Bytes of room for one read.
    pub read_step: usize,
    /// Requests of ours that may be under way at once.
    pub requests_out: usize,
    /// Requests of the peer that are handled at once.
    pub requests_in: usize,
    /// Control frames that the peer may send within 10 s, beyond the requests that it sent: a ping costs a pong, while a cancel
    /// is paid for by its request, whose handler keeps its place among `requests_in` until it is gone. More of them end the
    /// connection.
    pub controls: u32,
    /// How long a frame may take to arrive, at least.
    pub frame_time: Duration,
    /// Bytes a second below which a frame that takes longer than `frame_time` is given up.
    pub frame_rate: u32,
    /// How long a peer may take nothing of what is written.
    pub write_stall: Duration,
    /// How long connecting or accepting may take, TLS and an introduction included.
    pub connect: Duration,
    /// How long running handlers may take to end at a close, and again what is queued to leave.
    pub close_grace: Duration,
    /// Silence after which a ping is sent.
    pub ping_after: Duration,
    /// Silence after a ping after which the peer is given up.
    pub ping_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 1024 * 1024,
            max_skip: 64 * 1024 * 1024,
            send_queue: 256 * KIB,
            receive_queue: 256 * KIB,
            read_step: 64 * KIB,
            requests_out: 256,
            requests_in: 256,
            controls: 1024,
            frame_time: Duration::from_secs(30),
            frame_rate: 1024,
            write_stall: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            close_grace: Duration::from_secs(5),
            ping_after: Duration::from_secs(25),
            ping_wait: Duration::from_secs(20),
        }
    }
}

/// How a socket behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made to be written as a literal with ..Default::default()")]
pub struct Config {
    /// Bounds of memory and time.
    pub limits: Limits,
    /// How long a request may take, queueing included: 5 s, as the npm package has it.
    pub request_timeout: Duration,
    /// Whether to say hello first. On by default for the side that connects; the side that accepts only answers.
    /// A peer that never says it gets plain nossock.
    pub hello: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { limits: Limits::default(), request_timeout: Duration::from_secs(5), hello: true }
    }
}

/// Bounds of a [`Server`](crate::Server).
///
/// | field | default | why |
/// |---|---|---|
/// | `connections` | 10000 | at once; each takes a file descriptor and about 2 KiB when idle |
/// | `connections_per_address` | 256 | at once, for an IPv4 address or an IPv6 /64 |
/// | `handshakes` | 1024 | TLS handshakes at once, each with about 30 KiB: four times what one address may have |
/// | `backlog` | 1024 | connections the kernel keeps for us |
/// | `grace` | 10 s | what `serve_until` gives the connections to finish |
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made to be written as a literal with ..Default::default()")]
pub struct ServerLimits {
    /// Connections at once; the next ones wait in the kernel's backlog.
    pub connections: usize,
    /// Connections at once of one address; the next one is closed.
    pub connections_per_address: usize,
    /// TLS handshakes at once, from the first bytes of the peer on; the next ones wait.
    pub handshakes: usize,
    /// Connections that wait in the kernel.
    pub backlog: u32,
    /// How long connections may take to finish when the server stops.
    pub grace: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 256,
            handshakes: 1024,
            backlog: 1024,
            grace: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows `| \`field\` | default |` of the tables above.
    fn documented() -> Vec<(String, String)> {
        let rows = include_str!("limits.rs").lines().filter_map(|line| line.strip_prefix("/// | `"));
        rows.map(|row| {
            let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
            (cells.next().unwrap(), cells.next().unwrap())
        })
        .collect()
    }

    #[test]
    fn documented_defaults_are_the_constants() {
        fn fields(debug: &str) -> Vec<(String, String)> {
            let inner = debug.split_once("{ ").unwrap().1.trim_end_matches(" }");
            inner
                .split(", ")
                .map(|field| {
                    let (name, value) = field.split_once(": ").unwrap();
                    (
                        name.to_owned(),
                        value.strip_suffix('s').map_or(value.to_owned(), |secs| format!("{secs} s")),
                    )
                })
                .collect()
        }
        let limits = fields(&format!("{:?}", Limits::default()));
        let server = fields(&format!("{:?}", ServerLimits::default()));
        assert_eq!(documented(), [limits, server].concat());
    }
}
