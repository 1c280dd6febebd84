//! TLS over any stream, through rustls with aws-lc-rs as its cryptography.
//!
//! | you are | you need | you call |
//! |---|---|---|
//! | a client | nothing, or [`ClientTls::builder`] with a CA, an [`Identity`], a pin | [`ClientTls::connect`] |
//! | a server | an [`Identity`], perhaps [`ClientCertificates`] and a CA | [`ServerTls::accept`] |
//! | either, afterwards | | [`Negotiated::of`] the stream: version, ALPN, the peer's certificates |
//!
//! TLS 1.2 and 1.3 are spoken, sessions are resumed, early data is neither sent nor taken (it can be replayed). Both
//! sides name the protocol [`ALPN`]; a peer that names none is taken all the same, because the original `nossock` of
//! npm does not, and one that speaks only others is refused.
//!
//! Certificates are verified unless the code says `danger`. When that fails, [`TlsError`] says whose fault it is and
//! what would help; one case comes late:
//!
//! ```text
//! TLS 1.3   client                        server
//!           hello              ────────►
//!                              ◄────────  hello, certificate, finished
//!           no certificate,
//!           finished           ────────►
//!           connect() is done                accept() fails: ClientCertificateMissing
//!           read() fails       ◄────────  alert
//!           explain() of that: ClientCertificateRequired
//! ```

mod authorities;
mod client;
mod error;
mod identity;
mod looks_like;
mod negotiated;
mod peer;
mod server;
mod setup;
mod subject;
mod verify;

pub use client::{ClientTls, ClientTlsBuilder};
pub use error::{TlsError, explain};
pub use identity::{Identity, IdentityError, Passphrase, PemOrigin};
pub use looks_like::LooksLike;
pub use negotiated::{ChannelBinding, Negotiated, TlsVersion};
pub use peer::{Fingerprint, FingerprintError, PeerCertificates};
/// The stream of a client or a server: what [`ClientTls::connect`] and [`ServerTls::accept`] return.
pub use rustls_pki_types::CertificateDer;
pub use server::{ClientCertificates, ServerTls, ServerTlsBuilder};
pub use setup::TlsSetupError;
pub use tokio_rustls::TlsStream;

/// The name of this protocol in TLS' application-layer protocol negotiation.
pub const ALPN: &str = "nossock/1";
