//! The side that connects; pure.

use nossock::Side;
use nossock::wire::Frame;

use super::hex::Bytes32;
use super::keys::Keys;
use super::label::Label;
use super::message::{Accept, Challenge, MAX_OFFERED, Offer, Proof, Proved, PskFrame as _, VERSION};
use super::transcript::Transcript;
use super::{Introduced, PskError};

/// A client that has offered, and waits for the challenge.
#[derive(Debug)]
pub(super) struct Client<'k> {
    keys: &'k Keys,
    nonce: Bytes32,
    binding: Option<[u8; 32]>,
}

/// A client that has proved what it has, and waits for the server to do the same.
#[derive(Debug)]
pub(super) struct Proving<'k> {
    keys: &'k Keys,
    transcript: Transcript,
}

impl<'k> Client<'k> {
    pub(super) fn offer(keys: &'k Keys, nonce: [u8; 32], binding: Option<[u8; 32]>) -> (Frame, Self) {
        let nonce = Bytes32(nonce);
        let offer = Offer { version: VERSION, name: keys.name().clone(), nonce };
        (offer.write(), Self { keys, nonce, binding })
    }

    pub(super) fn challenged(self, frame: &Frame) -> Result<(Frame, Proving<'k>), PskError> {
        let Challenge { version, name: server, nonce } = Challenge::read(frame)?;
        if version != VERSION {
            return Err(PskError::Version { version });
        }
        if server == *self.keys.name() || nonce == self.nonce {
            return Err(PskError::Reflected);
        }
        let offered: Vec<_> = self.keys.of(&server).take(MAX_OFFERED).collect();
        if offered.is_empty() {
            return Err(PskError::UnknownPeer { name: server.into() });
        }
        let transcript = Transcript {
            client_nonce: self.nonce,
            server_nonce: nonce,
            binding: self.binding,
            client: self.keys.name().clone(),
            server,
            offered: offered.iter().map(|key| key.label().clone()).collect(),
        };
        let prove = |key| Proved {
            id: Label::clone(super::Key::label(key)),
            mac: transcript.prove(Side::Client, key),
        };
        let proof = Proof { keys: offered.into_iter().map(prove).collect() };
        Ok((proof.write(), Proving { keys: self.keys, transcript }))
    }
}

impl Proving<'_> {
    pub(super) fn accepted(self, frame: &Frame) -> Result<Introduced, PskError> {
        let Self { keys, transcript } = self;
        let Accept(Proved { id, mac }) = Accept::read(frame)?;
        let key = keys.of(&transcript.server).take(MAX_OFFERED).find(|key| *key.label() == id);
        match key {
            Some(key) if transcript.is_proved(Side::Server, &id, key, mac) => {
                Ok(Introduced { peer: transcript.server, key: id })
            }
            _ => Err(PskError::Wrong { name: transcript.server.into() }),
        }
    }
}
