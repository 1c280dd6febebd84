//! Maps whose keys are numbers that this side gave away, one after the other.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by [keys](super::key) of ours. No peer chooses them, so spreading them well is all that is asked of the hash, and it is had for one
/// multiplication.
pub(crate) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Fibonacci hashing: the high bits, which tell entries of a bucket apart, depend on all of the number, and the low ones on its low ones.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        // No key of ours comes here; were one to, it would still be spread.
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher as _;

    use super::*;
    use crate::machine::client::CallKey;

    #[test]
    fn numbers_in_a_row_differ_above_and_below() {
        let build = BuildHasherDefault::<NumberHasher>::default();
        let mut low = [false; 128];
        let mut high = [false; 128];
        for n in 0..128 {
            let hash = build.hash_one(CallKey(n));
            low[usize::try_from(hash % 128).unwrap()] = true;
            high[usize::try_from(hash >> 57).unwrap()] = true;
        }
        assert!(low.iter().all(|seen| *seen));
        assert!(high.iter().filter(|seen| **seen).count() > 100);
    }
}
