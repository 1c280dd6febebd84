//! Who the daemon is to its clients: a certificate, and an RSA key for carriers without TLS. Both are made at the first start and
//! taken up again at every other.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use nossock::transport::tls::Identity;
use nsp::secure::{Fingerprint, ServerKey};
use rcgen::ExtendedKeyUsagePurpose;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use nsp_cli::certificate::{self, Authority};
use nsp_cli::exit::Failure;
use nsp_cli::files;

use crate::place::Data;

/// A certificate that ends within so many seconds is made anew at a start or a reload: 30 days.
const RENEW_BEFORE: i64 = 30 * 24 * 60 * 60;

/// The certificate to present.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    pub(super) identity: Identity,
    /// What clients know it by that no CA tells: the SHA-256 of its public key.
    pub(super) key: Option<Fingerprint>,
}

impl Certificate {
    fn new(identity: Identity) -> Self {
        let key = identity.certificates().first().and_then(|der| {
            let (_, cert) = X509Certificate::from_der(der).ok()?;
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, cert.public_key().raw);
            Some(Fingerprint::from_sha256(hash.as_ref().try_into().ok()?))
        });
        Self { identity, key }
    }

    /// Reads those of the configuration.
    pub(super) fn read(certificate: &Path, key: &Path) -> Result<Self, Failure> {
        Ok(Self::new(Identity::from_pem_files(certificate, key)?))
    }

    /// Takes up the one in the folder, or makes it: where there is none, where it ends soon, and where it lacks a name.
    pub(super) fn generated(data: &Data, names: &[String]) -> Result<Self, Failure> {
        let (cert, key) = (data.file("tls.pem"), data.file("tls.key"));
        let wanted: BTreeSet<String> =
            certificate::localhost().into_iter().chain(names.iter().cloned()).collect();
        if let (Some(pem), true) = (files::read_if_there(&cert)?, key.exists())
            && is_good(&pem, &wanted)
        {
            return Self::read(&cert, &key);
        }
        let ca = authority(data)?;
        let (names, usage) = (wanted.into_iter().collect(), ExtendedKeyUsagePurpose::ServerAuth);
        // The key stays when the certificate does not: clients may know the daemon by it.
        let (pem, key_pem) = match files::read_if_there(&key)? {
            Some(old) => certificate::renew(&ca, "nsp daemon", names, usage, &old)?,
            None => certificate::issue(&ca, "nsp daemon", names, usage)?,
        };
        let chain = format!("{pem}{}", ca.certificate());
        // The key first: a certificate without its key would be taken for a good one at the next start.
        files::write_private(&key, key_pem.as_bytes())?;
        files::write_public(&cert, chain.as_bytes())?;
        Ok(Self::new(Identity::from_pem(chain, key_pem)?))
    }
}

/// The CA of the folder, made where there is none.
fn authority(data: &Data) -> Result<Authority, Failure> {
    let (cert, key) = (data.file("ca.pem"), data.file("ca.key"));
    match (files::read_if_there(&cert)?, files::read_if_there(&key)?) {
        (Some(cert), Some(key)) => Authority::from_pem(&cert, &key),
        (Some(_), None) => Err(Failure::Usage(format!(
            "{} is there and its key {} is not: put it back, or remove both and make clients trust the next one",
            cert.display(),
            key.display()
        ))),
        _ => {
            let mut mark = [0; 4];
            nsp::secure::Random::fill(&mut nsp::secure::SystemRandom, &mut mark);
            let ca = Authority::generate(&format!("nsp daemon CA {:08x}", u32::from_be_bytes(mark)))?;
            files::write_private(&key, ca.key().as_bytes())?;
            files::write_public(&cert, ca.certificate().as_bytes())?;
            Ok(ca)
        }
    }
}

fn is_good(pem: &str, wanted: &BTreeSet<String>) -> bool {
    let Some(Ok(first)) = Pem::iter_from_buffer(pem.as_bytes()).next() else { return false };
    let Ok((_, cert)) = X509Certificate::from_der(&first.contents) else { return false };
    let ends = cert.validity().not_after.timestamp();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    if ends < i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_add(RENEW_BEFORE) {
        return false;
    }
    let Ok(Some(names)) = cert.subject_alternative_name() else { return false };
    let has: BTreeSet<String> = names.value.general_names.iter().filter_map(text).collect();
    wanted.is_subset(&has)
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(std::net::Ipv4Addr::from(v4).to_string()),
            Err(_) => {
                let v6 = <[u8; 16]>::try_from(*bytes).ok()?;
                Some(std::net::Ipv6Addr::from(v6).to_string())
            }
        },
        _ => None,
    }
}

/// The RSA key of the folder, made where there is none.
pub(super) fn sp_key(data: &Data) -> Result<Arc<ServerKey>, Failure> {
    let path = data.file("sp.key");
    let failed = |error: nsp::secure::KeyError| Failure::Other(format!("{}: {error}", path.display()));
    if let Some(pem) = files::read_if_there(&path)? {
        return Ok(Arc::new(ServerKey::from_pem(&pem).map_err(failed)?));
    }
    let key = ServerKey::generate().map_err(failed)?;
    files::write_private(&path, key.to_pem().map_err(failed)?.as_bytes())?;
    Ok(Arc::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_once_is_taken_up_again() {
        let dir = tempfile::tempdir().unwrap();
        let data = Data::new(Some(dir.path())).unwrap();
        let names = ["chat.example.org".to_owned(), "10.0.0.1".to_owned()];
        let made = |names: &[String]| {
            let certificate = Certificate::generated(&data, names).unwrap();
            let read = |name| std::fs::read(data.file(name)).unwrap();
            (certificate.key.unwrap(), read("tls.pem"), read("ca.pem"))
        };
        let first = made(&[]);
        assert_eq!(made(&[]), first);
        let (key, certificate, ca) = made(&names);
        assert_ne!(certificate, first.1, "a name was missing");
        assert_eq!(
            (key, &ca),
            (first.0, &first.2),
            "who knows the daemon by its key or its CA goes on knowing it"
        );
        assert_eq!(made(&names[..1]).1, certificate, "one that has more names than it needs is good");
        for name in ["ca.key", "tls.key"] {
            assert!(!files::is_open_to_others(&data.file(name)), "{name}");
        }
    }

    #[test]
    fn ca_without_its_key_is_not_replaced_silently() {
        let dir = tempfile::tempdir().unwrap();
        let data = Data::new(Some(dir.path())).unwrap();
        Certificate::generated(&data, &[]).unwrap();
        std::fs::remove_file(data.file("ca.key")).unwrap();
        std::fs::remove_file(data.file("tls.pem")).unwrap();
        let failure = Certificate::generated(&data, &[]).unwrap_err();
        assert!(failure.to_string().contains("its key"), "{failure}");
    }
}
