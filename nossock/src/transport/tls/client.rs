//! The client's side of TLS.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ClientConfig, ClientConnection, WebPkiServerVerifier};
use rustls::sign::SingleCertAndKey;
use rustls_pki_types::ServerName;
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::authorities::Authorities;
use super::looks_like::{FIRST_BYTES, LooksLike};
use super::setup::{self, Common};
use super::verify::AsPresented;
use super::{Fingerprint, Identity, TlsError, TlsSetupError, TlsVersion};
use crate::Side;

/// How a client uses TLS; cheap to clone, and to share among connections, which then resume each other's sessions.
///
/// ```no_run
/// # async fn example(stream: tokio::net::TcpStream) -> Result<(), Box<dyn std::error::Error>> {
/// use nossock::transport::tls::{ClientTls, Negotiated};
///
/// let tls = ClientTls::builder().ca_file("ca.pem").build()?;
/// let stream = tls.connect(stream, "example.org").await?;
/// assert_eq!(Negotiated::of(&stream).alpn.as_deref(), Some("nossock/1"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
}

impl ClientTls {
    /// A client that trusts whom the operating system trusts, and presents no certificate.
    ///
    /// # Errors
    ///
    /// [`TlsSetupError::PlatformRoots`] where the operating system trusts nobody.
    pub fn new() -> Result<Self, TlsSetupError> {
        Self::builder().build()
    }

    /// Begins to say how TLS is to be used.
    #[must_use]
    pub fn builder() -> ClientTlsBuilder {
        ClientTlsBuilder::default()
    }

    /// Makes TLS of a TCP connection to `host`, which is the host of the address: the name that the server's
    /// certificate has to carry unless [`server_name`](ClientTlsBuilder::server_name) says another.
    ///
    /// There is no limit of time; put a deadline around it.
    ///
    /// # Errors
    ///
    /// [`TlsError`], which says who is to blame.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    pub async fn connect(&self, stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, TlsError> {
        let (name, wanted) = self.name(host)?;
        let mut hello = Vec::new();
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let mut handshake = connector.connect_with(name, stream, |session| take_hello(session, &mut hello));
        // The handshake would send the hello and wait for the answer. Doing so here, and looking at the answer before it
        // is read, tells a server that does not speak TLS from one that speaks it badly.
        if let Some(stream) = handshake.get_mut().filter(|_| !hello.is_empty()) {
            stream.write_all(&hello).await.map_err(TlsError::of_io)?;
            let mut first = [0; FIRST_BYTES];
            let length = stream.peek(&mut first).await.map_err(TlsError::of_io)?;
            if let Some(looks_like) = LooksLike::not_tls(first.get(..length).unwrap_or_default()) {
                return Err(TlsError::NotTls { looks_like });
            }
        }
        finish(handshake, wanted).await
    }

    /// Makes TLS of any other stream to `host`; as [`connect`](Self::connect), but for a server that does not speak TLS,
    /// of which it can only say that it does not keep to TLS.
    ///
    /// # Errors
    ///
    /// [`TlsError`], which says who is to blame.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    pub async fn connect_over<IO>(&self, stream: IO, host: &str) -> Result<TlsStream<IO>, TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let (name, wanted) = self.name(host)?;
        finish(TlsConnector::from(Arc::clone(&self.config)).connect(name, stream), wanted).await
    }

    fn name<'a>(&'a self, host: &'a str) -> Result<(ServerName<'static>, &'a str), TlsError> {
        let wanted = self.server_name.as_deref().unwrap_or(host);
        match ServerName::try_from(wanted) {
            Ok(name) => Ok((name.to_owned(), wanted)),
            Err(_) => Err(TlsError::ServerName { name: wanted.to_owned() }),
        }
    }
}

async fn finish<IO>(handshake: tokio_rustls::Connect<IO>, wanted: &str) -> Result<TlsStream<IO>, TlsError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    match handshake.await {
        Ok(stream) => Ok(stream.into()),
        Err(error) => Err(TlsError::of_handshake(error, Side::Server, wanted)),
    }
}

