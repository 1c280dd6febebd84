//! The side with the activities.
//!
//! ```text
//!  open ──▶ Creating ── CE answered ──▶ Verifying ── VE answered OK ──▶ Open ── close, CA CS ──▶ gone
//!              │ refused, too late         │ refused, too late                     │
//!              ▼                           ▼                                       ▼
//!             gone                        gone (and closed at the daemon)   its calls fail at once
//! ```
//!
//! Data and events may come before the answer to VE, and are handed on. A call is matched by its id and its entity, a send (whose answer has no id) by the order within
//! its entity, a token by the order of asking. What was given up stays in that order as a gap, so that its late answer is not taken for the next one's.

mod activity;
mod config;
mod event;
mod receive;
mod tokens;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::activity::{Activities, Activity, Stage};
pub use self::config::{Config, Limits, Secrets};
pub use self::event::{
    ActivityKey, CallError, CallKey, Declined, Event, OpenError, QuestionKey, Reply, RequestError,
};
use self::tokens::Tokens;
use super::link::{Arrived, ClientLink, Form, SendError};
use super::numbered::NumberMap;
use super::timers::Timers;
use super::{Incoming, Outgoing, SpError};
use crate::proto::{Data, Digits, EntityId, Packet, RawJson, RequestId, au, cs, gt};
use crate::secret::{DaemonKey, Password, Proof};
use crate::secure::{PublicKey, Random};

/// What an activity is to be.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Open {
    /// Name of the service.
    pub service: String,
    /// For whom it speaks.
    pub owner: Option<String>,
    /// The domain of the owner; the original puts the host there that it dialled.
    pub owner_domain: Option<String>,
    /// The key of a daemon, for a daemon-mode activity.
    pub key: Option<DaemonKey>,
    /// A description for whoever lists entities.
    pub description: Option<RawJson>,
}

impl Open {
    /// An activity of a service, for nobody in particular.
    pub fn new(service: impl Into<String>) -> Self {
        Self { service: service.into(), ..Self::default() }
    }
}

/// One connection, seen by who dialled.
#[derive(Debug)]
pub struct Client {
    config: Config,
    random: Box<dyn Random>,
    link: ClientLink,
    activities: Activities,
    calls: NumberMap<CallKey, Call>,
    tokens: Tokens,
    questions: NumberMap<QuestionKey, Asked>,
    timers: Timers<Due>,
    events: VecDeque<Event>,
    /// The last number given away. Activities, calls and questions share them, so no two ids of a connection are the same.
    last: u64,
    ended: bool,
}

/// A call or a send that waits.
#[derive(Debug)]
struct Call {
    activity: ActivityKey,
    kind: CallKind,
    until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallKind {
    Json,
    Blob,
    Send,
}

/// A question of the daemon.
#[derive(Debug)]
struct Asked {
    question: au::Question,
    id: RequestId,
    until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Activity(ActivityKey),
    Call(CallKey),
    Token(CallKey),
    Question(QuestionKey),
}

/// What a user does.
impl Client {
    /// Begins a connection that has just been made.
    #[must_use]
    pub fn new(config: Config, random: Box<dyn Random>, now: Instant) -> Self {
        let form =
            config.text.map_or(Form::Binary, |dialect| Form::Text { dialect, largest: config.largest_text });
        Self {
            link: ClientLink::new(config.methods.clone(), form, config.sp, config.sp_wait, now),
            config,
            random,
            activities: Activities::default(),
            calls: NumberMap::default(),
            tokens: Tokens::default(),
            questions: NumberMap::default(),
            timers: Timers::default(),
            events: VecDeque::new(),
            last: 0,
            ended: false,
        }
    }

    /// Gives numbers beyond those of an earlier connection, so that what belongs to one is never taken for the other's.
    #[must_use]
    pub const fn numbered_after(mut self, earlier: &Self) -> Self {
        self.last = earlier.last;
        self
    }

    /// Whether SP is done or not wanted: what is sent now is not held.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.link.is_settled()
    }

    /// The key that the daemon has sent and nobody has judged yet.
    #[must_use]
    pub fn offered_key(&self) -> Option<&PublicKey> {
        self.link.offered_key()
    }

