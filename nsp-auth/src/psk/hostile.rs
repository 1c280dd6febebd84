//! An introduction with somebody in between who does not have the key: for the fuzzer, and for the seeds on any toolchain.
//!
//! ```text
//! data = [what u8] [frame u8] [at u8] [with …]…
//! ```
//!
//! Whatever that one does, nobody is introduced unless both sides have heard what the other one said.

use nossock::wire::{Body, Frame};

use super::message::{Accept, Challenge, Offer, Proof, PskFrame};
use super::{Client, Key, Keys, Psk, Server};

const CLIENT_NONCE: [u8; 32] = [0xc1; 32];
const SERVER_NONCE: [u8; 32] = [0x5e; 32];

/// Panics when a claim does not hold.
///
/// # Panics
/// That is what it is for.
pub fn run(data: &[u8]) {
    let (alice, hub) = (keys("alice", "hub"), keys("hub", "alice"));
    let mut between = Between { data, said: Vec::new() };
    let (offer, client) = Client::offer(&alice, CLIENT_NONCE, None);
    let heard = between.pass(0, offer);
    let mut same = is_same::<Offer>(&heard, &between.said[0]);
    let Ok((challenge, server)) = Server::challenge(&hub, &heard, SERVER_NONCE, None) else { return };
    let heard = between.pass(1, challenge);
    same &= is_same::<Challenge>(&heard, &between.said[1]);
    let Ok((proof, client)) = client.challenged(&heard) else { return };
    let heard = between.pass(2, proof);
    let accept = match server.proved(&heard) {
        Ok((accept, introduced)) => {
            let said = Proof::read(&between.said[2]).expect("it is its own");
            let heard = Proof::read(&heard).expect("it was taken");
            // A proof that was broken on the way is none, and another one of the same list still holds: both sides have its key.
            let ids = |proof: &Proof| proof.keys.iter().map(|proved| proved.id.clone()).collect::<Vec<_>>();
            assert!(same && ids(&heard) == ids(&said), "the server takes what the client has not said");
            let mac = |proof: &Proof| {
                proof.keys.iter().find(|proved| proved.id == introduced.key).map(|proved| proved.mac)
            };
            assert_eq!(mac(&heard), mac(&said), "the server takes a proof that the client has not made");
            assert_eq!(introduced.peer.as_str(), "alice");
            accept
        }
        // The one between goes on with whatever it has.
        Err(_) => {
            same = false;
            Frame::json(Accept::NAME, &()).expect("plain")
        }
    };
    let heard = between.pass(3, accept);
    if let Ok(introduced) = client.accepted(&heard) {
        assert!(
            same && is_same::<Accept>(&heard, &between.said[3]),
            "the client takes what the server has not said"
        );
        assert_eq!(introduced.peer.as_str(), "hub");
    }
}

fn keys(name: &str, peer: &str) -> std::sync::Arc<Keys> {
    let key = |id: &str, byte: u8| Key::new(id, [byte; 16]).expect("a good key");
    let psk = Psk::new(name).expect("a good name").peer(peer, key("k", 1));
    psk.and_then(|psk| psk.peer(peer, key("later", 2))).expect("other keys").keys()
}

/// Whether two frames say the same; a digit may be of either case.
fn is_same<F: PskFrame>(heard: &Frame, said: &Frame) -> bool {
    match (F::read(heard), F::read(said)) {
        (Ok(heard), Ok(said)) => heard.write().encode() == said.write().encode(),
        _ => false,
    }
}

struct Between<'a> {
    data: &'a [u8],
    said: Vec<Frame>,
}

impl Between<'_> {
    /// Carries a frame on, or what it makes of it.
    fn pass(&mut self, number: u8, frame: Frame) -> Frame {
        self.said.push(frame.clone());
        let [what, at, with, rest @ ..] = self.data else { return frame };
        if *what % 8 / 2 != number {
            return frame;
        }
        let Body::Json(body) = &frame.body else { return frame };
        let mut body = body.to_vec();
        let (at, with) = (usize::from(*at), usize::from(*with));
        let mut taken = 0;
        match (what / 8) % 6 {
            0 => body.get_mut(at).into_iter().for_each(|byte| *byte ^= with as u8 | 1),
            1 => body.truncate(at),
            2 => {
                // Other words altogether.
                taken = with.min(rest.len());
                body = rest[..taken].to_vec();
            }
            3 => {
                taken = with.min(rest.len());
                let end = at.min(body.len());
                body.splice(end..end, rest[..taken].iter().copied());
            }
            4 => {
                // Something that was said before.
                let earlier = &self.said[at % self.said.len()];
                self.data = rest;
                return earlier.clone();
            }
            _ => {
                let earlier = self.said[at % self.said.len()].body.clone();
                self.data = rest;
                return Frame { body: earlier, ..frame };
            }
        }
        self.data = &rest[taken..];
        Frame { body: Body::Json(body.into()), ..frame }
    }
}
