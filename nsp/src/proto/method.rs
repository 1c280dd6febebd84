//! Methods, legs, and the one table that says who may ask what.
//!
//! | method | asked by | request | answer | for |
//! |---|---|---|---|---|
//! | `SP` | daemon | JSON | JSON | secure protocol: agree on a key |
//! | `GT` | client | JSON | JSON | get token |
//! | `AU` | daemon | JSON | JSON | authorization: ask for token or password |
//! | `CS` | client | packed | packed | call service |
//! | `CA` | daemon | packed | JSON | call activity: data and events |
//!
//! The table holds for the binary carriers. Note the answer of `CA`: it alone is bare where its request is packed.

use std::fmt;

use super::DecodeError;

/// What a packet is about: one of the five methods of NSP, or one of the user's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// `SP`, secure protocol: the daemon sends its key, the client seals a session key with it.
    Sp,
    /// `GT`, get token: a password is exchanged for a token.
    Gt,
    /// `AU`, authorization: the daemon asks for a token or a password, or says that one failed.
    Au,
    /// `CS`, call service: entities, data, service functions.
    Cs,
    /// `CA`, call activity: data and events from a service.
    Ca,
    /// A method that both programs have agreed upon and registered in their [`Methods`].
    Custom(CustomMethod),
}

impl Method {
    /// The two letters that stand for the method on the wire.
    #[must_use]
    pub const fn letters(self) -> [u8; 2] {
        match self {
            Self::Sp => *b"SP",
            Self::Gt => *b"GT",
            Self::Au => *b"AU",
            Self::Cs => *b"CS",
            Self::Ca => *b"CA",
            Self::Custom(CustomMethod(letters)) => letters,
        }
    }

    /// The method that two letters stand for, a custom one if they are none of the five.
    ///
    /// `None` when they are not two upper-case letters.
    #[must_use]
    pub const fn from_letters(letters: [u8; 2]) -> Option<Self> {
        Some(match &letters {
            b"SP" => Self::Sp,
            b"GT" => Self::Gt,
            b"AU" => Self::Au,
            b"CS" => Self::Cs,
            b"CA" => Self::Ca,
            [first, second] if first.is_ascii_uppercase() && second.is_ascii_uppercase() => {
                Self::Custom(CustomMethod(letters))
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.letters();
        write!(f, "{}{}", char::from(first), char::from(second))
    }
}

/// Two upper-case letters that are none of NSP's own methods.
///
/// Upper case, because the first byte of a message tells NSP 0.5 from the text of NSP 0.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CustomMethod([u8; 2]);

impl CustomMethod {
    /// Checks that the letters can name a method.
    ///
    /// `None` when they are not two upper-case ASCII letters, or belong to NSP.
    #[must_use]
    pub fn new(letters: &str) -> Option<Self> {
        let letters: [u8; 2] = letters.as_bytes().try_into().ok()?;
        match Method::from_letters(letters)? {
            Method::Custom(method) => Some(method),
            _ => None,
        }
    }
}

/// Which half of a conversation a packet is: the question or the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is no third half")]
pub enum Leg {
    /// `rq`
    Request,
    /// `rs`
    Answer,
}

impl Leg {
    /// The two letters that stand for the leg on the wire.
    #[must_use]
    pub const fn letters(self) -> [u8; 2] {
        match self {
            Self::Request => *b"rq",
            Self::Answer => *b"rs",
        }
    }

    /// The leg that two letters stand for.
    #[must_use]
    pub const fn from_letters(letters: [u8; 2]) -> Option<Self> {
        match &letters {
            b"rq" => Some(Self::Request),
            b"rs" => Some(Self::Answer),
            _ => None,
        }
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "rq",
            Self::Answer => "rs",
        })
    }
}

/// The two sides of a connection. Who dialled is the client, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a connection has two sides")]
pub enum Side {
    /// The side with the activities; it opened the connection.
    Client,
    /// The side with the services; it accepted the connection.
    Daemon,
}

impl Side {
    /// The side at the other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Daemon,
            Self::Daemon => Self::Client,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Daemon => "daemon",
        })
    }
}

/// Who may send the request of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "all combinations of two sides that ask")]
pub enum Asker {
    /// This side only.
    Only(Side),
    /// Either side, as a method of the user's own may want it.
    Either,
}

/// How a payload is laid out after the four letters of a binary message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "NSP 0.5 knows these two")]
pub enum Form {
    /// JSON up to the end of the message; there is no room for a blob.
    Bare,
    /// JSON and, after it, a blob, each behind its length: see [`packed`](super::packed).
    Packed,
}

/// One row of the table: a method, who asks, and how the two legs are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a row of a table that users write rows for")]
pub struct Rule {
    /// The method that the row is about.
    pub method: Method,
    /// Who may send its request; the other side sends the answer.
    pub asker: Asker,
    /// Layout of the request.
    pub request: Form,
    /// Layout of the answer.
    pub answer: Form,
}

