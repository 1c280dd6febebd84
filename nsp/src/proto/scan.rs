//! The quick look into JSON: where the values of an object stand, in one pass, without building anything.
//!
//! What it accepts is JSON, and is read as serde_json would read it. What it is not sure of, an escape in a key or a value within many others, it leaves
//! alone: then, and whenever something is wrong, serde_json reads the text again, and has the word on what is wrong with it. So an error is
//! always told in the same words, and this file need not know any.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// Values within values that are followed here.
const DEPTH: usize = 32;

/// A value as it stands in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value<'a> {
    pub(super) text: &'a str,
    /// It is a string without escapes, so what it says stands between its quotes.
    pub(super) is_plain: bool,
}

/// Goes over a message in the form in which programs write it: `{"m":"XX","d":{…}}`, no blanks, keys of one letter. Gives `XX`, and
/// each key of `d` with its value; `None` is "not sure".
///
/// It is [`Scanner`] for the one case that is nearly all, with nothing on the way that the compiler cannot keep in registers.
#[inline(always)]
pub(super) fn usual<'a>(text: &'a [u8], mut each: impl FnMut(u8, Value<'a>)) -> Option<[u8; 2]> {
    let [
        b'{',
        b'"',
        b'm',
        b'"',
        b':',
        b'"',
        first @ b'A'..=b'Z',
        second @ b'A'..=b'Z',
        b'"',
        b',',
        b'"',
        b'd',
        b'"',
        b':',
        b'{',
        rest @ ..,
    ] = text
    else {
        return None;
    };
    let text = std::str::from_utf8(text).ok()?;
    let mut rest = rest;
    loop {
        let [b'"', key @ b'a'..=b'z', b'"', b':', value @ ..] = rest else { return None };
        let (value, after) = value_of(text, value)?;
        each(*key, value);
        match after {
            [b',', next @ ..] => rest = next,
            b"}}" => return Some([*first, *second]),
            _ => return None,
        }
    }
}

/// The value at the beginning of the rest of a text, and what is behind it.
#[inline(always)]
fn value_of<'a>(text: &'a str, rest: &'a [u8]) -> Option<(Value<'a>, &'a [u8])> {
    // Most values of the protocol are strings without escapes.
    let (is_plain, after) = match plain_string(rest) {
        Some((_, after)) => (true, after),
        None => (false, skip(rest, DEPTH)?),
    };
    Some((Value { text: text.get(text.len() - rest.len()..text.len() - after.len())?, is_plain }, after))
}

/// Whether a text that stands last in a message, as `TEXT` in `{"m":"SF","d":{"d":TEXT}}`, can be nothing but one value: if the message is JSON, then
/// its value is all of the text, and no other key comes behind it.
///
/// Whether it is JSON is left to who reads the value. This needs less: the brace that opens the text has to be closed before the two behind it can
/// be the message's, and where the text has only one that closes, as its last byte, it is that one. In a string it would not be, but such a
/// string would not end.
#[inline]
pub(crate) fn is_one(text: &[u8]) -> bool {
    let rest = match text {
        [b'{', inside @ .., b'}'] if !has_closing_brace(inside) => return true,
        [b'0'..=b'9' | b'-', ..] => number(text),
        [b'"', ..] => plain_string(text).map_or_else(|| skip(text, DEPTH), |(_, rest)| Some(rest)),
        _ => skip(text, DEPTH),
    };
    rest.is_some_and(<[u8]>::is_empty)
}

/// Reads from left to right; `None` is "not sure".
///
/// What walks over the text are functions of what is left of it, which give what is left behind them: that stays in registers.
pub(super) struct Scanner<'a> {
    text: &'a str,
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// Goes over a whole text.
    #[inline]
    pub(super) fn whole<T>(text: &'a [u8], read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let text = std::str::from_utf8(text).ok()?;
        let mut scanner = Self { text, rest: blank(text.as_bytes()) };
        let value = read(&mut scanner)?;
        blank(scanner.rest).is_empty().then_some(value)
    }

    /// Goes over an object, whose values `each` has to take.
    #[inline]
    pub(super) fn object(&mut self, mut each: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.rest = blank(take(self.rest, b'{')?);
        if let Some(rest) = take(self.rest, b'}') {
            self.rest = rest;
            return Some(());
        }
        loop {
            let (key, rest) = key(self.rest)?;
            self.rest = rest;
            each(self, key)?;
            match blank(self.rest) {
                [b',', rest @ ..] => self.rest = blank(rest),
                [b'}', rest @ ..] => {
                    self.rest = rest;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// Whether `null` comes next; takes it if so.
    pub(super) fn null(&mut self) -> bool {
        let rest = literal(self.rest, b"null");
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Takes any value, as it stands in the text.
    #[inline]
    pub(super) fn value(&mut self) -> Option<Value<'a>> {
        let (value, rest) = value_of(self.text, self.rest)?;
        self.rest = rest;
        Some(value)
    }
}

impl<'a> Value<'a> {
    /// What a string says, borrowed where it holds no escapes; `None` of what is none.
    #[inline]
    pub(super) fn said(self) -> Option<Cow<'a, str>> {
        let inside = self.text.strip_prefix('"')?.strip_suffix('"')?;
        if self.is_plain || !inside.contains('\\') {
            return Some(Cow::Borrowed(inside));
        }
        serde_json::from_str(self.text).ok().map(Cow::Owned)
    }
}

impl<'a> From<&'a RawValue> for Value<'a> {
    fn from(value: &'a RawValue) -> Self {
        Self { text: value.get(), is_plain: false }
    }
}

/// A string without escapes, and what is behind it.
#[inline(always)]
fn plain_string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let [b'"', text @ ..] = text else { return None };
    let (inside, [b'"', rest @ ..]) = text.split_at_checked(plain(text))? else { return None };
    Some((inside, rest))
}

