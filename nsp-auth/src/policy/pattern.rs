use std::fmt;

/// A text in which `*` stands for anything, also for nothing. Case counts.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Pattern(Box<str>);

impl Pattern {
    /// The longest pattern, in bytes: as long as names on the wire.
    pub(super) const MAX_LEN: usize = 255;

    pub(super) fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a pattern is not empty".to_owned());
        }
        if text.len() > Self::MAX_LEN {
            return Err(format!("a pattern has at most {} bytes, this has {}", Self::MAX_LEN, text.len()));
        }
        Ok(Self(text.into()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for one text only.
    pub(super) fn is_literal(&self) -> bool {
        !self.0.contains('*')
    }

    /// How much of it is no `*`, in bytes: of two patterns that match, the one with more says more.
    pub(super) fn weight(&self) -> usize {
        self.0.bytes().filter(|byte| *byte != b'*').count()
    }

    /// Goes back to the last `*` only, so it takes at most the product of the two lengths.
    pub(super) fn matches(&self, text: &str) -> bool {
        let (mut pattern, mut rest) = (self.0.as_bytes(), text.as_bytes());
        // Where to go on after the last `*`, and what it has swallowed up to then.
        let mut retry: Option<(&[u8], &[u8])> = None;
        loop {
            match (pattern, rest) {
                ([b'*', after @ ..], _) => {
                    retry = Some((after, rest));
                    pattern = after;
                }
                ([], []) => return true,
                ([wanted, after @ ..], [found, more @ ..]) if wanted == found => {
                    (pattern, rest) = (after, more);
                }
                _ => {
                    let Some((after, [_, swallowed @ ..])) = retry else { return false };
                    retry = Some((after, swallowed));
                    (pattern, rest) = (after, swallowed);
                }
            }
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_debug().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(text)
    }

    #[test]
    fn star_stands_for_anything_and_for_nothing() {
        for (pattern, text) in [
            ("Notes", "Notes"),
            ("*", ""),
            ("*", "anything"),
            ("list*", "list"),
            ("list*", "listAll"),
            ("*All", "listAll"),
            ("l*A*", "listAll"),
            ("a*b*c", "a-b-b-c"),
            ("**", "x"),
            ("é*", "été"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("Notes", "notes"), ("Notes", "Notes2"), ("list*", "lis"), ("a*b", "a"), ("*a", "ab")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(Pattern::new("").is_err());
        assert!(Pattern::new(&"x".repeat(256)).is_err());
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let pattern = format!("{}b", "a*".repeat(127));
        assert!(!matches(&pattern, &"a".repeat(1_000_000)));
        assert!(matches(&pattern, &format!("{}b", "a".repeat(1_000_000))));
    }

    /// As it is defined, and slowly.
    fn oracle(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', after @ ..], _) => (0..=text.len()).any(|n| oracle(after, &text[n..])),
            ([a, after @ ..], [b, rest @ ..]) => a == b && oracle(after, rest),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn pattern_means_what_it_is_defined_to(pattern in "[ab*]{1,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &text), oracle(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn pattern_never_panics(pattern in any::<String>(), text in any::<String>()) {
            if let Ok(pattern) = Pattern::new(&pattern) {
                let _ = pattern.matches(&text);
            }
        }
    }
}
