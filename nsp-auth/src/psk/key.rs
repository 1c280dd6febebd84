use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::hex;
use super::label::{Label, LabelError};

/// A secret that two sides share, and the id by which they speak of it.
///
/// The id is no secret; a date does well: `2026-11`. The secret is wiped when it is dropped, and `Debug` does not show it.
///
/// ```
/// use nsp_auth::psk::Key;
///
/// let key = Key::from_hex("2026-11", "000102030405060708090a0b0c0d0e0f")?;
/// assert_eq!(format!("{key:?}"), r#"Key { id: "2026-11", .. }"#);
/// # Ok::<(), nsp_auth::psk::KeyError>(())
/// ```
#[derive(Clone)]
pub struct Key {
    id: Label,
    secret: Zeroizing<Vec<u8>>,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The id of the key, or the name of a side, is none.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// The secret can be guessed.
    #[error(
        "the secret has {len} bytes, and less than {} can be guessed; 32 random ones are right",
        Key::MIN_LEN
    )]
    TooShort {
        /// Its length, in bytes.
        len: usize,
    },
    /// The secret is longer than anybody needs.
    #[error("the secret is longer than {} bytes", Key::MAX_LEN)]
    TooLong,
    /// The text is neither hexadecimal digits nor Base64.
    #[error("the secret is neither hexadecimal digits nor Base64")]
    Encoding,
    /// The file cannot be read.
    #[error("the key in {} cannot be read: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in the file is no key.
    #[error("what is in {} is no key: {source}", path.display())]
    InFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<Self>,
    },
    /// There is a key of that id for that peer already.
    #[error("there is a key `{id}` for that peer already")]
    Twice {
        /// The id.
        id: String,
    },
    /// There are as many keys for that peer as there may be.
    #[error("there are {} keys for that peer already", super::keys::MAX_KEYS)]
    TooMany,
}

impl Key {
    /// The shortest secret, in bytes: 128 bits, which nobody guesses if they are random.
    pub const MIN_LEN: usize = 16;

    /// The longest secret, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// A key whose secret is these bytes.
    ///
    /// They have to be random: [`generate`](Self::generate), or `openssl rand -hex 32`. A passphrase is no key; whoever hears an
    /// introduction may try passphrases at leisure.
    ///
    /// # Errors
    /// When the id is none, or the secret has less than 16 or more than 1024 bytes.
    pub fn new(id: &str, secret: impl Into<Vec<u8>>) -> Result<Self, KeyError> {
        Self::of(id, Zeroizing::new(secret.into()))
    }

    fn of(id: &str, secret: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let id = Label::new(id)?;
        match secret.len() {
            len @ 0..Self::MIN_LEN => Err(KeyError::TooShort { len }),
            Self::MIN_LEN..=Self::MAX_LEN => Ok(Self { id, secret }),
            _ => Err(KeyError::TooLong),
        }
    }

    /// A new key of 32 random bytes.
    ///
    /// # Errors
    /// When the id is none.
    ///
    /// # Panics
    /// When the operating system has no randomness, and nothing may go on.
    pub fn generate(id: &str) -> Result<Self, KeyError> {
        let mut secret = Zeroizing::new(vec![0; 32]);
        aws_lc_rs::rand::fill(&mut secret).expect("the operating system has a source of randomness");
        Self::of(id, secret)
    }

    /// A key whose secret is written as hexadecimal digits.
    ///
    /// # Errors
    /// As [`new`](Self::new); and when these are no pairs of digits.
    pub fn from_hex(id: &str, text: &str) -> Result<Self, KeyError> {
        Self::of(id, hex::decode(text.trim()).ok_or(KeyError::Encoding)?)
    }

    /// A key whose secret is written as Base64, with the padding it has.
    ///
    /// # Errors
    /// As [`new`](Self::new); and when this is not Base64.
    pub fn from_base64(id: &str, text: &str) -> Result<Self, KeyError> {
        let secret = STANDARD.decode(text.trim()).map_err(|_| KeyError::Encoding)?;
        Self::of(id, Zeroizing::new(secret))
    }

