use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{KeyKind, Offered, TrustError};
use crate::secure::{Fingerprint, Random as _, SystemRandom};

/// A file of daemons that are known, one key a line.
///
/// ```text
/// # host and port                 kind     key
/// chat.example.org:43580          nsp-rsa  SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU
/// [2001:db8::1]:43580             tls      SHA256:…
/// |1|c2FsdA==|bWFj…               nsp-rsa  SHA256:…
/// ```
///
/// The last form hides the host: salt and HMAC-SHA256 of it under that salt, so that who gets the file does not learn where its owner goes. What
/// stands behind the key is a comment. A line that cannot be read is an error and not skipped: it may have been the one that counts.
///
/// The file is replaced whole, and can be read by its owner only. Several processes may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHosts {
    path: PathBuf,
    hashed: bool,
}

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownHost {
    /// Of whom.
    pub host: HostName,
    /// For what.
    pub kind: KeyKind,
    /// Which key.
    pub fingerprint: Fingerprint,
    /// The line, counted from 1.
    pub line: usize,
}

/// A host and port, as a line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostName {
    /// As it is.
    Plain(String),
    /// So that it can be recognised, and not read.
    Hashed {
        /// Random bytes.
        salt: Vec<u8>,
        /// HMAC-SHA256 of the host under the salt.
        mac: Vec<u8>,
    },
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KnownHostsError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A line of it is none.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A host that would break the file.
    #[error("`{}` cannot be the name of a host", .0.escape_debug())]
    Host(String),
}

