//! SP from the side that was dialled.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::queue::{Queue, packet};
use super::{Form, Held, SpError, SpPolicy, admit, is_admitted};
use crate::machine::{Ignored, Incoming};
use crate::proto::json::Writer;
use crate::proto::text::{Dialect, Version};
use crate::proto::{EncodeError, Leg, Method, Methods, Packet, Side, sp};
use crate::secure::{Cipher, Random, Strength, accept};

/// The daemon's half of a link.
#[derive(Debug)]
pub(in crate::machine) struct DaemonLink {
    methods: Methods,
    form: Form,
    /// What text there may be, until the first message has told.
    text: Option<Dialect>,
    largest: usize,
    policy: SpPolicy,
    state: State,
    /// What has come through and waits to be taken, with what was ignored on the way.
    ready: VecDeque<Result<Packet, Ignored>>,
    outgoing: Queue,
}

#[derive(Debug)]
enum State {
    Clear,
    Fresh,
    Pending { held: Held<Incoming>, until: Instant },
    Secured { cipher: Box<Cipher>, strength: Strength },
}

impl DaemonLink {
    /// Begins a connection. The first message tells whether it is one of NSP 0.4, if that is allowed.
    pub(in crate::machine) fn new(
        methods: Methods,
        policy: SpPolicy,
        text: Option<Dialect>,
        largest: usize,
    ) -> Self {
        let state = match policy {
            SpPolicy::Off => State::Clear,
            SpPolicy::Required { .. } => State::Fresh,
        };
        Self {
            methods,
            form: Form::Binary,
            text,
            largest,
            policy,
            state,
            ready: VecDeque::new(),
            outgoing: Queue::default(),
        }
    }

    /// What the key is worth, once there is one.
    pub(in crate::machine) const fn strength(&self) -> Option<Strength> {
        match self.state {
            State::Secured { strength, .. } => Some(strength),
            _ => None,
        }
    }

    /// Reads what has arrived at once, where nothing is to be agreed upon or found out, and nothing waits before it;
    /// gives it back otherwise.
    #[inline]
    pub(in crate::machine) fn read(&self, incoming: Incoming) -> Result<Result<Packet, Ignored>, Incoming> {
        match &self.state {
            _ if !self.ready.is_empty() || self.text.is_some() => Err(incoming),
            State::Clear => Ok(read_clear(incoming, self.form, &self.methods)),
            State::Secured { cipher, .. } => Ok(read_sealed(cipher, incoming, self.form, &self.methods)),
            State::Fresh | State::Pending { .. } => Err(incoming),
        }
    }

    /// Whether a packet may be acted upon as it is, without going through [`read`](Self::read).
    #[inline]
    pub(in crate::machine) fn lets_in(&self, packet: &Packet) -> bool {
        matches!(self.state, State::Clear)
            && self.ready.is_empty()
            && self.text.is_none()
            && packet.method != Method::Sp
            && is_admitted(packet, &self.methods, Side::Client)
    }

    /// Whether what comes is read as it is, and answered in the same way: in clear, in NSP 0.5, and nothing waits before it.
    #[inline]
    pub(in crate::machine) fn is_plain(&self) -> bool {
        matches!(self.state, State::Clear)
            && self.form == Form::Binary
            && self.text.is_none()
            && self.ready.is_empty()
            && self.outgoing.len() == 0
    }

