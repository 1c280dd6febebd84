//! Pre-shared keys: closes a plain nossock socket to strangers.
//!
//! ```no_run
//! # async fn server(router: nossock::Router, shutdown: std::future::Pending<()>) -> Result<(), Box<dyn std::error::Error>> {
//! use nossock::Server;
//! use nsp_auth::psk::{Key, Psk};
//!
//! let psk = Psk::new("hub")?.peer("sensor-7", Key::from_file("2026-11", "keys/sensor-7")?)?;
//! Server::bind("tcp://0.0.0.0:8797")?.introduction(psk).serve_until(router, shutdown).await?;
//! # Ok(()) }
//! ```
//!
//! and, on the other side:
//!
//! ```no_run
//! # async fn client() -> Result<(), Box<dyn std::error::Error>> {
//! # use nossock::Connector;
//! # use nsp_auth::psk::{Key, Psk};
//! let psk = Psk::new("sensor-7")?.peer("hub", Key::from_file("2026-11", "/etc/sensor/key")?)?;
//! let socket = Connector::new("tcp://192.0.2.1:8797")?.introduction(psk).connect().await?;
//! assert_eq!(socket.peer().identity().map(|peer| peer.name()), Some("hub"));
//! # Ok(()) }
//! ```
//!
//! A handler sees whom it serves in the same way: `socket.peer().identity()`.
//!
//! # What it gives, and what not
//!
//! Each side proves to the other, now and on this connection, that it has a key that both have; the key itself never travels. Under
//! TLS the proof covers the connection: a man in the middle, even one whose certificate the client accepts, cannot pass it on.
//! Without TLS the introduction is all that is protected: what follows can be read and changed on its way, by whoever sits there.
//! Loopback, Unix sockets and a tunnel are the places for that.
//!
//! # The exchange
//!
//! ```text
//!  client                                                            server
//!    │ psk:offer      {"psk":1,"name":"sensor-7","nonce":"c1c1…"}       │
//!    ├─────────────────────────────────────────────────────────────────►│ draws a nonce
//!    │ psk:challenge  {"psk":1,"name":"hub","nonce":"5e5e…"}            │
//!    │◄─────────────────────────────────────────────────────────────────┤
//!    │ psk:proof      {"keys":[{"id":"2026-11","mac":"5b…"}]}           │
//!    ├─────────────────────────────────────────────────────────────────►│ tries all of them
//!    │ psk:accept     {"id":"2026-11","mac":"63…"}                      │
//!    │◄─────────────────────────────────────────────────────────────────┤
//!    │ checks; the conversation begins                                  │
//! ```
//!
//! All are nossock frames of kind `j`, with exactly these fields. `psk` is the version; names and ids have 1 to 64 characters of
//! visible ASCII, nonces and MACs are 32 bytes in hexadecimal digits. The client proves all keys at once that it has for a server
//! of that name, up to 16; the server takes the first that is its own as well. So until the client has proved itself the server has
//! said nothing that depends on its keys, and a name that it does not know costs it the same work, and gets the same answer, as a
//! wrong secret. Both sides may have several keys for each other, and change them one after the other: that is rotation.
//!
//! What is refused gets nossock's `{"close":{"code":"refused"}}`, and nothing of why; all of it has to be over within 5 s.
//!
//! # The MAC
//!
//! HMAC-SHA-256 with the key's secret, over
//!
//! ```text
//!  13   "nossock psk 1"
//!   1   who proves: 'c' the client, 's' the server
//!  32   nonce of the client
//!  32   nonce of the server
//!  1+n  channel binding: the TLS exporter of RFC 9266 (n = 32), or nothing without TLS (n = 0)
//!  1+n  name of the client
//!  1+n  name of the server
//!  1+n  id of the key
//!  1    how many keys the client proves, and of each:
//!       1+n  its id
//! ```
//!
//! where `1+n` is a byte that counts those after it. A proof that is played back meets another nonce, one that is sent back to who
//! made it meets the other role, and a key that somebody strikes from the list breaks the proofs of all others. The secret
//! `000102030405060708090a0b0c0d0e0f` with nonces of 32 bytes `c1` and `5e`, over TCP:
//!
//! ```text
//!  MAC input, client
//!    6e6f73736f636b2070736b203163                                      label and role
//!    c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1  nonce of the client
//!    5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e  nonce of the server
//!    00                                                                no TLS
//!    0873656e736f722d37                                                the client
//!    03687562                                                          the server
//!    07323032362d3131                                                  the key
//!    0107323032362d3131                                                the one key offered
//!  MAC, client   5be9ba94ee663568c9ec9813b8427af64ec24190d5c199b7edde289a1098edd1
//!  MAC, server   639e747886e5a4f9519172ca3073c1148cc63ecba814ab77f2b811fa22b75d08
//! ```

