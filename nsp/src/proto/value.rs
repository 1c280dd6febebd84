//! The values that several methods share: ids, data, and how something went.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::RawJson;
use super::fields::{Fields, text_of};
use super::json::Writer;

/// The name of an entity, as the daemon gave it: `_6n5pnfzls` from an original one, 128 random bits from ours.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityId(Arc<str>);

impl EntityId {
    /// Longest id that is taken from a peer, in bytes.
    pub const MOST: usize = 255;

    /// Takes an id over.
    ///
    /// `None` when it is longer than [`MOST`](Self::MOST) bytes.
    #[must_use]
    pub fn new(id: &str) -> Option<Self> {
        (id.len() <= Self::MOST).then(|| Self(id.into()))
    }

    /// Makes an id of 128 bits, which must be random: `_` and 25 characters of `[0-9a-z]`, as the original's but longer.
    #[must_use]
    pub fn from_bits(bits: [u8; 16]) -> Self {
        Self(base36(u128::from_be_bytes(bits), 25).into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for EntityId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A daemon chose it: whatever is no plain letter must not reach a terminal.
        fmt::Display::fmt(&self.0.escape_debug(), f)
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The id of a request (`t`): any JSON value, chosen by who asks and echoed as it is by who answers.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(RawJson);

impl RequestId {
    /// Longest id that is taken from a peer, in bytes of JSON text. It is kept as long as the request runs.
    pub const MOST: usize = 255;

    /// Takes a value over.
    ///
    /// `None` when its text is longer than [`MOST`](Self::MOST) bytes.
    #[must_use]
    pub fn new(value: RawJson) -> Option<Self> {
        (value.as_bytes().len() <= Self::MOST).then_some(Self(value))
    }

    /// The id of a request that has none: `null`.
    #[must_use]
    pub const fn none() -> Self {
        Self(RawJson::NULL)
    }

    /// The `n`th id of a requester: `"_"` and the number in base 36, as the original's look.
    #[must_use]
    pub fn numbered(n: u64) -> Self {
        Self(RawJson::written(Bytes::copy_from_slice(Digits::quoted(n).as_bytes())))
    }

    /// The id made of a text.
    ///
    /// `None` when it is longer than [`MOST`](Self::MOST) bytes as JSON.
    #[must_use]
    pub fn text(text: &str) -> Option<Self> {
        Self::new(RawJson::of(text).ok()?)
    }

    /// The `n` of an id that [`numbered`](Self::numbered) made.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        Self::number_in(self.0.as_bytes())
    }

    /// The same of a text that was not taken over.
    #[inline]
    pub(super) fn number_in(text: &[u8]) -> Option<u64> {
        let digits = text.strip_prefix(b"\"_")?.strip_suffix(b"\"")?;
        if digits.is_empty() || (digits.len() > 1 && digits.first() == Some(&b'0')) {
            return None; // two texts for one number
        }
        digits.iter().try_fold(0_u64, |number, digit| {
            let digit = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'z' => digit - b'a' + 10,
                _ => return None,
            };
            number.checked_mul(36)?.checked_add(digit.into())
        })
    }

    /// The JSON value.
    #[must_use]
    pub const fn as_json(&self) -> &RawJson {
        &self.0
    }

    /// A copy that does not keep the message alive in which it came.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(self.0.detached())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({})", self.0.as_str().escape_debug())
    }
}

/// A number as `"_"` and its digits of base 36, the quotes included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digits {
    /// Two quotes, `_`, and the 13 digits that 64 bits have at most; from the first on.
    text: [u8; 16],
    length: usize,
}

impl Digits {
    #[inline]
    pub(crate) fn quoted(mut number: u64) -> Self {
        // From the last one on, each in front of those that are there.
        let (mut text, mut length) = (u128::from(b'"'), 4);
        while number >= 36 {
            let pair = usize::try_from(number % 1296).ok().and_then(|number| PAIRS.get(number));
            text = text << 16 | u128::from(pair.copied().unwrap_or_default());
            length += 2;
            number /= 1296;
        }
        if number > 0 || length == 4 {
            text = text << 8 | u128::from(digit(number));
        } else {
            length -= 1;
        }
        let text = text << 16 | u128::from(u16::from_le_bytes(*b"\"_"));
        Self { text: text.to_le_bytes(), length }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }

    /// Appends them. As many bytes as they are at most take less time than as many as they are.
    #[inline]
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.length;
        out.extend_from_slice(&self.text);
        out.truncate(end);
    }
}

