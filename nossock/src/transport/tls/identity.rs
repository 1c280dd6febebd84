//! Who this side is: a certificate chain and the private key that goes with it.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Fingerprint, setup};

/// A certificate chain and its private key.
///
/// Certificates are PEM, the own one first, then those that lead to its CA. The key is PEM as well: PKCS#8, PKCS#1
/// (`RSA PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`), and with the feature `encrypted-keys` PKCS#8 that is encrypted with a
/// passphrase. Both may stand in one text. That key and certificate belong together is checked here, not when the first
/// peer comes.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
}

impl Identity {
    /// Reads an identity from PEM text.
    ///
    /// # Errors
    ///
    /// [`IdentityError`], which names what cannot be read or does not belong together.
    pub fn from_pem(certificates: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, IdentityError> {
        let (certificates, key) = (certificates.as_ref(), key.as_ref());
        load((certificates, &PemOrigin::Text), (key, &PemOrigin::Text), None)
    }

    /// Reads an identity from PEM text, its key encrypted with a passphrase; a key that is not encrypted is taken as
    /// well.
    ///
    /// # Errors
    ///
    /// [`IdentityError`], which names what cannot be read or does not belong together, or that the passphrase is wrong.
    pub fn from_encrypted_pem(
        certificates: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
        passphrase: &Passphrase,
    ) -> Result<Self, IdentityError> {
        let (certificates, key) = (certificates.as_ref(), key.as_ref());
        load((certificates, &PemOrigin::Text), (key, &PemOrigin::Text), Some(passphrase))
    }

    /// Reads an identity from two PEM files, which may be the same one. Blocks for as long as reading small files takes.
    ///
    /// # Errors
    ///
    /// [`IdentityError`], which names the file that cannot be read, or that the two do not belong together.
    pub fn from_pem_files(
        certificates: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, IdentityError> {
        load_files(certificates.as_ref(), key.as_ref(), None)
    }

    /// Reads an identity from two PEM files, the key encrypted with a passphrase; a key that is not encrypted is taken
    /// as well. Blocks for as long as reading small files and deriving the key takes (about a tenth of a second).
    ///
    /// # Errors
    ///
    /// [`IdentityError`], which names the file that cannot be read, that the two do not belong together, or that the
    /// passphrase is wrong.
    pub fn from_encrypted_pem_files(
        certificates: impl AsRef<Path>,
        key: impl AsRef<Path>,
        passphrase: &Passphrase,
    ) -> Result<Self, IdentityError> {
        load_files(certificates.as_ref(), key.as_ref(), Some(passphrase))
    }

    /// The certificates in DER, the own one first.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

/// Shows which certificate it is, and nothing of the key.
impl fmt::Debug for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Identity")
            .field("sha256", &self.certificates().first().map(Fingerprint::of))
            .field("certificates", &self.certificates().len())
            .finish_non_exhaustive()
    }
}

/// What a private key is encrypted with. Wiped from memory when it is dropped, and never shown.
#[derive(Clone)]
pub struct Passphrase(Vec<u8>);

impl Passphrase {
    /// The bytes of the passphrase. Only the feature `encrypted-keys` has a use for them.
    #[cfg_attr(not(feature = "encrypted-keys"), allow(dead_code, reason = "nothing is decrypted without it"))]
    fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Passphrase {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<String> for Passphrase {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<Vec<u8>> for Passphrase {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Drop for Passphrase {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Passphrase(..)")
    }
}

/// Where PEM text came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PemOrigin {
    /// It was given as text.
    Text,
    /// It was read from a file.
    File(PathBuf),
}

impl fmt::Display for PemOrigin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => out.write_str("the text given"),
            Self::File(path) => write!(out, "`{}`", path.display()),
        }
    }
}

/// The command that makes a key readable here, whatever it was encrypted with.
const CONVERT: &str =
    "convert it with `openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -in OLD -out NEW`";

