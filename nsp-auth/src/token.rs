//! Tokens: what somebody shows instead of a password, once logged in.
//!
//! A token is 256 random bits as text. Whoever finds the database finds no token in it, only hashes: there is nothing to be
//! gained from a salt or a slow hash where nobody can guess. Being looked up by their hash, tokens are not compared in a way whose
//! time says anything about them.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nsp::Token;
use nsp::secure::{Random, SystemRandom};
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::user::UserId;

/// SHA-256 of a token's text: all that is kept of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Of a token.
    #[must_use]
    pub fn of(token: &Token) -> Self {
        Self(Sha256::digest(token.reveal()).into())
    }

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// How its token is named in lists.
    #[must_use]
    pub const fn id(&self) -> TokenId {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        TokenId([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({}..)", self.id())
    }
}

/// How a token is named in lists and when it is revoked: the first 64 bits of its hash, as 16 hexadecimal digits. It is no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId([u8; 8]);

impl TokenId {
    /// Reads 16 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        fits.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(|bits| Self(bits.to_be_bytes()))
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for TokenId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenRecord {
    /// Which it is.
    pub hash: TokenHash,
    /// Whose.
    pub user: UserId,
    /// What it is for: where the login came from, unless somebody said more.
    pub label: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it was used last, within a minute.
    pub last_used: Timestamp,
    /// When it ends, however it is used.
    pub expires: Timestamp,
    /// After how long without use it ends.
    pub idle: Duration,
}

impl TokenRecord {
    /// What is kept of a token that begins now.
    #[must_use]
    pub fn new(hash: TokenHash, user: UserId, label: String, lifetime: Lifetime, now: Timestamp) -> Self {
        Self {
            hash,
            user,
            label,
            created: now,
            last_used: now,
            expires: now.after(lifetime.absolute),
            idle: lifetime.idle,
        }
    }

    /// How it is named in lists.
    #[must_use]
    pub const fn id(&self) -> TokenId {
        self.hash.id()
    }

    /// How long it is good for if nobody uses it from now on; `None` if it is good no more.
    ///
    /// One from the future was made under a wrong clock, and would outlive its lifetime under the right one: it is good for nothing.
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> Option<Duration> {
        let end = self.expires.min(self.last_used.after(self.idle));
        let is_from_the_future = self.created > now.after(CLOCK_SKEW);
        let remaining = end.since(now);
        (!is_from_the_future && !remaining.is_zero()).then_some(remaining)
    }
}

/// How much later than now a token may have been made. A day: time zones set wrongly are hours apart.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(24 * 60 * 60);

/// How long tokens live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a token ends by age or by idleness")]
pub struct Lifetime {
    /// At most.
    pub absolute: Duration,
    /// Without being used.
    pub idle: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Lifetime {
    /// Of ordinary users: 90 days, 30 without use. A program that runs every month stays logged in.
    pub const USER: Self = Self { absolute: DAY.saturating_mul(90), idle: DAY.saturating_mul(30) };
    /// Of superusers: 12 hours, a working day.
    pub const SUPERUSER: Self = Self { absolute: HALF_A_DAY, idle: HALF_A_DAY };
}

const HALF_A_DAY: Duration = Duration::from_secs(12 * 60 * 60);

/// A token that nobody has seen.
pub(crate) fn random() -> Token {
    let mut bits = Zeroizing::new([0; 32]);
    SystemRandom.fill(&mut *bits);
    Token::new(URL_SAFE_NO_PAD.encode(*bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(lifetime: Lifetime, now: Timestamp) -> TokenRecord {
        TokenRecord::new(TokenHash::of(&random()), UserId::random(), String::new(), lifetime, now)
    }

    #[test]
    fn tokens_are_long_and_never_the_same() {
        let (one, other) = (random(), random());
        assert_ne!(one, other);
        assert_eq!(one.reveal().len(), 43);
        assert_eq!(format!("{one:?}"), "Token(..)");
    }

    #[test]
    fn the_hash_is_sha_256_of_the_text() {
        let hash = TokenHash::of(&Token::new("abc"));
        assert_eq!(hash.id().to_string(), "ba7816bf8f01cfea");
        assert_eq!(TokenId::parse("ba7816bf8f01cfea"), Some(hash.id()));
        assert_eq!(format!("{hash:?}"), "TokenHash(ba7816bf8f01cfea..)");
        assert_eq!(TokenId::parse("ba7816bf8f01cfe"), None);
        assert_eq!(TokenId::parse("+a7816bf8f01cfea"), None);
    }

    #[test]
    fn a_token_ends_by_age_and_by_idleness() {
        let begin = Timestamp::from_millis(1_000_000_000_000);
        let lifetime = Lifetime { absolute: DAY * 90, idle: DAY * 30 };
        let mut token = record(lifetime, begin);
        assert_eq!(token.remaining(begin), Some(DAY * 30));
        assert_eq!(token.remaining(begin.after(DAY * 30)), None);
        token.last_used = begin.after(DAY * 80);
        assert_eq!(token.remaining(begin.after(DAY * 81)), Some(DAY * 9));
        assert_eq!(token.remaining(begin.after(DAY * 90)), None);
    }

    #[test]
    fn a_token_from_the_future_is_good_for_nothing() {
        let now = Timestamp::from_millis(1_000_000_000_000);
        assert!(record(Lifetime::USER, now.after(DAY / 2)).remaining(now).is_some());
        assert_eq!(record(Lifetime::USER, now.after(DAY * 3650)).remaining(now), None);
    }
}
