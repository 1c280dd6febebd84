//! Where the futures of handlers are polled first.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A place for the future of a handler, used again by the next one if that is of the same type.
#[derive(Default)]
pub(crate) struct FutureSlot(Option<Box<dyn Any + Send>>);

/// Pinned for good, so that a handler can be polled here before it is known whether it waits.
pub(super) struct Place<F>(pub(super) Pin<Box<Option<F>>>);

impl FutureSlot {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Takes the place out: if a future panics, it goes with it.
    pub(super) fn take<F: Send + 'static>(&mut self) -> Box<Place<F>> {
        match self.0.take().map(Box::<dyn Any + Send>::downcast::<Place<F>>) {
            Some(Ok(place)) => place,
            _ => Box::new(Place(Box::pin(None))),
        }
    }

    pub(super) fn keep<F: Send + 'static>(&mut self, place: Box<Place<F>>) {
        self.0 = Some(place);
    }
}

impl<F: Future> Place<F> {
    /// Polls a future once; it stays here when it waits.
    #[inline(always)]
    pub(super) fn poll(&mut self, future: F, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.0.set(Some(future));
        let polled = poll_place(&mut self.0, cx);
        if polled.is_ready() {
            self.0.set(None);
        }
        polled
    }
}

#[inline]
pub(super) fn poll_place<F: Future>(
    place: &mut Pin<Box<Option<F>>>,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    place.as_mut().as_pin_mut().expect("a future stays until it is ready").poll(cx)
}
