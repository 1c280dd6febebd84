//! A step between the transport and the first message, in which the two sides prove who they are.
//!
//! ```text
//!  accept ─► TLS ─► introduction ─► socket: hello, messages, requests
//!                    │        │
//!                    │        └─► refused: `{"close":{"code":"refused"}}`, and nothing of why
//!                    └─► Peer::identity
//! ```
//!
//! It is not a layer: when it is over, nothing of it is left but a name in [`Peer::identity`], and a connection without one has
//! never heard of it. Pre-shared keys are the one that `nsp-auth` has; here is one for client certificates, whole:
//!
//! ```
//! use nossock::{Exchange, Introduction, IntroductionError, PeerIdentity};
//!
//! /// A client is whom its certificate names.
//! #[derive(Debug)]
//! struct ByCertificate;
//!
//! impl Introduction for ByCertificate {
//!     async fn introduce(&self, exchange: &mut Exchange<'_>) -> Result<PeerIdentity, IntroductionError> {
//!         let name = exchange.peer().certificates().and_then(|certificates| certificates.common_name());
//!         let name = name.ok_or_else(|| IntroductionError::refused("no certificate with a name"))?;
//!         Ok(PeerIdentity::new(&name, "certificate"))
//!     }
//! }
//! # fn server(tls: nossock::transport::tls::ServerTls) -> Result<(), Box<dyn std::error::Error>> {
//! let server = nossock::Server::bind("tls://0.0.0.0:8797")?.tls(tls).introduction(ByCertificate);
//! # Ok(()) }
//! ```

mod error;
mod exchange;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use error::IntroductionError;
pub use exchange::Exchange;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::session::{Close, CloseCode, Control};
use crate::socket::{Peer, Side};

/// How two sides prove who they are, before the first message.
///
/// Given to [`ServerBuilder::introduction`](crate::ServerBuilder::introduction) and
/// [`Connector::introduction`](crate::Connector::introduction). Write [`introduce`](Self::introduce) as an `async fn`.
pub trait Introduction: Send + Sync + 'static {
    /// Talks with the peer, and says who it is.
    ///
    /// Every error ends the connection. The peer learns that it was [refused](CloseCode::Refused), or that it took
    /// [too long](CloseCode::Timeout), and no more: what the error says is for this side alone.
    fn introduce(
        &self,
        exchange: &mut Exchange<'_>,
    ) -> impl Future<Output = Result<PeerIdentity, IntroductionError>> + Send;

    /// How long it may take: 5 s, and in no case longer than what is left of [`Limits::connect`](crate::Limits::connect).
    fn time(&self) -> Duration {
        Duration::from_secs(5)
    }
}

/// Who a peer has proved to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerIdentity {
    name: Box<str>,
    method: &'static str,
}

impl PeerIdentity {
    /// Somebody of this name, proved by this method: `psk`, `certificate`.
    #[must_use]
    pub fn new(name: &str, method: &'static str) -> Self {
        Self { name: name.into(), method }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it was proved.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        self.method
    }
}

/// The name. What a terminal would obey is escaped.
impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.escape_debug().fmt(f)
    }
}

/// An introduction of whatever kind.
#[derive(Clone)]
pub(crate) struct Introducer(Arc<dyn Erased>);

type Introducing<'a> = Pin<Box<dyn Future<Output = Result<PeerIdentity, IntroductionError>> + Send + 'a>>;

trait Erased: Send + Sync {
    fn introduce<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Introducing<'a>;
    fn time(&self) -> Duration;
}

impl<I: Introduction> Erased for I {
    fn introduce<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Introducing<'a> {
        Box::pin(Introduction::introduce(self, exchange))
    }

    fn time(&self) -> Duration {
        Introduction::time(self)
    }
}

impl fmt::Debug for Introducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Introducer(..)")
    }
}

/// How long telling a peer that it was refused may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Bytes that a refused peer may still send before it has read why it is to go.
const LAST_BYTES: usize = 16 * 1024;

impl Introducer {
    pub(crate) fn new(introduction: impl Introduction) -> Self {
        Self(Arc::new(introduction))
    }

    /// Has both sides introduce themselves; `peer` has an identity then. Not a byte is read beyond the last frame that the
    /// introduction asked for: what follows belongs to the socket.
    pub(crate) async fn run<T>(
        &self,
        io: &mut T,
        side: Side,
        peer: &mut Peer,
        within: Duration,
    ) -> Result<(), IntroductionError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let after = self.0.time().min(within);
        let mut exchange = Exchange::new(io, side, peer);
        let introduced = match tokio::time::timeout(after, self.0.introduce(&mut exchange)).await {
            Ok(introduced) => introduced,
            Err(_) => Err(IntroductionError::TimedOut { after }),
        };
        match introduced {
            Ok(identity) => {
                peer.identity = Some(Arc::new(identity));
                Ok(())
            }
            Err(error) => {
                if let Some(code) = error.farewell() {
                    // Whether it arrives changes nothing for us.
                    let _ = tokio::time::timeout(FAREWELL, farewell(io, code)).await;
                }
                Err(error)
            }
        }
    }
}

/// Says that it is over, and waits until the peer has read that: unread bytes of its own would make the system reset the
/// connection, and tear up ours on their way.
async fn farewell<T>(io: &mut T, code: CloseCode) -> std::io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut frame = Vec::new();
    Control::Close(Close { code, message: String::new() }).write(&mut frame);
    io.write_all(&frame).await?;
    io.shutdown().await?;
    let mut left = LAST_BYTES;
    let mut bytes = [0; 512];
    while left > 0 {
        match io.read(&mut bytes).await? {
            0 => break,
            n => left = left.saturating_sub(n),
        }
    }
    Ok(())
}