/// Why an [`Identity`] could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file could not be read.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The text is not PEM.
    #[error("{origin} is not correct PEM")]
    Pem {
        /// Where it came from.
        origin: PemOrigin,
        /// What the parser says.
        source: pem::Error,
    },
    /// There is no certificate.
    #[error("no certificate in {origin}: it must hold `-----BEGIN CERTIFICATE-----`")]
    NoCertificate {
        /// Where it came from.
        origin: PemOrigin,
    },
    /// There is no private key.
    #[error(
        "no private key in {origin}: it must hold `-----BEGIN PRIVATE KEY-----`, or one of its older forms"
    )]
    NoKey {
        /// Where it came from.
        origin: PemOrigin,
    },
    /// The key is encrypted, and no passphrase was given.
    #[error("the private key in {origin} is encrypted: it needs its passphrase")]
    PassphraseMissing {
        /// Where it came from.
        origin: PemOrigin,
    },
    /// The passphrase is not the one with which the key was encrypted.
    #[error("wrong passphrase for the private key in {origin}")]
    WrongPassphrase {
        /// Where it came from.
        origin: PemOrigin,
    },
    /// The key is encrypted in OpenSSL's traditional way (`Proc-Type: 4,ENCRYPTED`), which a guess at the passphrase
    /// breaks quickly.
    #[error("the private key in {origin} is encrypted in the traditional way, which is not read: {CONVERT}")]
    TraditionalEncryption {
        /// Where it came from.
        origin: PemOrigin,
    },
    /// The key is encrypted with an algorithm that is not supported, or damaged.
    #[error("the encryption of the private key in {origin} is not one that is read: {CONVERT}")]
    UnknownEncryption {
        /// Where it came from.
        origin: PemOrigin,
        /// What the parser says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The key is encrypted, and this build cannot decrypt.
    #[error("the private key in {origin} is encrypted, and the feature `encrypted-keys` of nossock is off")]
    DecryptionOff {
        /// Where it came from.
        origin: PemOrigin,
    },
    /// The key, or the certificate that it should go with, is of a kind that is not supported, or damaged.
    #[error("the private key in {key} and the certificate in {certificates} cannot be used")]
    Unusable {
        /// Where the certificate came from.
        certificates: PemOrigin,
        /// Where the key came from.
        key: PemOrigin,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The key is another certificate's.
    #[error("the private key in {key} is not that of the first certificate in {certificates}")]
    Mismatch {
        /// Where the certificate came from.
        certificates: PemOrigin,
        /// Where the key came from.
        key: PemOrigin,
        /// What rustls says.
        source: rustls::Error,
    },
}

/// PEM text, and where it came from.
type Pem<'a> = (&'a [u8], &'a PemOrigin);

fn load_files(
    certificates: &Path,
    key: &Path,
    passphrase: Option<&Passphrase>,
) -> Result<Identity, IdentityError> {
    let read = |path: &Path| {
        let unreadable = |source| IdentityError::Unreadable { path: path.to_owned(), source };
        fs::read(path).map(Zeroizing::new).map_err(unreadable)
    };
    let (certificates_pem, key_pem) = (read(certificates)?, read(key)?);
    let (certificates, key) = (PemOrigin::File(certificates.into()), PemOrigin::File(key.into()));
    load((&certificates_pem, &certificates), (&key_pem, &key), passphrase)
}

fn load(
    certificates: Pem<'_>,
    key: Pem<'_>,
    passphrase: Option<&Passphrase>,
) -> Result<Identity, IdentityError> {
    let chain = read_certificates(certificates)?;
    let private = read_key(key, passphrase)?;
    let (certificates, key) = (certificates.1.clone(), key.1.clone());
    match CertifiedKey::from_der(chain, private, &setup::provider()) {
        Ok(certified) => Ok(Identity { certified: Arc::new(certified) }),
        Err(source @ rustls::Error::InconsistentKeys(_)) => {
            Err(IdentityError::Mismatch { certificates, key, source })
        }
        Err(source) => Err(IdentityError::Unusable { certificates, key, source }),
    }
}

fn read_certificates((pem, origin): Pem<'_>) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    // A key in the same text may be encrypted in a way that the parser stumbles over, which is not about certificates.
    let chain = match chain {
        Err(_) if is_traditional(pem) => {
            return Err(IdentityError::TraditionalEncryption { origin: origin.clone() });
        }
        chain => chain.map_err(|source| IdentityError::Pem { origin: origin.clone(), source })?,
    };
    if chain.is_empty() {
        return Err(IdentityError::NoCertificate { origin: origin.clone() });
    }
    Ok(chain)
}

fn read_key(
    (pem, origin): Pem<'_>,
    passphrase: Option<&Passphrase>,
) -> Result<PrivateKeyDer<'static>, IdentityError> {
    if is_traditional(pem) {
        return Err(IdentityError::TraditionalEncryption { origin: origin.clone() });
    }
    match PrivateKeyDer::from_pem_slice(pem) {
        Err(pem::Error::NoItemsFound) => match encrypted_section(pem) {
            Some(section) => decrypt(section, origin, passphrase),
            None => Err(IdentityError::NoKey { origin: origin.clone() }),
        },
        key => key.map_err(|source| IdentityError::Pem { origin: origin.clone(), source }),
    }
}

