//! Text that must not be seen: passwords, tokens, daemon keys.
//!
//! Each has a type of its own, so that one cannot be handed over where the other is meant. All of them are wiped when
//! dropped, print as `Password(..)`, have no `Display`, and compare in a time that depends on their length only.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Zeroizing<String>);

        impl $name {
            /// Takes the text over.
            pub fn new(text: impl Into<String>) -> Self {
                Self(Zeroizing::new(text.into()))
            }

            /// The text itself, for the one who checks it or puts it on the wire.
            #[must_use]
            pub fn reveal(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::new(text)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
    };
}

secret! {
    /// The password of a user.
    Password
}

secret! {
    /// The proof that somebody has logged in, as GT hands it out and AU asks for it.
    Token
}

secret! {
    /// The key with which a daemon shows that it may act for its users (`k` of a daemon-mode entity).
    DaemonKey
}

secret! {
    /// What a client says when the daemon asks it for a token or a password: which of the two, only the question tells.
    Proof
}

impl Proof {
    /// Takes it for the token that was asked for.
    #[must_use]
    pub fn into_token(self) -> Token {
        Token(self.0)
    }

    /// Takes it for the password that was asked for.
    #[must_use]
    pub fn into_password(self) -> Password {
        Password(self.0)
    }
}

impl From<Token> for Proof {
    fn from(token: Token) -> Self {
        Self(token.0)
    }
}

impl From<Password> for Proof {
    fn from(password: Password) -> Self {
        Self(password.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let password = Password::new("hunter2");
        assert_eq!(format!("{password:?}"), "Password(..)");
        assert_eq!(password.reveal(), "hunter2");
    }

    #[test]
    fn secrets_compare_by_their_text() {
        assert_eq!(Token::new("a"), Token::new("a"));
        assert_ne!(Token::new("a"), Token::new("b"));
        assert_ne!(Token::new("a"), Token::new("aa"));
    }
}
