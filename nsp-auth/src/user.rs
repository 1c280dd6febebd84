//! Who is known: names, ids, and what is kept about a user.

use std::fmt;
use std::str::FromStr;

use nsp::secure::{Random, SystemRandom};
use serde::{Deserialize, Serialize, Serializer};

use crate::clock::Timestamp;

/// The name by which a user logs in: 5 to 64 of `a`-`z` and `0`-`9`.
///
/// The original's rule, with an upper limit. Capitals are made small when a name is read, so that names are the same exactly when
/// their bytes are: nothing compares them with patterns, and no two of them look alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Username(Box<str>);

impl Username {
    /// Fewest characters, as the original.
    pub const MIN_LENGTH: usize = 5;
    /// Most characters. 64: every name fits a line of a list and a column of a log.
    pub const MAX_LENGTH: usize = 64;

    /// Reads a name.
    ///
    /// # Errors
    ///
    /// When it is too short, too long, or has other characters.
    pub fn parse(text: &str) -> Result<Self, UsernameError> {
        if let Some(other) = text.chars().find(|char| !char.is_ascii_alphanumeric()) {
            return Err(UsernameError::Character(other));
        }
        match text.len() {
            0..Self::MIN_LENGTH => Err(UsernameError::TooShort),
            Self::MIN_LENGTH..=Self::MAX_LENGTH => Ok(Self(text.to_ascii_lowercase().into())),
            _ => Err(UsernameError::TooLong),
        }
    }

    /// The name.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a peer means this user: the same name, with capitals or without.
    pub(crate) fn is_meant_by(&self, text: &str) -> bool {
        self.0.eq_ignore_ascii_case(text)
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Username {
    type Err = UsernameError;

    fn from_str(text: &str) -> Result<Self, UsernameError> {
        Self::parse(text)
    }
}

impl Serialize for Username {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Why a text is no name of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsernameError {
    /// It has fewer than 5 characters.
    #[error("a user name has at least {} characters", Username::MIN_LENGTH)]
    TooShort,
    /// It has more than 64 characters.
    #[error("a user name has at most {} characters", Username::MAX_LENGTH)]
    TooLong,
    /// It has a character that is neither a letter of English nor a digit.
    #[error("a user name has letters a to z and digits only, not {0:?}")]
    Character(char),
}

/// What stays the same when a user is renamed: 128 random bits, shown as a UUID of version 4, as the original has them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId([u8; 16]);

impl UserId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        let mut bits = [0; 16];
        SystemRandom.fill(&mut bits);
        bits[6] = bits[6] & 0x0f | 0x40;
        bits[8] = bits[8] & 0x3f | 0x80;
        Self(bits)
    }

    /// From its bits.
    #[must_use]
    pub const fn from_bits(bits: [u8; 16]) -> Self {
        Self(bits)
    }

    /// Its bits.
    #[must_use]
    pub const fn as_bits(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads `8-4-4-4-12` hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_group = |place| matches!(place, 8 | 13 | 18 | 23);
        let fits =
            text.len() == 36 && text.bytes().enumerate().all(|(i, byte)| is_group(i) == (byte == b'-'));
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        if !fits || digits.len() != 32 {
            return None;
        }
        u128::from_str_radix(&digits, 16).ok().map(|bits| Self(bits.to_be_bytes()))
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let hyphen = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for UserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A user, by name or by id.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "users have a name and an id")]
pub enum Who {
    /// By the name.
    Name(Username),
    /// By the id.
    Id(UserId),
}

impl From<Username> for Who {
    fn from(name: Username) -> Self {
        Self::Name(name)
    }
}

impl From<&Username> for Who {
    fn from(name: &Username) -> Self {
        Self::Name(name.clone())
    }
}

impl From<UserId> for Who {
    fn from(id: UserId) -> Self {
        Self::Id(id)
    }
}

impl From<&User> for Who {
    fn from(user: &User) -> Self {
        Self::Id(user.id)
    }
}

/// The privilege of those who may do everything.
pub const SUPERUSER: i64 = 0;

/// What is known about a user, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct User {
    /// What stays the same.
    pub id: UserId,
    /// What they log in with.
    pub name: Username,
    /// What others see.
    pub display_name: String,
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: String,
    /// Whatever else.
    pub detail: String,
    /// 0 is a superuser, who may do everything; other numbers mean what services say.
    pub privilege: i64,
    /// What a policy gives rights to.
    pub roles: Vec<String>,
    /// How to reach them, and what they tell about themselves.
    pub profile: Profile,
    /// Whether logging in is refused.
    pub locked: bool,
    /// Whether the password was made by somebody else and should be changed. Logging in works all the same: whoever shows the user
    /// a prompt asks for a new one.
    pub must_change_password: bool,
    /// When they were created.
    pub created: Timestamp,
    /// When something of this was changed last.
    pub modified: Timestamp,
}

