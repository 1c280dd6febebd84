//! The daemon's RSA key, both halves, and how a client recognises it again.

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no PEM section of the needed kind.
    #[error("no {expected} in PEM form found")]
    NotPem {
        /// What was looked for.
        expected: &'static str,
    },
    /// It is not an RSA key of 2048 to 8192 bits.
    #[error("not an RSA key of 2048 to 8192 bits")]
    NotRsa,
    /// The cryptographic library could not make or write a key.
    #[error("the key could not be made")]
    NotMade,
}

/// The key pair of a daemon.
///
/// Its public half is kept as the text that clients get, for the session keys depend on every byte of it.
pub struct ServerKey {
    decrypting: OaepPrivateDecryptingKey,
    private: PrivateDecryptingKey,
    public_pem: String,
    fingerprint: Fingerprint,
}

impl ServerKey {
    /// Reads a private key: PKCS#8 (`PRIVATE KEY`) or PKCS#1 (`RSA PRIVATE KEY`), not encrypted.
    ///
    /// # Errors
    /// When there is none in the text, or it is not RSA of a usable size.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let not_pem = KeyError::NotPem { expected: "private key" };
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| not_pem)?;
        let wrapped;
        let der = match &key {
            PrivateKeyDer::Pkcs8(der) => der.secret_pkcs8_der(),
            PrivateKeyDer::Pkcs1(der) => {
                wrapped = pkcs8_around(der.secret_pkcs1_der());
                &**wrapped
            }
            _ => return Err(KeyError::NotRsa),
        };
        Self::new(PrivateDecryptingKey::from_pkcs8(der).map_err(|_| KeyError::NotRsa)?)
    }

    /// Makes a new pair of 2048 bits, the size that the original has. It takes a good part of a second.
    ///
    /// # Errors
    /// [`KeyError::NotMade`] when the cryptographic library refuses.
    pub fn generate() -> Result<Self, KeyError> {
        Self::new(PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(|_| KeyError::NotMade)?)
    }

    fn new(private: PrivateDecryptingKey) -> Result<Self, KeyError> {
        let public = private.public_key();
        let der = public.as_der().map_err(|_| KeyError::NotMade)?;
        Ok(Self {
            decrypting: OaepPrivateDecryptingKey::new(private.clone()).map_err(|_| KeyError::NotRsa)?,
            public_pem: pem("PUBLIC KEY", der.as_ref()).to_string(),
            fingerprint: Fingerprint::of(der.as_ref()),
            private,
        })
    }

    /// The private key as PKCS#8 PEM, to be kept in a file that nobody else can read.
    ///
    /// # Errors
    /// [`KeyError::NotMade`] when the cryptographic library refuses.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let der = self.private.as_der().map_err(|_| KeyError::NotMade)?;
        Ok(pem("PRIVATE KEY", der.as_ref()))
    }

    /// The public half, as it goes out in SP: 64 columns, a line break at the end.
    #[must_use]
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// What clients recognise the key by.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Length of what can be decrypted, in bytes.
    pub(super) fn sealed_length(&self) -> usize {
        self.decrypting.key_size_bytes()
    }

    /// Decrypts with RSA-OAEP (SHA-1, no label).
    pub(super) fn decrypt(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut plain = Zeroizing::new(vec![0; self.decrypting.min_output_size()]);
        let length = self.decrypting.decrypt(&OAEP_SHA1_MGF1SHA1, sealed, &mut plain, None).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerKey({})", self.fingerprint)
    }
}

/// The public key that a daemon has sent.
pub struct PublicKey {
    pem: String,
    encrypting: OaepPublicEncryptingKey,
    fingerprint: Fingerprint,
}

impl PublicKey {
    /// Reads the `p` of an SP request and keeps it to the byte.
    ///
    /// # Errors
    /// When there is no public key in the text, or it is not RSA of a usable size.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let not_pem = KeyError::NotPem { expected: "public key" };
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| not_pem)?;
        let key = PublicEncryptingKey::from_der(&der).map_err(|_| KeyError::NotRsa)?;
        Ok(Self {
            pem: pem.to_owned(),
            encrypting: OaepPublicEncryptingKey::new(key).map_err(|_| KeyError::NotRsa)?,
            fingerprint: Fingerprint::of(&der),
        })
    }

    /// The text as it was sent.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What to compare with the fingerprint that is known of this daemon, before anything is sealed for it.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Encrypts with RSA-OAEP (SHA-1, no label).
    pub(super) fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut sealed = vec![0; self.encrypting.ciphertext_size()];
        let length = self
            .encrypting
            .encrypt(&OAEP_SHA1_MGF1SHA1, plain, &mut sealed, None)
            .map_err(|_| KeyError::NotRsa)?
            .len();
        sealed.truncate(length);
        Ok(sealed)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint)
    }
}

