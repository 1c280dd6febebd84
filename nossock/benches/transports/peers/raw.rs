//! `raw`: frames whose bodies nobody looks at. The limit for opaque bodies.

use std::io;

use crate::messages::invalid;

use super::by_hand::{ByHand, Style};

/// The reference for raw bodies, fan-out and idle connections.
pub(crate) type Raw = ByHand<Opaque>;

/// As long as the JSON of the other peers.
const ASK: &[u8] = br#"{"seq":10000000,"x":417,"y":-23}"#;
const NOTE: &[u8] = br#"{"seq":10000000,"sensor":4170,"millidegrees":21500,"valid":true}"#;

/// Bodies are bytes.
#[derive(Debug)]
pub(crate) struct Opaque;

impl Style for Opaque {
    const NOTES_ALIKE: bool = true;

    fn ask(_: u64, out: &mut Vec<u8>) -> io::Result<()> {
        out.extend_from_slice(ASK);
        Ok(())
    }

    fn answer(body: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        out.extend_from_slice(body);
        Ok(())
    }

    fn check(_: u64, body: &[u8]) -> io::Result<()> {
        if body.len() == ASK.len() { Ok(()) } else { Err(invalid("an answer of another length")) }
    }

    fn note(_: u64, out: &mut Vec<u8>) -> io::Result<i64> {
        out.extend_from_slice(NOTE);
        Ok(NOTE.len() as i64)
    }

    fn weigh(body: &[u8]) -> io::Result<i64> {
        Ok(body.len() as i64)
    }
}