impl User {
    /// A user of whom nothing else is known: what others see is the name.
    #[must_use]
    pub fn new(id: UserId, name: Username, privilege: i64, created: Timestamp) -> Self {
        Self {
            id,
            display_name: name.to_string(),
            name,
            first_name: String::new(),
            last_name: String::new(),
            detail: String::new(),
            privilege,
            roles: Vec::new(),
            profile: Profile::default(),
            locked: false,
            must_change_password: false,
            created,
            modified: created,
        }
    }

    /// Changes names.
    pub(crate) fn rename(&mut self, names: Names, at: Timestamp) {
        let Names { display_name, first_name, last_name, detail, profile } = names;
        for (field, text) in [
            (&mut self.display_name, display_name),
            (&mut self.first_name, first_name),
            (&mut self.last_name, last_name),
            (&mut self.detail, detail),
        ] {
            if let Some(text) = text {
                *field = text;
            }
        }
        if let Some(profile) = profile {
            self.profile = profile;
        }
        self.modified = at;
    }

    /// Whether they may do everything.
    #[must_use]
    pub const fn is_superuser(&self) -> bool {
        self.privilege == SUPERUSER
    }
}

/// What users tell about themselves. All of it may be empty, and none is checked but for its length.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Profile {
    /// Where mail reaches them.
    pub email: String,
    /// `male`, `female`, `other`, or nothing.
    pub gender: String,
    /// Where they can be called.
    #[serde(rename = "phonenumber")]
    pub phone_number: String,
    /// As they write it.
    pub birthday: String,
    /// Where they live.
    pub country: String,
    /// Where a letter reaches them.
    pub address: String,
    /// What they say.
    #[serde(rename = "aboutme")]
    pub about_me: String,
}

/// What is changed of a user's names; `None` leaves it as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_structs, reason = "filled in with `..Default::default()`")]
pub struct Names {
    /// What others see.
    pub display_name: Option<String>,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// Whatever else.
    pub detail: Option<String>,
    /// What they tell about themselves.
    pub profile: Option<Profile>,
}

/// A field of a user that cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// It is too long.
    #[error("the {field} has more than {limit} bytes")]
    TooLong {
        /// Which.
        field: &'static str,
        /// Most bytes.
        limit: usize,
    },
    /// There are too many roles.
    #[error("a user has at most {MAX_ROLES} roles")]
    TooManyRoles,
    /// It has characters that no terminal should see.
    #[error("the {field} has a control character")]
    Control {
        /// Which.
        field: &'static str,
    },
}

/// Most roles of a user. 16: they are looked through at every decision.
pub const MAX_ROLES: usize = 16;

/// Checks the names of roles.
pub(crate) fn check_roles(roles: &[String]) -> Result<(), TextError> {
    if roles.len() > MAX_ROLES {
        return Err(TextError::TooManyRoles);
    }
    roles.iter().try_for_each(|role| check("name of a role", role, Username::MAX_LENGTH))
}

/// Most bytes of a name. 256: the longest real ones have half of that.
const MAX_NAME: usize = 256;
/// Most bytes of a detail, an address, or what users say of themselves. 4 KiB: a page.
const MAX_TEXT: usize = 4096;

