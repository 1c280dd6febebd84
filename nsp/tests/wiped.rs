//! What was secret is not in the memory of the process any more, once it was dropped: what a core dump would hold is looked through. A program of
//! its own, so that nothing else moves memory about.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use nsp::{DaemonKey, Password, Proof, Token};

/// A text is looked for without being there itself: each of its bytes is kept with these bits turned.
const MASK: u8 = 0x95;

/// As long as a token.
const LENGTH: usize = 43;

/// What is looked for: the end of a text, as the system's allocator writes to the beginning of what is freed.
const LOOKED_AT: usize = 24;

/// Bytes that are read at once.
const STEP: usize = 1024 * 1024;

struct Masked(Vec<u8>);

impl Masked {
    fn new(number: usize) -> Self {
        let letters =
            (0..LENGTH).map(|n| b'a' + u8::try_from((n * n + n * number + 7 * number) % 26).unwrap());
        Self(letters.map(|letter| letter ^ MASK).collect())
    }

    /// The text, at one place in memory only.
    fn text(&self) -> String {
        let mut text = String::with_capacity(LENGTH);
        for byte in &self.0 {
            text.push(char::from(byte ^ MASK));
        }
        text
    }

    fn is_at(&self, bytes: &[u8]) -> bool {
        let end = &self.0[LENGTH - LOOKED_AT..];
        bytes.len() >= end.len() && bytes.iter().zip(end).all(|(byte, masked)| byte ^ MASK == *masked)
    }
}

/// Which of the texts are anywhere in what this process can write to. The window is wiped: it has seen all of it.
fn found(texts: &[Masked], window: &mut [u8]) -> Vec<bool> {
    let memory = File::open("/proc/self/mem").unwrap();
    let mut found = vec![false; texts.len()];
    for line in fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        let (start, end) = range.split_once('-').unwrap();
        let hex = |text| u64::from_str_radix(text, 16).unwrap();
        let (mut at, end) = (hex(start), hex(end));
        while rights.starts_with("rw") && at < end {
            let most = STEP.min(usize::try_from(end - at).unwrap());
            // Some pages belong to the system.
            let Ok(length) = memory.read_at(&mut window[..most], at) else { break };
            let bytes = &window[..length];
            for (n, text) in texts.iter().enumerate() {
                let first = text.0[LENGTH - LOOKED_AT] ^ MASK;
                let mut starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == first);
                found[n] |= starts.any(|(start, _)| text.is_at(&bytes[start..]));
            }
            // What lies across two windows is seen by the next one.
            at += u64::try_from(if length > LOOKED_AT { length - LOOKED_AT + 1 } else { length }).unwrap();
            if length < most || length <= LOOKED_AT {
                break;
            }
            if at + LOOKED_AT as u64 > end {
                break;
            }
        }
    }
    window.fill(0);
    found
}

#[test]
fn secrets_that_were_dropped_are_nowhere_in_memory() {
    let texts: Vec<_> = (1..=6).map(Masked::new).collect();
    let mut window = vec![0; STEP];
    assert_eq!(found(&texts, &mut window), [false; 6], "nothing was made yet");

    let password = Password::new(texts[0].text());
    let token = Token::from(texts[1].text());
    let key = DaemonKey::new(texts[2].text());
    let proof = Proof::new(texts[3].text());
    // Taken for something else, and more than once.
    let taken = Proof::new(texts[4].text()).into_token();
    let again = taken.clone();
    // And one of which somebody has made a text of their own.
    let copied = Password::new(texts[5].text());
    let theirs = copied.reveal().to_owned();
    assert_eq!(found(&texts, &mut window), [true; 6], "they are found while they are there");

    drop((password, token, key, proof, taken, copied));
    let one_is_left = [false, false, false, false, true, true];
    assert_eq!(found(&texts, &mut window), one_is_left, "the clone, and what is not ours");
    drop((again, theirs));
    assert_eq!(found(&texts, &mut window)[..5], [false; 5]);
}
