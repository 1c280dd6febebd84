//! What the daemon does to a client.

use std::time::Instant;

use super::{
    Activity, ActivityKey, Asked, CallError, Client, Declined, Due, Event, OpenError, QuestionKey, Reply,
    Stage,
};
use crate::machine::Ignored;
use crate::proto::{EntityId, Failure, Method, Packet, au, ca, cs, gt};

impl Client {
    #[inline]
    pub(super) fn receive_packet(&mut self, packet: &Packet, now: Instant) -> Result<(), Ignored> {
        match packet.method {
            Method::Cs => {
                let mut operation = cs::Answer::operation(packet)?;
                let operation = operation.read()?;
                if let Some(returned) = cs::Returned::of(operation)
                    && let Some(call) = self.returned(&returned)
                {
                    let result = returned.result().map(|(meta, data)| Reply { meta, data });
                    let result = result.map_err(CallError::Failed);
                    self.events.push_back(Event::Answered { call, result });
                    return Ok(());
                }
                self.receive_answer(cs::Answer::of(operation)?, now)
            }
            Method::Ca => self.receive_push(ca::Request::decode(packet)?),
            Method::Au => {
                self.receive_question(au::Request::decode(packet)?, now);
                Ok(())
            }
            Method::Gt => self.receive_token(gt::Answer::decode(packet)?),
            Method::Sp => Err(Ignored::Unasked { method: Method::Sp }),
            Method::Custom(_) => {
                self.events.push_back(Event::Custom(packet.clone()));
                Ok(())
            }
        }
    }

    fn receive_answer(&mut self, answer: cs::Answer, now: Instant) -> Result<(), Ignored> {
        let unasked = Ignored::Unasked { method: Method::Cs };
        match answer {
            cs::Answer::Created { id, result } => {
                let number = id.number().filter(|&number| number <= self.last).ok_or(unasked)?;
                self.created(ActivityKey(number), result, now)
            }
            cs::Answer::Verified { entity, status } => {
                let activity =
                    self.activities.of(&entity).ok_or(Ignored::UnknownEntity { method: Method::Cs })?;
                self.verified(activity, status.into_result(), unasked)
            }
            cs::Answer::Sent { entity, status } => {
                let (_, activity) = self.activities.of_mut(&entity).ok_or(unasked.clone())?;
                let call = activity.sends.pop_front().flatten().ok_or(unasked.clone())?;
                self.calls.remove(call.0).ok_or(unasked)?;
                let result = status.into_result().map(|()| Reply::default()).map_err(CallError::Failed);
                self.events.push_back(Event::Answered { call, result });
                Ok(())
            }
            // If it were asked for, it would have been found.
            cs::Answer::Returned { .. } | cs::Answer::ReturnedBlob { .. } => Err(unasked),
        }
    }

    fn created(
        &mut self,
        key: ActivityKey,
        result: Result<EntityId, Box<Failure>>,
        now: Instant,
    ) -> Result<(), Ignored> {
        let waits = match self.activities.get_mut(key) {
            Some(Activity { stage: Stage::Creating { .. }, last, .. }) => Some(*last),
            _ => None,
        };
        match (result, waits) {
            (Ok(entity), Some(last)) => {
                let until = (now + self.config.open_timeout).min(last);
                let stage = Stage::Verifying { entity: entity.clone(), until };
                let before = self.activities.get_mut(key).and_then(|activity| activity.stage.until());
                if !self.activities.set_stage(key, stage) {
                    return Err(Ignored::UnknownEntity { method: Method::Cs });
                }
                self.timers.clear(before.unwrap_or(now), Due::Activity(key));
                self.timers.set(until, Due::Activity(key));
                let _ = self.send_packet(cs::Request::Verify { entity }.encode());
                Ok(())
            }
            // Nobody wants it any more, and nobody else will ever close it.
            (Ok(entity), None) => {
                if self.activities.of(&entity).is_none() {
                    let _ = self.send_packet(cs::Request::Close { entity }.encode());
                }
                Err(Ignored::Unasked { method: Method::Cs })
            }
            (Err(failure), Some(_)) => {
                self.open_failed(key, OpenError::NotCreated(failure));
                Ok(())
            }
            (Err(_), None) => Err(Ignored::Unasked { method: Method::Cs }),
        }
    }