/// Whether a key is encrypted as RFC 1421 had it, with headers inside the PEM.
fn is_traditional(pem: &[u8]) -> bool {
    String::from_utf8_lossy(pem)
        .lines()
        .any(|line| line.starts_with("Proc-Type:") && line.trim_end().ends_with("ENCRYPTED"))
}

/// Cuts the encrypted key out of a text that may hold more.
fn encrypted_section(pem: &[u8]) -> Option<&str> {
    const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    let text = str::from_utf8(pem).ok()?;
    let section = text.get(text.find(BEGIN)?..)?;
    section.get(..section.find(END)? + END.len())
}

#[cfg(feature = "encrypted-keys")]
fn decrypt(
    section: &str,
    origin: &PemOrigin,
    passphrase: Option<&Passphrase>,
) -> Result<PrivateKeyDer<'static>, IdentityError> {
    use pkcs8::{EncryptedPrivateKeyInfoRef, Error, SecretDocument, pkcs5};

    let origin = || origin.clone();
    let Some(passphrase) = passphrase else {
        return Err(IdentityError::PassphraseMissing { origin: origin() });
    };
    let unknown =
        |source: Error| IdentityError::UnknownEncryption { origin: origin(), source: source.into() };
    let (_, document) = SecretDocument::from_pem(section).map_err(|source| unknown(source.into()))?;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(unknown)?;
    let key = encrypted.decrypt(passphrase.as_bytes()).map_err(|error| match error {
        // A wrong passphrase gives noise. Nearly always its padding is wrong; when that happens to be right, the key
        // in it is not.
        Error::EncryptedPrivateKey(pkcs5::Error::DecryptFailed) | Error::Asn1(_) => {
            IdentityError::WrongPassphrase { origin: origin() }
        }
        error => unknown(error),
    })?;
    Ok(PrivateKeyDer::Pkcs8(key.as_bytes().to_vec().into()))
}

