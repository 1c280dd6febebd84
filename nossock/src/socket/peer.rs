use std::fmt;
use std::net::SocketAddr;

/// Who is at the other end, as far as the transport knows.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Peer {
    /// Its address, over TCP and TLS.
    pub address: Option<SocketAddr>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("local"),
        }
    }
}
