//! Where the futures of handlers are polled first.

use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A place for the future of a handler, used again by the next one if that is of the same type.
#[derive(Default)]
pub struct FutureSlot(Option<Box<dyn Any + Send>>);

impl std::fmt::Debug for FutureSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FutureSlot").field(&!self.is_empty()).finish()
    }
}

/// Takes the thread's place for the futures of handlers.
#[must_use]
pub fn take() -> FutureSlot {
    SLOT.take()
}

/// Gives an unused place back to the thread.
pub fn give_back(slot: FutureSlot) {
    if !slot.is_empty() {
        SLOT.set(slot);
    }
}

thread_local! {
    static SLOT: Cell<FutureSlot> = const { Cell::new(FutureSlot::new()) };
}

/// Pinned for good, so that a handler can be polled here before it is known whether it waits.
#[derive(Debug)]
pub struct Place<F>(pub Pin<Box<Option<F>>>);

impl FutureSlot {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// Whether it holds no memory.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Takes the place out: if a future panics, it goes with it.
    pub fn take<F: Send + 'static>(&mut self) -> Box<Place<F>> {
        match self.0.take().map(Box::<dyn Any + Send>::downcast::<Place<F>>) {
            Some(Ok(place)) => place,
            _ => Box::new(Place(Box::pin(None))),
        }
    }

    /// Keeps a place for the next one.
    pub fn keep<F: Send + 'static>(&mut self, place: Box<Place<F>>) {
        self.0 = Some(place);
    }
}

impl<F: Future> Place<F> {
    /// Polls a future once; it stays here when it waits.
    #[inline(always)]
    pub fn poll(&mut self, future: F, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.0.set(Some(future));
        let polled = poll_place(&mut self.0, cx);
        if polled.is_ready() {
            self.0.set(None);
        }
        polled
    }
}

/// Polls what is in a place.
///
/// # Panics
/// When there is nothing.
#[inline]
pub fn poll_place<F: Future>(place: &mut Pin<Box<Option<F>>>, cx: &mut Context<'_>) -> Poll<F::Output> {
    place.as_mut().as_pin_mut().expect("a future stays until it is ready").poll(cx)
}
