//! Passwords: which are good enough, how they are kept, and how they are checked.

mod hash;
mod hasher;
mod rules;

pub use hash::{PasswordHash, PasswordHashError};
pub use hasher::{Cost, CostError, HashingBusy};
pub use rules::{PasswordError, PasswordRules};

pub(crate) use hash::{LegacyKey, legacy_hmac};
pub(crate) use hasher::Hasher;

use nsp::Password;
use nsp::secure::{Random, SystemRandom};
use zeroize::Zeroizing;

/// A password for somebody who has none yet: 20 letters and digits that are hard to mistake for each other, 100 bits.
pub(crate) fn one_time() -> Password {
    // 32 of them, so that five bits choose one; without 0, o, 1, l.
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = Zeroizing::new([0; 20]);
    SystemRandom.fill(&mut *bytes);
    let letter = |byte: &u8| ALPHABET.get(usize::from(byte & 31)).map_or('a', |letter| char::from(*letter));
    let mut text = String::with_capacity(24);
    for (i, byte) in bytes.iter().enumerate() {
        if i > 0 && i % 5 == 0 {
            text.push('-');
        }
        text.push(letter(byte));
    }
    Password::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_time_passwords_follow_the_rules_and_differ() {
        let (one, other) = (one_time(), one_time());
        assert_ne!(one, other);
        assert_eq!(one.reveal().len(), 23);
        assert_eq!(PasswordRules::default().check(&one, None), Ok(()));
    }
}
