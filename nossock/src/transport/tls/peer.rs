//! Who the peer says it is: its certificates, and what can be read off them.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::subject;

/// The certificates that a peer presented.
///
/// They were verified, unless the code that connected said `danger` or pinned the certificate instead. For more than is
/// offered here, give [`PeerCertificates::leaf`] to a parser of X.509.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerCertificates {
    leaf: CertificateDer<'static>,
    /// All of them, the leaf again first.
    chain: Vec<CertificateDer<'static>>,
}

impl PeerCertificates {
    pub(super) fn new(chain: &[CertificateDer<'static>]) -> Option<Self> {
        let leaf = chain.first()?.clone();
        Some(Self { leaf, chain: chain.to_vec() })
    }

    /// The peer's own certificate, in DER.
    #[must_use]
    pub const fn leaf(&self) -> &CertificateDer<'static> {
        &self.leaf
    }

    /// All that were presented, in DER: the peer's own first, then those that lead to its CA, as far as the peer sent
    /// them.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The SHA-256 fingerprint of the peer's own certificate.
    #[must_use]
    pub fn sha256_fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.leaf)
    }

    /// The SHA-256 fingerprint of the public key in the peer's own certificate (of its `SubjectPublicKeyInfo`): it stays the
    /// same when the certificate is renewed for the same key. `None` when the certificate cannot be read.
    #[must_use]
    pub fn public_key_sha256(&self) -> Option<[u8; 32]> {
        let key = self.parsed()?.subject_public_key_info();
        digest::digest(&digest::SHA256, &key).as_ref().try_into().ok()
    }

    /// The common name in the subject, if there is one.
    ///
    /// A CA vouches for it only as far as its policy says so; the names that TLS verifies are
    /// [`dns_names`](Self::dns_names).
    #[must_use]
    pub fn common_name(&self) -> Option<String> {
        subject::common_name(self.parsed()?.subject())
    }

    /// The DNS names among the subject's alternative names, wildcards as they are written.
    #[must_use]
    pub fn dns_names(&self) -> Vec<String> {
        self.parsed().map_or_else(Vec::new, |parsed| parsed.valid_dns_names().map(str::to_owned).collect())
    }

    /// The URIs among the subject's alternative names: SPIFFE ids, for one.
    #[must_use]
    pub fn uris(&self) -> Vec<String> {
        self.parsed().map_or_else(Vec::new, |parsed| parsed.valid_uri_names().map(str::to_owned).collect())
    }

    fn parsed(&self) -> Option<EndEntityCert<'_>> {
        EndEntityCert::try_from(&self.leaf).ok()
    }
}

impl fmt::Debug for PeerCertificates {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("PeerCertificates")
            .field("common_name", &self.common_name())
            .field("dns_names", &self.dns_names())
            .field("sha256", &self.sha256_fingerprint())
            .finish_non_exhaustive()
    }
}

/// The SHA-256 fingerprint of a certificate, as `openssl x509 -fingerprint -sha256` prints it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut bytes = [0; 32];
        // SHA-256 is 32 bytes long: nothing is cut here.
        for (to, from) in bytes.iter_mut().zip(digest::digest(&digest::SHA256, certificate).as_ref()) {
            *to = *from;
        }
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Fingerprint {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// `AB:CD:…`, 32 pairs of hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { ":" };
            write!(out, "{separator}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Reads 64 hexadecimal digits of either case, with or without colons, after `sha256:` or not.
impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let mut bytes = [0; 32];
        let mut nibbles = digits.chars().filter(|c| *c != ':').map(|c| c.to_digit(16));
        for byte in &mut bytes {
            let (Some(Some(high)), Some(Some(low))) = (nibbles.next(), nibbles.next()) else {
                return Err(FingerprintError);
            };
            *byte = u8::try_from(high * 16 + low).map_err(|_| FingerprintError)?;
        }
        if nibbles.next().is_some() { Err(FingerprintError) } else { Ok(Self(bytes)) }
    }
}

/// A text that is not a SHA-256 fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a SHA-256 fingerprint: it has 64 hexadecimal digits, as `openssl x509 -fingerprint -sha256` prints them"
)]
#[non_exhaustive]
pub struct FingerprintError;

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject as _;

    use super::*;

    /// As `openssl x509 -fingerprint -sha256` printed it.
    const FINGERPRINT: &str =
        "7A:5A:C6:C6:75:39:5A:D2:9F:94:91:3D:83:93:0D:09:00:7F:E8:C7:2F:DA:AC:E2:4B:4B:0C:63:DB:5F:8C:43";

    fn fixture() -> PeerCertificates {
        let pem = include_bytes!("../../../tests/fixtures/tls/ec.cert.pem");
        PeerCertificates::new(&[CertificateDer::from_pem_slice(pem).unwrap()]).unwrap()
    }

    #[test]
    fn names_are_read_off_a_certificate_of_openssl() {
        let peer = fixture();
        assert_eq!(peer.common_name().as_deref(), Some("fixture"));
        assert_eq!(peer.dns_names(), ["fixture.test"]);
        assert_eq!(peer.uris(), ["spiffe://test/fixture"]);
        assert_eq!(peer.sha256_fingerprint().to_string(), FINGERPRINT);
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_names() {
        let peer = PeerCertificates::new(&[CertificateDer::from(vec![0x30, 1])]).unwrap();
        assert_eq!(peer.common_name(), None);
        assert!(peer.dns_names().is_empty());
    }

    #[test]
    fn a_fingerprint_is_read_in_the_forms_people_paste() {
        let fingerprint: Fingerprint = FINGERPRINT.parse().unwrap();
        assert_eq!(fingerprint, fixture().sha256_fingerprint());
        let bare = FINGERPRINT.replace(':', "").to_lowercase();
        assert_eq!(bare.parse(), Ok(fingerprint));
        assert_eq!(format!("sha256:{bare}").parse(), Ok(fingerprint));
        for wrong in ["", "sha256:", &bare[1..], &format!("{bare}0"), &bare.replace('0', "x")] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(FingerprintError), "{wrong}");
        }
    }
}
