//! What has to wait until a connection is secured, or an entity verified.

/// Most messages that wait. Whoever has more to say before the first answer can wait for it.
const MESSAGES: usize = 16;

/// Most bytes in them.
const BYTES: usize = 64 * 1024;

/// Messages that wait, in order.
#[derive(Debug)]
pub(super) struct Held<T> {
    messages: Vec<T>,
    bytes: usize,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { messages: Vec::new(), bytes: 0 }
    }
}

impl<T> Held<T> {
    /// Keeps a message.
    ///
    /// # Errors
    /// The message, when there is no room.
    pub(super) fn push(&mut self, message: T, bytes: usize) -> Result<(), T> {
        if self.messages.len() == MESSAGES || self.bytes + bytes > BYTES {
            return Err(message);
        }
        self.bytes += bytes;
        self.messages.push(message);
        Ok(())
    }

    pub(super) fn take(&mut self) -> Vec<T> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_bytes_are_both_counted() {
        let mut held = Held::default();
        for n in 0..MESSAGES {
            held.push(n, 1).unwrap();
        }
        assert_eq!(held.push(99, 0), Err(99));
        assert_eq!(held.take().len(), MESSAGES);

        held.push(1, BYTES).unwrap();
        assert_eq!(held.push(2, 1), Err(2));
        assert_eq!(held.take(), [1]);
        held.push(3, BYTES).unwrap();
    }
}
