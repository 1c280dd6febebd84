//! Where random bytes come from.

use std::fmt;

/// A source of bytes that nobody can predict.
///
/// It is a trait so that a test can replay a conversation; a program has no reason to use anything but [`SystemRandom`].
pub trait Random: Send + fmt::Debug {
    /// Fills all of `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);
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
