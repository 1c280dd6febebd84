//! The certificate authorities somebody trusts, as they were given: as text, or as a file to read.

use std::fs;
use std::path::PathBuf;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::{PemOrigin, TlsSetupError};

/// Where CA certificates come from. Files are read when TLS is set up, and again whenever it is set up anew.
#[derive(Debug, Clone, Default)]
pub(super) struct Authorities(Vec<Source>);

#[derive(Debug, Clone)]
enum Source {
    Text(Vec<u8>),
    File(PathBuf),
}

impl Authorities {
    pub(super) fn add_text(&mut self, pem: &[u8]) {
        self.0.push(Source::Text(pem.to_vec()));
    }

    pub(super) fn add_file(&mut self, path: PathBuf) {
        self.0.push(Source::File(path));
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn load(&self) -> Result<RootCertStore, TlsSetupError> {
        let mut store = RootCertStore::empty();
        for source in &self.0 {
            match source {
                Source::Text(pem) => load(&mut store, pem, &PemOrigin::Text)?,
                Source::File(path) => {
                    let pem = fs::read(path)
                        .map_err(|source| TlsSetupError::CaUnreadable { path: path.clone(), source })?;
                    load(&mut store, &pem, &PemOrigin::File(path.clone()))?;
                }
            }
        }
        Ok(store)
    }
}

fn load(store: &mut RootCertStore, pem: &[u8], origin: &PemOrigin) -> Result<(), TlsSetupError> {
    let before = store.len();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate =
            certificate.map_err(|source| TlsSetupError::CaPem { origin: origin.clone(), source })?;
        store
            .add(certificate)
            .map_err(|source| TlsSetupError::CaCertificate { origin: origin.clone(), source })?;
    }
    // A file that trusts nobody is a mistake, and would otherwise be found out by the first peer.
    if store.len() == before {
        return Err(TlsSetupError::NoCa { origin: origin.clone() });
    }
    Ok(())
}
