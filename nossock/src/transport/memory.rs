//! Two ends of a connection inside one process, for tests and for a peer that lives next door.

use tokio::io::DuplexStream;

/// Makes a connection whose two ends are in this process.
///
/// What is written to one end is read from the other. A writer waits once `buffer_bytes` are under way in its
/// direction, as it would for a socket with that much buffer; a small number exercises partial reads and writes.
/// Dropping an end ends the other's stream.
#[must_use]
pub fn pair(buffer_bytes: usize) -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(buffer_bytes)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn what_one_end_writes_the_other_reads_until_it_is_dropped() {
        let (mut left, mut right) = super::pair(2);
        let writer = tokio::spawn(async move { left.write_all(b"hello").await });
        let mut text = String::new();
        right.read_to_string(&mut text).await.unwrap();
        writer.await.unwrap().unwrap();
        assert_eq!(text, "hello");
    }
}