/// Takes the bytes with which the session wants to begin.
fn take_hello(session: &mut ClientConnection, hello: &mut Vec<u8>) {
    // Writing to memory cannot fail; if it did, the handshake would send what is left.
    while session.wants_write() && session.write_tls(hello).is_ok_and(|written| written > 0) {}
}

/// Says how a client is to use TLS.
#[derive(Debug, Clone, Default)]
pub struct ClientTlsBuilder {
    common: Common,
    trust: Trust,
    authorities: Authorities,
    identity: Option<Identity>,
    server_name: Option<String>,
}

/// Which servers are believed.
#[derive(Debug, Clone, Default)]
enum Trust {
    #[default]
    Platform,
    Authorities,
    Pins(Vec<Fingerprint>),
    Anyone,
}

impl ClientTlsBuilder {
    /// Trusts only servers whose certificate was issued by a CA in this PEM text, or by one given in another call.
    ///
    /// Of the ways to say who is trusted, `ca`, `pin` and `danger_accept_any_certificate`, the last one said holds.
    #[must_use]
    pub fn ca(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.trust = Trust::Authorities;
        self.authorities.add_text(pem.as_ref());
        self
    }

    /// As [`ca`](Self::ca), with a file that [`build`](Self::build) reads.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.trust = Trust::Authorities;
        self.authorities.add_file(path.into());
        self
    }

    /// Trusts only the server that has the certificate with this fingerprint, or one given in another call, whoever
    /// issued it and whatever its names and dates: for a server that made its certificate itself.
    #[must_use]
    pub fn pin(mut self, fingerprint: Fingerprint) -> Self {
        match &mut self.trust {
            Trust::Pins(pins) => pins.push(fingerprint),
            trust => *trust = Trust::Pins(vec![fingerprint]),
        }
        self
    }

    /// Trusts whatever server answers. Whoever can reach into the connection can read and change all of it; what keeps
    /// out is only who cannot.
    #[must_use]
    pub fn danger_accept_any_certificate(mut self) -> Self {
        self.trust = Trust::Anyone;
        self
    }

    /// Presents this certificate to servers that ask for one.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Calls the server by this name, instead of the host of the address: both in the hello (SNI) and when its
    /// certificate is verified. An IP address works, and is not sent.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Allows these versions of TLS only; both by default.
    #[must_use]
    pub fn versions(mut self, versions: impl IntoIterator<Item = TlsVersion>) -> Self {
        self.common.versions = versions.into_iter().collect();
        self
    }

    /// Offers these application protocols, the preferred one first; [`ALPN`](super::ALPN) by default, none if empty.
    #[must_use]
    pub fn alpn<P: AsRef<str>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.common.set_alpn(protocols);
        self
    }

    /// Sets TLS up. Blocks for as long as reading the certificates of the CA, or of the operating system, takes.
    ///
    /// # Errors
    ///
    /// [`TlsSetupError`] when a CA cannot be read, or the operating system has none.
    pub fn build(self) -> Result<ClientTls, TlsSetupError> {
        let inconsistent = |source| TlsSetupError::Inconsistent { source };
        let provider = setup::provider();
        let verifier: Arc<dyn ServerCertVerifier> = match self.trust {
            Trust::Platform => {
                let verifier = Verifier::new(Arc::clone(&provider));
                Arc::new(verifier.map_err(|source| TlsSetupError::PlatformRoots { source })?)
            }
            Trust::Authorities => {
                let roots = Arc::new(self.authorities.load()?);
                let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
                // Only a lack of roots makes this fail, and an empty CA was refused when it was loaded.
                verifier.build().map_err(|error| inconsistent(rustls::Error::General(error.to_string())))?
            }
            Trust::Pins(pins) => Arc::new(AsPresented { pins: Some(pins), provider: Arc::clone(&provider) }),
            Trust::Anyone => Arc::new(AsPresented { pins: None, provider: Arc::clone(&provider) }),
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.common.versions()?)
            .map_err(inconsistent)?
            // Rustls calls every verifier of one's own dangerous; the platform's is one as well.
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match self.identity {
            Some(identity) => {
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())))
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = self.common.alpn;
        Ok(ClientTls { config: Arc::new(config), server_name: self.server_name })
    }
}