    fn verified(
        &mut self,
        key: ActivityKey,
        result: Result<(), Box<Failure>>,
        unasked: Ignored,
    ) -> Result<(), Ignored> {
        let Some(Activity { stage: Stage::Verifying { entity, until }, .. }) = self.activities.get_mut(key)
        else {
            return Err(unasked);
        };
        let (entity, until) = (entity.clone(), *until);
        match result {
            Ok(()) => {
                self.timers.clear(until, Due::Activity(key));
                self.activities
                    .set_stage(key, Stage::Open { calls: cs::Calls::of(&entity), entity: entity.clone() });
                self.events.push_back(Event::Opened { activity: key, entity });
            }
            Err(failure) => self.open_failed(key, OpenError::Refused(failure)),
        }
        Ok(())
    }

    fn receive_push(&mut self, push: ca::Request) -> Result<(), Ignored> {
        let unknown = Ignored::UnknownEntity { method: Method::Ca };
        let activity = self.activities.of(push.entity()).ok_or(unknown)?;
        if self.config.acknowledges
            && let Some(acknowledgement) = push.acknowledgement()
        {
            let _ = self.send_packet(acknowledgement.encode());
        }
        let event = match push {
            ca::Request::Data { data, .. } => Event::Data { activity, data },
            ca::Request::Event { event, data, .. } => Event::Event { activity, event, data },
            ca::Request::BlobEvent { event, meta, data, .. } => {
                Event::BlobEvent { activity, event, meta, data }
            }
            ca::Request::Close { .. } => {
                let Some(gone) = self.remove(activity, &CallError::Closed) else { return Ok(()) };
                match gone.stage {
                    Stage::Open { .. } => Event::Closed { activity },
                    _ => Event::NotOpened { activity, error: OpenError::Refused(Box::default()) },
                }
            }
        };
        self.events.push_back(event);
        Ok(())
    }

    fn receive_question(&mut self, request: au::Request, now: Instant) {
        match request {
            au::Request::Tell { notice, entity } => {
                let activity = entity.and_then(|entity| self.activities.of(&entity));
                self.events.push_back(Event::Notice { notice, activity });
            }
            au::Request::Ask { question, id, user } => {
                let declined = if self.check_secret().is_err() {
                    Some(Declined::WouldLeak)
                } else {
                    let many = self.questions.len() >= self.config.limits.questions;
                    many.then_some(Declined::TooMany)
                };
                if let Some(reason) = declined {
                    self.send_answer(question, id, None);
                    self.events.push_back(Event::QuestionDeclined { question, reason });
                    return;
                }
                let (key, until) = (QuestionKey(self.number()), now + self.config.question_timeout);
                self.questions.insert(key, Asked { question, id: id.detached(), until });
                self.timers.set(until, Due::Question(key));
                // Somebody has to type a password now, and what is being opened waits for that.
                for (activity, deadline, last) in self.activities.opening_mut() {
                    self.timers.clear(*deadline, Due::Activity(activity));
                    *deadline = (until + self.config.open_timeout).min(last);
                    self.timers.set(*deadline, Due::Activity(activity));
                }
                self.events.push_back(Event::Question { key, question, user });
            }
        }
    }

    fn receive_token(&mut self, answer: gt::Answer) -> Result<(), Ignored> {
        let answered = self.tokens.answered(&answer).ok_or(Ignored::Unasked { method: Method::Gt })?;
        if let Some((call, until)) = answered {
            self.timers.clear(until, Due::Token(call));
            self.events.push_back(Event::Token { call, result: Ok(answer.token) });
        }
        self.send_next_token();
        Ok(())
    }
}