    /// A key whose secret is what a file contains, as hexadecimal digits if it is nothing but pairs of those, else as Base64.
    /// Space around it does not count. The file should be readable by its owner only.
    ///
    /// # Errors
    /// As [`new`](Self::new); and when the file cannot be read or holds something else. The error names the file, and nothing
    /// that is in it.
    pub fn from_file(id: &str, path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let text = read(path).map_err(|source| KeyError::File { path: path.into(), source })?;
        let text = text.trim();
        let key = match hex::decode(text) {
            Some(secret) => Self::of(id, secret),
            None => Self::from_base64(id, text),
        };
        key.map_err(|source| match source {
            source @ KeyError::Label(_) => source, // no fault of the file
            source => KeyError::InFile { path: path.into(), source: Box::new(source) },
        })
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.id.as_str()
    }

    /// The secret as Base64, to be written where [`from_file`](Self::from_file) will find it.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(&*self.secret))
    }

    pub(super) const fn label(&self) -> &Label {
        &self.id
    }

    pub(super) fn secret(&self) -> &[u8] {
        &self.secret
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Reads a small file.
fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    const MOST: u64 = 8 * 1024; // the longest secret as digits, and space
    let mut text = Zeroizing::new(String::with_capacity(256));
    File::open(path)?.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f";

    #[test]
    fn secret_is_read_in_the_forms_people_keep_it_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let expected: Vec<u8> = (0..16).collect();
        assert_eq!(Key::new("k", expected.clone()).unwrap().secret(), expected);
        assert_eq!(Key::from_base64("k", "AAECAwQFBgcICQoLDA0ODw==").unwrap().secret(), expected);
        for text in [HEX, "AAECAwQFBgcICQoLDA0ODw==", &format!("\n {HEX}\r\n")] {
            fs::write(&path, text).unwrap();
            assert_eq!(Key::from_file("k", &path).unwrap().secret(), expected, "{text:?}");
        }
        let key = Key::generate("k").unwrap();
        fs::write(&path, key.to_base64().as_str()).unwrap();
        assert_eq!(Key::from_file("k", &path).unwrap().secret(), key.secret());
        assert_eq!(key.secret().len(), 32);
        assert_ne!(key.secret(), Key::generate("k").unwrap().secret());
    }

    #[test]
    fn errors_name_the_file_and_nothing_of_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let missing = Key::from_file("k", &path).unwrap_err().to_string();
        assert!(missing.contains("cannot be read") && missing.contains("key"), "{missing}");
        for (content, what) in [
            ("hunter2-hunter2!", "neither hexadecimal digits nor Base64"),
            ("0102", "the secret has 2 bytes"),
            ("", "the secret has 0 bytes"),
        ] {
            fs::write(&path, content).unwrap();
            let error = Key::from_file("k", &path).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains(what) && !text.contains("hunter2"), "{text}");
        }
        fs::write(&path, [0xff; 40]).unwrap();
        assert!(matches!(Key::from_file("k", &path), Err(KeyError::File { .. })));
        fs::write(&path, HEX.repeat(1000)).unwrap();
        assert!(Key::from_file("k", &path).is_err());
    }

    #[test]
    fn secret_that_can_be_guessed_is_refused() {
        assert!(matches!(Key::new("k", [0; 15]), Err(KeyError::TooShort { len: 15 })));
        assert!(Key::new("k", [0; 16]).is_ok());
        assert!(Key::new("k", [0; 1024]).is_ok());
        assert!(matches!(Key::new("k", [0; 1025]), Err(KeyError::TooLong)));
        assert!(matches!(Key::new("no key", [0; 16]), Err(KeyError::Label(_))));
    }

    #[test]
    fn debug_shows_the_id_alone() {
        let key = Key::new("2026-11", *b"correct horse battery").unwrap();
        assert_eq!(format!("{key:?}"), r#"Key { id: "2026-11", .. }"#);
    }
}
