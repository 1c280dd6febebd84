//! How a password is kept.
//!
//! ```text
//! $argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>                   the password
//! noservice:<key>$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>    hex(HMAC-SHA256(key, password)), key in base64url
//! ```
//!
//! The first is a PHC string. The second is what becomes of a user of the original, whose HMAC was wrapped when it was imported:
//! the fast hash is kept nowhere, and at the first login it gives way to the first form.

use std::fmt;

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nsp::secure::{Random, SystemRandom};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Cost;

/// A password as it is kept. Not printed: it is enough to guess by.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    legacy: Option<LegacyKey>,
    phc: String,
}

/// The key of the original's HMAC, in base64url.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct LegacyKey(String);

const LEGACY: &str = "noservice:";

/// Most memory of a hash that is checked, in KiB. 1 GiB: what a database says must not take the machine down.
const MAX_MEMORY: u32 = 1024 * 1024;
/// Most passes of a hash that is checked.
const MAX_PASSES: u32 = 64;

impl PasswordHash {
    /// Reads what was stored.
    ///
    /// # Errors
    ///
    /// When it is no hash of ours, or one that would take the machine down.
    pub fn parse(text: &str) -> Result<Self, PasswordHashError> {
        let (legacy, phc) = match text.strip_prefix(LEGACY) {
            Some(rest) => {
                let (key, _) = rest.split_once('$').ok_or(PasswordHashError)?;
                (Some(LegacyKey(key.into())), rest.get(key.len()..).ok_or(PasswordHashError)?)
            }
            None => (None, text),
        };
        let this = Self { legacy, phc: phc.into() };
        let params = this.params()?;
        if params.m_cost() > MAX_MEMORY || params.t_cost() > MAX_PASSES || params.p_cost() > MAX_PASSES {
            return Err(PasswordHashError);
        }
        Ok(this)
    }

    /// What is stored.
    #[must_use]
    pub fn reveal(&self) -> String {
        match &self.legacy {
            Some(key) => format!("{LEGACY}{}{}", key.0, self.phc),
            None => self.phc.clone(),
        }
    }

    /// Makes one. Slow on purpose.
    pub(super) fn new(password: &[u8], cost: Cost) -> Self {
        let mut salt = [0; 16];
        SystemRandom.fill(&mut salt);
        let phc = argon2::PasswordHasher::<phc::PasswordHash>::hash_password_with_salt(
            &cost.argon2(),
            password,
            &salt,
        )
        .expect("the cost was checked, and the salt is of the recommended length");
        Self { legacy: None, phc: phc.to_string() }
    }

    /// Wraps the original's hash, in hexadecimal digits. Slow on purpose.
    pub(super) fn wrap(hmac: &[u8; 32], key: LegacyKey, cost: Cost) -> Self {
        Self { legacy: Some(key), ..Self::new(hex(hmac).as_bytes(), cost) }
    }

    /// Whether this is the password. Slow on purpose.
    pub(super) fn is_of(&self, password: &[u8]) -> bool {
        let input = match &self.legacy {
            Some(key) => Zeroizing::new(key.hash(password).into_bytes()),
            None => Zeroizing::new(password.to_vec()),
        };
        let Ok((parsed, params)) = self.parsed() else { return false };
        let (Some(salt), Some(hash)) = (&parsed.salt, &parsed.hash) else { return false };
        let mut output = Zeroizing::new([0; 32]);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(&input, salt, &mut *output).is_ok()
            && bool::from(output.ct_eq(hash.as_bytes()))
    }

    /// Whether one made now would be better.
    pub(super) fn is_weaker_than(&self, cost: Cost) -> bool {
        let Ok(params) = self.params() else { return true };
        self.legacy.is_some() || params.m_cost() < cost.memory_kib || params.t_cost() < cost.passes
    }

    fn params(&self) -> Result<Params, PasswordHashError> {
        self.parsed().map(|(_, params)| params)
    }

    fn parsed(&self) -> Result<(phc::PasswordHash, Params), PasswordHashError> {
        let parsed = phc::PasswordHash::new(&self.phc).map_err(|_| PasswordHashError)?;
        let fits = parsed.algorithm.as_str() == "argon2id"
            && parsed.version == Some(19)
            && parsed.salt.is_some()
            && parsed.hash.as_ref().is_some_and(|hash| hash.as_bytes().len() == 32);
        let params = Params::try_from(&parsed).map_err(|_| PasswordHashError)?;
        if fits { Ok((parsed, params)) } else { Err(PasswordHashError) }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.legacy.is_some() { "PasswordHash(noservice..)" } else { "PasswordHash(..)" })
    }
}

