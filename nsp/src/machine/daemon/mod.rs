//! The side with the services, towards one client.
//!
//! ```text
//!  CE ──▶ Create ── create(Ok) ──▶ Created ── VE ──▶ Verifying ── verify(Ok) ──▶ Verified ── close ──▶ gone
//!            │ create(Err)            │ SS, SF, BS:     │ SS, SF, BS: held        │ SS, SF, BS: served
//!            ▼                        ▼ refused         │ verify(Err)
//!          refused                 (no look, no use)    ▼
//!                                                      gone: all that was held is refused
//! ```
//!
//! An entity belongs to the connection that created it: a message that names another one, of somebody else or of nobody, is answered with a failure and reaches
//! no service. An answer to a question counts only on the connection that was asked. Both are where the original lets anybody in.
//!
//! Nothing is left hanging. What a service does not answer in time is answered for it, and what cannot be served says why.

mod config;
mod entity;
mod event;
mod id;
mod receive;
mod token;

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

pub use self::config::{Config, Limits};
use self::entity::{Entity, Stage};
pub use self::event::{Event, Offence, QuestionKey, RequestKey};
use self::id::KeptId;
use self::receive::with_text;
use self::token::TokenQueue;
use super::link::DaemonLink;
use super::numbered::{NameMap, NumberMap};
use super::timers::Timers;
use super::waiting::Waiting;
use super::{AT_REST, Ignored, Incoming, Next, Outgoing};
use crate::proto::{Data, EncodeError, EntityId, Failure, Packet, RawJson, RequestId, Status, au, ca, cs};
use crate::secret::Token;
use crate::secure::{Random, Strength};

/// The codes of the failures that a daemon answers with itself, in [`Failure::code`].
pub mod code {
    /// The connection has no such entity.
    pub const NO_ENTITY: &str = "no_entity";
    /// The entity was not verified, so its service has never seen it.
    pub const NOT_VERIFIED: &str = "not_verified";
    /// The service does not want the entity.
    pub const REFUSED: &str = "refused";
    /// Too much is going on already.
    pub const BUSY: &str = "busy";
    /// The service took too long.
    pub const TIMEOUT: &str = "timeout";
    /// The answer cannot be sent as it is.
    pub const INTERNAL: &str = "internal";
}

/// One connection, seen by who was dialled.
#[derive(Debug)]
pub struct Daemon {
    config: Config,
    random: Box<dyn Random>,
    link: DaemonLink,
    entities: NameMap<EntityId, Entity>,
    /// By the number of its [`RequestKey`]; those for tokens are in `tokens`.
    requests: Waiting<Request>,
    /// Bytes of the messages of all requests.
    request_bytes: usize,
    tokens: TokenQueue,
    questions: NumberMap<QuestionKey, Asked>,
    question_keys: HashMap<RequestId, QuestionKey>,
    timers: Timers<Due>,
    /// When a client that has created nothing is given up.
    first_entity: Option<Instant>,
    events: VecDeque<Event>,
    faults: u32,
    last: u64,
}

/// A request that waits for us.
#[derive(Debug)]
struct Request {
    kind: Kind,
    bytes: usize,
}

#[derive(Debug)]
enum Kind {
    Create { id: RequestId },
    Verify { entity: EntityId },
    Call { entity: EntityId, id: KeptId },
    CallBlob { entity: EntityId, id: KeptId },
}

impl Kind {
    const fn entity(&self) -> Option<&EntityId> {
        match self {
            Self::Create { .. } => None,
            Self::Verify { entity } | Self::Call { entity, .. } | Self::CallBlob { entity, .. } => {
                Some(entity)
            }
        }
    }
}

/// A question that waits for the client.
#[derive(Debug)]
struct Asked {
    id: RequestId,
    until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    FirstEntity,
    Heartbeat,
    Token(RequestKey),
    Question(QuestionKey),
}

/// What a function returns: data, and for a blob function what is said about the blob.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire has these two")]
pub struct Gift {
    /// `m`, only for blob functions.
    pub meta: Option<RawJson>,
    /// `d`
    pub data: Data,
}

impl From<Data> for Gift {
    fn from(data: Data) -> Self {
        Self { meta: None, data }
    }
}

