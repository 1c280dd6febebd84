//! SP from the side that was dialled.

use std::collections::VecDeque;
use std::time::Instant;

use super::client::seal;
use super::{Held, SpError, SpPolicy, admit};
use crate::machine::{Ignored, Incoming, Outgoing};
use crate::proto::{EncodeError, Method, Methods, Packet, Side, sp};
use crate::secure::{Cipher, Random, Strength, accept};

/// The daemon's half of a link.
#[derive(Debug)]
pub(in crate::machine) struct DaemonLink {
    methods: Methods,
    policy: SpPolicy,
    state: State,
    /// What has come through and waits to be taken, with what was ignored on the way.
    ready: VecDeque<Result<Packet, Ignored>>,
    outgoing: VecDeque<Outgoing>,
}

#[derive(Debug)]
enum State {
    Clear,
    Fresh,
    Pending { held: Held<Incoming>, until: Instant },
    Secured { cipher: Box<Cipher>, strength: Strength },
}

impl DaemonLink {
    pub(in crate::machine) const fn new(methods: Methods, policy: SpPolicy) -> Self {
        let state = match policy {
            SpPolicy::Off => State::Clear,
            SpPolicy::Required { .. } => State::Fresh,
        };
        Self { methods, policy, state, ready: VecDeque::new(), outgoing: VecDeque::new() }
    }

    /// What the key is worth, once there is one.
    pub(in crate::machine) const fn strength(&self) -> Option<Strength> {
        match self.state {
            State::Secured { strength, .. } => Some(strength),
            _ => None,
        }
    }

    /// Takes what has arrived; what comes of it is for [`next`](Self::next) to tell.
    pub(in crate::machine) fn receive(&mut self, incoming: Incoming, now: Instant) -> Result<(), SpError> {
        match (&mut self.state, &self.policy) {
            (State::Fresh, SpPolicy::Required { key, timeout, .. }) => {
                let request = sp::Request { public_key: key.public_pem().to_owned() };
                self.outgoing.push_back(Outgoing::Packet(request.encode()));
                let mut held = Held::default();
                let bytes = incoming_bytes(&incoming);
                held.push(incoming, bytes).map_err(|_| SpError::TooMuchHeld)?;
                self.state = State::Pending { held, until: now + *timeout };
            }
            (State::Pending { held, .. }, SpPolicy::Required { key, weak, .. }) => {
                let Some(answer) = sp_answer(&incoming, &self.methods) else {
                    let bytes = incoming_bytes(&incoming);
                    return held.push(incoming, bytes).map_err(|_| SpError::TooMuchHeld);
                };
                let agreed = accept(key, &answer, *weak).map_err(|_| SpError::NotAccepted)?;
                let held = held.take();
                self.state =
                    State::Secured { cipher: Box::new(Cipher::new(&agreed.key)), strength: agreed.strength };
                self.ready.extend(held.into_iter().map(|incoming| read_clear(incoming, &self.methods)));
            }
            (State::Secured { cipher, .. }, _) => {
                let read = read_sealed(cipher, incoming, &self.methods);
                self.ready.push_back(read);
            }
            (State::Clear | State::Fresh | State::Pending { .. }, _) => {
                self.ready.push_back(read_clear(incoming, &self.methods));
            }
        }
        Ok(())
    }

    /// The next packet, or why something that came is none.
    pub(in crate::machine) fn next(&mut self) -> Option<Result<Packet, Ignored>> {
        self.ready.pop_front()
    }

    /// Sends a packet, encrypted if there is a key.
    ///
    /// Nothing is ever sent before SP is done: until then nobody above has received anything.
    pub(in crate::machine) fn send(
        &mut self,
        packet: Packet,
        random: &mut dyn Random,
    ) -> Result<(), EncodeError> {
        let length = packet.encoded_length(&self.methods)?;
        let outgoing = match &self.state {
            State::Secured { cipher, .. } => {
                Outgoing::Sealed(seal(cipher, &packet, length, &self.methods, random)?)
            }
            _ => Outgoing::Packet(packet),
        };
        self.outgoing.push_back(outgoing);
        Ok(())
    }

    /// Gives back the memory of queues that are empty.
    pub(in crate::machine) fn shrink(&mut self) {
        self.ready.shrink_to_fit();
        self.outgoing.shrink_to_fit();
    }

    pub(in crate::machine) fn send_heartbeat(&mut self) {
        self.outgoing.push_back(Outgoing::Heartbeat);
    }

    pub(in crate::machine) const fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Pending { until, .. } => Some(until),
            _ => None,
        }
    }

    pub(in crate::machine) fn handle_timeout(&mut self, now: Instant) -> Result<(), SpError> {
        match self.state {
            State::Pending { until, .. } if until <= now => Err(SpError::NotAnswered),
            _ => Ok(()),
        }
    }

    pub(in crate::machine) fn poll_outgoing(&mut self) -> Option<Outgoing> {
        self.outgoing.pop_front()
    }
}

/// The answer to SP, if that is what has come. What is not even a JSON string is held like any other message, and ignored in its turn.
fn sp_answer(incoming: &Incoming, methods: &Methods) -> Option<sp::Answer> {
    match incoming {
        Incoming::Message(message) => {
            sp::Answer::decode(&Packet::decode(message.clone(), methods).ok()?).ok()
        }
        Incoming::Packet(packet) => sp::Answer::decode(packet).ok(),
        Incoming::Sealed(_) => None,
    }
}

fn read_clear(incoming: Incoming, methods: &Methods) -> Result<Packet, Ignored> {
    let packet = match incoming {
        Incoming::Message(message) => Packet::decode(message, methods)?,
        Incoming::Packet(packet) => packet,
        Incoming::Sealed(_) => return Err(Ignored::NoKeyYet),
    };
    admit_asked(packet, methods)
}

fn read_sealed(cipher: &Cipher, incoming: Incoming, methods: &Methods) -> Result<Packet, Ignored> {
    match incoming {
        Incoming::Message(message) | Incoming::Sealed(message) => {
            let message = cipher.open(message).map_err(|_| Ignored::Unreadable)?;
            admit_asked(Packet::decode(message, methods)?, methods)
        }
        Incoming::Packet(_) => Err(Ignored::InClear),
    }
}

/// As [`admit`], and no answer to an SP request that is not open.
fn admit_asked(packet: Packet, methods: &Methods) -> Result<Packet, Ignored> {
    let packet = admit(packet, methods, Side::Client)?;
    if packet.method == Method::Sp { Err(Ignored::Unasked { method: Method::Sp }) } else { Ok(packet) }
}

fn incoming_bytes(incoming: &Incoming) -> usize {
    match incoming {
        Incoming::Message(message) | Incoming::Sealed(message) => message.len(),
        Incoming::Packet(packet) => packet.payload.len(),
    }
}
