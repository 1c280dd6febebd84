//! SP from the side that dialled.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::queue::{self, Queue, packet};
use super::{Form, Held, SpError, SpMode, admit, is_admitted};
use crate::machine::{Ignored, Incoming};
use crate::proto::json::Writer;
use crate::proto::{EncodeError, Leg, Method, Methods, Packet, Side, sp};
use crate::secure::{Cipher, PublicKey, Random, answer};

/// The client's half of a link.
#[derive(Debug)]
pub(in crate::machine) struct ClientLink {
    methods: Methods,
    form: Form,
    state: State,
    held: Held<Packet>,
    outgoing: Queue,
}

#[derive(Debug)]
enum State {
    Clear,
    Waiting { since: Instant, until: Instant, required: bool },
    Judging(Box<PublicKey>),
    Secured(Box<Cipher>),
}

impl ClientLink {
    /// Begins a connection. Unless SP is left to the daemon, a probe goes out that makes it ask.
    pub(in crate::machine) fn new(
        methods: Methods,
        form: Form,
        mode: SpMode,
        wait: Duration,
        now: Instant,
    ) -> Self {
        let mut outgoing = Queue::default();
        let state = match mode {
            SpMode::WhenAsked => State::Clear,
            SpMode::Required | SpMode::Preferred => {
                outgoing.extend(form.clear(form.probe(), &methods));
                State::Waiting { since: now, until: now + wait, required: mode == SpMode::Required }
            }
        };
        Self { methods, form, state, held: Held::default(), outgoing }
    }

    /// Whether what is sent now goes out encrypted or not at all.
    pub(in crate::machine) const fn keeps_secrets(&self) -> bool {
        matches!(self.state, State::Secured(_) | State::Judging(_) | State::Waiting { required: true, .. })
    }

    /// Whether what is sent now goes out now, in clear or encrypted.
    pub(in crate::machine) const fn is_settled(&self) -> bool {
        matches!(self.state, State::Clear | State::Secured(_))
    }

    /// The key that waits to be judged.
    pub(in crate::machine) fn offered_key(&self) -> Option<&PublicKey> {
        match &self.state {
            State::Judging(key) => Some(key),
            _ => None,
        }
    }

    /// Sends a packet as soon as the state allows it.
    pub(in crate::machine) fn send(
        &mut self,
        packet: Packet,
        random: &mut dyn Random,
    ) -> Result<(), SendError> {
        match &self.state {
            State::Clear => self.outgoing.push(self.form.clear(packet, &self.methods)?),
            State::Waiting { .. } | State::Judging(_) => {
                // Refused now and not when it is its turn: whoever made the packet is still there to hear of it.
                self.form.check(&packet, &self.methods)?;
                let bytes = packet.payload.len();
                self.held.push(packet, bytes).map_err(|_| SpError::TooMuchHeld)?;
            }
            State::Secured(cipher) => {
                self.outgoing.push(self.form.seal(&packet, cipher, &self.methods, random)?);
            }
        }
        Ok(())
    }

    /// Sends a request of CS: what `write` writes, about so many bytes, and the blob that it gives.
    #[inline]
    pub(in crate::machine) fn request(
        &mut self,
        operation: &str,
        about: usize,
        random: &mut dyn Random,
        write: impl FnOnce(&mut Writer) -> Option<Bytes>,
    ) -> Result<(), SendError> {
        if let (State::Clear, Form::Binary) = (&self.state, self.form) {
            self.outgoing.write(Leg::Request, operation, about, write);
            return Ok(());
        }
        self.send(packet(Leg::Request, operation, about, write), random)
    }

    /// Where to put a request of CS of about so many bytes, if all goes in clear and none is written otherwise.
    #[inline]
    pub(in crate::machine) fn at_once(&mut self, about: usize) -> Option<&mut Queue> {
        let is_short = about < queue::LARGE;
        (is_short && matches!((&self.state, self.form), (State::Clear, Form::Binary)))
            .then_some(&mut self.outgoing)
    }

    /// Whether all goes in clear, and what was sent has been sent.
    #[inline]
    pub(in crate::machine) const fn is_clear(&self) -> bool {
        matches!(self.state, State::Clear)
    }