/// Why something was not sent to a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The connection has no such entity, or no longer.
    #[error("no such entity on this connection")]
    NoEntity,
    /// Too many questions wait for the client.
    #[error("{limit} questions wait for the client already")]
    TooManyQuestions {
        /// The limit.
        limit: usize,
    },
    /// The packet cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// What a service does, through whoever drives it.
impl Daemon {
    /// Begins a connection that has just been accepted.
    #[must_use]
    pub fn new(config: Config, random: Box<dyn Random>, now: Instant) -> Self {
        let mut timers = Timers::default();
        let first_entity = now + config.first_entity;
        timers.set(first_entity, Due::FirstEntity);
        if let Some(period) = config.heartbeat {
            timers.set(now + period, Due::Heartbeat);
        }
        Self {
            link: DaemonLink::new(
                config.methods.clone(),
                config.sp.clone(),
                config.text,
                config.limits.message,
            ),
            config,
            random,
            entities: NameMap::default(),
            requests: Waiting::default(),
            request_bytes: 0,
            tokens: TokenQueue::default(),
            questions: NumberMap::default(),
            question_keys: HashMap::new(),
            timers,
            first_entity: Some(first_entity),
            events: VecDeque::with_capacity(AT_REST),
            faults: 0,
            last: 0,
        }
    }

    /// What the session key is worth, if there is one.
    #[must_use]
    pub const fn strength(&self) -> Option<Strength> {
        self.link.strength()
    }

    /// Largest message that the client may send now, in bytes. It grows when the client has an entity.
    #[must_use]
    pub fn message_limit(&self) -> usize {
        let limits = &self.config.limits;
        if self.entities.is_empty() { limits.first_message } else { limits.message }
    }

    /// Whether an entity is of this connection.
    #[must_use]
    pub fn has(&self, entity: &EntityId) -> bool {
        self.entities.contains_key(entity)
    }

    /// Whether a request still waits for its answer.
    #[must_use]
    pub fn is_waiting(&self, key: RequestKey) -> bool {
        self.requests.get(key.0).is_some()
    }

    /// The entity for which a request waits for its answer.
    pub(crate) fn caller(&self, key: RequestKey) -> Option<&EntityId> {
        self.requests.get(key.0)?.kind.entity()
    }

    /// Answers [`Event::Create`]; with the id of the new entity, if the request still waits and was granted.
    pub fn create(&mut self, key: RequestKey, result: Result<(), Box<Failure>>) -> Option<EntityId> {
        let Kind::Create { id } = self.take_if(key, |kind| matches!(kind, Kind::Create { .. }))? else {
            return None;
        };
        let result = result.map(|()| {
            let mut bits = [0; 16];
            self.random.fill(&mut bits);
            EntityId::from_bits(bits)
        });
        let entity = result.as_ref().ok().cloned();
        if let Some(entity) = &entity {
            self.entities.insert(entity.clone(), Entity::default());
            if let Some(until) = self.first_entity.take() {
                self.timers.clear(until, Due::FirstEntity);
            }
        }
        self.answer(cs::Answer::Created { id, result });
        entity
    }

    /// Answers [`Event::Verify`]. A refused entity is gone, with all that it has asked for meanwhile.
    pub fn verify(&mut self, key: RequestKey, result: Result<(), Box<Failure>>, now: Instant) {
        let Some(Kind::Verify { entity }) = self.take_if(key, |kind| matches!(kind, Kind::Verify { .. }))
        else {
            return;
        };
        let Some(found) = self.entities.get_mut(&entity) else { return };
        let held = found.end_verification();
        let status = match result {
            Ok(()) => Status::Ok,
            Err(failure) => {
                self.entities.remove(&entity);
                Status::Failed(with_text(failure, "Fail"))
            }
        };
        let refused = status != Status::Ok;
        self.answer(cs::Answer::Verified { entity, status });
        for (request, bytes) in held {
            if refused {
                self.refuse(&request, code::REFUSED, "Error: the service refused the entity");
            } else {
                self.serve(request, bytes, now);
            }
        }
    }

