//! A certificate authority for tests: certificates as somebody careful issues them, and each way to get them wrong.

#![allow(clippy::unwrap_used, reason = "a certificate that cannot be made is the test's own mistake")]
#![allow(dead_code, unreachable_pub, reason = "each test file includes this and uses what it needs")]

use nossock::transport::tls::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// A CA that exists for the length of a test.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
pub struct Leaf {
    pub certificate: String,
    pub key: String,
}

impl Leaf {
    pub fn identity(&self) -> Identity {
        Identity::from_pem(&self.certificate, &self.key).unwrap()
    }
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let issuer = CertifiedIssuer::self_signed(authority(name, &[]), KeyPair::generate().unwrap());
        Self { issuer: issuer.unwrap() }
    }

    /// The CA's own certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server that has these names; IP addresses are names too.
    pub fn server(&self, names: &[&str]) -> Leaf {
        self.issue(server(names))
    }

    /// A server whose certificate expired with the year 2020.
    pub fn expired_server(&self, names: &[&str]) -> Leaf {
        let mut params = server(names);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 12, 31);
        self.issue(params)
    }

    /// A server whose certificate becomes valid in the year 3000.
    pub fn future_server(&self, names: &[&str]) -> Leaf {
        let mut params = server(names);
        params.not_before = date_time_ymd(3000, 1, 1);
        params.not_after = date_time_ymd(3001, 1, 1);
        self.issue(params)
    }

    /// A client with this common name.
    pub fn client(&self, name: &str) -> Leaf {
        let mut params = leaf(name, &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    /// A client whose certificate expired with the year 2020.
    pub fn expired_client(&self, name: &str) -> Leaf {
        let mut params = leaf(name, &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 12, 31);
        self.issue(params)
    }

    fn issue(&self, params: CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// What `openssl req -x509` makes without further ado: a certificate that signed itself and may sign others.
pub fn self_signed(names: &[&str]) -> Leaf {
    let key = KeyPair::generate().unwrap();
    let certificate = authority("self-signed", names).self_signed(&key).unwrap();
    Leaf { certificate: certificate.pem(), key: key.serialize_pem() }
}

fn authority(name: &str, names: &[&str]) -> CertificateParams {
    let mut params = leaf(name, names);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server(names: &[&str]) -> CertificateParams {
    let mut params = leaf("server", names);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn leaf(name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Left out, a leaf would say nothing of it; said, nobody can take it for a CA.
    params.is_ca = IsCa::ExplicitNoCa;
    params
}
