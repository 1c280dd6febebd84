use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a policy cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum PolicyError {
    /// The file cannot be read.
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The name of the file says neither JSON nor TOML.
    Format {
        /// Which.
        path: PathBuf,
    },
    /// What is written is no policy.
    Invalid {
        /// In which file, if it was one.
        path: Option<PathBuf>,
        /// In which line, from 1.
        line: usize,
        /// In which field: `roles.editor.grants[0].may`; empty where there is none.
        field: String,
        /// What is wrong with it.
        what: String,
    },
}

impl PolicyError {
    pub(super) fn invalid(line: usize, field: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Invalid { path: None, line, field: field.into(), what: what.into() }
    }

    /// The same, in this file.
    pub(super) fn in_file(self, file: &Path) -> Self {
        match self {
            Self::Invalid { path: None, line, field, what } => {
                Self::Invalid { path: Some(file.into()), line, field, what }
            }
            other => other,
        }
    }
}

/// `policy.toml:14: roles.editor.grants[0].may: …`
impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => write!(f, "{} cannot be read: {source}", path.display()),
            Self::Format { path } => write!(f, "{} is neither .toml nor .json", path.display()),
            Self::Invalid { path, line, field, what } => {
                match path {
                    Some(path) => write!(f, "{}:{line}: ", path.display())?,
                    None => write!(f, "line {line}: ")?,
                }
                if !field.is_empty() {
                    write!(f, "{}: ", field.escape_debug())?;
                }
                f.write_str(what)
            }
        }
    }
}

impl std::error::Error for PolicyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            _ => None,
        }
    }
}
