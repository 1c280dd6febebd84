//! Which passwords are good enough.

use nsp::Password;

use crate::user::Username;

/// What a new password has to be like.
///
/// Length is what counts, as NIST SP 800-63B has it: there are no rules about capitals and digits. The defaults are for a password
/// that stands alone, without a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PasswordRules {
    /// Fewest characters. 15; not less than 8 is taken.
    pub min_characters: usize,
}

impl PasswordRules {
    /// Most bytes of a password. 1,024: nobody types more, and more would only keep us busy.
    pub const MAX_BYTES: usize = 1024;
    /// Fewest characters that can be asked for.
    pub const LEAST: usize = 8;

    /// Whether a password is good enough for this user.
    ///
    /// # Errors
    ///
    /// When it is too short, too long, among the most common ones, or easy to guess from the name.
    pub fn check(&self, password: &Password, user: Option<&Username>) -> Result<(), PasswordError> {
        let text = password.reveal();
        let least = self.min_characters.max(Self::LEAST);
        if text.len() > Self::MAX_BYTES {
            return Err(PasswordError::TooLong);
        }
        if text.chars().count() < least {
            return Err(PasswordError::TooShort { least });
        }
        let small = zeroize::Zeroizing::new(text.to_lowercase());
        if is_common(&small) || is_monotonous(&small) {
            return Err(PasswordError::Common);
        }
        // The name with a few characters about it is the first thing that is tried.
        if user.is_some_and(|user| {
            let name = user.as_str();
            small.contains(name) && small.len() - name.len() < Self::LEAST
        }) {
            return Err(PasswordError::Name);
        }
        Ok(())
    }
}

impl Default for PasswordRules {
    fn default() -> Self {
        Self { min_characters: 15 }
    }
}

/// Why a password is not taken. None of them repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// It has too few characters.
    #[error("a password has at least {least} characters")]
    TooShort {
        /// Fewest.
        least: usize,
    },
    /// It has more than 1,024 bytes.
    #[error("a password has at most {} bytes", PasswordRules::MAX_BYTES)]
    TooLong,
    /// Everybody tries it first.
    #[error("this password is among the first that are tried")]
    Common,
    /// It is hardly more than the name.
    #[error("the password is hardly more than the user name")]
    Name,
}

/// The most common passwords that would be long enough, in small letters, sorted.
const COMMON: &str = include_str!("common.txt");

fn is_common(small: &str) -> bool {
    COMMON.lines().any(|line| line == small)
}

/// Whether it is one short piece again and again, or counts along the alphabet, the digits or the keyboard.
fn is_monotonous(small: &str) -> bool {
    let chars: Vec<char> = small.chars().collect();
    let repeats = |piece: usize| chars.iter().zip(chars.iter().skip(piece)).all(|(one, next)| one == next);
    if (1..PasswordRules::LEAST.min(chars.len() / 2 + 1)).any(repeats) {
        return true;
    }
    let backwards: String = chars.iter().rev().collect();
    [
        "01234567890123456789",
        "abcdefghijklmnopqrstuvwxyz",
        "qwertyuiopasdfghjklzxcvbnm",
        "qwertzuiopasdfghjklyxcvbnm",
    ]
    .iter()
    .any(|row| row.contains(small) || row.contains(&backwards))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), PasswordError> {
        PasswordRules { min_characters: 8 }.check(&text.into(), Some(&Username::parse("alice").unwrap()))
    }

    #[test]
    fn length_is_counted_in_characters_and_limited_in_bytes() {
        let rules = PasswordRules::default();
        let error = rules.check(&"fourteen chars".into(), None).unwrap_err();
        assert_eq!(error.to_string(), "a password has at least 15 characters");
        assert_eq!(rules.check(&"ein gutes Wörtl".into(), None), Ok(()));
        assert_eq!(rules.check(&"pöööööööööx".into(), None), Err(PasswordError::TooShort { least: 15 }));
        let error = rules.check(&"many words ".repeat(100_000).into(), None).unwrap_err();
        assert_eq!(error.to_string(), "a password has at most 1024 bytes");
        let least = PasswordRules { min_characters: 0 }.check(&"seven77".into(), None);
        assert_eq!(least, Err(PasswordError::TooShort { least: 8 }));
    }

    #[test]
    fn what_is_tried_first_is_not_taken() {
        for text in [
            "password1",
            "PASSWORD1",
            "iloveyou",
            "aaaaaaaaaaaaaaaa",
            "abcabcabcabcabcabc",
            "1234567890123456",
            "abcdefghijklmnop",
            "qwertyuiopasdfgh",
            "poiuytrewq",
            "987654321098765",
            "passwordpassword",
        ] {
            assert_eq!(check(text), Err(PasswordError::Common), "{text}");
        }
        assert_eq!(PasswordError::Common.to_string(), "this password is among the first that are tried");
        assert_eq!(check("correct horse battery"), Ok(()));
        assert_eq!(check("\0\0\0nul bytes\0too"), Ok(()));
    }

    #[test]
    fn the_name_is_no_password() {
        for text in ["alice2026", "xxAlice!!", "alice1234567"] {
            assert_eq!(check(text), Err(PasswordError::Name), "{text}");
        }
        assert_eq!(PasswordError::Name.to_string(), "the password is hardly more than the user name");
        assert_eq!(check("alice in wonderland"), Ok(()));
    }

    #[test]
    fn the_list_is_sorted_small_and_without_what_is_too_short_anyway() {
        let lines: Vec<_> = COMMON.lines().collect();
        assert!(lines.len() > 150, "{}", lines.len());
        assert!(lines.is_sorted());
        assert!(lines.iter().all(|line| line.len() >= PasswordRules::LEAST && *line == line.to_lowercase()));
    }
}