    /// Says whether the key that the daemon has sent is known to be its own.
    ///
    /// # Errors
    /// [`SpError::NotTrusted`] when it is not, [`SpError::BadKey`] when it cannot encrypt: close the connection.
    pub fn judge(&mut self, trusted: bool) -> Result<(), SpError> {
        if self.link.offered_key().is_some() {
            self.link.judge(trusted, &mut *self.random)?;
            self.events.push_back(Event::Secured);
        }
        Ok(())
    }

    /// Begins to open an activity; [`Event::Opened`] or [`Event::NotOpened`] follows.
    ///
    /// # Errors
    /// A [`RequestError`] when it was not begun.
    pub fn open(&mut self, open: Open, now: Instant) -> Result<ActivityKey, RequestError> {
        self.check_alive()?;
        let limit = self.config.limits.activities;
        if self.activities.len() >= limit {
            return Err(RequestError::TooManyActivities { limit });
        }
        if open.key.is_some() {
            self.check_secret()?;
        }
        let number = self.number();
        let create = cs::Create {
            id: RequestId::numbered(number),
            owner: open.owner,
            mode: if open.key.is_some() { cs::Mode::Daemon } else { cs::Mode::Normal },
            service: open.service,
            owner_domain: open.owner_domain,
            key: open.key,
            description: open.description,
        };
        self.send_packet(cs::Request::Create(Box::new(create)).encode())?;
        let (activity, until) = (ActivityKey(number), now + self.config.open_timeout);
        self.activities.begin(activity, until);
        self.timers.set(until, Due::Activity(activity));
        Ok(activity)
    }

    /// Calls a service function; [`Event::Answered`] follows within `timeout`.
    ///
    /// # Errors
    /// A [`RequestError`] when it was not begun.
    pub fn call(
        &mut self,
        activity: ActivityKey,
        function: &str,
        data: Data,
        timeout: Duration,
        now: Instant,
    ) -> Result<CallKey, RequestError> {
        let entity = self.ready(activity)?;
        let call = CallKey(self.number());
        let id = Digits::quoted(call.0);
        let request = cs::encode_call("SF", &entity, function, id.as_bytes(), None, &data);
        self.begin(call, CallKind::Json, activity, request, now + timeout)
    }

    /// Calls a blob function; [`Event::Answered`] follows within `timeout`.
    ///
    /// # Errors
    /// A [`RequestError`] when it was not begun.
    pub fn call_blob(
        &mut self,
        activity: ActivityKey,
        function: &str,
        meta: Option<RawJson>,
        data: Data,
        timeout: Duration,
        now: Instant,
    ) -> Result<CallKey, RequestError> {
        let entity = self.ready(activity)?;
        let call = CallKey(self.number());
        let id = Digits::quoted(call.0);
        let request = cs::encode_call("BS", &entity, function, id.as_bytes(), meta.as_ref(), &data);
        self.begin(call, CallKind::Blob, activity, request, now + timeout)
    }

    /// Sends data to the service; [`Event::Answered`] follows within `timeout`.
    ///
    /// # Errors
    /// A [`RequestError`] when it was not begun.
    pub fn send(
        &mut self,
        activity: ActivityKey,
        data: Data,
        timeout: Duration,
        now: Instant,
    ) -> Result<CallKey, RequestError> {
        let entity = self.ready(activity)?;
        if !self.has_room_to_send(activity) {
            return Err(RequestError::TooManyCalls { limit: self.config.limits.calls });
        }
        let call = CallKey(self.number());
        let request = cs::Request::Send { entity, data }.encode();
        self.begin(call, CallKind::Send, activity, request, now + timeout)?;
        if let Some(activity) = self.activities.get_mut(activity) {
            activity.sends.push_back(Some(call));
        }
        Ok(call)
    }

    /// Whether an activity may send once more. What was given up counts as well: a daemon that never acknowledges must not make it grow.
    pub(crate) fn has_room_to_send(&mut self, activity: ActivityKey) -> bool {
        let limit = self.config.limits.calls;
        self.activities.get_mut(activity).is_none_or(|activity| activity.sends.len() < limit)
    }

    /// Gives up waiting for a call, a send or a token; no event follows. The service may do it all the same.
    pub fn give_up(&mut self, call: CallKey) {
        if let Some(call) = self.take_call(call) {
            self.timers.clear(call.1.until, Due::Call(call.0));
        } else if let Some(until) = self.tokens.give_up(call) {
            self.timers.clear(until, Due::Token(call));
            self.send_next_token();
        }
    }

