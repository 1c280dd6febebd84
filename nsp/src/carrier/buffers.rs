//! Buffers belong to threads: a connection that has nothing half-read and nothing to write holds none.

use std::cell::RefCell;

use bytes::BytesMut;

/// What a thread keeps to read into, in bytes: memory for large blobs is worth keeping while they come one after the other,
/// because fresh memory costs a page fault every 4 KiB.
const KEEP_INPUT: usize = 8 * 1024 * 1024;

/// What a thread keeps to write from, in bytes.
const KEEP_OUTPUT: usize = 512 * 1024;

thread_local! {
    static INPUT: RefCell<BytesMut> = RefCell::new(BytesMut::new());
    static OUTPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Takes the thread's buffer, if there is one and none is held already.
pub(super) fn take_input(buffer: &mut BytesMut) {
    if buffer.capacity() == 0 {
        *buffer = INPUT.take();
    }
}

/// Gives an empty buffer back to the thread.
pub(super) fn give_back_input(buffer: &mut BytesMut) {
    let mut buffer = std::mem::take(buffer);
    buffer.clear();
    if (1..=KEEP_INPUT).contains(&buffer.capacity()) {
        INPUT.set(buffer);
    }
}

/// Takes the thread's buffer, if there is one and none is held already.
pub(super) fn take_output(buffer: &mut Vec<u8>) {
    if buffer.capacity() == 0 {
        *buffer = OUTPUT.take();
    }
}

/// Gives a buffer back to the thread, whose bytes have left.
pub(super) fn give_back_output(mut buffer: Vec<u8>) {
    buffer.clear();
    if (1..=KEEP_OUTPUT).contains(&buffer.capacity()) {
        OUTPUT.set(buffer);
    }
}
