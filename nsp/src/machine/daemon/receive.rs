//! What a client does to a daemon.

use std::cell::Cell;
use std::time::Instant;

use super::{
    Asked, Daemon, Due, Event, Gift, KeptId, Kind, Limits, Offence, QuestionKey, Request, RequestKey, Stage,
    code,
};
use crate::machine::Ignored;
use crate::machine::waiting::ELSEWHERE;
use crate::proto::{Data, EncodeError, EntityId, Failure, Method, Packet, RequestId, Status, au, ca, cs, gt};
use crate::secret::Proof;

impl Daemon {
    pub(super) fn receive_packet(&mut self, packet: &Packet, now: Instant) -> Result<(), Ignored> {
        match packet.method {
            Method::Cs => {
                let (entities, is_verified) = (&self.entities, Cell::new(false));
                let known = |entity: &str| {
                    let (id, entity) = entities.get_key_value(entity)?;
                    is_verified.set(matches!(entity.stage, Stage::Verified));
                    Some(id.clone())
                };
                let request = cs::Request::decode_of(packet, known)?;
                let bytes = packet.payload.len();
                match request {
                    // Found already, and nothing is to be thought about.
                    cs::Request::Call { .. } | cs::Request::CallBlob { .. } if is_verified.get() => {
                        self.serve(request, bytes, now);
                        Ok(())
                    }
                    request => self.receive_call(request, bytes, now),
                }
            }
            Method::Gt => self.receive_token(gt::Request::decode(packet)?, now),
            Method::Au => self.receive_answer(au::Answer::decode(packet)?),
            // Nobody waits for acknowledgements, but one that is none is a fault.
            Method::Ca => Ok(ca::Answer::decode(packet).map(drop)?),
            Method::Sp => Err(Ignored::Unasked { method: Method::Sp }),
            Method::Custom(_) => {
                self.events.push_back(Event::Custom(packet.clone()));
                Ok(())
            }
        }
    }

    /// `bytes` is what the request keeps as long as it is there: its parts are parts of the whole message.
    fn receive_call(&mut self, request: cs::Request, bytes: usize, now: Instant) -> Result<(), Ignored> {
        let Some(entity) = request.entity() else {
            if let cs::Request::Create(create) = request {
                self.receive_create(create, bytes, now);
            }
            return Ok(());
        };
        let Some(found) = self.entities.get_mut(entity) else {
            self.refuse(&request, code::NO_ENTITY, "Error: no such entity");
            return Err(Ignored::UnknownEntity { method: Method::Cs });
        };
        match (&mut found.stage, &request) {
            (_, cs::Request::Close { entity }) => {
                let entity = entity.clone();
                self.remove(&entity);
                self.events.push_back(Event::Closed { entity });
            }
            (Stage::Created, cs::Request::Verify { entity }) => {
                found.stage = Stage::Verifying { held: Box::default() };
                let entity = entity.clone();
                match self.begin(Kind::Verify { entity: entity.clone() }, 0, now) {
                    Some(key) => self.events.push_back(Event::Verify { key, entity }),
                    None => {
                        if let Some(found) = self.entities.get_mut(&entity) {
                            found.stage = Stage::Created;
                        }
                        self.refuse(&request, code::BUSY, BUSY);
                    }
                }
            }
            // It has been looked at: asking again changes nothing. While it is looked at, the answer to the first is the answer to both.
            (Stage::Verified, cs::Request::Verify { entity }) => {
                let entity = entity.clone();
                self.answer(cs::Answer::Verified { entity, status: Status::Ok });
            }
            (Stage::Verifying { .. }, cs::Request::Verify { .. }) => {}
            (Stage::Created, _) => {
                self.refuse(&request, code::NOT_VERIFIED, "Error: the entity was not verified");
            }
            (Stage::Verifying { held }, _) => {
                if let Err((request, _)) = held.push((request, bytes), bytes) {
                    self.refuse(&request, code::BUSY, BUSY);
                }
            }
            (Stage::Verified, _) => self.serve(request, bytes, now),
        }
        Ok(())
    }

    fn receive_create(&mut self, mut create: Box<cs::Create>, bytes: usize, now: Instant) {
        let Limits { entities, logins, .. } = self.config.limits;
        let creating =
            self.requests.values().filter(|request| matches!(request.kind, Kind::Create { .. })).count();
        let id = create.id.detached();
        create.id = id.clone();
        let key = if creating < logins && self.entities.len() + creating < entities {
            self.begin(Kind::Create { id: id.clone() }, bytes, now)
        } else {
            None
        };
        match key {
            Some(key) => self.events.push_back(Event::Create { key, create }),
            None => {
                let failure = Failure { code: Some(code::BUSY.into()), ..Failure::default() };
                self.answer(cs::Answer::Created { id, result: Err(Box::new(failure)) });
            }
        }
    }