/// SHA-256 of a public key (of its DER, so line breaks do not matter). Shown as `SHA256:` and base64, as ssh does.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// Takes a hash over that was computed elsewhere, as that of the key in a TLS certificate.
    #[must_use]
    pub const fn from_sha256(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// Reads what [`Display`](fmt::Display) has written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD_NO_PAD.decode(text.strip_prefix("SHA256:")?).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", STANDARD_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes PEM in 64 columns with a line break at the end, as OpenSSL does.
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    let mut text = Zeroizing::new(String::with_capacity(base64.len() * 66 / 64 + 80));
    text.extend(["-----BEGIN ", label, "-----\n"]);
    let mut rest = &**base64;
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.extend([line, "\n"]);
        rest = after;
    }
    text.extend(["-----END ", label, "-----\n"]);
    text
}

/// Puts a PKCS#1 key into PKCS#8 (RFC 5208): `SEQUENCE { 0, SEQUENCE { rsaEncryption, NULL }, OCTET STRING { pkcs1 } }`.
fn pkcs8_around(pkcs1: &[u8]) -> Zeroizing<Vec<u8>> {
    const VERSION_AND_ALGORITHM: &[u8] = &[
        0x02, 0x01, 0x00, // INTEGER 0
        0x30, 0x0d, // SEQUENCE of 13 bytes
        0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, // rsaEncryption
        0x05, 0x00, // NULL
    ];
    let octets = der_element(0x04, &[pkcs1]);
    der_element(0x30, &[VERSION_AND_ALGORITHM, &octets])
}

fn der_element(tag: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let bytes = length.to_be_bytes();
    let significant = bytes.iter().skip_while(|&&byte| byte == 0);
    let mut element = Zeroizing::new(Vec::with_capacity(length + 12));
    element.push(tag);
    match u8::try_from(length) {
        Ok(short @ ..0x80) => element.push(short),
        _ => {
            let count = u8::try_from(significant.clone().count()).unwrap_or_default();
            element.push(0x80 | count);
            element.extend(significant);
        }
    }
    for part in parts {
        element.extend_from_slice(part);
    }
    element
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn recorded_private_keys_give_the_recorded_public_text() {
        // One of the two pairs is PKCS#1, the other PKCS#8.
        let mut kinds = Vec::new();
        for flow in testing::flows() {
            let (Some(private), Some(public)) = (flow.rsa_private_pem, flow.rsa_public_pem) else { continue };
            let key = ServerKey::from_pem(&private).unwrap();
            assert_eq!(key.public_pem(), public);
            assert_eq!(key.fingerprint(), PublicKey::from_pem(&public).unwrap().fingerprint());
            kinds.push(private.contains("RSA PRIVATE"));
        }
        assert!(kinds.contains(&true) && kinds.contains(&false));
    }

    #[test]
    fn private_key_survives_its_own_pem() {
        let flow = testing::flow("handshake-int.secure-tcp");
        let key = ServerKey::from_pem(&flow.rsa_private_pem.unwrap()).unwrap();
        let again = ServerKey::from_pem(&key.to_pem().unwrap()).unwrap();
        assert_eq!(again.public_pem(), key.public_pem());
    }

    #[test]
    fn new_keys_encrypt_and_decrypt() {
        let key = ServerKey::generate().unwrap();
        let public = PublicKey::from_pem(key.public_pem()).unwrap();
        let sealed = public.encrypt(b"secret").unwrap();
        assert_eq!(sealed.len(), key.sealed_length());
        assert_eq!(key.decrypt(&sealed).unwrap().as_slice(), b"secret");
        assert!(key.decrypt(&[0; 256]).is_none());
        assert!(key.decrypt(b"").is_none());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!(PublicKey::from_pem("hello").unwrap_err(), KeyError::NotPem { expected: "public key" });
        let garbage = pem("PUBLIC KEY", &[0x30, 0x00]);
        assert_eq!(PublicKey::from_pem(&garbage).unwrap_err(), KeyError::NotRsa);
        let public = testing::flow("handshake-int.secure-tcp").rsa_public_pem.unwrap();
        assert_eq!(ServerKey::from_pem(&public).unwrap_err(), KeyError::NotPem { expected: "private key" });
    }

    #[test]
    fn fingerprints_are_read_back_and_show_no_key() {
        let public = testing::flow("handshake-int.secure-tcp").rsa_public_pem.unwrap();
        let fingerprint = PublicKey::from_pem(&public).unwrap().fingerprint();
        assert_eq!(Fingerprint::parse(&fingerprint.to_string()), Some(fingerprint));
        assert_eq!(Fingerprint::parse("SHA256:x"), None);
        // Line breaks are not part of what is recognised.
        let joined = public.replacen('\n', "\r\n", 3);
        assert_eq!(PublicKey::from_pem(&joined).unwrap().fingerprint(), fingerprint);
    }
}
