//! The server's side of TLS.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::server::{ServerConfig, ServerConnection, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::authorities::Authorities;
use super::looks_like::{FIRST_BYTES, LooksLike};
use super::setup::{self, Common};
use super::{Identity, TlsError, TlsSetupError, TlsVersion};
use crate::Side;

/// What a peer that does not speak TLS is told, in case it can tell: the fatal alert `unexpected_message`.
const NOT_TLS: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x0a];

/// How much of a refused client's bytes is still taken, and for how long, so that it learns why: a few flights of a
/// handshake, and a round trip around the world.
const LINGER_BYTES: u64 = 64 * 1024;
const LINGER: Duration = Duration::from_secs(1);

/// Whether clients are asked for certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ClientCertificates {
    /// They are not.
    #[default]
    None,
    /// They are, and may come without; one that is presented has to be valid.
    Ask,
    /// They are, and nobody comes in without.
    Require,
}

/// How a server uses TLS; its clones are handles of the same one, through which its certificates can be replaced while
/// it runs.
///
/// ```no_run
/// # async fn example(stream: tokio::net::TcpStream) -> Result<(), Box<dyn std::error::Error>> {
/// use nossock::transport::tls::{ClientCertificates, Identity, ServerTls};
///
/// let tls = ServerTls::builder(Identity::from_pem_files("server.pem", "server.key")?)
///     .client_certificates(ClientCertificates::Require)
///     .ca_file("clients-ca.pem")
///     .build()?;
/// let stream = tls.accept(stream).await?;
///
/// // Later, anywhere: connections that are open stay as they are, new ones see the new certificate.
/// tls.reload(Identity::from_pem_files("server.pem", "server.key")?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ServerTls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// What the configuration was made of. Held while a new one is made, so that of two replacements at a time none is
    /// lost; handshakes do not wait for it.
    settings: Mutex<ServerTlsBuilder>,
    current: RwLock<Arc<ServerConfig>>,
}

impl ServerTls {
    /// A server that asks no client for a certificate.
    ///
    /// # Errors
    ///
    /// [`TlsSetupError`] when rustls refuses the identity.
    pub fn new(identity: Identity) -> Result<Self, TlsSetupError> {
        Self::builder(identity).build()
    }

    /// Begins to say how TLS is to be used.
    #[must_use]
    pub fn builder(identity: Identity) -> ServerTlsBuilder {
        ServerTlsBuilder {
            common: Common::default(),
            identity,
            clients: ClientCertificates::None,
            authorities: Authorities::default(),
        }
    }

    /// Makes TLS of a connection that was accepted.
    ///
    /// A client that is refused is told so, and given a second to hear it. Otherwise there is no limit of time; put a
    /// deadline around it, and accept the next connection meanwhile.
    ///
    /// # Errors
    ///
    /// [`TlsError`], which says who is to blame, and what a client that does not speak TLS seems to speak instead.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    pub async fn accept<IO>(&self, mut stream: IO) -> Result<TlsStream<IO>, TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut first = [0; FIRST_BYTES];
        let length = stream.read(&mut first).await.map_err(TlsError::of_io)?;
        let first = first.get(..length).unwrap_or_default();
        if let Some(looks_like) = LooksLike::not_tls(first) {
            if stream.write_all(&NOT_TLS).await.is_ok() {
                linger(stream).await;
            }
            return Err(TlsError::NotTls { looks_like });
        }
        let acceptor = TlsAcceptor::from(self.current());
        // The session is given what was read here, and reads the rest by itself.
        let handshake = acceptor.accept_with(stream, |session| give(session, first));
        match handshake.into_fallible().await {
            Ok(stream) => Ok(stream.into()),
            Err((error, stream)) => {
                let error = TlsError::of_handshake(error, Side::Client, "");
                // There is nobody to tell when the connection itself failed.
                if !matches!(error, TlsError::CutOff { .. } | TlsError::Io { .. }) {
                    linger(stream).await;
                }
                Err(error)
            }
        }
    }

    /// Presents another identity from the next handshake on. Connections that are open stay as they are; sessions that
    /// are over cannot be resumed any more. Files given with [`ca_file`](ServerTlsBuilder::ca_file) are read again.
    ///
    /// # Errors
    ///
    /// [`TlsSetupError`]; everything is then as before.
    pub fn reload(&self, identity: Identity) -> Result<(), TlsSetupError> {
        self.change(|settings| settings.identity = identity)
    }

    /// Verifies client certificates with the CA in this PEM text, and no other, from the next handshake on, as
    /// [`reload`](Self::reload) does with the identity. A client that is connected stays, whoever issued its
    /// certificate.
    ///
    /// # Errors
    ///
    /// [`TlsSetupError`]; everything is then as before.
    pub fn reload_ca(&self, pem: impl AsRef<[u8]>) -> Result<(), TlsSetupError> {
        self.change(|settings| {
            settings.authorities = Authorities::default();
            settings.authorities.add_text(pem.as_ref());
        })
    }

    /// Replaces everything from the next handshake on, as [`reload`](Self::reload) does with the identity.
    ///
    /// # Errors
    ///
    /// [`TlsSetupError`]; everything is then as before.
    pub fn replace(&self, settings: ServerTlsBuilder) -> Result<(), TlsSetupError> {
        self.change(|current| *current = settings)
    }

    fn change(&self, change: impl FnOnce(&mut ServerTlsBuilder)) -> Result<(), TlsSetupError> {
        // Both locks guard a value that is replaced whole: whoever panicked while holding one left nothing half done.
        let mut settings = self.shared.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = settings.clone();
        change(&mut changed);
        let config = changed.config()?;
        *self.shared.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        *settings = changed;
        Ok(())
    }

    fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Gives the session bytes that were read before it.
