//! JSON that has been checked but not read, and how messages are written without a detour over it.

use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::scan::plain;

/// One JSON value as text: well formed, cheap to clone, not read until somebody asks for a `T`.
///
/// What a peer sent stays a part of the message it came in, so keep a [`detached`](Self::detached) copy of what outlives it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RawJson(Bytes);

impl RawJson {
    /// `null`
    pub const NULL: Self = Self(Bytes::from_static(b"null"));

    /// Checks a text and keeps it.
    ///
    /// # Errors
    /// When it is not one JSON value in UTF-8.
    pub fn new(text: impl Into<Bytes>) -> Result<Self, serde_json::Error> {
        let text = text.into();
        let value: &RawValue = serde_json::from_slice(&text)?;
        Ok(Self::within(value.get(), &text))
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    /// When it cannot be JSON, as a map whose keys are no strings.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        let mut buffer = take_buffer(0);
        serde_json::to_writer(&mut buffer, value)?;
        Ok(Self(finish_buffer(buffer)))
    }

    /// Writes a value as JSON, and lends it.
    pub(crate) fn lend<T: Serialize + ?Sized, R>(
        value: &T,
        use_it: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, serde_json::Error> {
        let mut buffer = take_buffer(0);
        serde_json::to_writer(&mut buffer, value)?;
        let result = use_it(&buffer);
        if buffer.capacity() <= 2 * LARGE {
            buffer.clear();
            BUFFER.with(|kept| kept.set(buffer));
        }
        Ok(result)
    }

    /// Reads the text as a `T`, which may borrow from it.
    ///
    /// # Errors
    /// When it is of another shape.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }

    /// Reads the text as a `T` that stands alone.
    ///
    /// # Errors
    /// When it is of another shape.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }

    /// The text.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was made")
    }

    /// A copy that does not keep the message alive in which it came.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// What was written here as one value.
    pub(crate) const fn written(text: Bytes) -> Self {
        Self(text)
    }

    /// What `value`, found in `text`, is, as a part of it.
    pub(super) fn within(value: &str, text: &Bytes) -> Self {
        Self(text.slice_ref(value.as_bytes()))
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawJson({} bytes)", self.0.len())
    }
}

/// Writes `{"m":operation,"d":{…}}` and other objects key by key, in the order in which it is told to.
///
/// The original's order is part of what it recognises messages by in its logs, and what recordings are compared with; a `Serialize` derive could give it too, but not
/// the raw values without a copy.
///
/// Small messages are written into a buffer of the thread, and leave it as a copy of just their length: whoever keeps one keeps nothing beside it.
#[derive(Debug)]
pub(crate) struct Writer {
    out: Vec<u8>,
    /// How many objects are open.
    depth: usize,
    empty: bool,
}

/// From this many bytes on a message is written where it will stay.
const LARGE: usize = 8 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An empty buffer with room for so many bytes.
fn take_buffer(capacity: usize) -> Vec<u8> {
    let mut buffer = if capacity < LARGE { BUFFER.with(Cell::take) } else { Vec::new() };
    buffer.reserve(capacity);
    buffer
}

/// What was written into a buffer.
fn finish_buffer(mut buffer: Vec<u8>) -> Bytes {
    if buffer.capacity() > 2 * LARGE {
        return buffer.into();
    }
    let text = Bytes::copy_from_slice(&buffer);
    buffer.clear();
    BUFFER.with(|kept| kept.set(buffer));
    text
}

impl Writer {
    /// Begins an object that will take about `capacity` bytes.
    pub(crate) fn object(capacity: usize) -> Self {
        let mut out = take_buffer(capacity);
        out.push(b'{');
        Self { out, depth: 1, empty: true }
    }

    /// Begins `{"m":operation,"d":{`.
    #[inline]
    pub(crate) fn operation(operation: &str, capacity: usize) -> Self {
        Self::operation_in(take_buffer(capacity + 24), operation, capacity)
    }

