//! Where random bytes come from.

use std::cell::RefCell;
use std::fmt;

/// A source of bytes that nobody can predict.
///
/// It is a trait so that a test can replay a conversation; a program has no reason to use anything but [`SystemRandom`].
pub trait Random: Send + fmt::Debug {
    /// Fills all of `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);

    /// The same for what goes into every message, and is no secret for long: IVs and salts. It may be drawn in advance.
    fn fill_message(&mut self, bytes: &mut [u8]) {
        self.fill(bytes);
    }
}

/// The generator of `aws-lc-rs`, seeded by the operating system.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to add")]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        // It fails only where the operating system has no entropy at all, and there nothing may go on.
        aws_lc_rs::rand::fill(bytes).expect("the operating system has a source of randomness");
    }

    /// From a stock of the thread: the generator takes as long for a few bytes as for some hundred.
    fn fill_message(&mut self, bytes: &mut [u8]) {
        STOCK.with_borrow_mut(|stock| {
            if stock.len() < bytes.len() {
                stock.resize(DRAWN.max(bytes.len()), 0);
                self.fill(stock);
            }
            let from = stock.len() - bytes.len();
            if let Some(drawn) = stock.get_mut(from..) {
                bytes.copy_from_slice(drawn);
                drawn.fill(0); // each byte is given once
            }
            stock.truncate(from);
        });
    }
}

/// How much is drawn in advance, in bytes: for 48 messages.
const DRAWN: usize = 48 * 80;

thread_local! {
    static STOCK: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stock_gives_each_byte_once_and_is_filled_again() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..200 {
            let mut drawn = [0; 80];
            SystemRandom.fill_message(&mut drawn);
            let (parts, _) = drawn.as_chunks::<16>();
            assert!(parts.iter().all(|part| seen.insert(*part)), "16 bytes came twice");
        }
        let mut large = vec![0; 2 * DRAWN];
        SystemRandom.fill_message(&mut large);
        assert!(large.iter().filter(|byte| **byte == 0).count() < large.len() / 32);
        assert!(STOCK.with_borrow(Vec::len) <= DRAWN);
    }
}

/// Bytes that count up, so that a test knows what was drawn.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Counting(u8);

#[cfg(test)]
impl Random for Counting {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
    }
}
