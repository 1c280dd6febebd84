//! Buffers belong to threads: a connection that has nothing half-read and nothing to write holds none.

use std::cell::RefCell;

use bytes::BytesMut;

thread_local! {
    static INPUT: RefCell<BytesMut> = RefCell::new(BytesMut::new());
    /// Three: what was taken to be written, what is queued meanwhile, and what handlers answer.
    static OUTPUT: RefCell<[Vec<u8>; 3]> = const { RefCell::new([const { Vec::new() }; 3]) };
}

/// What a thread may keep to read into, in bytes: the buffers of large bodies are worth keeping while they come one after the
/// other, as fresh memory costs a page fault every 4 KiB.
const KEEP_INPUT: usize = 8 * 1024 * 1024;

/// As few bytes of a frame that has begun wait in a buffer of their own: a peer that sends no more of it is not to hold one of
/// many times their size.
const FEW: usize = 1024;

/// Takes the thread's buffer, if there is one, for what has none or a small one.
pub(crate) fn take(buffer: &mut BytesMut) {
    if buffer.capacity() > FEW {
        return;
    }
    let mut whole = INPUT.take();
    if whole.capacity() > 0 {
        whole.extend_from_slice(buffer);
        *buffer = whole;
    }
}

/// Gives a buffer back to the thread when nothing more comes for now; a few bytes of it that are still needed move.
pub(crate) fn give_back(buffer: &mut BytesMut) {
    if buffer.len() > FEW || (!buffer.is_empty() && buffer.capacity() <= FEW) {
        return;
    }
    let few = BytesMut::from(&**buffer);
    let mut whole = std::mem::replace(buffer, few);
    whole.clear();
    if (1..=KEEP_INPUT).contains(&whole.capacity()) {
        INPUT.set(whole);
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