    /// Whether a packet may be acted upon as it is, without going through [`receive`](Self::receive).
    #[inline]
    pub(in crate::machine) fn lets_in(&self, packet: &Packet) -> bool {
        matches!(self.state, State::Clear)
            && packet.method != Method::Sp
            && is_admitted(packet, &self.methods, Side::Daemon)
    }

    /// Takes what has arrived. It is a packet, or the daemon's key, or nothing to be acted upon.
    pub(in crate::machine) fn receive(&mut self, incoming: Incoming) -> Result<Arrived, SpError> {
        let packet = match self.open(incoming) {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(Arrived::Nothing),
            Err(ignored) => return Ok(Arrived::Ignored(ignored)),
        };
        let (method, leg) = (packet.method, packet.leg);
        match (&self.state, method) {
            (State::Clear | State::Waiting { .. }, Method::Sp) => match sp::Request::decode(&packet) {
                Ok(request) => {
                    let key = PublicKey::from_pem(&request.public_key).map_err(SpError::BadKey)?;
                    self.state = State::Judging(Box::new(key));
                    Ok(Arrived::KeyOffered)
                }
                Err(error) => Ok(Arrived::Ignored(error.into())),
            },
            // A second request would only serve somebody who wants another key than the one that was judged.
            (State::Judging(_) | State::Secured(_), Method::Sp) => {
                Ok(Arrived::Ignored(Ignored::Unasked { method }))
            }
            (State::Waiting { .. } | State::Judging(_), _) => {
                Ok(Arrived::Ignored(Ignored::NotSecured { method, leg }))
            }
            (State::Clear | State::Secured(_), _) => Ok(Arrived::Packet(packet)),
        }
    }

    /// Says whether the offered key is the daemon's. If so, everything that was held goes out, encrypted.
    pub(in crate::machine) fn judge(
        &mut self,
        trusted: bool,
        random: &mut dyn Random,
    ) -> Result<(), SpError> {
        let State::Judging(key) = &self.state else { return Ok(()) };
        if !trusted {
            return Err(SpError::NotTrusted);
        }
        let (answer, session) = answer(key, random).map_err(SpError::BadKey)?;
        self.outgoing.extend(self.form.clear(answer.encode(), &self.methods));
        self.state = State::Secured(Box::new(Cipher::new(&session)));
        self.release(random);
        Ok(())
    }

    pub(in crate::machine) const fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until, .. } => Some(until),
            _ => None,
        }
    }

    pub(in crate::machine) fn handle_timeout(
        &mut self,
        now: Instant,
        random: &mut dyn Random,
    ) -> Result<(), SpError> {
        let State::Waiting { since, until, required } = self.state else { return Ok(()) };
        if now < until {
            return Ok(());
        }
        if required {
            return Err(SpError::NotOffered { waited: until - since });
        }
        self.state = State::Clear;
        self.release(random);
        Ok(())
    }

    pub(in crate::machine) fn outgoing_len(&self) -> usize {
        self.outgoing.len()
    }

    #[inline]
    pub(in crate::machine) fn outgoing(&mut self) -> &mut Queue {
        &mut self.outgoing
    }

    fn release(&mut self, random: &mut dyn Random) {
        for packet in self.held.take() {
            self.send(packet, random).expect("it was encoded once, and nothing is held any more");
        }
    }

    fn open(&self, incoming: Incoming) -> Result<Option<Packet>, Ignored> {
        let packet = match (incoming, &self.state) {
            // In clear at any time; and no encrypted message is as short.
            (Incoming::Message(message), _) if self.form.is_heartbeat(&message) => return Ok(None),
            (Incoming::Message(message) | Incoming::Sealed(message), State::Secured(cipher)) => {
                self.form.open(message, cipher, &self.methods)?
            }
            (Incoming::Packet(_), State::Secured(_)) => return Err(Ignored::InClear),
            (Incoming::Message(message), _) => self.form.read(message, &self.methods)?,
            (Incoming::Packet(packet), _) => packet,
            (Incoming::Sealed(_), _) => return Err(Ignored::NoKeyYet),
        };
        admit(packet, &self.methods, Side::Daemon).map(Some)
    }
}

/// What became of something that arrived.
#[derive(Debug)]
pub(in crate::machine) enum Arrived {
    Packet(Packet),
    KeyOffered,
    Ignored(Ignored),
    Nothing,
}

/// Why a packet was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::machine) enum SendError {
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Held(#[from] SpError),
}
