use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::introduction::PeerIdentity;
#[cfg(feature = "tls")]
use crate::transport::tls::{Negotiated, PeerCertificates};
#[cfg(unix)]
use crate::transport::unix::PeerCredentials;

/// Who is at the other end, as far as the transport knows, and as far as it was proved.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Peer {
    /// Its address, over TCP and TLS.
    pub address: Option<SocketAddr>,
    /// What was agreed on, over TLS.
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<Negotiated>>,
    /// Its user and process, over a Unix socket.
    #[cfg(unix)]
    pub unix: Option<PeerCredentials>,
    /// Who it has proved to be, where there was an [introduction](crate::Introduction).
    pub identity: Option<Arc<PeerIdentity>>,
}

impl Peer {
    /// Who it has proved to be, where there was an [introduction](crate::Introduction).
    #[must_use]
    pub fn identity(&self) -> Option<&PeerIdentity> {
        self.identity.as_deref()
    }

    /// The certificates it proved to own, over TLS. A server sees those of a client that it asked for some.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn certificates(&self) -> Option<&PeerCertificates> {
        self.tls.as_ref()?.peer.as_ref()
    }
}

/// The address, `unix:<process>`, or `local`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.address {
            return address.fmt(f);
        }
        #[cfg(unix)]
        if let Some(peer) = &self.unix {
            return match peer.pid {
                Some(pid) => write!(f, "unix:{pid}"),
                None => f.write_str("unix"),
            };
        }
        f.write_str("local")
    }
}