const DIGITS: [u8; 36] = *b"0123456789abcdefghijklmnopqrstuvwxyz";

/// All pairs of digits, each in the order in which they are written.
#[expect(clippy::indexing_slicing, reason = "it is made while compiling")]
static PAIRS: [u16; 1296] = {
    let mut pairs = [0; 1296];
    let mut number = 0;
    while number < pairs.len() {
        pairs[number] = u16::from_le_bytes([DIGITS[number / 36], DIGITS[number % 36]]);
        number += 1;
    }
    pairs
};

fn digit(digit: u64) -> u8 {
    usize::try_from(digit).ok().and_then(|digit| DIGITS.get(digit)).copied().unwrap_or(b'0')
}

/// The value of each digit of base 36; of all else, one that no digit has.
#[expect(clippy::indexing_slicing, reason = "it is made while compiling")]
pub(super) static VALUES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut value = 0;
    while value < 36 {
        values[DIGITS[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// `_` and at least `width` digits of base 36.
fn base36(mut number: u128, width: usize) -> String {
    let mut digits = Vec::with_capacity(26);
    while number > 0 || digits.len() < width {
        digits.push(char::from(digit(u64::try_from(number % 36).unwrap_or_default())));
        number /= 36;
    }
    digits.push('_');
    digits.iter().rev().collect()
}

/// What an operation carries in `d`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_enums, reason = "NSP 0.5 carries nothing, JSON, or bytes")]
pub enum Data {
    /// No `d` at all, as from a function that gave no value.
    #[default]
    None,
    /// JSON.
    Json(RawJson),
    /// Bytes beside the JSON.
    Blob(Bytes),
}

impl Data {
    /// The JSON, or `null` in the place of nothing; the bytes if it is neither.
    ///
    /// # Errors
    /// The blob, when it is one.
    pub fn into_json(self) -> Result<RawJson, Bytes> {
        match self {
            Self::None => Ok(RawJson::NULL),
            Self::Json(json) => Ok(json),
            Self::Blob(blob) => Err(blob),
        }
    }

    /// The blob.
    ///
    /// # Errors
    /// The JSON, or `null` in the place of nothing, when there is no blob.
    pub fn into_blob(self) -> Result<Bytes, RawJson> {
        match self {
            Self::Blob(blob) => Ok(blob),
            Self::Json(json) => Err(json),
            Self::None => Err(RawJson::NULL),
        }
    }

    /// Length in bytes, as JSON text or as the blob.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Json(json) => json.as_bytes().len(),
            Self::Blob(blob) => blob.len(),
        }
    }

    /// Whether there is nothing, or an empty blob.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of what [`write`](Self::write) writes.
    pub(crate) fn json_length(&self) -> usize {
        match self {
            Self::Json(json) => json.as_bytes().len(),
            Self::None | Self::Blob(_) => 4,
        }
    }

    /// Writes `d`, and gives back the blob that belongs beside the JSON.
    pub(super) fn write(&self, writer: &mut Writer) -> Option<Bytes> {
        match self {
            Self::None => None,
            Self::Json(json) => {
                writer.raw("d", json);
                None
            }
            Self::Blob(blob) => {
                writer.literal("d", b"null");
                Some(blob.clone())
            }
        }
    }
}

impl From<RawJson> for Data {
    fn from(json: RawJson) -> Self {
        Self::Json(json)
    }
}

impl From<Bytes> for Data {
    fn from(blob: Bytes) -> Self {
        Self::Blob(blob)
    }
}

/// How something went (`s`): `OK`, and only that, is success.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "it went well or it did not")]
pub enum Status {
    /// `"s":"OK"`
    Ok,
    /// Anything else, or no `s` at all.
    Failed(Box<Failure>),
}

impl Status {
    /// A failure that says only that: `"s":"Fail"`.
    #[must_use]
    pub fn fail() -> Self {
        Self::Failed(Box::new(Failure { text: Some("Fail".into()), code: None, id: None }))
    }

    pub(super) fn read(fields: &Fields<'_>) -> Self {
        let text = fields.text("s");
        if text.as_deref() == Some("OK") {
            return Self::Ok;
        }
        let mut failure = Failure::beside(fields);
        failure.text = text.map(Into::into);
        Self::Failed(Box::new(failure))
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        match self {
            Self::Ok => {
                writer.literal("s", b"\"OK\"");
            }
            Self::Failed(failure) => failure.write(writer),
        }
    }

    /// `Ok` for success.
    ///
    /// # Errors
    /// The failure, if it is one.
    pub fn into_result(self) -> Result<(), Box<Failure>> {
        match self {
            Self::Ok => Ok(()),
            Self::Failed(failure) => Err(failure),
        }
    }
}

/// What the other side says about a failure.
///
/// On the wire it is `"s":text` as in the original, and, when there is a code or an id, beside it
/// `"e":{"code":…,"id":…}`, which an original peer does not look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "services make their own")]
pub struct Failure {
    /// What to tell a person; an original daemon appends its stack here, on further lines. `None` when `s` was missing or no string.
    pub text: Option<String>,
    /// What to tell a program.
    pub code: Option<String>,
    /// Under which id the daemon's log has the details.
    pub id: Option<String>,
}

impl Failure {
    /// A failure with a code for programs and a text for people.
    pub fn new(code: impl Into<String>, text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), code: Some(code.into()), id: None }
    }

    /// Reads code and id out of `e`.
    pub(super) fn beside(fields: &Fields<'_>) -> Self {
        #[derive(serde::Deserialize)]
        struct More<'a> {
            #[serde(borrow)]
            code: Option<&'a RawValue>,
            #[serde(borrow)]
            id: Option<&'a RawValue>,
        }
        let owned = |value: Option<&RawValue>| value.map(RawValue::get).and_then(text_of).map(Into::into);
        match fields.get("e").and_then(|more| serde_json::from_str::<More<'_>>(more).ok()) {
            Some(more) => Self { text: None, code: owned(more.code), id: owned(more.id) },
            None => Self::default(),
        }
    }

    /// Code and id as the object `e`.
    pub(super) fn more(&self) -> Bytes {
        let mut more = Writer::object(64);
        for (key, value) in [("code", &self.code), ("id", &self.id)] {
            if let Some(value) = value {
                more.text(key, value);
            }
        }
        more.finish()
    }

    fn write(&self, writer: &mut Writer) {
        match self.text.as_deref() {
            // The one text that must not be told as a failure, for it says the opposite.
            Some("OK") => writer.text("s", "Error: OK"),
            Some(text) => writer.text("s", text),
            None => writer,
        };
        if self.code.is_some() || self.id.is_some() {
            writer.literal("e", &self.more());
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.text, &self.code) {
            // Only the first line: the rest is an original daemon's stack.
            (Some(text), _) => f.write_str(text.lines().next().unwrap_or_default()),
            (None, Some(code)) => f.write_str(code),
            (None, None) => f.write_str("no reason given"),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_ids_of_ours_hold_128_bits() {
        assert_eq!(EntityId::from_bits([0; 16]).as_str(), "_0000000000000000000000000");
        assert_eq!(EntityId::from_bits([0xff; 16]).as_str(), "_f5lxx1zz5pnorynqglhzmsp33");
        assert!(EntityId::new(&"x".repeat(256)).is_none());
    }

    #[test]
    fn numbered_ids_are_recognised_and_others_are_not() {
        for n in [
            0,
            1,
            35,
            36,
            37,
            71,
            1295,
            1296,
            1297,
            46655,
            46656,
            36_u64.pow(12) - 1,
            36_u64.pow(12),
            u64::MAX,
        ] {
            let digits = Digits::quoted(n);
            let mut text = base36(n.into(), 1);
            text.insert(0, '"');
            text.push('"');
            assert_eq!(digits.as_bytes(), text.as_bytes());
            let mut written = Vec::new();
            digits.write(&mut written);
            assert_eq!(written, text.as_bytes());
            assert_eq!(RequestId::numbered(n).number(), Some(n));
        }
        assert_eq!(RequestId::numbered(46).as_json().as_str(), "\"_1a\"");
        for other in ["null", "5", "\"_\"", "\"_+1\"", "\"_01\"", "\"_A\"", "\"1a\"", "\"_\\u0031\""] {
            let id = RequestId::new(RawJson::new(other).unwrap()).unwrap();
            assert_eq!(id.number(), None, "{other}");
        }
        assert!(RequestId::text(&"x".repeat(254)).is_none());
    }

    #[test]
    fn failure_never_reads_as_success() {
        let mut writer = Writer::object(0);
        Status::Failed(Box::new(Failure::new("x", "OK"))).write(&mut writer);
        assert_eq!(writer.finish(), &br#"{"s":"Error: OK","e":{"code":"x"}}"#[..]);
    }

    #[test]
    fn stack_of_an_original_daemon_is_not_displayed() {
        let failure = Failure { text: Some("Error: boom\n    at /home/x.js:1".into()), ..Failure::default() };
        assert_eq!(failure.to_string(), "Error: boom");
    }
}