mod client;
mod error;
mod hex;
#[cfg(any(test, fuzzing))]
#[allow(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "fails by panicking")]
pub mod hostile;
mod key;
mod keys;
mod label;
mod message;
mod server;
mod transcript;

use std::sync::{Arc, PoisonError, RwLock};

use nossock::{Exchange, Introduction, IntroductionError, Peer, PeerIdentity, Side};

use self::client::Client;
use self::keys::Keys;
use self::label::Label;
use self::server::Server;

pub use self::error::PskError;
pub use self::key::{Key, KeyError};
pub use self::label::LabelError;

/// An introduction by pre-shared keys, for either side of a connection.
///
/// Clones share their keys: keep one to [replace](Self::replace) them while a server runs.
#[derive(Debug, Clone)]
pub struct Psk {
    keys: Arc<RwLock<Arc<Keys>>>,
    binding: Binding,
}

/// Whether proofs cover the TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binding {
    Exporter,
    None,
}

/// Who was introduced, and by which key.
#[derive(Debug, PartialEq, Eq)]
struct Introduced {
    peer: Label,
    key: Label,
}

impl Psk {
    /// By this name, and with no keys yet: nobody gets in.
    ///
    /// # Errors
    /// When the name is not 1 to 64 characters of visible ASCII.
    pub fn new(name: &str) -> Result<Self, KeyError> {
        Ok(Self { keys: Arc::new(RwLock::new(Arc::new(Keys::new(name)?))), binding: Binding::Exporter })
    }

    /// With this key for this peer: whoever has it is the peer, and by no other name. Call it again for the next key of a rotation, up
    /// to 8; the first that both sides have is used.
    ///
    /// # Errors
    /// When the name is not 1 to 64 characters of visible ASCII, or there is a key of that id for the peer already.
    pub fn peer(self, name: &str, key: Key) -> Result<Self, KeyError> {
        self.add(Some(name), key)
    }

    /// With this key for a whole group: whoever has it gets in, by whatever name it chooses. The name of such a peer is worth as
    /// much as the least of those who have the key.
    ///
    /// # Errors
    /// When there is a key of that id for everybody already.
    pub fn anyone(self, key: Key) -> Result<Self, KeyError> {
        self.add(None, key)
    }

    /// Without the channel binding of TLS, for a server behind a proxy that ends TLS. Both sides have to say so; who sits at the proxy
    /// can then pass proofs on.
    #[must_use]
    pub const fn unbound(mut self) -> Self {
        self.binding = Binding::None;
        self
    }

    /// Takes the name and the keys of another from now on, in all clones. Connections that are there stay.
    pub fn replace(&self, with: &Self) {
        let keys = with.keys();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    fn add(self, peer: Option<&str>, key: Key) -> Result<Self, KeyError> {
        {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            Arc::make_mut(&mut keys).add(peer, key)?;
        }
        Ok(self)
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What makes a proof one of this connection.
    fn binding(&self, peer: &Peer) -> Result<Option<[u8; 32]>, PskError> {
        match (&peer.tls, self.binding) {
            (None, _) | (_, Binding::None) => Ok(None),
            (Some(tls), Binding::Exporter) => match &tls.channel_binding {
                Some(binding) => Ok(Some(*binding.as_bytes())),
                None => Err(PskError::NoBinding),
            },
        }
    }

    async fn talk(&self, exchange: &mut Exchange<'_>) -> Result<Introduced, IntroductionError> {
        let keys = self.keys();
        let binding = self.binding(exchange.peer())?;
        let mut nonce = [0; 32];
        aws_lc_rs::rand::fill(&mut nonce).expect("the operating system has a source of randomness");
        match exchange.side() {
            Side::Client => {
                let (offer, client) = Client::offer(&keys, nonce, binding);
                exchange.send(&offer).await?;
                let (proof, client) = client.challenged(&exchange.receive().await?)?;
                exchange.send(&proof).await?;
                Ok(client.accepted(&exchange.receive().await?)?)
            }
            Side::Server => {
                let offer = exchange.receive().await?;
                let (challenge, server) = Server::challenge(&keys, &offer, nonce, binding)?;
                exchange.send(&challenge).await?;
                let (accept, introduced) = server.proved(&exchange.receive().await?)?;
                exchange.send(&accept).await?;
                Ok(introduced)
            }
        }
    }
}

impl Introduction for Psk {
    async fn introduce(&self, exchange: &mut Exchange<'_>) -> Result<PeerIdentity, IntroductionError> {
        let Introduced { peer, key } = self.talk(exchange).await?;
        tracing::debug!(peer = %exchange.peer(), name = %peer, %key, "introduced by psk");
        Ok(PeerIdentity::new(peer.as_str(), "psk"))
    }
}

impl From<PskError> for IntroductionError {
    fn from(error: PskError) -> Self {
        Self::refused(error)
    }
}

#[cfg(test)]
mod tests;
