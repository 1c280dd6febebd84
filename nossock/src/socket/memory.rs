//! Buffers belong to threads: a connection that has nothing half-read and nothing to write holds none.

use std::cell::{Cell, RefCell};

use bytes::BytesMut;

use super::slot::FutureSlot;

thread_local! {
    static INPUT: RefCell<BytesMut> = RefCell::new(BytesMut::new());
    /// Three: what was taken to be written, what is queued meanwhile, and what handlers answer.
    static OUTPUT: RefCell<[Vec<u8>; 3]> = const { RefCell::new([const { Vec::new() }; 3]) };
    static SLOT: Cell<FutureSlot> = const { Cell::new(FutureSlot::new()) };
}

/// What a thread may keep to read into, in bytes: the buffers of large bodies are worth keeping while they come one after the
/// other, as fresh memory costs a page fault every 4 KiB.
const KEEP_INPUT: usize = 8 * 1024 * 1024;

/// Takes the thread's buffer, if there is one.
pub(crate) fn take(buffer: &mut BytesMut) {
    if buffer.capacity() == 0 {
        *buffer = INPUT.take();
    }
}

/// Gives an empty buffer back to the thread.
pub(crate) fn give_back(buffer: &mut BytesMut) {
    let mut buffer = std::mem::take(buffer);
    buffer.clear();
    if (1..=KEEP_INPUT).contains(&buffer.capacity()) {
        INPUT.set(buffer);
    }
}

/// What a thread may keep to write from, in bytes, three times: a full send queue of the default size.
const KEEP_OUTPUT: usize = 512 * 1024;

/// Takes one of the thread's buffers, if there is one.
pub(crate) fn take_output(buffer: &mut Vec<u8>) {
    OUTPUT.with_borrow_mut(|spare| {
        if let Some(spare) = spare.iter_mut().find(|spare| spare.capacity() > 0) {
            *buffer = std::mem::take(spare);
        }
    });
}

/// Gives an empty buffer back to the thread.
#[inline]
pub(crate) fn give_back_output(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 {
        return;
    }
    buffer.clear();
    if (1..=KEEP_OUTPUT).contains(&buffer.capacity()) {
        OUTPUT.with_borrow_mut(|spare| {
            if let Some(spare) = spare.iter_mut().find(|spare| spare.capacity() == 0) {
                *spare = buffer;
            }
        });
    }
}

/// Takes the thread's place for the futures of handlers.
pub(crate) fn take_slot() -> FutureSlot {
    SLOT.take()
}

/// Gives an unused place back to the thread.
pub(crate) fn give_back_slot(slot: FutureSlot) {
    if !slot.is_empty() {
        SLOT.set(slot);
    }
}
