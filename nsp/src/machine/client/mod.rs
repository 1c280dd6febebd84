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
mod calls;
mod config;
mod event;
mod receive;
mod tokens;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::activity::{Activities, Activity, Stage};
use self::calls::Call;
pub use self::config::{Config, Limits, Secrets};
pub use self::event::{
    ActivityKey, CallError, CallKey, Declined, Event, OpenError, QuestionKey, Reply, RequestError,
};
use self::tokens::Tokens;
use super::link::{Arrived, ClientLink, Form, SendError};
use super::numbered::NumberMap;
use super::timers::Timers;
use super::waiting::{ELSEWHERE, Waiting};
use super::{Incoming, Next, Outgoing, SpError, Texts};
use crate::proto::{Leg, Packet, RawJson, RequestId, au, cs, gt};
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
    /// By the number of its [`CallKey`]; those for tokens are in `tokens`.
    calls: Waiting<Call>,
    tokens: Tokens,
    questions: NumberMap<QuestionKey, Asked>,
    timers: Timers<Due>,
    events: VecDeque<Event>,
    /// The last number given away. Activities and questions share them.
    last: u64,
    ended: bool,
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
            calls: Waiting::default(),
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
    pub fn numbered_after(mut self, earlier: &Self) -> Self {
        self.last = earlier.last;
        self.calls = Waiting::after(&earlier.calls);
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
        let last = now + self.config.open_limit.max(self.config.open_timeout);
        self.activities.begin(activity, until, last);
        self.timers.set(until, Due::Activity(activity));
        Ok(activity)
    }

    /// Gives up waiting for a call, a send or a token; no event follows. The service may do it all the same.
    pub fn give_up(&mut self, call: CallKey) {
        if self.take_call(call) {
            return;
        }
        if let Some(until) = self.tokens.give_up(call) {
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
        let call = CallKey(ELSEWHERE | self.number());
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
        // Nearly all there is; it is not moved any more.
        if let Incoming::Packet(packet) = &incoming
            && self.link.lets_in(packet)
        {
            self.take(packet, now);
            return Ok(());
        }
        match self.link.receive(incoming)? {
            Arrived::Packet(packet) => self.take(&packet, now),
            Arrived::KeyOffered => self.events.push_back(Event::KeyOffered),
            Arrived::Ignored(ignored) => self.events.push_back(Event::Ignored(ignored)),
            Arrived::Nothing => {}
        }
        Ok(())
    }

    fn take(&mut self, packet: &Packet, now: Instant) {
        if let Err(ignored) = self.receive_packet(packet, now) {
            self.events.push_back(Event::Ignored(ignored));
        }
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
        for (call, _) in self.calls.remove_all(|_| true) {
            let result = Err(CallError::Disconnected);
            self.events.push_back(Event::Answered { call: CallKey(call), result });
        }
        for call in self.tokens.drain() {
            self.events.push_back(Event::Token { call, result: Err(CallError::Disconnected) });
        }
        self.questions.clear();
        self.timers = Timers::default();
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

    /// The same for the short packets of CS that come next, if such do.
    #[inline]
    pub(crate) fn next_texts(&mut self) -> Option<(Leg, Texts<'_>)> {
        self.link.outgoing().next_texts()
    }

    /// How many messages are to be sent: above what callers may begin, it is the daemon that makes us say so much.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.link.outgoing_len()
    }

    /// What has happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.calls.next(), self.link.poll_timeout()].into_iter().flatten().min()
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
        for call in self.calls.due(now).into_iter().map(CallKey) {
            if self.take_call(call) {
                self.events.push_back(Event::Answered { call, result: Err(CallError::Timeout) });
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
        for (call, _) in self.calls.remove_all(|call| call.activity == activity) {
            let result = Err(error.clone());
            self.events.push_back(Event::Answered { call: CallKey(call), result });
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
        self.link.send(packet, &mut *self.random).map_err(Into::into)
    }
}

impl From<SendError> for RequestError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Encode(error) => error.into(),
            SendError::Held(error) => error.into(),
        }
    }
}
