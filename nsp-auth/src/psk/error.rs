/// Why a peer was refused; for the log of this side, never for the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PskError {
    /// The peer sent something else than the frame that was its turn.
    #[error("it did not send a `{expected}` as that has to be")]
    Unexpected {
        /// The name of the frame.
        expected: &'static str,
    },
    /// The peer speaks another version.
    #[error("it speaks version {version} of psk, this side speaks {}", super::message::VERSION)]
    Version {
        /// The peer's.
        version: u32,
    },
    /// The peer offered more keys than it can have.
    #[error("it offered more than {} keys", super::message::MAX_OFFERED)]
    TooMany,
    /// The peer has our own name, or answers with our own nonce: somebody shows us ourselves.
    #[error("it has the name or the nonce of this side")]
    Reflected,
    /// This side has no key for a server of that name.
    #[error("there is no key for a server called `{name}`")]
    UnknownPeer {
        /// What the server calls itself.
        name: String,
    },
    /// The peer did not prove that it has a key that this side has for it: the id is another, or the secret, or the connection
    /// (when somebody relays under TLS).
    #[error("it has no key of `{name}` that this side has too")]
    Wrong {
        /// Who the peer says it is.
        name: String,
    },
    /// The connection is TLS 1.2, where a proof could be relayed.
    #[error("this connection has no channel binding; psk over TLS needs TLS 1.3")]
    NoBinding,
}