    /// Answers [`Event::Call`] and [`Event::CallBlob`]. It does nothing if nobody waits any more.
    pub fn give(&mut self, key: RequestKey, result: Result<Gift, Box<Failure>>) {
        let is_call = |kind: &Kind| matches!(kind, Kind::Call { .. } | Kind::CallBlob { .. });
        let Some(kind) = self.take_if(key, is_call) else { return };
        let (status, gift) = match result {
            Ok(gift) => (Status::Ok, gift),
            Err(failure) => (Status::Failed(with_text(failure, "Fail")), Gift::default()),
        };
        let Gift { meta, data } = gift;
        let (operation, entity, id, meta) = match &kind {
            Kind::Call { entity, id } => ("SF", entity, id.as_bytes(), None),
            Kind::CallBlob { entity, id } => ("BS", entity, id.as_bytes(), meta.as_ref()),
            Kind::Create { .. } | Kind::Verify { .. } => return,
        };
        let about = 96 + data.json_length() + meta.map_or(0, |meta| meta.as_bytes().len());
        let (link, random) = (&mut self.link, &mut *self.random);
        // An entity of this connection has an id of ours.
        let sent = link.answer(operation, about, random, |writer| {
            writer.literal("t", id).word("i", entity.as_str());
            cs::write_return(writer, &status, meta, &data)
        });
        // CS is registered, and has room for a blob: only as the text of NSP 0.4 something cannot be said.
        if let Err(error) = sent {
            let failure = Failure::new(code::INTERNAL, format!("Error: {error}"));
            let status = Status::Failed(Box::new(failure));
            let _ = link.answer("SF", 96, random, |writer| {
                writer.literal("t", id).word("i", entity.as_str());
                cs::write_return(writer, &status, None, &Data::None)
            });
        }
    }

    /// Answers [`Event::Token`]: with `None` when password or user are wrong. Answers leave in the order of the requests.
    pub fn token(&mut self, key: RequestKey, token: Option<Token>) {
        if let Some(until) = self.tokens.answer(key, token) {
            self.timers.clear(until, Due::Token(key));
        }
        while let Some(answer) = self.tokens.next_answer() {
            let _ = self.send_packet(answer.encode());
        }
    }

    /// Sends data or an event to an entity of this connection, or closes it.
    ///
    /// # Errors
    /// [`PushError::NoEntity`] when there is none of that id here.
    pub fn push(&mut self, push: &ca::Request) -> Result<(), PushError> {
        if !self.has(push.entity()) {
            return Err(PushError::NoEntity);
        }
        self.send_packet(push.encode())?;
        if matches!(push, ca::Request::Close { .. }) {
            self.remove(push.entity());
        }
        Ok(())
    }

    /// Asks the client for the token or password of a user; [`Event::Answer`] follows.
    ///
    /// # Errors
    /// [`PushError::TooManyQuestions`] when too many wait already.
    pub fn ask(
        &mut self,
        question: au::Question,
        user: &str,
        now: Instant,
    ) -> Result<QuestionKey, PushError> {
        let limit = self.config.limits.questions;
        if self.questions.len() >= limit {
            return Err(PushError::TooManyQuestions { limit });
        }
        let id = self.question_id();
        let request = au::Request::Ask { question, id: id.clone(), user: Some(user.to_owned()) };
        self.send_packet(request.encode())?;
        let (key, until) = (QuestionKey(self.number()), now + self.config.question_timeout);
        self.question_keys.insert(id.clone(), key);
        self.questions.insert(key, Asked { id, until });
        self.timers.set(until, Due::Question(key));
        Ok(key)
    }

    /// Tells the client that a token or password was wrong, or that somebody should sign in.
    ///
    /// # Errors
    /// [`PushError::NoEntity`] when there is none of that id here.
    pub fn tell(&mut self, notice: au::Notice, entity: &EntityId) -> Result<(), PushError> {
        if !self.has(entity) {
            return Err(PushError::NoEntity);
        }
        self.send_packet(au::Request::Tell { notice, entity: Some(entity.clone()) }.encode())?;
        Ok(())
    }

    /// Sends a packet of a method that the user has registered.
    ///
    /// # Errors
    /// [`PushError::Encode`] when the method is not registered or the packet does not fit its form.
    pub fn send_custom(&mut self, packet: Packet) -> Result<(), PushError> {
        self.send_packet(packet).map_err(Into::into)
    }
}

