//! The answer to a call that waited for nothing, written to where it will leave from.

use std::fmt;

use serde::Serialize;

use super::fail::Fail;
use super::guard::Shown;
use crate::carrier::Sheet;
use crate::proto::cs::Calls;

/// Where the answer goes.
#[doc(hidden)]
pub struct Here<'a, 'b> {
    sheet: &'a mut Sheet<'b>,
    calls: &'a Calls,
    /// With its quotes.
    id: &'a [u8],
    /// What of it the caller gets to see.
    pub(super) shown: Shown,
    /// Bytes before the value.
    before: usize,
}

impl<'a, 'b> Here<'a, 'b> {
    pub(super) const fn new(sheet: &'a mut Sheet<'b>, calls: &'a Calls, id: &'a [u8]) -> Self {
        Self { sheet, calls, id, shown: Shown::ALL, before: 0 }
    }

    /// Whether the caller gets to see all of a value, so that it can be written as it is.
    pub(super) const fn shows_all(&self) -> bool {
        self.shown.is_all()
    }

    /// Answers with a value.
    #[inline]
    pub(super) fn write<T: Serialize>(&mut self, value: &T) -> Result<(), Fail> {
        let out = self.sheet.begin();
        let from = out.len();
        out.extend_from_slice(br#"{"m":"SF","d":{"t":"#);
        out.extend_from_slice(self.id);
        out.push(b',');
        out.extend_from_slice(self.calls.entity());
        out.extend_from_slice(br#""s":"OK","d":"#);
        self.before = out.len() - from;
        serde_json::to_writer(&mut *out, value)?;
        out.extend_from_slice(b"}}");
        Ok(())
    }

    /// Bytes of the value.
    pub(super) fn value_len(&mut self) -> usize {
        self.sheet.json().len().saturating_sub(self.before + 2)
    }
}

impl fmt::Debug for Here<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Here").field("before", &self.before).finish_non_exhaustive()
    }
}