impl Rule {
    const fn new(method: Method, asker: Side, request: Form, answer: Form) -> Self {
        Self { method, asker: Asker::Only(asker), request, answer }
    }

    /// Whether `from` may send this leg.
    #[must_use]
    pub fn allows(&self, leg: Leg, from: Side) -> bool {
        match (self.asker, leg) {
            (Asker::Either, _) => true,
            (Asker::Only(asker), Leg::Request) => asker == from,
            (Asker::Only(asker), Leg::Answer) => asker == from.other(),
        }
    }

    /// The layout of a leg.
    #[must_use]
    pub const fn form(&self, leg: Leg) -> Form {
        match leg {
            Leg::Request => self.request,
            Leg::Answer => self.answer,
        }
    }
}

/// The table: who may ask what, and in which form.
static RULES: [Rule; 5] = [
    Rule::new(Method::Sp, Side::Daemon, Form::Bare, Form::Bare),
    Rule::new(Method::Gt, Side::Client, Form::Bare, Form::Bare),
    Rule::new(Method::Au, Side::Daemon, Form::Bare, Form::Bare),
    Rule::new(Method::Cs, Side::Client, Form::Packed, Form::Packed),
    Rule::new(Method::Ca, Side::Daemon, Form::Packed, Form::Bare),
];

/// The methods that a program speaks: NSP's five, and those registered on top.
///
/// ```
/// use nsp::proto::{Asker, CustomMethod, Form, Method, Methods, Rule, Side};
///
/// let weather = Method::Custom(CustomMethod::new("WX").unwrap());
/// let methods = Methods::default().with(Rule {
///     method: weather,
///     asker: Asker::Only(Side::Client),
///     request: Form::Bare,
///     answer: Form::Packed,
/// });
/// assert!(methods.rule(weather).is_ok());
/// assert!(Methods::default().rule(weather).is_err());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Methods {
    custom: Vec<Rule>,
}

impl Methods {
    /// Adds a method of the user's own; a later row replaces an earlier one of the same method.
    ///
    /// Rows about NSP's own methods change nothing: what those mean is not open to configuration.
    #[must_use]
    pub fn with(mut self, rule: Rule) -> Self {
        if matches!(rule.method, Method::Custom(_)) {
            self.custom.retain(|old| old.method != rule.method);
            self.custom.push(rule);
        }
        self
    }

    /// The row of a method.
    ///
    /// # Errors
    /// [`DecodeError::UnknownMethod`] when it is a custom one that nobody registered.
    pub fn rule(&self, method: Method) -> Result<&Rule, DecodeError> {
        let rule = match method {
            Method::Sp => RULES.first(),
            Method::Gt => RULES.get(1),
            Method::Au => RULES.get(2),
            Method::Cs => RULES.get(3),
            Method::Ca => RULES.get(4),
            Method::Custom(_) => self.custom.iter().find(|rule| rule.method == method),
        };
        rule.ok_or_else(|| DecodeError::UnknownMethod(method.letters().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_asks_sp_au_ca_and_the_client_gt_cs() {
        let methods = Methods::default();
        for (method, asker) in [
            (Method::Sp, Side::Daemon),
            (Method::Au, Side::Daemon),
            (Method::Ca, Side::Daemon),
            (Method::Gt, Side::Client),
            (Method::Cs, Side::Client),
        ] {
            let rule = methods.rule(method).unwrap();
            assert_eq!(rule.method, method);
            assert!(rule.allows(Leg::Request, asker), "{method}");
            assert!(rule.allows(Leg::Answer, asker.other()), "{method}");
            assert!(!rule.allows(Leg::Request, asker.other()), "{method}");
            assert!(!rule.allows(Leg::Answer, asker), "{method}");
        }
    }

    #[test]
    fn letters_and_methods_stand_for_each_other() {
        for rule in &RULES {
            assert_eq!(Method::from_letters(rule.method.letters()), Some(rule.method));
        }
        assert_eq!(Method::from_letters(*b"gt"), None);
        assert_eq!(Method::from_letters(*b"{\""), None);
        assert_eq!(Leg::from_letters(*b"rq"), Some(Leg::Request));
        assert_eq!(Leg::from_letters(*b"zz"), None);
    }

    #[test]
    fn own_methods_of_nsp_cannot_be_redefined() {
        let rule =
            Rule { method: Method::Gt, asker: Asker::Either, request: Form::Packed, answer: Form::Packed };
        let methods = Methods::default().with(rule);
        assert_eq!(methods, Methods::default());
        assert_eq!(CustomMethod::new("GT"), None);
        assert_eq!(CustomMethod::new("G"), None);
        assert_eq!(CustomMethod::new("gx"), None);
    }
}
