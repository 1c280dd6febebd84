//! Certificates for development and for a daemon's first start.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::exit::Failure;

/// How long what is made here is valid: no longer than the strictest verifiers accept.
pub const VALID_DAYS: i64 = 397;

/// How long a CA is valid. Its certificate is handed to clients once, so it outlives what it issues.
const CA_VALID_DAYS: i64 = 3650;

/// What went wrong while one was made.
pub fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Other(format!("cannot make the certificate: {error}"))
}

/// What a certificate begins with: a name, for whom, and from when to when.
///
/// # Errors
/// When a name is none.
pub fn params(common_name: &str, names: Vec<String>) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // A day back, for clocks that are behind.
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(VALID_DAYS);
    Ok(params)
}

/// The names of this machine to itself.
#[must_use]
pub fn localhost() -> Vec<String> {
    ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec()
}

/// A CA that issues certificates.
#[non_exhaustive]
pub enum Authority {
    /// Made just now.
    New(Box<CertifiedIssuer<'static, KeyPair>>),
    /// Read from its files.
    Loaded(Box<Issuer<'static, KeyPair>>, String),
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(..)")
    }
}

impl Authority {
    /// Makes one.
    ///
    /// # Errors
    /// When the cryptographic library refuses.
    pub fn generate(common_name: &str) -> Result<Self, Failure> {
        let mut ca = params(common_name, Vec::new())?;
        ca.not_after = OffsetDateTime::now_utc() + Duration::days(CA_VALID_DAYS);
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(failed)?;
        Ok(Self::New(Box::new(CertifiedIssuer::self_signed(ca, key).map_err(failed)?)))
    }

    /// Takes up one that was made before.
    ///
    /// # Errors
    /// When the texts are no certificate and its key.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Failure> {
        let key = KeyPair::from_pem(key).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(certificate, key).map_err(failed)?;
        Ok(Self::Loaded(Box::new(issuer), certificate.to_owned()))
    }

    /// Its certificate, in PEM.
    #[must_use]
    pub fn certificate(&self) -> String {
        match self {
            Self::New(ca) => ca.pem(),
            Self::Loaded(_, pem) => pem.clone(),
        }
    }

    /// Its private key, in PEM.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::New(ca) => ca.key().serialize_pem(),
            Self::Loaded(ca, _) => ca.key().serialize_pem(),
        }
    }
}

/// Issues a certificate: its PEM and that of its key.
///
/// # Errors
/// When a name is none, or the cryptographic library refuses.
pub fn issue(
    ca: &Authority,
    common_name: &str,
    names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(String, String), Failure> {
    issue_for(ca, common_name, names, usage, KeyPair::generate().map_err(failed)?)
}

/// Issues a certificate for a key that is there, given in PEM, so that whoever knows the daemon by its key goes on knowing it.
///
/// # Errors
/// When a name or the key is none, or the cryptographic library refuses.
pub fn renew(
    ca: &Authority,
    common_name: &str,
    names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
    key: &str,
) -> Result<(String, String), Failure> {
    issue_for(ca, common_name, names, usage, KeyPair::from_pem(key).map_err(failed)?)
}

fn issue_for(
    ca: &Authority,
    common_name: &str,
    names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
    key: KeyPair,
) -> Result<(String, String), Failure> {
    let mut leaf = params(common_name, names)?;
    leaf.extended_key_usages = vec![usage];
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.use_authority_key_identifier_extension = true;
    let certificate = match ca {
        Authority::New(ca) => leaf.signed_by(&key, ca),
        Authority::Loaded(ca, _) => leaf.signed_by(&key, ca),
    };
    Ok((certificate.map_err(failed)?.pem(), key.serialize_pem()))
}
