//! Read buffers belong to threads: a connection that has nothing half-read holds none.

use std::cell::RefCell;

use bytes::BytesMut;

thread_local! {
    static SPARE: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// What a thread may keep, in bytes: the buffers of large bodies are worth keeping while they come one after the
/// other, as fresh memory costs a page fault every 4 KiB.
const KEEP: usize = 8 * 1024 * 1024;

/// Takes the thread's buffer, if there is one.
pub(super) fn take(buffer: &mut BytesMut) {
    if buffer.capacity() == 0 {
        *buffer = SPARE.take();
    }
}

/// Gives an empty buffer back to the thread.
pub(super) fn give_back(buffer: &mut BytesMut) {
    let mut buffer = std::mem::take(buffer);
    buffer.clear();
    if (1..=KEEP).contains(&buffer.capacity()) {
        SPARE.set(buffer);
    }
}
