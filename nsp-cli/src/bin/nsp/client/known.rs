//! Daemons that are known: their certificates, and their keys of SP.
//!
//! One line each, to be read and edited by hand as `known_hosts` is:
//!
//! ```text
//! chat.example.org:43580 tls AB:CD:…
//! 10.0.0.7:43583 sp SHA256:…
//! ```
//!
//! Lines that begin with `#`, and empty ones, are read over.

use std::fmt;
use std::path::{Path, PathBuf};

use nsp_cli::exit::Failure;
use nsp_cli::files;

/// What is known of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The SHA-256 fingerprint of its certificate.
    Tls,
    /// That of its RSA key.
    Sp,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "tls",
            Self::Sp => "sp",
        })
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) daemon: String,
    pub(crate) kind: Kind,
    pub(crate) fingerprint: String,
    pub(crate) line: usize,
}

/// The file, and what is in it.
#[derive(Debug, Clone)]
pub(crate) struct KnownDaemons {
    pub(crate) path: PathBuf,
    pub(crate) known: Vec<Known>,
}

impl KnownDaemons {
    pub(crate) fn read(path: PathBuf) -> Result<Self, Failure> {
        let text = files::read_if_there(&path)?.unwrap_or_default();
        let mut known = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if let Some(one) = parse(&path, number + 1, line)? {
                known.push(one);
            }
        }
        Ok(Self { path, known })
    }

    pub(crate) fn find(&self, daemon: &str, kind: Kind) -> Option<&Known> {
        self.known.iter().find(|known| known.daemon == daemon && known.kind == kind)
    }

    /// Adds a line, in the place of the one that there is.
    pub(crate) fn add(path: &Path, daemon: &str, kind: Kind, fingerprint: &str) -> Result<(), Failure> {
        Self::change(path, |text| {
            let mut kept = without(text, |known| known.daemon == daemon && known.kind == kind);
            kept.push_str(&format!("{daemon} {kind} {fingerprint}\n"));
            kept
        })
    }

    /// Takes out all lines of a daemon; says how many.
    pub(crate) fn remove(path: &Path, daemon: &str) -> Result<usize, Failure> {
        let before = Self::read(path.to_owned())?.known.len();
        Self::change(path, |text| without(text, |known| known.daemon == daemon))?;
        Ok(before - Self::read(path.to_owned())?.known.len())
    }

    fn change(path: &Path, change: impl FnOnce(&str) -> String) -> Result<(), Failure> {
        if let Some(folder) = path.parent() {
            files::private_folder(folder)?;
        }
        let _alone = files::Lock::take(&path.with_extension("lock"))?;
        let text = files::read_if_there(path)?.unwrap_or_default();
        files::write_private(path, change(&text).as_bytes())
    }
}

/// The text without some of its lines; what is no such line stays.
fn without(text: &str, out: impl Fn(&Known) -> bool) -> String {
    let keeps = |line: &&str| !matches!(parse(Path::new(""), 0, line), Ok(Some(known)) if out(&known));
    text.lines().filter(keeps).flat_map(|line| [line, "\n"]).collect()
}

fn parse(path: &Path, number: usize, line: &str) -> Result<Option<Known>, Failure> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (Some(daemon), Some(kind), Some(fingerprint), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Failure::Trust(format!(
            "{}:{number}: a line is HOST:PORT, tls or sp, and a fingerprint",
            path.display()
        )));
    };
    let kind = match kind {
        "tls" => Kind::Tls,
        "sp" => Kind::Sp,
        other => {
            return Err(Failure::Trust(format!(
                "{}:{number}: `{}` is neither tls nor sp",
                path.display(),
                other.escape_debug()
            )));
        }
    };
    Ok(Some(Known { daemon: daemon.to_owned(), kind, fingerprint: fingerprint.to_owned(), line: number }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_are_added_replaced_and_removed_and_comments_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_daemons");
        std::fs::write(&path, "# ours\n\nold:1 tls AA\n").unwrap();
        KnownDaemons::add(&path, "new:1", Kind::Sp, "SHA256:x").unwrap();
        KnownDaemons::add(&path, "old:1", Kind::Tls, "BB").unwrap();
        let known = KnownDaemons::read(path.clone()).unwrap();
        assert_eq!(known.find("old:1", Kind::Tls).unwrap().fingerprint, "BB");
        assert_eq!(known.find("new:1", Kind::Sp).unwrap().line, 3);
        assert_eq!(known.find("new:1", Kind::Tls), None);
        assert_eq!(KnownDaemons::remove(&path, "old:1").unwrap(), 1);
        assert_eq!(KnownDaemons::remove(&path, "old:1").unwrap(), 0);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "# ours\n\nnew:1 sp SHA256:x\n");
    }

    #[test]
    fn line_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_daemons");
        for text in ["\nnonsense", "\na:1 ssh X", "\na:1 tls X Y"] {
            std::fs::write(&path, text).unwrap();
            let failure = KnownDaemons::read(path.clone()).unwrap_err();
            assert!(failure.to_string().contains("known_daemons:2: "), "{failure}");
        }
    }
}
