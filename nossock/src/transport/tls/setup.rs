//! What client and server have in common before there is a connection.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::pem;

use super::{PemOrigin, TlsVersion};

/// Why TLS could not be set up. Nothing here is a peer's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsSetupError {
    /// A file with CA certificates could not be read.
    #[error("cannot read the CA file `{}`", path.display())]
    CaUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// No certificate in what was given as CA.
    #[error("no certificate in {origin}, which was given as CA: it must hold `-----BEGIN CERTIFICATE-----`")]
    NoCa {
        /// Where it came from.
        origin: PemOrigin,
    },
    /// What was given as CA is not PEM.
    #[error("{origin}, which was given as CA, is not correct PEM")]
    CaPem {
        /// Where it came from.
        origin: PemOrigin,
        /// What the parser says.
        source: pem::Error,
    },
    /// A certificate that was given as CA is not one that can be read.
    #[error("a certificate in {origin}, which was given as CA, cannot be read")]
    CaCertificate {
        /// Where it came from.
        origin: PemOrigin,
        /// What the parser says.
        source: rustls::Error,
    },
    /// Clients are asked for certificates, and there is nothing to verify them with.
    #[error("clients are asked for certificates, and no CA was given to verify them: give it with `ca`")]
    NoClientCa,
    /// The operating system's trusted certificates could not be had.
    #[error(
        "the operating system has no trusted certificates to offer: install them, or give a CA with `ca`"
    )]
    PlatformRoots {
        /// What the platform answered.
        source: rustls::Error,
    },
    /// No version of TLS is left.
    #[error("no version of TLS is allowed")]
    NoVersion,
    /// The pieces do not make a configuration.
    #[error("TLS cannot be set up this way")]
    Inconsistent {
        /// What rustls answered.
        source: rustls::Error,
    },
}

/// The cryptography that everything here uses, whatever the process' default may be: another crate's choice of a
/// default must not change ours.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// What client and server builders share.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) versions: Vec<TlsVersion>,
    pub(super) alpn: Vec<Vec<u8>>,
}

impl Default for Common {
    fn default() -> Self {
        Self { versions: vec![TlsVersion::Tls13, TlsVersion::Tls12], alpn: vec![super::ALPN.into()] }
    }
}

impl Common {
    pub(super) fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, TlsSetupError> {
        if self.versions.is_empty() {
            return Err(TlsSetupError::NoVersion);
        }
        Ok(self.versions.iter().map(|version| version.supported()).collect())
    }

    pub(super) fn set_alpn<P: AsRef<str>>(&mut self, protocols: impl IntoIterator<Item = P>) {
        self.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().as_bytes().to_vec()).collect();
    }
}