fn give(session: &mut ServerConnection, mut bytes: &[u8]) {
    // Less than a record's header fits into the buffer of a session that has read nothing.
    while !bytes.is_empty() && session.read_tls(&mut bytes).is_ok_and(|taken| taken > 0) {}
}

/// Ends the connection to a client that was just told why, in a way that it can hear.
///
/// Closing a socket on which bytes wait to be read resets the connection, and a reset makes the other side forget what
/// it has not read: the alert. So what the client still sends is taken, until it ends the connection too.
async fn linger<IO>(mut stream: IO)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    if stream.shutdown().await.is_ok() {
        let mut rest = stream.take(LINGER_BYTES);
        // Whatever becomes of it, the connection is over.
        let _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    }
}

/// Says how a server is to use TLS.
#[derive(Debug, Clone)]
pub struct ServerTlsBuilder {
    common: Common,
    identity: Identity,
    clients: ClientCertificates,
    authorities: Authorities,
}

impl ServerTlsBuilder {
    /// Presents this certificate instead of the one given first.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    /// Says whether clients are asked for certificates; they are verified with the CA given with [`ca`](Self::ca).
    #[must_use]
    pub const fn client_certificates(mut self, clients: ClientCertificates) -> Self {
        self.clients = clients;
        self
    }

    /// Accepts client certificates that were issued by a CA in this PEM text, or by one given in another call.
    #[must_use]
    pub fn ca(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.authorities.add_text(pem.as_ref());
        self
    }

    /// As [`ca`](Self::ca), with a file that [`build`](Self::build) reads, and that is read again whenever something is
    /// replaced.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.authorities.add_file(path.into());
        self
    }

    /// Allows these versions of TLS only; both by default.
    #[must_use]
    pub fn versions(mut self, versions: impl IntoIterator<Item = TlsVersion>) -> Self {
        self.common.versions = versions.into_iter().collect();
        self
    }

    /// Speaks these application protocols, the preferred one first; [`ALPN`](super::ALPN) by default. A client that
    /// offers only others is refused, one that offers none is not.
    #[must_use]
    pub fn alpn<P: AsRef<str>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.common.set_alpn(protocols);
        self
    }

    /// Sets TLS up. Blocks for as long as reading the files of the CA takes.
    ///
    /// # Errors
    ///
    /// [`TlsSetupError`] when a CA cannot be read, or client certificates are asked for and there is none.
    pub fn build(self) -> Result<ServerTls, TlsSetupError> {
        let current = RwLock::new(self.config()?);
        Ok(ServerTls { shared: Arc::new(Shared { settings: Mutex::new(self), current }) })
    }

    /// Every configuration remembers sessions of its own: one that was begun under another CA must not come in by
    /// resuming it.
    fn config(&self) -> Result<Arc<ServerConfig>, TlsSetupError> {
        let inconsistent = |source| TlsSetupError::Inconsistent { source };
        let provider = setup::provider();
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.common.versions()?)
            .map_err(inconsistent)?;
        let config = if self.clients == ClientCertificates::None {
            config.with_no_client_auth()
        } else {
            if self.authorities.is_empty() {
                return Err(TlsSetupError::NoClientCa);
            }
            let roots = Arc::new(self.authorities.load()?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = match self.clients {
                ClientCertificates::Ask => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            let verifier = verifier.build();
            // Only a lack of roots makes this fail, and an empty CA was refused when it was loaded.
            let verifier =
                verifier.map_err(|error| inconsistent(rustls::Error::General(error.to_string())))?;
            config.with_client_cert_verifier(verifier)
        };
        let mut config =
            config.with_cert_resolver(Arc::new(SingleCertAndKey::from(self.identity.certified())));
        config.alpn_protocols.clone_from(&self.common.alpn);
        Ok(Arc::new(config))
    }
}
