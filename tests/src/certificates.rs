use std::path::{Path, PathBuf};

use nossock::transport::tls::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

/// The passphrase that stories encrypt keys with.
pub const PASSPHRASE: &str = "open sesame";

/// A CA, and certificates of `localhost`, of a client called `ada` and of nobody the CA knows, in a directory that
/// goes with this.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
}

/// A certificate and its key, in PEM files.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PemFiles {
    /// The certificate.
    pub cert: PathBuf,
    /// The private key, PKCS#8.
    pub key: PathBuf,
}

impl PemFiles {
    /// Both, as this side takes them.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::from_pem_files(&self.cert, &self.key).unwrap()
    }
}

impl Certificates {
    /// Makes all of them.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "it writes files")]
    pub fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let (ca, pem) = authority("Test CA");
        std::fs::write(directory.path().join("ca.pem"), pem).unwrap();
        let (other_ca, pem) = authority("Another CA");
        std::fs::write(directory.path().join("strangers_ca.pem"), pem).unwrap();
        write(directory.path(), "server", &ca, ExtendedKeyUsagePurpose::ServerAuth);
        write(directory.path(), "ada", &ca, ExtendedKeyUsagePurpose::ClientAuth);
        write(directory.path(), "stranger", &other_ca, ExtendedKeyUsagePurpose::ClientAuth);
        Self { directory }
    }

    /// The file with the certificate of the CA.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The file with the certificate of the CA that issued the stranger's.
    #[must_use]
    pub fn strangers_ca(&self) -> PathBuf {
        self.directory.path().join("strangers_ca.pem")
    }

    /// A server at `localhost` or 127.0.0.1.
    #[must_use]
    pub fn server(&self) -> PemFiles {
        self.files("server")
    }

    /// A client that the CA knows.
    #[must_use]
    pub fn ada(&self) -> PemFiles {
        self.files("ada")
    }

    /// A client with a certificate of another CA.
    #[must_use]
    pub fn stranger(&self) -> PemFiles {
        self.files("stranger")
    }

    /// Where a story can put more files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn files(&self, name: &str) -> PemFiles {
        let path = |ending| self.directory.path().join(format!("{name}.{ending}"));
        PemFiles { cert: path("cert.pem"), key: path("key.pem") }
    }
}

fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

fn write(directory: &Path, name: &str, ca: &Issuer<'_, KeyPair>, usage: ExtendedKeyUsagePurpose) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![usage];
    let cert = params.signed_by(&key, ca).unwrap().pem();
    std::fs::write(directory.join(format!("{name}.cert.pem")), cert).unwrap();
    std::fs::write(directory.join(format!("{name}.key.pem")), key.serialize_pem()).unwrap();
}
