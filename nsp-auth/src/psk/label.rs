use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a side or of a key: 1 to 64 characters of ASCII that can be seen, without `"` and `\`. So it is one sequence of
/// bytes, and has one form in JSON and in a log.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Label(Box<str>);

/// A text that cannot be the name of a side or of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no name of a side or of a key: those have 1 to 64 characters of visible ASCII, without \" and \\", .0.escape_debug())]
#[non_exhaustive]
pub struct LabelError(String);

impl Label {
    const MAX_LEN: usize = 64;

    pub(super) fn new(text: &str) -> Result<Self, LabelError> {
        let seen = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        if (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(seen) {
            Ok(Self(text.into()))
        } else {
            Err(LabelError(text.chars().take(Self::MAX_LEN).collect()))
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Label {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, LabelError> {
        Self::new(&text)
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0.into()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_is_short_visible_ascii() {
        for good in ["a", "sensor-7", "2026-11", "a/b@c:d.e{}", &"x".repeat(64)] {
            assert_eq!(Label::new(good).unwrap().as_str(), good);
        }
        for bad in ["", " ", "a b", "é", "a\0", "\"", "\\", "a\n", &"x".repeat(65)] {
            assert!(Label::new(bad).is_err(), "{bad:?}");
        }
        let long = Label::new(&"\u{1b}".repeat(1 << 20)).unwrap_err().to_string();
        assert!(long.len() < 600 && long.starts_with("`\\u{1b}"), "{long}");
    }
}