    /// Hands a request of a verified entity to its service.
    pub(super) fn serve(&mut self, request: cs::Request, bytes: usize, now: Instant) {
        match request {
            cs::Request::Send { entity, data } => {
                self.answer(cs::Answer::Sent { entity: entity.clone(), status: Status::Ok });
                self.events.push_back(Event::Data { entity, data });
            }
            cs::Request::Call { entity, function, id, data } => {
                let kind = Kind::Call { entity: entity.clone(), id: KeptId::new(&id) };
                match self.begin(kind, bytes, now) {
                    Some(key) => self.events.push_back(Event::Call { key, entity, function, data }),
                    None => {
                        let request = cs::Request::Call { entity, function, id, data: Data::None };
                        self.refuse(&request, code::BUSY, BUSY);
                    }
                }
            }
            cs::Request::CallBlob { entity, function, id, meta, data } => {
                let kind = Kind::CallBlob { entity: entity.clone(), id: KeptId::new(&id) };
                match self.begin(kind, bytes, now) {
                    Some(key) => {
                        self.events.push_back(Event::CallBlob { key, entity, function, meta, data });
                    }
                    None => {
                        let request = cs::Request::CallBlob { entity, function, id, meta, data: Data::None };
                        self.refuse(&request, code::BUSY, BUSY);
                    }
                }
            }
            cs::Request::Create(_) | cs::Request::Verify { .. } | cs::Request::Close { .. } => {}
        }
    }

    /// Answers a request that reaches no service.
    pub(super) fn refuse(&mut self, request: &cs::Request, code: &str, text: &str) {
        let failure = || Status::Failed(Box::new(Failure::new(code, text)));
        // VE and SS know one word for it; the code beside it says the rest.
        let fail = || Status::Failed(Box::new(Failure::new(code, "Fail")));
        let answer = match request.clone() {
            cs::Request::Verify { entity } => cs::Answer::Verified { entity, status: fail() },
            cs::Request::Send { entity, .. } => cs::Answer::Sent { entity, status: fail() },
            cs::Request::Call { entity, id, .. } => {
                cs::Answer::Returned { id, entity, status: failure(), data: Data::None }
            }
            cs::Request::CallBlob { entity, id, .. } => {
                cs::Answer::ReturnedBlob { id, entity, status: failure(), meta: None, data: Data::None }
            }
            cs::Request::Create(_) | cs::Request::Close { .. } => return,
        };
        self.answer(answer);
    }

    fn receive_token(&mut self, request: gt::Request, now: Instant) -> Result<(), Ignored> {
        let gt::Request { user, password } = request;
        if self.tokens.len() >= self.config.limits.logins {
            // It looks like a wrong password, which is what a client does that asks so often.
            let limits = &self.config.limits;
            let has_room = self.tokens.bytes() + user.len() <= limits.request_bytes;
            if self.tokens.len() < limits.requests && has_room {
                self.tokens.push_refused(Some(user));
                return Ok(());
            }
            // Nor is one beyond all limits left without an answer. It is a fault, so there are few of them.
            self.tokens.push_refused(None);
            return Err(Ignored::TooMany { method: Method::Gt });
        }
        let (key, until) = (RequestKey(ELSEWHERE | self.number()), now + self.config.request_timeout);
        self.tokens.push(key, until, user.clone());
        self.timers.set(until, Due::Token(key));
        self.events.push_back(Event::Token { key, user, password });
        Ok(())
    }

    fn receive_answer(&mut self, answer: au::Answer) -> Result<(), Ignored> {
        let key = self.question_keys.get(&answer.id).ok_or(Ignored::Unasked { method: Method::Au })?;
        self.end_question(*key, answer.value);
        Ok(())
    }

    pub(super) fn end_question(&mut self, key: QuestionKey, value: Option<Proof>) {
        let Some(Asked { id, until }) = self.questions.remove(&key) else { return };
        self.question_keys.remove(&id);
        self.timers.clear(until, Due::Question(key));
        self.events.push_back(Event::Answer { key, value });
    }

    /// A request has taken too long: it is answered for whoever should have.
    pub(super) fn expire(&mut self, key: RequestKey, now: Instant) {
        self.events.push_back(Event::Expired { key });
        let failure = || Box::new(Failure::new(code::TIMEOUT, "Error: the service took too long"));
        match self.requests.get(key.0).map(|request| &request.kind) {
            Some(Kind::Create { .. }) => {
                self.create(key, Err(failure()));
            }
            Some(Kind::Verify { entity }) => {
                let entity = entity.clone();
                self.verify(key, Err(failure()), now);
                self.events.push_back(Event::Closed { entity });
            }
            Some(Kind::Call { .. } | Kind::CallBlob { .. }) => self.give(key, Err::<Gift, _>(failure())),
            None => self.token(key, None),
        }
    }

