//! Starting one handler, and what may come of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Context;

use super::super::answers::{Answers, Asked};
use super::super::extract::Incoming;
use super::super::handler::Started;
use super::super::slot::FutureSlot;
use crate::router::Route;
use crate::wire::Name;

/// A handler that has not simply ended.
pub(super) struct Ended {
    pub(super) name: Name,
    /// Of a request.
    pub(super) id: Option<Box<str>>,
    /// `None` is a panic.
    pub(super) how: Option<Started>,
}

impl Ended {
    #[cold]
    pub(super) fn new(name: &str, tag: &[u8], how: Option<Started>) -> Self {
        let id = std::str::from_utf8(tag).ok().and_then(|tag| tag.rsplit_once(':')).map(|(_, id)| id.into());
        Self { name: Name::new(name).expect("the wire's names are short"), id, how }
    }
}

/// Starts one handler; a panic is its own, and ends in an error of this message. Gives what is more than its end.
pub(super) fn start(
    route: &Route,
    incoming: &Incoming<'_>,
    tag: Option<&[u8]>,
    answers: &mut Answers,
    slot: &mut FutureSlot,
    cx: &mut Context<'_>,
) -> Option<Ended> {
    let made = answers.made();
    let shared = incoming.shared;
    let asked = tag.map(|tag| Asked { tag, answers, shared });
    let polled = catch_unwind(AssertUnwindSafe(|| route.endpoint.start(incoming, asked, slot, cx)));
    if matches!(polled, Ok(Started::Done)) {
        return None;
    }
    if let (Err(_), Some(tag)) = (&polled, tag) {
        Asked { tag, answers, shared }.recover(made);
    }
    Some(Ended::new(incoming.name, tag.unwrap_or_default(), polled.ok()))
}
