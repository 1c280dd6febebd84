use std::time::Duration;

/// What one connection may cost, in bytes and in time; nothing is infinite.
///
/// | field | default | why |
/// |---|---|---|
/// | `message` | 1114112 | bytes; a blob of 1 MiB, and 64 KiB for what goes with it |
/// | `skip` | 67108864 | bytes; a nossock frame over `message` is read past up to this, a larger one ends the connection |
/// | `read_step` | 65536 | bytes; room for one read, and the step in which memory follows what arrives |
/// | `message_time` | 30 s | a message that has begun is to end within this, |
/// | `message_rate` | 1024 | and within its bytes divided by this many a second, whichever is longer |
/// | `write_stall` | 30 s | a peer that takes nothing for this long is cut off |
/// | `connect` | 10 s | from the first packet to the end of TLS and of the upgrade to WebSocket |
/// | `close_grace` | 5 s | for the last bytes to leave, and for the peer to end the connection too |
/// | `ping_after` | 25 s | of silence, where the carrier has pings: nossock, if the peer knows them, and WebSocket |
/// | `ping_wait` | 20 s | for anything to come after a ping |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made to be written as a literal with ..Default::default()")]
pub struct Limits {
    /// The largest message that is accepted, until [`limit_message`](super::Carrier::limit_message) says another, and the
    /// largest that is sent, in bytes.
    pub message: usize,
    /// The largest nossock frame that is skipped rather than the connection closed, in bytes.
    pub skip: u32,
    /// Bytes of room for one read.
    pub read_step: usize,
    /// How long a message may take to arrive, at least.
    pub message_time: Duration,
    /// Bytes a second below which a message that takes longer than `message_time` is given up.
    pub message_rate: u32,
    /// How long a peer may take nothing of what is written.
    pub write_stall: Duration,
    /// How long connecting may take. Who accepts puts a deadline of its own around
    /// [`Arriving::handshake`](super::Arriving::handshake).
    pub connect: Duration,
    /// How long closing may take.
    pub close_grace: Duration,
    /// Silence after which a ping is sent.
    pub ping_after: Duration,
    /// Silence after a ping after which the peer is given up.
    pub ping_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: (1024 + 64) * 1024,
            skip: 64 * 1024 * 1024,
            read_step: 64 * 1024,
            message_time: Duration::from_secs(30),
            message_rate: 1024,
            write_stall: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            close_grace: Duration::from_secs(5),
            ping_after: Duration::from_secs(25),
            ping_wait: Duration::from_secs(20),
        }
    }
}

impl Limits {
    /// How long a message of that many bytes may take to arrive.
    pub(super) fn time_for(&self, bytes: u64) -> Duration {
        self.message_time.max(Duration::from_secs(bytes / u64::from(self.message_rate.max(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_defaults_are_the_constants() {
        let debug = format!("{:?}", Limits::default());
        let fields = debug.split_once("{ ").unwrap().1.trim_end_matches(" }").split(", ");
        let constants: Vec<_> = fields.map(|field| field.split_once(": ").unwrap()).collect();
        let rows = include_str!("limits.rs").lines().filter_map(|line| line.strip_prefix("/// | `"));
        let documented: Vec<_> = rows
            .map(|row| {
                let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`'));
                (cells.next().unwrap(), cells.next().unwrap().replace(" s", "s"))
            })
            .collect();
        assert_eq!(documented.len(), constants.len());
        for ((name, value), (field, constant)) in documented.iter().zip(constants) {
            assert_eq!((*name, value.as_str()), (field, constant));
        }
    }
}