    #[inline]
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let limits = &self.config.limits;
        self.requests.len() < limits.requests && self.request_bytes + bytes <= limits.request_bytes
    }

    /// Registers a request, if there is room for it.
    fn begin(&mut self, kind: Kind, bytes: usize, now: Instant) -> Option<RequestKey> {
        if !self.has_room(bytes) {
            return None;
        }
        let key = self.requests.begin(now + self.config.request_timeout, Request { kind, bytes })?;
        self.request_bytes += bytes;
        Some(RequestKey(key))
    }

    /// Takes a request out, provided it is of the right kind.
    pub(super) fn take_if(&mut self, key: RequestKey, right: impl Fn(&Kind) -> bool) -> Option<Kind> {
        if !right(&self.requests.get(key.0)?.kind) {
            return None;
        }
        let request = self.requests.remove(key.0)?;
        self.request_bytes -= request.bytes;
        Some(request.kind)
    }

    /// Takes an entity out, with the requests that it waits for.
    pub(super) fn remove(&mut self, entity: &EntityId) {
        if self.entities.remove(entity).is_none() {
            return;
        }
        for (key, request) in self.requests.remove_all(|request| request.kind.entity() == Some(entity)) {
            self.request_bytes -= request.bytes;
            self.events.push_back(Event::Expired { key: RequestKey(key) });
        }
    }

    /// Passes over something, unless that was once too often.
    pub(super) fn ignore(&mut self, ignored: Ignored) -> Result<(), Offence> {
        // These happen to the best: an answer that crossed ours, an entity that we closed.
        if !matches!(ignored, Ignored::Unasked { .. } | Ignored::UnknownEntity { .. }) {
            self.faults = self.faults.saturating_add(1);
            if self.faults > self.config.limits.faults {
                return Err(Offence::TooManyFaults { count: self.faults, last: ignored });
            }
        }
        self.events.push_back(Event::Ignored(ignored));
        Ok(())
    }

    pub(super) fn question_id(&mut self) -> RequestId {
        let mut bits = [0; 16];
        self.random.fill(&mut bits);
        RequestId::text(EntityId::from_bits(bits).as_str()).expect("it is short")
    }

    pub(super) const fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn answer(&mut self, answer: cs::Answer) {
        // CS is registered, and has room for a blob: only as the text of NSP 0.4 something cannot be said.
        let Err(error) = self.send_packet(answer.encode()) else { return };
        let (cs::Answer::Returned { id, entity, .. } | cs::Answer::ReturnedBlob { id, entity, .. }) = answer
        else {
            return;
        };
        let failure = Failure::new(code::INTERNAL, format!("Error: {error}"));
        let status = Status::Failed(Box::new(failure));
        let _ = self.send_packet(cs::Answer::Returned { id, entity, status, data: Data::None }.encode());
    }

    pub(super) fn send_packet(&mut self, packet: Packet) -> Result<(), EncodeError> {
        self.link.send(packet, &mut *self.random)
    }
}

/// Calls that are read, and mostly answered, elsewhere.
impl Daemon {
    /// A key for a call of so many bytes that is read and answered elsewhere; `None` when it has to be [received](Self::receive) like any other message.
    ///
    /// If it is not answered at once, it [waits](Self::hold) here under this key.
    #[inline]
    pub(crate) fn reserve(&mut self, bytes: usize) -> Option<RequestKey> {
        let has_room = self.has_room(bytes);
        if !has_room || !self.events.is_empty() || !self.link.is_plain() {
            return None;
        }
        self.requests.reserve().map(RequestKey)
    }

    /// Lets a call wait for its answer, under the key that was reserved for it a moment ago.
    pub(crate) fn hold(&mut self, key: RequestKey, entity: &EntityId, id: &[u8], bytes: usize, now: Instant) {
        let kind = Kind::Call { entity: entity.clone(), id: KeptId::of(id) };
        let held = self.requests.hold(key.0, now + self.config.request_timeout, Request { kind, bytes });
        debug_assert!(held, "nobody else asks for a place while a function begins");
        self.request_bytes += bytes;
    }
}

const BUSY: &str = "Error: too many requests at once";

/// A failure that says at least something: without `s` a client would have nothing to show.
pub(super) fn with_text(mut failure: Box<Failure>, text: &str) -> Box<Failure> {
    failure.text.get_or_insert_with(|| text.to_owned());
    failure
}
