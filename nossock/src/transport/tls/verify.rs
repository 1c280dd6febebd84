//! Verification of a server by less than a CA: a pinned certificate, or none at all.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::Fingerprint;

/// Takes a certificate for what it is, whoever issued it, whatever its names and dates.
///
/// What it does not give up is the proof in the handshake that the server holds the certificate's key: without that,
/// anybody could present the pinned certificate.
#[derive(Debug)]
pub(super) struct AsPresented {
    /// The certificates that are accepted; `None` accepts any.
    pub(super) pins: Option<Vec<Fingerprint>>,
    pub(super) provider: Arc<CryptoProvider>,
}

/// A server presented a certificate other than those that were pinned.
#[derive(Debug, thiserror::Error)]
#[error("the certificate {0} is not one of those pinned")]
pub(super) struct NotPinned(pub(super) Fingerprint);

impl ServerCertVerifier for AsPresented {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let presented = Fingerprint::of(end_entity);
        match &self.pins {
            Some(pins) if !pins.contains(&presented) => {
                Err(CertificateError::Other(OtherError(Arc::new(NotPinned(presented)))).into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