#[cfg(not(feature = "encrypted-keys"))]
fn decrypt(
    _section: &str,
    origin: &PemOrigin,
    _passphrase: Option<&Passphrase>,
) -> Result<PrivateKeyDer<'static>, IdentityError> {
    Err(IdentityError::DecryptionOff { origin: origin.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../../../tests/fixtures/tls/", $name))
        };
    }

    const CERTIFICATE: &str = fixture!("ec.cert.pem");

    #[test]
    fn keys_are_read_in_every_form_openssl_writes() {
        for (certificate, key) in [
            (CERTIFICATE, fixture!("pkcs8.key.pem")),
            (CERTIFICATE, fixture!("sec1.key.pem")),
            (fixture!("rsa.cert.pem"), fixture!("pkcs1.key.pem")),
        ] {
            let identity = Identity::from_pem(certificate, key).unwrap();
            assert_eq!(identity.certificates().len(), 1);
            let both = [key, certificate].concat();
            Identity::from_pem(&both, both.replace('\n', "\r\n")).unwrap();
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_found_out_when_it_is_read() {
        let error = Identity::from_pem(CERTIFICATE, fixture!("pkcs1.key.pem")).unwrap_err();
        assert!(matches!(error, IdentityError::Mismatch { .. }), "{error}");
    }

    #[cfg(feature = "encrypted-keys")]
    #[test]
    fn an_encrypted_key_needs_its_own_passphrase() {
        let key = fixture!("aes256.key.pem");
        let right = Passphrase::from("correct horse");
        Identity::from_encrypted_pem(CERTIFICATE, key, &right).unwrap();
        // In a text with other things around it, and Windows line ends.
        let both = ["Bag Attributes\n", CERTIFICATE, key, "\n"].concat().replace('\n', "\r\n");
        Identity::from_encrypted_pem(&both, &both, &right).unwrap();
        // A passphrase for a key that needs none does no harm, as with the original.
        Identity::from_encrypted_pem(CERTIFICATE, fixture!("pkcs8.key.pem"), &right).unwrap();

        let error = Identity::from_pem(CERTIFICATE, key).unwrap_err();
        assert!(matches!(error, IdentityError::PassphraseMissing { .. }), "{error}");
        // Among so many, some give noise whose padding is right by chance (one in 256).
        for n in 0..1_000_u32 {
            let wrong = Passphrase::from(format!("wrong {n}"));
            let error = Identity::from_encrypted_pem(CERTIFICATE, key, &wrong).unwrap_err();
            assert!(matches!(error, IdentityError::WrongPassphrase { .. }), "{n}: {error}");
        }
    }

    #[cfg(feature = "encrypted-keys")]
    #[test]
    fn encryption_that_is_not_read_is_answered_with_the_command_that_converts_it() {
        let right = Passphrase::from("correct horse");
        for key in [fixture!("traditional.key.pem"), fixture!("des3.key.pem"), fixture!("pbe3des.key.pem")] {
            let error = Identity::from_encrypted_pem(CERTIFICATE, key, &right).unwrap_err();
            assert!(error.to_string().ends_with(CONVERT), "{error}");
        }
        let both = [CERTIFICATE, fixture!("traditional.key.pem")].concat();
        let error = Identity::from_pem(&both, &both).unwrap_err();
        assert!(matches!(error, IdentityError::TraditionalEncryption { .. }), "{error}");
    }

    #[cfg(not(feature = "encrypted-keys"))]
    #[test]
    fn an_encrypted_key_is_answered_with_the_feature_that_is_off() {
        let right = Passphrase::from("correct horse");
        let error =
            Identity::from_encrypted_pem(CERTIFICATE, fixture!("aes256.key.pem"), &right).unwrap_err();
        assert!(matches!(error, IdentityError::DecryptionOff { .. }), "{error}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let key = fixture!("pkcs8.key.pem");
        let error = Identity::from_pem(key, CERTIFICATE).unwrap_err();
        assert!(error.to_string().starts_with("no certificate in the text given"), "{error}");
        let error = Identity::from_pem(CERTIFICATE, CERTIFICATE).unwrap_err();
        assert!(error.to_string().starts_with("no private key in the text given"), "{error}");
        let error = Identity::from_pem_files("/nowhere/cert.pem", "/nowhere/key.pem").unwrap_err();
        assert_eq!(error.to_string(), "cannot read `/nowhere/cert.pem`");
        let cut = CERTIFICATE.trim_end().strip_suffix("-----END CERTIFICATE-----").unwrap();
        let error = Identity::from_pem(cut, key).unwrap_err();
        assert!(matches!(error, IdentityError::Pem { .. }), "{error}");
        let damaged = key.replacen("MIGH", "MIGG", 1);
        let error = Identity::from_pem(CERTIFICATE, damaged).unwrap_err();
        assert!(matches!(error, IdentityError::Unusable { .. }), "{error}");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let identity = Identity::from_pem(CERTIFICATE, fixture!("pkcs8.key.pem")).unwrap();
        let shown = format!("{identity:?} {:?}", Passphrase::from("correct horse"));
        assert!(shown.starts_with("Identity { sha256: Some(7A:5A:C6:"), "{shown}");
        assert!(shown.ends_with("certificates: 1, .. } Passphrase(..)"), "{shown}");
    }
}