/// A key without escapes, and what is behind its colon.
#[inline(always)]
fn key(text: &[u8]) -> Option<(&[u8], &[u8])> {
    // Nearly all keys of the protocol are one letter, and nobody writes blanks.
    if let [b'"', key @ b'a'..=b'z', b'"', b':', rest @ ..] = text {
        return Some((std::slice::from_ref(key), blank(rest)));
    }
    let (key, rest) = plain_string(text)?;
    Some((key, blank(take(blank(rest), b':')?)))
}

fn skip(text: &[u8], depth: usize) -> Option<&[u8]> {
    let depth = depth.checked_sub(1)?;
    match text {
        [b'0'..=b'9' | b'-', ..] => number(text),
        [b'"', rest @ ..] => match plain_string(text) {
            Some((_, rest)) => Some(rest),
            None => string(rest),
        },
        [b'{', rest @ ..] => {
            let mut rest = blank(rest);
            if let Some(rest) = take(rest, b'}') {
                return Some(rest);
            }
            loop {
                // Numbers are nearly as frequent as strings, and not worth a call.
                let value = key(rest)?.1;
                let next = match value {
                    [b'0'..=b'9' | b'-', ..] => number(value),
                    _ => skip(value, depth),
                };
                match blank(next?) {
                    [b',', next @ ..] => rest = blank(next),
                    [b'}', rest @ ..] => return Some(rest),
                    _ => return None,
                }
            }
        }
        [b'[', rest @ ..] => {
            let mut rest = blank(rest);
            if let Some(rest) = take(rest, b']') {
                return Some(rest);
            }
            loop {
                match blank(skip(rest, depth)?) {
                    [b',', next @ ..] => rest = blank(next),
                    [b']', rest @ ..] => return Some(rest),
                    _ => return None,
                }
            }
        }
        [b't', ..] => literal(text, b"true"),
        [b'f', ..] => literal(text, b"false"),
        _ => literal(text, b"null"),
    }
}

/// What is behind a string whose first quote is gone.
fn string(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        match text.get(plain(text)..)? {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => text = rest,
            [b'\\', b'u', a, b, c, d, rest @ ..] if [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit) => {
                text = rest;
            }
            _ => return None,
        }
    }
}

#[inline(always)]
fn number(text: &[u8]) -> Option<&[u8]> {
    let text = take(text, b'-').unwrap_or(text);
    let mut text = match take(text, b'0') {
        Some(rest) => rest,
        None => digits(text)?,
    };
    if let Some(rest) = take(text, b'.') {
        text = digits(rest)?;
    }
    match text {
        [b'e' | b'E', b'+' | b'-', rest @ ..] | [b'e' | b'E', rest @ ..] => digits(rest),
        _ => Some(text),
    }
}

#[inline(always)]
fn digits(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text;
    while let [b'0'..=b'9', next @ ..] = rest {
        rest = next;
    }
    (rest.len() < text.len()).then_some(rest)
}

fn literal<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    text.strip_prefix(word)
}

#[inline(always)]
fn blank(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\n' | b'\t' | b'\r', rest @ ..] = text {
        text = rest;
    }
    text
}

#[inline(always)]
fn take(text: &[u8], byte: u8) -> Option<&[u8]> {
    match text {
        [first, rest @ ..] if *first == byte => Some(rest),
        _ => None,
    }
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// The highest bit of each byte of `word` that is zero, and perhaps of some above such a one.
#[inline(always)]
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH
}

#[inline(always)]
fn has_closing_brace(mut bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<STEP>() else { return bytes.contains(&b'}') };
    // Not stopped by the first that is found: so it is one comparison for all of them.
    let is_in = |chunk: &[u8; STEP]| chunk.iter().fold(false, |found, byte| found | (*byte == b'}'));
    while let Some((chunk, rest)) = bytes.split_first_chunk() {
        if is_in(chunk) {
            return true;
        }
        bytes = rest;
    }
    // What is left, with some that were looked at already.
    is_in(last)
}

/// Bytes that are looked at together.
const STEP: usize = 16;

/// How many bytes stand for themselves in a JSON string, from the first on: up to a quote, a backslash or a control character.
///
/// Eight at a time: the highest bit of each byte of `found` is set where such a byte is, and perhaps where one is behind it.
#[inline(always)]
pub(super) fn plain(mut bytes: &[u8]) -> usize {
    let length = bytes.len();
    while let Some((chunk, rest)) = bytes.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let quote = zeros(word ^ (ONES * u64::from(b'"')));
        let backslash = zeros(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let found = quote | backslash | control;
        if found != 0 {
            // The lowest is exact: what is borrowed wrongly is borrowed from below.
            return length - bytes.len() + found.trailing_zeros() as usize / 8;
        }
        bytes = rest;
    }
    let rest = bytes.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)).count();
    length - bytes.len() + rest
}

#[cfg(test)]
mod tests;
