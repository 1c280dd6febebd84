//! The quick look into JSON: where the values of an object stand, in one pass, without building anything.
//!
//! What it accepts is JSON, and is read as serde_json would read it. What it is not sure of, an escape in a key or a value within many others, it leaves
//! alone: then, and whenever something is wrong, serde_json reads the text again, and has the word on what is wrong with it. So an error is
//! always told in the same words, and this file need not know any.

/// Values within values that are followed here.
const DEPTH: usize = 32;

/// Reads from left to right; `None` is "not sure".
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Goes over a whole text.
    pub(super) fn whole<T>(text: &'a [u8], read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let mut scanner = Self { text: std::str::from_utf8(text).ok()?, at: 0 };
        scanner.blank();
        let value = read(&mut scanner)?;
        scanner.blank();
        (scanner.at == scanner.text.len()).then_some(value)
    }

    /// Goes over an object, whose values `each` has to take.
    pub(super) fn object(&mut self, mut each: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        self.blank();
        if self.take(b'}').is_some() {
            return Some(());
        }
        loop {
            let key = self.key()?;
            each(self, key)?;
            self.blank();
            if self.take(b'}').is_some() {
                return Some(());
            }
            self.take(b',')?;
            self.blank();
        }
    }

    /// Whether `null` comes next; takes it if so.
    pub(super) fn null(&mut self) -> bool {
        self.literal("null").is_some()
    }

    /// Takes any value, as it stands in the text.
    #[inline]
    pub(super) fn value(&mut self) -> Option<&'a str> {
        let from = self.at;
        if let Some((b'"', rest)) = self.rest().split_first() {
            // Most values of the protocol are strings without escapes.
            let length = plain(rest);
            if rest.get(length) == Some(&b'"') {
                self.at += length + 2;
                return self.text.get(from..self.at);
            }
        }
        self.skip(DEPTH)?;
        self.text.get(from..self.at)
    }

    /// A key without escapes, and the colon behind it.
    #[inline]
    fn key(&mut self) -> Option<&'a str> {
        // Nearly all keys of the protocol are one letter, and nobody writes blanks.
        if let Some(&[b'"', b'a'..=b'z', b'"', b':']) = self.rest().first_chunk() {
            let key = self.text.get(self.at + 1..self.at + 2);
            self.at += 4;
            self.blank();
            return key;
        }
        self.take(b'"')?;
        let from = self.at;
        self.at += plain(self.rest());
        let key = self.text.get(from..self.at)?;
        self.take(b'"')?;
        self.blank();
        self.take(b':')?;
        self.blank();
        Some(key)
    }

    fn skip(&mut self, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match self.peek()? {
            b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'{' => self.object(|scanner, _| scanner.skip(depth)),
            b'[' => self.array(depth),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => self.number(),
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.take(b'[')?;
        self.blank();
        if self.take(b']').is_some() {
            return Some(());
        }
        loop {
            self.skip(depth)?;
            self.blank();
            if self.take(b']').is_some() {
                return Some(());
            }
            self.take(b',')?;
            self.blank();
        }
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            self.at += plain(self.rest());
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        let digits = self.rest().first_chunk::<4>()?;
                        if !digits.iter().all(u8::is_ascii_hexdigit) {
                            return None;
                        }
                        self.at += 4;
                    }
                    _ => return None,
                },
                _ => return None,
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(())
    }

    fn literal(&mut self, word: &str) -> Option<()> {
        self.rest().starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    #[inline]
    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }
}

/// How many bytes stand for themselves in a JSON string, from the first on: up to a quote, a backslash or a control character.
///
/// Eight at a time: the highest bit of each byte of `found` is set where such a byte is, and perhaps where one is behind it.
#[inline]
pub(super) fn plain(mut bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let length = bytes.len();
    while let Some((chunk, rest)) = bytes.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let is_zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
        let quote = is_zero(word ^ (ONES * u64::from(b'"')));
        let backslash = is_zero(word ^ (ONES * u64::from(b'\\')));
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
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn scan(text: &[u8]) -> Option<&str> {
        Scanner::whole(text, Scanner::value)
    }

    #[test]
    fn plain_ends_at_the_first_byte_that_is_not() {
        for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
            for length in 0..20 {
                let mut text = vec![0xc3; length];
                text.extend([special, b'"', 0, b'a', b'a', b'a', b'a', b'a', b'a']);
                assert_eq!(plain(&text), length, "{special}");
            }
        }
        assert_eq!(plain(&[0x7f; 19]), 19);
        assert_eq!(plain("!#[]é€ \u{80}".as_bytes()), "!#[]é€ \u{80}".len());
    }

    #[test]
    fn values_are_read_and_doubts_are_left_to_others() {
        for text in
            [r#"{"a":[1,-0.5e+3,{"b":"\u00e9\n\"","c":[]},null,true,false]}"#, "0", "\"\"", "{}", "\"é\""]
        {
            assert_eq!(scan(text.as_bytes()), Some(text));
        }
        let deep = "[".repeat(100) + &"]".repeat(100);
        for text in [
            &*deep,
            "",
            "01",
            "1.",
            ".5",
            "-",
            "1e",
            "+1",
            "nul",
            "nulll",
            "[1,]",
            "[,]",
            "{,}",
            "{\"a\":1,}",
            "{\"a\"}",
            "{\"\\u0061\":1}",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"a\nb\"",
            "\"",
            "[1 2]",
            "1 2",
            "{a:1}",
            "\u{feff}1",
        ] {
            assert_eq!(scan(text.as_bytes()), None, "{text}");
        }
        assert_eq!(scan(b"\"\xff\""), None);
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_what_serde_json_accepts(text in r#"[ \[\]{}:,"\\un0-9a-f.eE+\-tlrs]{0,24}"#) {
            let theirs = serde_json::from_str::<&RawValue>(&text).ok().map(RawValue::get);
            if let Some(ours) = scan(text.as_bytes()) {
                prop_assert_eq!(Some(ours), theirs);
            }
        }

        #[test]
        fn what_serde_json_writes_is_accepted(key in "[a-z]{0,9}", text: String, number: f64, list: Vec<i64>) {
            let written = serde_json::json!({ key: (text, number, list) }).to_string();
            prop_assert_eq!(scan(written.as_bytes()), Some(&*written));
        }
    }
}