    /// Takes what has arrived; what comes of it is for [`next`](Self::next) to tell.
    pub(in crate::machine) fn receive(&mut self, incoming: Incoming, now: Instant) -> Result<(), SpError> {
        if let (Some(dialect), Incoming::Message(message)) = (self.text.take(), &incoming)
            && Version::of(message) == Some(Version::V0_4)
        {
            self.form = Form::Text { dialect, largest: self.largest };
        }
        let form = self.form;
        match (&mut self.state, &self.policy) {
            (State::Fresh, SpPolicy::Required { key, timeout, .. }) => {
                let request = sp::Request { public_key: key.public_pem().to_owned() };
                self.outgoing.extend(form.clear(request.encode(), &self.methods));
                let mut held = Held::default();
                let bytes = incoming_bytes(&incoming);
                held.push(incoming, bytes).map_err(|_| SpError::TooMuchHeld)?;
                self.state = State::Pending { held, until: now + *timeout };
            }
            (State::Pending { held, .. }, SpPolicy::Required { key, weak, .. }) => {
                let Some(answer) = sp_answer(&incoming, form, &self.methods) else {
                    let bytes = incoming_bytes(&incoming);
                    return held.push(incoming, bytes).map_err(|_| SpError::TooMuchHeld);
                };
                let agreed = accept(key, &answer, *weak).map_err(|_| SpError::NotAccepted)?;
                let held = held.take();
                self.state =
                    State::Secured { cipher: Box::new(Cipher::new(&agreed.key)), strength: agreed.strength };
                self.ready.extend(held.into_iter().map(|incoming| read_clear(incoming, form, &self.methods)));
            }
            (State::Secured { cipher, .. }, _) => {
                let read = read_sealed(cipher, incoming, form, &self.methods);
                self.ready.push_back(read);
            }
            (State::Clear | State::Fresh | State::Pending { .. }, _) => {
                self.ready.push_back(read_clear(incoming, form, &self.methods));
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
        let outgoing = match &self.state {
            State::Secured { cipher, .. } => self.form.seal(&packet, cipher, &self.methods, random)?,
            _ => self.form.clear(packet, &self.methods)?,
        };
        self.outgoing.push(outgoing);
        Ok(())
    }

    /// Sends an answer of CS: what `write` writes, about so many bytes, and the blob that it gives.
    #[inline]
    pub(in crate::machine) fn answer(
        &mut self,
        operation: &str,
        about: usize,
        random: &mut dyn Random,
        write: impl FnOnce(&mut Writer) -> Option<Bytes>,
    ) -> Result<(), EncodeError> {
        if self.form == Form::Binary && !matches!(self.state, State::Secured { .. }) {
            self.outgoing.write(Leg::Answer, operation, about, write);
            return Ok(());
        }
        self.send(packet(Leg::Answer, operation, about, write), random)
    }

    /// Gives back the memory of queues that are empty.
    pub(in crate::machine) fn shrink(&mut self) {
        self.ready.shrink_to_fit();
        self.outgoing.shrink();
    }

    pub(in crate::machine) fn send_heartbeat(&mut self) {
        self.outgoing.push(self.form.heartbeat());
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

    #[inline]
    pub(in crate::machine) fn outgoing(&mut self) -> &mut Queue {
        &mut self.outgoing
    }
}

/// The answer to SP, if that is what has come. What is not even a JSON string is held like any other message, and ignored in its turn.
fn sp_answer(incoming: &Incoming, form: Form, methods: &Methods) -> Option<sp::Answer> {
    match incoming {
        Incoming::Message(message) => sp::Answer::decode(&form.read(message.clone(), methods).ok()?).ok(),
        Incoming::Packet(packet) => sp::Answer::decode(packet).ok(),
        Incoming::Sealed(_) => None,
    }
}

fn read_clear(incoming: Incoming, form: Form, methods: &Methods) -> Result<Packet, Ignored> {
    let packet = match incoming {
        Incoming::Message(message) => form.read(message, methods)?,
        Incoming::Packet(packet) => packet,
        Incoming::Sealed(_) => return Err(Ignored::NoKeyYet),
    };
    admit_asked(packet, methods)
}

fn read_sealed(
    cipher: &Cipher,
    incoming: Incoming,
    form: Form,
    methods: &Methods,
) -> Result<Packet, Ignored> {
    match incoming {
        Incoming::Message(message) | Incoming::Sealed(message) => {
            admit_asked(form.open(message, cipher, methods)?, methods)
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
