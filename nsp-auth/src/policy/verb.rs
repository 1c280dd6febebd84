use std::fmt;

use serde::Serialize;

/// What somebody does to a thing, in the four words of policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "there are four")]
pub enum Verb {
    /// Make it.
    Create,
    /// Look at it.
    Read,
    /// Change it, or do something with it that nobody has said more about.
    Update,
    /// Remove it.
    Delete,
}

impl Verb {
    const ALL: [Self; 4] = [Self::Create, Self::Read, Self::Update, Self::Delete];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == text)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What functions are: a verb, and whether they do it to nothing but what is the caller's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) verb: Verb,
    pub(super) own: bool,
}

impl Kind {
    /// Of functions that nobody has said anything about.
    pub(super) const UNKNOWN: Self = Self { verb: Verb::Update, own: false };

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (word, own) = match text.split_once(':') {
            None => (text, false),
            Some((word, "own")) => (word, true),
            Some((word, "any")) => (word, false),
            Some((_, scope)) => return Err(unknown_scope(scope)),
        };
        Verb::parse(word).map(|verb| Self { verb, own }).ok_or_else(|| unknown_verb(word, ""))
    }
}

/// A set of verbs, each for what is one's own or for anything.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Verbs {
    own: u8,
    any: u8,
}

impl Verbs {
    /// Adds `read`, `read:own`, `*`, `*:own`.
    pub(super) fn add(&mut self, text: &str) -> Result<(), String> {
        let (word, scope) = text.split_once(':').unwrap_or((text, "any"));
        let bits = match word {
            "*" => Verb::ALL.iter().fold(0, |bits, verb| bits | verb.bit()),
            _ => Verb::parse(word).ok_or_else(|| unknown_verb(word, ", `*`"))?.bit(),
        };
        match scope {
            "own" => self.own |= bits,
            "any" => self.any |= bits,
            _ => return Err(unknown_scope(scope)),
        }
        Ok(())
    }

    /// Whether it has the verb, for one's own thing or for any.
    pub(super) const fn covers(self, verb: Verb, own: bool) -> bool {
        self.any & verb.bit() != 0 || (own && self.own & verb.bit() != 0)
    }

    /// Whether it has the verb for what is one's own.
    pub(super) const fn covers_own(self, verb: Verb) -> bool {
        self.covers(verb, true)
    }

    /// Whether it has all verbs, for anything.
    pub(super) fn is_everything(self) -> bool {
        Verb::ALL.into_iter().all(|verb| self.covers(verb, false))
    }
}

/// `read:any, update:own`
impl fmt::Display for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for verb in Verb::ALL {
            for (bits, scope) in [(self.any, "any"), (self.own, "own")] {
                if bits & verb.bit() != 0 {
                    write!(f, "{comma}{verb}:{scope}")?;
                    comma = ", ";
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn unknown_verb(word: &str, more: &str) -> String {
    format!("`{}` is none of `create`, `read`, `update`, `delete`{more}", word.escape_debug())
}

fn unknown_scope(scope: &str) -> String {
    format!("`{}` is neither `own` nor `any`", scope.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_is_less_than_any() {
        let mut verbs = Verbs::default();
        verbs.add("read").unwrap();
        verbs.add("update:own").unwrap();
        assert!(verbs.covers(Verb::Read, false) && verbs.covers(Verb::Read, true));
        assert!(!verbs.covers(Verb::Update, false) && verbs.covers(Verb::Update, true));
        assert!(!verbs.covers(Verb::Delete, true));
        assert_eq!(verbs.to_string(), "read:any, update:own");
        assert!(!verbs.is_everything());
        verbs.add("*:own").unwrap();
        assert!(!verbs.is_everything());
        verbs.add("*").unwrap();
        assert!(verbs.is_everything());
    }

    #[test]
    fn words_that_are_none_are_named() {
        let mut verbs = Verbs::default();
        assert_eq!(
            verbs.add("reads").unwrap_err(),
            "`reads` is none of `create`, `read`, `update`, `delete`, `*`"
        );
        assert_eq!(verbs.add("read:mine").unwrap_err(), "`mine` is neither `own` nor `any`");
        assert_eq!(Kind::parse("*").unwrap_err(), "`*` is none of `create`, `read`, `update`, `delete`");
        assert_eq!(Kind::parse("update:own"), Ok(Kind { verb: Verb::Update, own: true }));
    }
}