    /// The same, behind what stands in a buffer already.
    #[inline]
    pub(crate) fn operation_in(mut out: Vec<u8>, operation: &str, capacity: usize) -> Self {
        out.reserve(capacity + 24);
        let mut begin = *br#"{"m":"XX","d":{"#;
        match operation.as_bytes() {
            &[one, two] => (begin[6], begin[7]) = (one, two),
            _ => debug_assert!(false, "{operation:?} is not two letters"),
        }
        out.extend_from_slice(&begin);
        Self { out, depth: 2, empty: true }
    }

    #[inline]
    pub(crate) fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        write_text(value, &mut self.out);
        self
    }

    /// A text that is known to have nothing to escape.
    #[inline]
    pub(crate) fn word(&mut self, key: &str, value: &str) -> &mut Self {
        debug_assert_eq!(plain(value.as_bytes()), value.len(), "{value:?}");
        self.key(key);
        self.out.push(b'"');
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
        self
    }

    #[inline]
    pub(crate) fn raw(&mut self, key: &str, value: &RawJson) -> &mut Self {
        self.literal(key, value.as_bytes())
    }

    #[inline]
    pub(crate) fn literal(&mut self, key: &str, value: &[u8]) -> &mut Self {
        self.key(key);
        self.out.extend_from_slice(value);
        self
    }

    /// A member whose key somebody else has chosen.
    pub(crate) fn member(&mut self, key: &str, value: &[u8]) -> &mut Self {
        if !std::mem::replace(&mut self.empty, false) {
            self.out.push(b',');
        }
        write_text(key, &mut self.out);
        self.out.push(b':');
        self.out.extend_from_slice(value);
        self
    }

    pub(crate) fn finish(&mut self) -> Bytes {
        finish_buffer(self.finish_in())
    }

    /// Gives back the buffer.
    #[inline]
    pub(crate) fn finish_in(&mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.out);
        out.extend_from_slice(if self.depth == 2 { b"}}" } else { b"}" });
        out
    }

    /// Keys are words of the protocol, one or two letters mostly, without anything to escape.
    #[inline]
    fn key(&mut self, key: &str) {
        debug_assert_eq!(plain(key.as_bytes()), key.len(), "{key:?}");
        let comma = !std::mem::replace(&mut self.empty, false);
        if let &[letter] = key.as_bytes() {
            // Written as one piece: a message has more keys than anything else.
            let written = [b',', b'"', letter, b'"', b':'];
            self.out.extend_from_slice(if comma { &written } else { &written[1..] });
            return;
        }
        self.out.extend_from_slice(if comma { b",\"" } else { b"\"" });
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

/// Appends a string as JSON.
#[inline]
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    if plain(text.as_bytes()) == text.len() {
        out.reserve(text.len() + 2);
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    serde_json::to_writer(out, text).expect("a string is JSON, and a buffer takes it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_json_is_one_value_without_the_space_around_it() {
        assert_eq!(RawJson::new(" {\"a\": 1} ").unwrap().as_str(), "{\"a\": 1}");
        assert!(RawJson::new("1 2").is_err());
        assert!(RawJson::new("").is_err());
        assert!(RawJson::new(&b"\"\xff\""[..]).is_err());
    }

    #[test]
    fn reading_is_left_to_who_wants_a_type() {
        let json = RawJson::of(&("a", 1)).unwrap();
        assert_eq!(json.read::<(&str, u8)>().unwrap(), ("a", 1));
        assert!(json.to::<String>().is_err());
    }

    #[test]
    fn writer_keeps_the_order_it_is_given() {
        let mut writer = Writer::operation("SF", 64);
        writer.text("t", "a\"b\n").literal("e", b"false").raw("od", &RawJson::NULL);
        assert_eq!(writer.finish(), &br#"{"m":"SF","d":{"t":"a\"b\n","e":false,"od":null}}"#[..]);
    }
}
