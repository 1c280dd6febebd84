//! `rawj`: the frames of `raw`, with serde_json from and into typed structs at both ends. The limit for JSON messages.

use std::io;

use crate::messages::{Ask, Note};

use super::by_hand::{ByHand, Style};

/// The reference for one-way messages.
pub(crate) type Rawj = ByHand<Typed>;

/// Bodies are JSON, parsed where they lie and written where they leave.
#[derive(Debug)]
pub(crate) struct Typed;

impl Style for Typed {
    const NOTES_ALIKE: bool = false;

    fn ask(n: u64, out: &mut Vec<u8>) -> io::Result<()> {
        Ok(serde_json::to_writer(out, &Ask::number(n))?)
    }

    fn answer(body: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let ask: Ask = serde_json::from_slice(body)?;
        Ok(serde_json::to_writer(out, &ask.answer())?)
    }

    fn check(n: u64, body: &[u8]) -> io::Result<()> {
        Ask::number(n).check(serde_json::from_slice(body)?)
    }

    fn note(n: u64, out: &mut Vec<u8>) -> io::Result<i64> {
        let note = Note::number(n);
        serde_json::to_writer(out, &note)?;
        Ok(note.weight())
    }

    fn weigh(body: &[u8]) -> io::Result<i64> {
        Ok(serde_json::from_slice::<Note>(body)?.weight())
    }
}