impl KnownHosts {
    /// The file at this path. It need not exist, and is not looked at yet.
    pub fn open(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), hashed: false }
    }

    /// Hides the hosts that are added from now on.
    #[must_use]
    pub const fn hashed(mut self) -> Self {
        self.hashed = true;
        self
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All that are known, in the order of the file. Blocks while it is read.
    ///
    /// # Errors
    /// [`KnownHostsError`] when it cannot be read.
    pub fn entries(&self) -> Result<Vec<KnownHost>, KnownHostsError> {
        self.parse(&self.text()?)
    }

    /// Adds a key of a host, given as `host:port`. Blocks.
    ///
    /// # Errors
    /// [`KnownHostsError`] when the file cannot be read or written.
    pub fn add(&self, host: &str, kind: KeyKind, fingerprint: Fingerprint) -> Result<(), KnownHostsError> {
        if host.is_empty()
            || host.starts_with(['|', '#'])
            || host.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            return Err(KnownHostsError::Host(host.to_owned()));
        }
        let _lock = self.lock()?;
        self.add_locked(host, kind, fingerprint)
    }

    fn add_locked(&self, host: &str, kind: KeyKind, fingerprint: Fingerprint) -> Result<(), KnownHostsError> {
        let host = HostName::of(&host.to_ascii_lowercase(), self.hashed);
        self.change(|text, _| {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&format!("{host} {kind} {fingerprint}\n"));
            Ok(())
        })
    }

    /// Removes every key of a host, given as `host:port`; gives how many those were. Blocks.
    ///
    /// # Errors
    /// [`KnownHostsError`] when the file cannot be read or written.
    pub fn remove(&self, host: &str) -> Result<usize, KnownHostsError> {
        let mut removed = 0;
        let _lock = self.lock()?;
        self.change(|text, entries| {
            let lines: Vec<_> =
                entries.iter().filter(|entry| entry.host.is(host)).map(|entry| entry.line).collect();
            removed = lines.len();
            let kept = text.lines().enumerate().filter(|(at, _)| !lines.contains(&(at + 1)));
            *text = kept.map(|(_, line)| format!("{line}\n")).collect();
            Ok(())
        })?;
        Ok(removed)
    }

    /// Whether the key is known: `false` when the host is not.
    pub(super) fn check(&self, offered: &Offered) -> Result<bool, TrustError> {
        self.judge(&self.entries()?, offered)
    }

    /// Adds a key unless it is known.
    pub(super) fn learn(&self, offered: &Offered) -> Result<(), TrustError> {
        let _lock = self.lock()?;
        if self.check(offered)? {
            return Ok(());
        }
        Ok(self.add_locked(&offered.host, offered.kind, offered.fingerprint)?)
    }

    fn judge(&self, entries: &[KnownHost], offered: &Offered) -> Result<bool, TrustError> {
        let mut of_host = entries
            .iter()
            .filter(|known| known.kind == offered.kind && known.host.is(&offered.host))
            .peekable();
        let Some(first) = of_host.peek().copied() else { return Ok(false) };
        if of_host.any(|known| known.fingerprint == offered.fingerprint) {
            return Ok(true);
        }
        Err(TrustError::Changed {
            offered: Box::new(offered.clone()),
            known: first.fingerprint,
            path: self.path.clone(),
            line: first.line,
        })
    }

    fn text(&self) -> Result<String, KnownHostsError> {
        match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read.map_err(|source| KnownHostsError::Read { path: self.path.clone(), source }),
        }
    }

    fn parse(&self, text: &str) -> Result<Vec<KnownHost>, KnownHostsError> {
        let mut entries = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = (at + 1, line.trim());
            if line.1.is_empty() || line.1.starts_with('#') {
                continue;
            }
            let entry = KnownHost::parse(line.0, line.1);
            let failed = |problem| KnownHostsError::Line { path: self.path.clone(), line: line.0, problem };
            entries.push(entry.map_err(failed)?);
        }
        Ok(entries)
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    fn failed(&self, source: io::Error) -> KnownHostsError {
        KnownHostsError::Write { path: self.path.clone(), source }
    }

    /// Makes the folder, and keeps other processes from changing the file until the lock is dropped.
    fn lock(&self) -> Result<File, KnownHostsError> {
        let lock = || {
            make_folder(self.folder())?;
            let folder = File::open(self.folder())?;
            folder.lock()?;
            Ok(folder)
        };
        lock().map_err(|source| self.failed(source))
    }

    /// Changes the file, which the caller has locked.
    fn change(
        &self,
        change: impl FnOnce(&mut String, &[KnownHost]) -> Result<(), KnownHostsError>,
    ) -> Result<(), KnownHostsError> {
        let mut text = self.text()?;
        let entries = self.parse(&text)?;
        change(&mut text, &entries)?;
        self.replace(&text).map_err(|source| self.failed(source))
    }

    /// Puts another file in the place of this one: nobody ever sees half of it.
    fn replace(&self, text: &str) -> io::Result<()> {
        // A link is followed, so that it stays one.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut name = target.file_name().unwrap_or_default().to_owned();
        let mut random = [0; 8];
        SystemRandom.fill(&mut random);
        name.push(format!(".{:016x}", u64::from_le_bytes(random)));
        let temporary = target.with_file_name(name);
        let written = write_private(&temporary, text).and_then(|()| fs::rename(&temporary, &target));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

impl KnownHost {
    fn parse(line: usize, text: &str) -> Result<Self, &'static str> {
        let mut words = text.split_ascii_whitespace();
        let (Some(host), Some(kind), Some(key)) = (words.next(), words.next(), words.next()) else {
            return Err("a host, a kind of key and a key are needed");
        };
        let kind = match kind {
            "nsp-rsa" => KeyKind::Rsa,
            "tls" => KeyKind::Tls,
            _ => return Err("the kind of key is neither nsp-rsa nor tls"),
        };
        let fingerprint = Fingerprint::parse(key).ok_or("the key is not SHA256: and base64")?;
        let host =
            HostName::parse(host).ok_or("the hidden host is not |1|, salt, |, and its HMAC in base64")?;
        Ok(Self { host, kind, fingerprint, line })
    }
}

impl HostName {
    fn of(host: &str, hashed: bool) -> Self {
        if !hashed {
            return Self::Plain(host.to_owned());
        }
        let mut salt = vec![0; 20];
        SystemRandom.fill(&mut salt);
        let mac = mac(&salt, host);
        Self::Hashed { salt, mac }
    }

    fn parse(text: &str) -> Option<Self> {
        let Some(hidden) = text.strip_prefix('|') else { return Some(Self::Plain(text.to_owned())) };
        let (salt, mac) = hidden.strip_prefix("1|")?.split_once('|')?;
        Some(Self::Hashed { salt: STANDARD.decode(salt).ok()?, mac: STANDARD.decode(mac).ok()? })
    }

    /// Whether it is this host and port.
    #[must_use]
    pub fn is(&self, host: &str) -> bool {
        match self {
            Self::Plain(name) => name.eq_ignore_ascii_case(host),
            Self::Hashed { salt, mac: known } => mac(salt, &host.to_ascii_lowercase()) == *known,
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(name) => fmt::Display::fmt(&name.escape_debug(), f),
            Self::Hashed { salt, mac } => write!(f, "|1|{}|{}", STANDARD.encode(salt), STANDARD.encode(mac)),
        }
    }
}

fn mac(salt: &[u8], host: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, salt);
    hmac::sign(&key, host.as_bytes()).as_ref().to_vec()
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// Writes a new file that only its owner may read.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
