//! Sockets and TLS, set up alike for every peer that does not bring its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll};

use futures_util::TryFutureExt;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// The name in the certificate.
pub(crate) const HOST: &str = "localhost";

/// Enough that 10,000 clients in a row never meet a full queue.
const BACKLOG: u32 = 4096;

/// What a client has to know to reach a server; the server process prints it as its first line.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Invitation {
    /// The port on 127.0.0.1.
    pub(crate) port: u16,
    /// The certificate to trust, DER, if the server speaks TLS.
    pub(crate) certificate: Option<Vec<u8>>,
    /// The same as PEM, for those who read their settings.
    pub(crate) certificate_pem: Option<String>,
    /// The congestion control to ask for, if any.
    pub(crate) congestion: Option<String>,
}

/// The way to a server.
#[derive(Clone)]
pub(crate) struct Door {
    /// Where it is.
    pub(crate) invitation: Invitation,
    connector: Option<TlsConnector>,
}

impl Door {
    /// Prepares what every connection needs.
    ///
    /// # Errors
    /// If the certificate cannot be trusted.
    pub(crate) fn new(invitation: Invitation) -> io::Result<Self> {
        let connector = match &invitation.certificate {
            None => None,
            Some(certificate) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from(certificate.clone())).map_err(io::Error::other)?;
                let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                    .with_protocol_versions(&[&TLS13])
                    .map_err(io::Error::other)?
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                // Ten thousand clients in one process are to stand for ten thousand strangers.
                config.resumption = Resumption::disabled();
                Some(TlsConnector::from(Arc::new(config)))
            }
        };
        Ok(Self { invitation, connector })
    }

    /// The server's address.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.invitation.port).into()
    }

    /// Connects: TCP without delay, and TLS 1.3 if the server has a certificate.
    ///
    /// # Errors
    /// What the connection or the handshake fails with.
    pub(crate) async fn open(&self) -> io::Result<Stream> {
        let tcp = self.open_tcp().await?;
        let Some(connector) = &self.connector else { return Ok(Stream::Plain(tcp)) };
        let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
        let tls = Box::pin(connector.connect(name, tcp)).await?;
        Ok(Stream::Tls(Box::new(tls.into())))
    }

    /// Connects without TLS, whatever the server speaks.
    ///
    /// # Errors
    /// What the connection fails with.
    pub(crate) async fn open_tcp(&self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        control(&SockRef::from(&socket), self.invitation.congestion.as_deref())?;
        let tcp = socket.connect(self.address()).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }
}

/// A server's certificate and its key.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// Both as PEM.
    pub(crate) pem: (String, String),
}

/// A listening socket on a port the system chose.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) tcp: TcpListener,
    /// Present if TLS is to be spoken.
    pub(crate) identity: Option<Identity>,
}

impl Listener {
    /// Binds 127.0.0.1, and makes a certificate if `tls`.
    pub(crate) fn bind(tls: bool, congestion: Option<&str>) -> io::Result<(Self, Invitation)> {
        let socket = TcpSocket::new_v4()?;
        // Accepted sockets inherit it.
        control(&SockRef::from(&socket), congestion)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let tcp = socket.listen(BACKLOG)?;
        let identity = if tls { Some(identity()?) } else { None };
        let invitation = Invitation {
            port: tcp.local_addr()?.port(),
            certificate: identity.as_ref().map(|identity| identity.certificate.to_vec()),
            certificate_pem: identity.as_ref().map(|identity| identity.pem.0.clone()),
            congestion: congestion.map(str::to_owned),
        };
        Ok((Self { tcp, identity }, invitation))
    }

    /// Runs `connection` in a task of its own for everybody who connects.
    ///
    /// The handshake has a task to itself, so that the future of a connection at rest does not carry its state.
    pub(crate) async fn serve_each<F>(
        self,
        connection: impl Fn(Stream) -> F + Clone + Send + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let acceptor = match self.identity {
            None => None,
            Some(identity) => Some(TlsAcceptor::from(Arc::new(
                ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                    .with_protocol_versions(&[&TLS13])
                    .and_then(|builder| {
                        builder
                            .with_no_client_auth()
                            .with_single_cert(vec![identity.certificate], identity.key)
                    })
                    .map_err(io::Error::other)?,
            ))),
        };
        loop {
            let (tcp, _) = self.tcp.accept().await?;
            tcp.set_nodelay(true)?;
            let Some(acceptor) = acceptor.clone() else {
                // A combinator: an `async` block around it would hold the connection twice.
                tokio::spawn(connection(Stream::Plain(tcp)).inspect_err(tell));
                continue;
            };
            let connection = connection.clone();
            tokio::spawn(async move {
                match acceptor.accept(tcp).await {
                    Ok(tls) => {
                        tokio::spawn(connection(Stream::Tls(Box::new(tls.into()))).inspect_err(tell));
                    }
                    Err(error) => tell(&error),
                }
            });
        }
    }
}

/// A connection, with or without TLS.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    /// Boxed: an idle plain connection must not pay for TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, into),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, from),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, from),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, from),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, from),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// Whether a socket here may choose `algorithm`: an unprivileged one only among those the system allows.
pub(crate) fn may_control(algorithm: &str) -> bool {
    let try_it = || -> io::Result<()> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        control(&SockRef::from(&socket), Some(algorithm))
    };
    try_it().is_ok()
}

#[cfg(target_os = "linux")]
fn control(socket: &SockRef<'_>, congestion: Option<&str>) -> io::Result<()> {
    congestion.map_or(Ok(()), |algorithm| socket.set_tcp_congestion(algorithm.as_bytes()))
}

#[cfg(not(target_os = "linux"))]
fn control(_: &SockRef<'_>, congestion: Option<&str>) -> io::Result<()> {
    congestion.map_or(Ok(()), |_| Err(io::ErrorKind::Unsupported.into()))
}

fn identity() -> io::Result<Identity> {
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).map_err(io::Error::other)?;
    Ok(Identity {
        certificate: made.cert.der().clone(),
        key: PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into(),
        pem: (made.cert.pem(), made.signing_key.serialize_pem()),
    })
}

/// Says on stderr what ended a connection, unless the client has just gone.
///
/// Only the first is of interest: the others follow from it, ten thousand at times.
fn tell(error: &io::Error) {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    static FIRST: Once = Once::new();
    if !matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof) {
        FIRST.call_once(|| eprintln!("server: a connection ended: {error}"));
    }
}
