//! Calls and sends, from their beginning to their answer.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{ActivityKey, CallKey, Client, RequestError};
use crate::machine::link::{ClientLink, SendError};
use crate::proto::json::Writer;
use crate::proto::{Data, Digits, EntityId, Leg, RawJson, cs};
use crate::secure::Random;

/// A call or a send that waits.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) activity: ActivityKey,
    kind: CallKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallKind {
    Json,
    Blob,
    Send,
}

/// What a user does.
impl Client {
    /// Calls a service function; [`Event::Answered`](super::Event::Answered) follows within `timeout`.
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
        let about = 96 + function.len() + data.json_length();
        self.begin_writing(activity, CallKind::Json, now + timeout, ("SF", about), |writer, entity, id| {
            cs::write_call(writer, entity, function, id, None, &data)
        })
    }

    /// The same with an argument that is only lent.
    #[inline(always)]
    pub(crate) fn call_lent(
        &mut self,
        activity: ActivityKey,
        function: &str,
        json: &[u8],
        timeout: Duration,
        now: Instant,
    ) -> Result<CallKey, RequestError> {
        let about = 96 + function.len() + json.len();
        self.begin(activity, CallKind::Json, now + timeout, |link, random, (entity, calls), id| {
            if let Some(queue) = link.at_once(about) {
                queue.append(Leg::Request, |out| calls.write(function, id, json, out));
                return Ok(());
            }
            link.request("SF", about, random, |writer| {
                cs::write_call_of(writer, entity, function, id.as_bytes()).literal("d", json);
                None
            })
        })
    }

    /// Calls a blob function; [`Event::Answered`](super::Event::Answered) follows within `timeout`.
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
        let about = 96 + function.len() + data.json_length();
        let about = about + meta.as_ref().map_or(0, |meta| meta.as_bytes().len());
        self.begin_writing(activity, CallKind::Blob, now + timeout, ("BS", about), |writer, entity, id| {
            cs::write_call(writer, entity, function, id, meta.as_ref(), &data)
        })
    }

    /// Sends data to the service; [`Event::Answered`](super::Event::Answered) follows within `timeout`.
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
        if !self.has_room_to_send(activity) {
            return Err(RequestError::TooManyCalls { limit: self.config.limits.calls });
        }
        let about = ("SS", 64 + data.json_length());
        let until = now + timeout;
        let call = self.begin_writing(activity, CallKind::Send, until, about, |writer, entity, _| {
            cs::write_send(writer, entity, &data)
        })?;
        if let Some(activity) = self.activities.get_mut(activity) {
            activity.sends.push_back(Some(call));
        }
        Ok(call)
    }
}

impl Client {
    /// Whether an activity may send once more. What was given up counts as well: a daemon that never acknowledges must not make it grow.
    pub(crate) fn has_room_to_send(&mut self, activity: ActivityKey) -> bool {
        let limit = self.config.limits.calls;
        self.activities.get_mut(activity).is_none_or(|activity| activity.sends.len() < limit)
    }

    /// Begins a call: an operation of about so many bytes, with what `write` writes, which is given the entity and the id, and with the
    /// blob that it gives.
    fn begin_writing(
        &mut self,
        activity: ActivityKey,
        kind: CallKind,
        until: Instant,
        (operation, about): (&str, usize),
        write: impl FnOnce(&mut Writer, &EntityId, &[u8]) -> Option<Bytes>,
    ) -> Result<CallKey, RequestError> {
        self.begin(activity, kind, until, |link, random, (entity, _), id| {
            link.request(operation, about, random, |writer| write(writer, entity, id.as_bytes()))
        })
    }

    /// Begins a call of an activity, if that is open and there is room for one more, and sends it with `send`, which is given what the activity
    /// is called and the id.
    #[inline]
    fn begin(
        &mut self,
        activity: ActivityKey,
        kind: CallKind,
        until: Instant,
        send: impl FnOnce(
            &mut ClientLink,
            &mut dyn Random,
            (&EntityId, &cs::Calls),
            &Digits,
        ) -> Result<(), SendError>,
    ) -> Result<CallKey, RequestError> {
        self.check_alive()?;
        let limit = self.config.limits.calls;
        if self.calls.len() >= limit {
            return Err(RequestError::TooManyCalls { limit });
        }
        let open = self.activities.open(activity).ok_or(RequestError::NotOpen)?;
        let call = self.calls.begin(until, Call { activity, kind });
        let call = call.ok_or(RequestError::TooManyCalls { limit })?;
        let id = Digits::quoted(call);
        if let Err(error) = send(&mut self.link, &mut *self.random, open, &id) {
            self.calls.remove(call);
            return Err(error.into());
        }
        Ok(CallKey(call))
    }

    /// Takes out the call that an answer is for: its id, its entity and its kind have to be right.
    #[inline]
    pub(super) fn returned(&mut self, returned: &cs::Returned<'_>) -> Option<CallKey> {
        let call = returned.number()?;
        let waiting = self.calls.get(call)?;
        let kind = if returned.is_blob { CallKind::Blob } else { CallKind::Json };
        if waiting.kind != kind || !returned.is_of(self.activities.open(waiting.activity)?.0) {
            return None;
        }
        self.calls.remove(call).map(|_| CallKey(call))
    }

    /// Takes out the call that an answer is for, if all goes in clear and it is what a function answers when all went well; gives the text of what it
    /// has returned, if anything, which may yet be no JSON. Otherwise nothing has happened: [`receive`](Self::receive) it.
    #[inline(always)]
    pub(crate) fn take_returned<'a>(&mut self, json: &'a [u8]) -> Option<(CallKey, Option<&'a [u8]>)> {
        if !self.link.is_clear() {
            return None;
        }
        let returning = cs::Returning::of(json)?;
        let waiting = self.calls.get(returning.number)?;
        if waiting.kind != CallKind::Json {
            return None;
        }
        let (_, calls) = self.activities.open(waiting.activity)?;
        let value = returning.to(calls)?;
        self.calls.remove(returning.number)?;
        Some((CallKey(returning.number), value))
    }

    /// Takes a call out, leaving a gap where its answer is recognised by its place; says whether there was one.
    pub(super) fn take_call(&mut self, call: CallKey) -> bool {
        let Some(gone) = self.calls.remove(call.0) else { return false };
        if let Some(activity) = self.activities.get_mut(gone.activity)
            && let Some(place) = activity.sends.iter_mut().find(|place| **place == Some(call))
        {
            *place = None;
        }
        true
    }
}