    /// Closes an activity. Its calls fail at once, and no event follows for the activity itself.
    pub fn close(&mut self, activity: ActivityKey) {
        let Some(gone) = self.remove(activity, &CallError::Closed) else { return };
        if let Some(entity) = gone.stage.entity() {
            let close = cs::Request::Close { entity: entity.clone() };
            // If it cannot be sent, the connection has no more future than the entity.
            let _ = self.send_packet(close.encode());
        }
        // While it is being created there is no entity to close yet: the answer to CE will be answered with a close.
    }

    /// Exchanges a password for a token; [`Event::Token`] follows within `timeout`. One request is out at a time, the others wait.
    ///
    /// # Errors
    /// A [`RequestError`] when it was not begun.
    pub fn token(
        &mut self,
        user: &str,
        password: Password,
        timeout: Duration,
        now: Instant,
    ) -> Result<CallKey, RequestError> {
        self.check_alive()?;
        self.check_secret()?;
        let limit = self.config.limits.calls;
        if self.tokens.len() >= limit {
            return Err(RequestError::TooManyCalls { limit });
        }
        let call = CallKey(self.number());
        let until = now + timeout;
        let request = gt::Request { user: user.to_owned(), password: Some(password) };
        self.tokens.push(call, request, until);
        self.timers.set(until, Due::Token(call));
        self.send_next_token();
        Ok(call)
    }

    /// Answers a question of the daemon: with `None` to decline. One that has expired is not answered again.
    pub fn answer(&mut self, key: QuestionKey, value: Option<Proof>) {
        let Some(asked) = self.questions.remove(&key) else { return };
        self.timers.clear(asked.until, Due::Question(key));
        self.send_answer(asked.question, asked.id, value);
    }

    /// Sends a packet of a method that the user has registered.
    ///
    /// # Errors
    /// A [`RequestError`] when the method is not registered or the packet does not fit its form.
    pub fn send_custom(&mut self, packet: Packet) -> Result<(), RequestError> {
        self.check_alive()?;
        self.send_packet(packet)
    }
}

/// What a driver does.
impl Client {
    /// Takes what has arrived.
    ///
    /// # Errors
    /// An [`SpError`] when the connection cannot be secured: close it.
    pub fn receive(&mut self, incoming: Incoming, now: Instant) -> Result<(), SpError> {
        match self.link.receive(incoming)? {
            Arrived::Packet(packet) => {
                if let Err(ignored) = self.receive_packet(packet, now) {
                    self.events.push_back(Event::Ignored(ignored));
                }
            }
            Arrived::KeyOffered => self.events.push_back(Event::KeyOffered),
            Arrived::Ignored(ignored) => self.events.push_back(Event::Ignored(ignored)),
            Arrived::Nothing => {}
        }
        Ok(())
    }

    /// The connection has ended: whatever waits fails, and nothing can be begun any more.
    pub fn disconnect(&mut self) {
        self.ended = true;
        for (activity, gone) in self.activities.drain() {
            let event = match gone.stage {
                Stage::Open { .. } => Event::Closed { activity },
                _ => Event::NotOpened { activity, error: OpenError::Disconnected },
            };
            self.events.push_back(event);
        }
        for (call, _) in std::mem::take(&mut self.calls) {
            self.events.push_back(Event::Answered { call, result: Err(CallError::Disconnected) });
        }
        for call in self.tokens.drain() {
            self.events.push_back(Event::Token { call, result: Err(CallError::Disconnected) });
        }
        self.questions.clear();
        self.timers = Timers::default();
    }

    /// What is to be sent next.
    pub fn poll_outgoing(&mut self) -> Option<Outgoing> {
        self.link.poll_outgoing()
    }

    /// How many messages are to be sent: above what callers may begin, it is the daemon that makes us say so much.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.link.backlog()
    }

    /// What has happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.link.poll_timeout()].into_iter().flatten().min()
    }

    /// Lets time have its effects.
    ///
    /// # Errors
    /// [`SpError::NotOffered`] when the connection should have been secured by now: close it.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), SpError> {
        self.link.handle_timeout(now, &mut *self.random)?;
        while let Some(due) = self.timers.pop(now) {
            match due {
                Due::Activity(activity) => self.open_failed(activity, OpenError::Timeout),
                Due::Call(call) => {
                    if self.take_call(call).is_some() {
                        let result = Err(CallError::Timeout);
                        self.events.push_back(Event::Answered { call, result });
                    }
                }
                Due::Token(call) => {
                    self.give_up(call);
                    self.events.push_back(Event::Token { call, result: Err(CallError::Timeout) });
                }
                Due::Question(key) => {
                    if let Some(asked) = self.questions.remove(&key) {
                        self.send_answer(asked.question, asked.id, None);
                        self.events.push_back(Event::QuestionExpired { key });
                    }
                }
            }
        }
        Ok(())
    }
}

