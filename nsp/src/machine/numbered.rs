//! Maps whose keys this side gave away: numbers, one after the other, and names.

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

/// A map by names that are random, as ids of entities, or chosen by who wrote this program, as those of functions. A peer can look for a name here and
/// add none, or only as few as a limit lets it: so it cannot make the map slow, and the hash need not be a secret.
pub(crate) type NameMap<K, V> = HashMap<K, V, BuildHasherDefault<NameHasher>>;

/// Eight bytes at a time.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct NameHasher(u64);

impl NameHasher {
    #[inline]
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for NameHasher {
    #[inline]
    fn write(&mut self, mut bytes: &[u8]) {
        while let Some((chunk, rest)) = bytes.split_first_chunk() {
            self.add(u64::from_le_bytes(*chunk));
            bytes = rest;
        }
        if !bytes.is_empty() {
            let last = bytes.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
            self.add(last);
        }
    }

    /// What ends a text. One text stands alone here.
    #[inline]
    fn write_u8(&mut self, _: u8) {}

    #[inline]
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher as _;

    use super::*;
    use crate::machine::client::CallKey;

    #[test]
    fn names_that_look_alike_differ_above_and_below() {
        let build = BuildHasherDefault::<NameHasher>::default();
        let hashes: Vec<u64> = (0_u64..128)
            .flat_map(|n| {
                [
                    format!("f{n}"),
                    format!("_{n}rj4v0a1ozxkq8b2m7tgw5c9e"),
                    format!("_rj4v0a1ozxkq8b2m7tgw5c9e{n}"),
                ]
            })
            .map(|name| build.hash_one(&*name))
            .collect();
        let low: std::collections::HashSet<u64> = hashes.iter().map(|hash| hash % 1024).collect();
        let high: std::collections::HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
        assert!(low.len() > 280, "{}", low.len());
        assert!(high.len() > 100, "{}", high.len());
    }

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
