//! The seed of a session key: `r`, which the client draws.
//!
//! On the wire it is any JSON scalar; into the hash goes its text, as JavaScript prints it. The original draws a whole number below 99,999.

use std::fmt;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::Random;

/// A seed, from us or from a peer.
#[derive(Clone)]
pub struct Seed {
    text: Zeroizing<String>,
    strength: Strength,
}

/// Whether somebody who listens can find the seed by trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "one can, or cannot")]
pub enum Strength {
    /// Long and varied text.
    Strong,
    /// A number, as the original draws it, or a text that is short or has too few different characters.
    Weak,
}

impl Seed {
    /// Fewest characters of a strong seed.
    const CHARACTERS: usize = 32;

    /// Fewest different characters in it: random text of 32 has more, `0000…` has one.
    const DIFFERENT: usize = 8;

    /// Draws 256 bits, which travel as 64 hex digits.
    pub fn strong(random: &mut dyn Random) -> Self {
        let mut bits = Zeroizing::new([0; 32]);
        random.fill(&mut *bits);
        let mut text = Zeroizing::new(String::with_capacity(64));
        for nibble in bits.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
            text.extend(char::from_digit(nibble.into(), 16));
        }
        Self { text, strength: Strength::Strong }
    }

    /// Reads the `r` of a peer; `None` stands for a missing one, which JavaScript prints as `undefined`.
    ///
    /// `None` comes back for an array or an object: no client was ever seen to send one.
    #[must_use]
    pub fn from_json(json: Option<&RawValue>) -> Option<Self> {
        let json = json.map_or("undefined", RawValue::get);
        let (text, strength) = match json.bytes().next()? {
            b'"' => {
                let text: String = serde_json::from_str(json).ok()?;
                let strength = strength(&text);
                (text, strength)
            }
            b'[' | b'{' => return None,
            b'-' | b'0'..=b'9' => (javascript_number(json.parse().ok()?), Strength::Weak),
            _ => (json.to_owned(), Strength::Weak),
        };
        Some(Self { text: Zeroizing::new(text), strength })
    }

    /// What goes into the hash.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it can be found by trying.
    ///
    /// This catches the original's clients and the careless; nobody can see in a text where it was drawn from.
    #[must_use]
    pub const fn strength(&self) -> Strength {
        self.strength
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seed(.., {:?})", self.strength)
    }
}

fn strength(text: &str) -> Strength {
    let mut different: Vec<char> = text.chars().collect();
    let characters = different.len();
    different.sort_unstable();
    different.dedup();
    if characters >= Seed::CHARACTERS && different.len() >= Seed::DIFFERENT {
        Strength::Strong
    } else {
        Strength::Weak
    }
}

/// A number as JavaScript prints it (ECMA-262, `Number::toString` in radix 10).
fn javascript_number(number: f64) -> String {
    if number == 0.0 {
        return "0".into();
    }
    if !number.is_finite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    // Rust prints the same shortest digits; only the places of point and exponent differ.
    let printed = format!("{:e}", number.abs());
    let (mantissa, exponent) = printed.split_once('e').unwrap_or((&printed, "0"));
    let digits = mantissa.replace('.', "");
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let sign = if number < 0.0 { "-" } else { "" };
    // ECMA-262 calls this n: where the point stands, counted from the first digit.
    let point = exponent + 1;
    let length = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or_default());
    let split = |at: i32| digits.split_at(usize::try_from(at).unwrap_or_default());
    match point {
        _ if length <= point && point <= 21 => format!("{sign}{digits}{}", zeros(point - length)),
        1..=21 => {
            let (whole, part) = split(point);
            format!("{sign}{whole}.{part}")
        }
        -5..=0 => format!("{sign}0.{}{digits}", zeros(-point)),
        _ => {
            let (first, rest) = split(1);
            let dot = if rest.is_empty() { "" } else { "." };
            format!("{sign}{first}{dot}{rest}e{exponent:+}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secure::random::Counting;

    fn seed(json: &str) -> Option<Seed> {
        Seed::from_json(Some(&RawValue::from_string(json.into()).unwrap()))
    }

    #[test]
    fn ours_is_64_hex_digits() {
        let seed = Seed::strong(&mut Counting::default());
        assert_eq!(seed.text(), "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
        assert_eq!(seed.strength(), Strength::Strong);
        assert!(!format!("{seed:?}").contains("0001"));
    }

    #[test]
    fn numbers_are_printed_as_javascript_prints_them() {
        for (json, text) in [
            ("0", "0"),
            ("-0", "0"),
            ("76543", "76543"),
            ("9007199254740991", "9007199254740991"),
            ("100000000000000000000", "100000000000000000000"),
            ("123456789012345678901", "123456789012345680000"),
            ("1e21", "1e+21"),
            ("1.5", "1.5"),
            ("1.50", "1.5"),
            ("-12.25e1", "-122.5"),
            ("0.000001", "0.000001"),
            ("1e-7", "1e-7"),
            ("1.25e-7", "1.25e-7"),
            ("0.1", "0.1"),
            ("5e-324", "5e-324"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("1e400", "Infinity"),
            ("-1e400", "-Infinity"),
        ] {
            let seed = seed(json).unwrap();
            assert_eq!(seed.text(), text, "{json}");
            assert_eq!(seed.strength(), Strength::Weak);
        }
    }

    #[test]
    fn other_scalars_are_their_own_text() {
        assert_eq!(seed("null").unwrap().text(), "null");
        assert_eq!(seed("true").unwrap().text(), "true");
        assert_eq!(seed(r#""\u00e9""#).unwrap().text(), "é");
        assert_eq!(Seed::from_json(None).unwrap().text(), "undefined");
        assert!(seed("[1]").is_none());
        assert!(seed("{}").is_none());
    }

    #[test]
    fn short_and_monotonous_texts_are_weak() {
        let strength = |text: &str| seed(&format!("{text:?}")).unwrap().strength();
        assert_eq!(strength(""), Strength::Weak);
        assert_eq!(strength("76543"), Strength::Weak);
        assert_eq!(strength(&"0".repeat(64)), Strength::Weak);
        assert_eq!(strength("b4dbdc3550c8d06f04b991af4f296e4"), Strength::Weak);
        assert_eq!(strength("b4dbdc3550c8d06f04b991af4f296e44"), Strength::Strong);
    }
}
