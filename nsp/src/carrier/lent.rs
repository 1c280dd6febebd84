use nossock::session::Outbox;

use super::buffers;
use super::frames::HEAD;
use crate::proto::{EncodeError, Leg};

/// A packet of CS, JSON alone, where it stands in what has been read; and where one can be written at once.
///
/// Calls and their answers are short and many. Like this none of them is moved, or given memory of its own.
#[derive(Debug)]
pub struct Lent<'a> {
    /// Whether it asks or answers.
    pub(crate) leg: Leg,
    /// What it says.
    pub(crate) json: &'a [u8],
    /// Where packets of JSON are written to.
    pub(crate) sheet: Sheet<'a>,
}

/// The end of what waits to leave, to write a packet there.
#[derive(Debug)]
pub(crate) struct Sheet<'a> {
    outbox: &'a mut Outbox,
    /// Where the packet begins.
    from: usize,
    /// Most bytes of its JSON.
    limit: usize,
}

impl<'a> Sheet<'a> {
    /// To write behind what stands in `outbox`, at most `limit` bytes of JSON.
    pub(super) const fn new(outbox: &'a mut Outbox, limit: usize) -> Self {
        Self { from: outbox.small().len(), outbox, limit }
    }

    /// Begins an answer of CS, whose JSON is to be appended; what was begun before is forgotten.
    #[inline]
    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        let out = self.outbox.small();
        buffers::take_output(out);
        out.truncate(self.from);
        out.extend_from_slice(b"j\x04CSrs\0\0\0\0");
        out
    }

    /// Completes what was begun.
    ///
    /// # Errors
    /// When it is too large. Then nothing has been written.
    #[inline]
    pub(crate) fn complete(&mut self) -> Result<(), EncodeError> {
        let length = self.json().len();
        match (u32::try_from(length), self.outbox.small().get_mut(self.from + HEAD - 4..self.from + HEAD)) {
            (Ok(bytes), Some(place)) if length <= self.limit => {
                place.copy_from_slice(&bytes.to_be_bytes());
                Ok(())
            }
            _ => {
                self.discard();
                Err(EncodeError::TooLarge { size: length, limit: self.limit })
            }
        }
    }

    /// What was written.
    pub(crate) fn json(&mut self) -> &[u8] {
        self.outbox.small().get(self.from + HEAD..).unwrap_or_default()
    }

    /// Forgets what was written.
    pub(crate) fn discard(&mut self) {
        self.outbox.small().truncate(self.from);
        if self.outbox.is_empty() {
            buffers::give_back_output(self.outbox.take_buffer());
        }
    }
}
