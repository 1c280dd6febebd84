//! What a handshake settled.

use std::fmt;

use rustls::{HandshakeKind, ProtocolVersion, SupportedProtocolVersion};
use tokio_rustls::TlsStream;

use super::PeerCertificates;

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl TlsVersion {
    pub(super) const fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::Tls12 => &rustls::version::TLS12,
            Self::Tls13 => &rustls::version::TLS13,
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tls12 => "TLS 1.2",
            Self::Tls13 => "TLS 1.3",
        })
    }
}

/// What the two sides of a TLS connection agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Negotiated {
    /// The version of TLS.
    pub version: TlsVersion,
    /// The cipher suite, by its name in the registry: `TLS13_AES_256_GCM_SHA384`.
    pub cipher_suite: Option<String>,
    /// The protocol chosen by ALPN; `None` if the peer does not know ALPN.
    pub alpn: Option<String>,
    /// Whether an earlier session was resumed; certificates are then those of that session.
    pub resumed: bool,
    /// The name by which the client called the server. Only the server knows; `None` where the client called it by IP
    /// address.
    pub server_name: Option<String>,
    /// The peer's certificates; `None` for a client that presented none.
    pub peer: Option<PeerCertificates>,
    /// What is the same on both ends of this connection and of no other; `None` under TLS 1.2, where it is not sure to
    /// be.
    pub channel_binding: Option<ChannelBinding>,
}

impl Negotiated {
    /// Reads off a stream what its handshake settled.
    #[must_use]
    pub fn of<IO>(stream: &TlsStream<IO>) -> Self {
        let (_, common) = stream.get_ref();
        let version = match common.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
            // There is no third: these two are all that is enabled.
            _ => TlsVersion::Tls13,
        };
        let suite = common.negotiated_cipher_suite();
        Self {
            version,
            cipher_suite: suite.and_then(|suite| suite.suite().as_str().map(str::to_owned)),
            alpn: common.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
            server_name: match stream {
                TlsStream::Client(_) => None,
                TlsStream::Server(server) => server.get_ref().1.server_name().map(str::to_owned),
            },
            peer: common.peer_certificates().and_then(PeerCertificates::new),
            channel_binding: (version == TlsVersion::Tls13).then(|| ChannelBinding::of(stream)).flatten(),
        }
    }
}

/// The `tls-exporter` channel binding (RFC 9266): 32 bytes that only the two ends of one connection know.
///
/// An authentication that covers them cannot be relayed over another connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChannelBinding([u8; 32]);

impl ChannelBinding {
    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn of<IO>(stream: &TlsStream<IO>) -> Option<Self> {
        const LABEL: &[u8] = b"EXPORTER-Channel-Binding";
        let bytes = [0; 32];
        match stream {
            TlsStream::Client(client) => client.get_ref().1.export_keying_material(bytes, LABEL, Some(&[])),
            TlsStream::Server(server) => server.get_ref().1.export_keying_material(bytes, LABEL, Some(&[])),
        }
        .ok()
        .map(Self)
    }
}

/// Shows nothing: RFC 9266 asks for it to stay between the two ends.
impl fmt::Debug for ChannelBinding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ChannelBinding(..)")
    }
}