/// Checks what is written about users: by users, perhaps.
pub(crate) fn check_names(names: &Names) -> Result<(), TextError> {
    let mut fields = vec![
        ("display name", names.display_name.as_deref(), MAX_NAME),
        ("first name", names.first_name.as_deref(), MAX_NAME),
        ("last name", names.last_name.as_deref(), MAX_NAME),
        ("detail", names.detail.as_deref(), MAX_TEXT),
    ];
    if let Some(profile) = &names.profile {
        fields.extend([
            ("email", Some(profile.email.as_str()), MAX_NAME),
            ("gender", Some(profile.gender.as_str()), MAX_NAME),
            ("phone number", Some(profile.phone_number.as_str()), MAX_NAME),
            ("birthday", Some(profile.birthday.as_str()), MAX_NAME),
            ("country", Some(profile.country.as_str()), MAX_NAME),
            ("address", Some(profile.address.as_str()), MAX_TEXT),
            ("about me", Some(profile.about_me.as_str()), MAX_TEXT),
        ]);
    }
    fields
        .into_iter()
        .try_for_each(|(field, text, limit)| text.map_or(Ok(()), |text| check(field, text, limit)))
}

/// Checks a line of text.
pub(crate) fn check_text(field: &'static str, text: &str) -> Result<(), TextError> {
    check(field, text, MAX_NAME)
}

fn check(field: &'static str, text: &str, limit: usize) -> Result<(), TextError> {
    if text.len() > limit {
        return Err(TextError::TooLong { field, limit });
    }
    // Lines may be broken where there is room for a page.
    let is_bad = |char: char| char.is_control() && !(limit == MAX_TEXT && matches!(char, '\n' | '\t'));
    if text.contains(is_bad) { Err(TextError::Control { field }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_small_and_nothing_else_is_done_to_them() {
        assert_eq!(Username::parse("ADMIN").unwrap().as_str(), "admin");
        assert_eq!(Username::parse("alice2026").unwrap().as_str(), "alice2026");
        for (text, error) in [
            ("", "a user name has at least 5 characters"),
            ("adm1", "a user name has at least 5 characters"),
            ("adm%", "a user name has letters a to z and digits only, not '%'"),
            ("_____", "a user name has letters a to z and digits only, not '_'"),
            ("admin' OR 1=1 --", "a user name has letters a to z and digits only, not '\\''"),
            ("admin\0", "a user name has letters a to z and digits only, not '\\0'"),
            ("ａｄｍｉｎ", "a user name has letters a to z and digits only, not 'ａ'"),
            // The Kelvin sign, whose small letter is k.
            ("\u{212a}elvin", "a user name has letters a to z and digits only, not '\u{212a}'"),
        ] {
            assert_eq!(Username::parse(text).unwrap_err().to_string(), error);
        }
        assert!(Username::parse(&"a".repeat(64)).is_ok());
        let error = Username::parse(&"a".repeat(65)).unwrap_err();
        assert_eq!(error.to_string(), "a user name has at most 64 characters");
    }

    #[test]
    fn ids_are_shown_and_read() {
        let id = UserId::random();
        let text = id.to_string();
        assert_eq!(UserId::parse(&text), Some(id));
        assert_eq!(&text[14..15], "4");
        assert_ne!(UserId::random(), id);
        for text in ["", "00000000-0000-0000-0000-00000000000", "00000000000000000000000000000000----", "%"] {
            assert_eq!(UserId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn texts_have_a_length_and_no_control_characters() {
        let names = |display_name: String| Names { display_name: Some(display_name), ..Names::default() };
        assert_eq!(check_names(&names("Zoë".into())), Ok(()));
        let error = check_names(&names("a\u{1b}[2J".into())).unwrap_err();
        assert_eq!(error.to_string(), "the display name has a control character");
        let error = check_names(&names("a".repeat(257))).unwrap_err();
        assert_eq!(error.to_string(), "the display name has more than 256 bytes");
    }
}
