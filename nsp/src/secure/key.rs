//! The session key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::Seed;

/// The key of one connection: 32 characters of base64, which are the 32 bytes of the AES-256 key as they stand.
///
/// So it holds 192 bits of the hash, no more.
#[derive(Clone)]
pub struct SessionKey(Zeroizing<[u8; Self::LENGTH]>);

impl SessionKey {
    /// Length in bytes.
    pub const LENGTH: usize = 32;

    /// Computes the key: the first 32 characters of `base64(SHA-256(pem ‖ text(seed)))`.
    ///
    /// `pem` is the daemon's public key exactly as it was sent, the last line break included.
    #[must_use]
    pub fn derive(pem: &str, seed: &Seed) -> Self {
        let hash = Sha256::new().chain_update(pem.as_bytes()).chain_update(seed.text().as_bytes()).finalize();
        let text = Zeroizing::new(STANDARD.encode(hash));
        Self::from_text(&text).expect("base64 of a SHA-256 has 44 characters")
    }

    /// Takes the first 32 bytes of a text.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        text.as_bytes().first_chunk().map(|&bytes| Self(Zeroizing::new(bytes)))
    }

    /// The 32 bytes.
    pub(super) fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// The key as text, as it stands in the answer to SP.
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&*self.0).expect("base64 is ASCII")
    }

    /// Whether this is the key that `claimed` names, in constant time.
    pub(super) fn is(&self, claimed: &[u8]) -> Choice {
        self.0.ct_eq(claimed)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::testing;

    #[test]
    fn recorded_keys_follow_from_the_recorded_seeds() {
        // The notes name r of each answer: a number, or a text.
        let mut seen = 0;
        for flow in testing::flows() {
            let (Some(pem), Some(key)) = (&flow.rsa_public_pem, &flow.aes_key) else { continue };
            let note = flow.messages.iter().map(|m| &*m.note).find(|note| note.contains("{\"r\":")).unwrap();
            let json: std::collections::HashMap<&str, &RawValue> =
                serde_json::from_str(&note[note.find('{').unwrap()..]).unwrap();
            let seed = Seed::from_json(json.get("r").copied()).unwrap();
            assert_eq!(SessionKey::derive(pem, &seed).as_str(), key, "{}", flow.name);
            seen += 1;
        }
        assert!(seen >= 9, "only {seen}");
    }

    #[test]
    fn last_line_break_of_the_pem_counts() {
        let flow = testing::flow("handshake-int.secure-tcp");
        let pem = flow.rsa_public_pem.unwrap();
        let seed = Seed::from_json(Some(&RawValue::from_string("76543".into()).unwrap())).unwrap();
        assert!(pem.ends_with('\n'));
        assert_ne!(SessionKey::derive(pem.trim_end(), &seed).as_str(), flow.aes_key.unwrap());
    }

    #[test]
    fn key_is_not_printed() {
        let key = SessionKey::from_text("zDABZD3Sk8NSEt9USGnWD5tWMBjoj2P2").unwrap();
        assert_eq!(format!("{key:?}"), "SessionKey(..)");
        assert!(bool::from(key.is(b"zDABZD3Sk8NSEt9USGnWD5tWMBjoj2P2")));
        assert!(!bool::from(key.is(b"zDABZD3Sk8NSEt9USGnWD5tWMBjoj2P3")));
        assert!(!bool::from(key.is(b"zDABZD3Sk8NSEt9USGnWD5tWMBjoj2P2x")));
    }
}
