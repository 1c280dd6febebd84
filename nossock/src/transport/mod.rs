//! Where bytes come from: TCP, TLS, Unix sockets and an in-memory pair.
//!
//! A transport ends where the first frame begins. It resolves an [`Address`], opens or accepts the connection, sets
//! what the operating system should know about it, and hands over a stream of tokio's; it knows nothing of frames, and
//! has no deadline of its own: whoever calls it knows how long the whole of connecting may take.
//!
//! | address | module | stream |
//! |---|---|---|
//! | `tcp://host:port` | [`tcp`] | `tokio::net::TcpStream` |
//! | `tls://host:port` | `tls` (feature `tls`) | `tls::TlsStream<TcpStream>` |
//! | `unix:/path`, `unix:@name` | `unix` (on Unix) | `tokio::net::UnixStream` |
//! | none | [`memory`] | `tokio::io::DuplexStream` |

mod address;
pub mod memory;
mod plain;
pub mod tcp;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub mod tls;
#[cfg(unix)]
pub mod unix;

pub use address::{Address, AddressError, UnixAddress};
pub(crate) use plain::{Plain, WriteEnd};