/// What a driver does.
impl Daemon {
    /// Takes what has arrived.
    ///
    /// # Errors
    /// An [`Offence`] when the connection has to be closed.
    pub fn receive(&mut self, incoming: Incoming, now: Instant) -> Result<(), Offence> {
        // Nearly all there is; it is not moved any more.
        if let Incoming::Packet(packet) = &incoming
            && self.link.lets_in(packet)
        {
            return self.take(packet, now);
        }
        let incoming = match self.link.read(incoming) {
            Ok(read) => return self.take_read(read, now),
            Err(incoming) => incoming,
        };
        let before = self.link.strength();
        self.link.receive(incoming, now)?;
        if let (None, Some(strength)) = (before, self.link.strength()) {
            self.events.push_back(Event::Secured(strength));
        }
        while let Some(next) = self.link.next() {
            self.take_read(next, now)?;
        }
        Ok(())
    }

    #[inline]
    fn take(&mut self, packet: &Packet, now: Instant) -> Result<(), Offence> {
        match self.receive_packet(packet, now) {
            Ok(()) => Ok(()),
            Err(ignored) => self.ignore(ignored),
        }
    }

    fn take_read(&mut self, read: Result<Packet, Ignored>, now: Instant) -> Result<(), Offence> {
        match read {
            Ok(packet) => self.take(&packet, now),
            Err(ignored) => self.ignore(ignored),
        }
    }

    /// Hears that the carrier has passed over something that is no packet.
    ///
    /// # Errors
    /// An [`Offence`] when that was once too often: close the connection.
    pub fn passed_over(&mut self) -> Result<(), Offence> {
        self.ignore(Ignored::NoPacket)
    }

    /// The connection has ended: all its requests and questions expire, and all its entities are closed.
    pub fn disconnect(&mut self) {
        for (key, _) in self.requests.remove_all(|_| true) {
            self.events.push_back(Event::Expired { key: RequestKey(key) });
        }
        for key in self.tokens.drain() {
            self.events.push_back(Event::Expired { key });
        }
        for (key, _) in std::mem::take(&mut self.questions) {
            self.events.push_back(Event::Answer { key, value: None });
        }
        for (entity, _) in std::mem::take(&mut self.entities) {
            self.events.push_back(Event::Closed { entity });
        }
        self.question_keys.clear();
        self.timers = Timers::default();
    }

    /// Gives back the memory of queues that are empty. For a connection that may be idle for long from now on.
    pub fn shrink(&mut self) {
        self.link.shrink();
        self.timers.shrink();
        self.requests.shrink();
        self.questions.shrink_to_fit();
        self.question_keys.shrink_to_fit();
        self.events.shrink_to(AT_REST);
    }

    /// What is to be sent next.
    pub fn poll_outgoing(&mut self) -> Option<Outgoing> {
        self.link.outgoing().next().map(Into::into)
    }

    /// The same, lent where it can be.
    #[inline]
    pub(crate) fn next_outgoing(&mut self) -> Option<Next<'_>> {
        self.link.outgoing().next()
    }

    /// Whether something has happened that was not told yet.
    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// What has happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.requests.next(), self.link.poll_timeout()].into_iter().flatten().min()
    }

    /// Lets time have its effects.
    ///
    /// # Errors
    /// An [`Offence`] when the client should have done something by now: close the connection.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Offence> {
        self.link.handle_timeout(now)?;
        while let Some(due) = self.timers.pop(now) {
            match due {
                // Whoever works on its first entity, or its token, is given the time for it.
                Due::FirstEntity if !self.requests.is_empty() || self.tokens.len() > 0 => {
                    self.first_entity = Some(now + self.config.first_entity);
                    self.timers.set(now + self.config.first_entity, Due::FirstEntity);
                }
                Due::FirstEntity => {
                    return Err(Offence::NoEntity { within: self.config.first_entity });
                }
                Due::Heartbeat => {
                    self.link.send_heartbeat();
                    if let Some(period) = self.config.heartbeat {
                        self.timers.set(now + period, Due::Heartbeat);
                    }
                }
                Due::Token(key) => self.expire(key, now),
                Due::Question(key) => self.end_question(key, None),
            }
        }
        for key in self.requests.due(now) {
            self.expire(RequestKey(key), now);
        }
        Ok(())
    }
}