/// A text that is no hash of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored password is no Argon2id hash that this version can check")]
#[non_exhaustive]
pub struct PasswordHashError;

impl LegacyKey {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(key))
    }

    /// What the original keeps of a password.
    fn hash(&self, password: &[u8]) -> String {
        let key = URL_SAFE_NO_PAD.decode(&self.0).unwrap_or_default();
        hex(&legacy_hmac(&key, password))
    }
}

/// The hash of the original.
pub(crate) fn legacy_hmac(key: &[u8], password: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), password);
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As cheap as can be, so that tests are quick.
    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1 };

    #[test]
    fn a_hash_knows_its_password_and_no_other() {
        let hash = PasswordHash::new(b"correct horse", CHEAP);
        assert!(hash.is_of(b"correct horse"));
        assert!(!hash.is_of(b"correct horsf"));
        assert!(!hash.is_of(b"correct horse\0"));
        assert!(!hash.is_of(b""));
        assert!(hash.reveal().starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{}", hash.reveal());
        assert_eq!(PasswordHash::parse(&hash.reveal()), Ok(hash.clone()));
        assert_eq!(format!("{hash:?}"), "PasswordHash(..)");
        assert_ne!(PasswordHash::new(b"correct horse", CHEAP), hash, "the salt is new");
    }

    #[test]
    fn a_hash_of_the_original_is_wrapped() {
        // HMAC-SHA256 of `admin` under the original's key, as its database has it.
        let hmac = [
            0xd3, 0xac, 0xf2, 0x35, 0xcb, 0xaa, 0x63, 0xe8, 0x7a, 0x67, 0x49, 0x3a, 0xfd, 0x4f, 0xdf, 0x7b,
            0x95, 0xaa, 0xc8, 0xa2, 0x63, 0xa0, 0xbf, 0xc2, 0xa1, 0x1f, 0x68, 0xc8, 0x33, 0x3e, 0x60, 0xa0,
        ];
        let hash = PasswordHash::wrap(&hmac, LegacyKey::new(b"FATFROG"), CHEAP);
        assert!(hash.is_of(b"admin"));
        assert!(!hash.is_of(b"admim"));
        assert!(!hash.is_of(hex(&hmac).as_bytes()), "what the old database holds is no password");
        assert!(hash.is_weaker_than(CHEAP), "it gives way at the first login");
        assert!(!hash.reveal().contains("d3acf235"));
        assert_eq!(PasswordHash::parse(&hash.reveal()), Ok(hash));
    }

    #[test]
    fn higher_parameters_ask_for_a_new_hash() {
        let hash = PasswordHash::new(b"correct horse", CHEAP);
        assert!(!hash.is_weaker_than(CHEAP));
        assert!(hash.is_weaker_than(Cost { memory_kib: 16, passes: 1 }));
        assert!(hash.is_weaker_than(Cost { memory_kib: 8, passes: 2 }));
        let better = PasswordHash::new(b"correct horse", Cost { memory_kib: 16, passes: 2 });
        assert!(!better.is_weaker_than(CHEAP), "lower ones do not");
    }

    #[test]
    fn what_is_no_hash_or_takes_the_machine_down_is_refused() {
        for text in [
            "",
            "d3acf235cbaa63e87a67493afd4fdf7b95aac8a263a0bfc2a11f68c8333e60a0",
            "noservice:",
            "noservice:abc",
            "$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$QkbEeGxpOhKUu6Xl9HkXvQ0iTBJeSbpVz6lDhcSLWmo",
            "$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHQ$QkbEeGxpOhKUu6Xl9HkXvQ0iTBJeSbpVz6lDhcSLWmo",
            "$argon2id$v=19$m=8,t=1000,p=1$c29tZXNhbHQ$QkbEeGxpOhKUu6Xl9HkXvQ0iTBJeSbpVz6lDhcSLWmo",
        ] {
            assert_eq!(PasswordHash::parse(text), Err(PasswordHashError), "{text}");
        }
    }
}