impl Client {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    const fn check_alive(&self) -> Result<(), RequestError> {
        if self.ended { Err(RequestError::Disconnected) } else { Ok(()) }
    }

    fn check_secret(&self) -> Result<(), RequestError> {
        if self.config.secrets == Secrets::Anywhere || self.link.keeps_secrets() {
            Ok(())
        } else {
            Err(RequestError::WouldLeak)
        }
    }

    /// The entity of an activity that can be used for one more call.
    fn ready(&self, activity: ActivityKey) -> Result<EntityId, RequestError> {
        self.check_alive()?;
        let limit = self.config.limits.calls;
        if self.calls.len() >= limit {
            return Err(RequestError::TooManyCalls { limit });
        }
        self.activities.open_entity(activity).cloned().ok_or(RequestError::NotOpen)
    }

    fn begin(
        &mut self,
        call: CallKey,
        kind: CallKind,
        activity: ActivityKey,
        request: Packet,
        until: Instant,
    ) -> Result<CallKey, RequestError> {
        self.send_packet(request)?;
        self.calls.insert(call, Call { activity, kind, until });
        self.timers.set(until, Due::Call(call));
        Ok(call)
    }

    /// The call that an answer is for: its id, its entity and its kind have to be right.
    fn returned(&mut self, id: &RequestId, entity: &EntityId, kind: CallKind) -> Option<CallKey> {
        let call = CallKey(id.number()?);
        let waiting = self.calls.get(&call)?;
        if waiting.kind != kind || self.activities.open_entity(waiting.activity) != Some(entity) {
            return None;
        }
        self.timers.clear(waiting.until, Due::Call(call));
        self.calls.remove(&call).map(|_| call)
    }

    /// Takes a call out, leaving a gap where its answer is recognised by its place.
    fn take_call(&mut self, call: CallKey) -> Option<(CallKey, Call)> {
        let gone = self.calls.remove(&call)?;
        if let Some(activity) = self.activities.get_mut(gone.activity)
            && let Some(place) = activity.sends.iter_mut().find(|place| **place == Some(call))
        {
            *place = None;
        }
        Some((call, gone))
    }

    fn open_failed(&mut self, activity: ActivityKey, error: OpenError) {
        let Some(gone) = self.remove(activity, &CallError::Closed) else { return };
        // The entity exists at the daemon, even if its service refused it: an original one would keep it for the life of the connection.
        if let Some(entity) = gone.stage.entity() {
            let _ = self.send_packet(cs::Request::Close { entity: entity.clone() }.encode());
        }
        self.events.push_back(Event::NotOpened { activity, error });
    }

    /// Takes an activity out and fails its calls.
    fn remove(&mut self, activity: ActivityKey, error: &CallError) -> Option<Activity> {
        let gone = self.activities.remove(activity)?;
        if let Some(until) = gone.stage.until() {
            self.timers.clear(until, Due::Activity(activity));
        }
        let calls: Vec<_> = self.calls.extract_if(|_, call| call.activity == activity).collect();
        for (call, waiting) in calls {
            self.timers.clear(waiting.until, Due::Call(call));
            self.events.push_back(Event::Answered { call, result: Err(error.clone()) });
        }
        Some(gone)
    }

    /// Sends the next request for a token, unless one is out.
    fn send_next_token(&mut self) {
        if let Some(packet) = self.tokens.send_next() {
            let _ = self.send_packet(packet);
        }
    }

    fn send_answer(&mut self, question: au::Question, id: RequestId, value: Option<Proof>) {
        let _ = self.send_packet(au::Answer { question, id, value }.encode());
    }

    fn send_packet(&mut self, packet: Packet) -> Result<(), RequestError> {
        self.link.send(packet, &mut *self.random).map_err(|error| match error {
            SendError::Encode(error) => error.into(),
            SendError::Held(error) => error.into(),
        })
    }
}
