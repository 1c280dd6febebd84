//! The side that accepted; pure.

use nossock::Side;
use nossock::wire::Frame;

use super::hex::Bytes32;
use super::keys::Keys;
use super::message::{Accept, Challenge, MAX_OFFERED, Offer, Proof, Proved, PskFrame as _, VERSION};
use super::transcript::Transcript;
use super::{Introduced, PskError};

/// A server that has challenged, and waits for the proof. Until then it has said nothing that depends on which keys it has.
#[derive(Debug)]
pub(super) struct Server<'k> {
    keys: &'k Keys,
    transcript: Transcript,
}

impl<'k> Server<'k> {
    pub(super) fn challenge(
        keys: &'k Keys,
        offer: &Frame,
        nonce: [u8; 32],
        binding: Option<[u8; 32]>,
    ) -> Result<(Frame, Self), PskError> {
        let Offer { version, name: client, nonce: client_nonce } = Offer::read(offer)?;
        if version != VERSION {
            return Err(PskError::Version { version });
        }
        let server_nonce = Bytes32(nonce);
        if client == *keys.name() || client_nonce == server_nonce {
            return Err(PskError::Reflected);
        }
        let challenge = Challenge { version: VERSION, name: keys.name().clone(), nonce: server_nonce };
        let server = keys.name().clone();
        let transcript =
            Transcript { client_nonce, server_nonce, binding, client, server, offered: Vec::new() };
        Ok((challenge.write(), Self { keys, transcript }))
    }

    pub(super) fn proved(self, frame: &Frame) -> Result<(Frame, Introduced), PskError> {
        let Self { keys, mut transcript } = self;
        let Proof { keys: proofs } = Proof::read(frame)?;
        if proofs.len() > MAX_OFFERED {
            return Err(PskError::TooMany);
        }
        transcript.offered = proofs.iter().map(|proof| proof.id.clone()).collect();
        let mut found = None;
        for Proved { id, mac } in &proofs {
            // As much work for a name or an id that is not known, and for those after the right one.
            let known = keys.of(&transcript.client).find(|key| key.label() == id);
            let proved = transcript.is_proved(Side::Client, id, known.unwrap_or(keys.nobody()), *mac);
            if proved && found.is_none() {
                found = known;
            }
        }
        let Some(key) = found else {
            return Err(PskError::Wrong { name: transcript.client.into() });
        };
        let accept = Accept(Proved { id: key.label().clone(), mac: transcript.prove(Side::Server, key) });
        Ok((accept.write(), Introduced { peer: transcript.client, key: key.label().clone() }))
    }
}
