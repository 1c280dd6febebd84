//! Files as frames: a small one is one raw frame; a larger one goes in pieces, each a raw frame of its own.
//!
//! ```text
//! photo.png#5f3a@0/700000          the first bytes of a file of 700,000
//! photo.png#5f3a@262144/700000     those from 262,144 on
//! photo.png#5f3a@524288/700000     the rest: now it is whole
//! ```
//!
//! That is all there is to it, so that anybody can send or join pieces by hand. The id tells files of the same name
//! apart; the pieces of one file come in order, as messages of one connection do.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use indicatif::{MultiProgress, ProgressBar};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

use nsp_cli::exit::Failure;
use nsp_cli::progress;
use nsp_cli::text::harmless;

/// Bytes of a piece: well below the limit that peers have unless told otherwise.
pub(crate) const PIECE: u32 = 256 * 1024;

/// Files that may be incomplete at once; the oldest is given up for the next.
const INCOMPLETE: usize = 64;

/// The name of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PieceName<'a> {
    pub(crate) name: &'a str,
    pub(crate) id: &'a str,
    pub(crate) offset: u64,
    pub(crate) total: u64,
}

impl<'a> PieceName<'a> {
    /// Takes a frame's name apart; `None` is one that is no piece.
    pub(crate) fn parse(frame: &'a str) -> Option<Self> {
        let (rest, total) = frame.rsplit_once('/')?;
        let (rest, offset) = rest.rsplit_once('@')?;
        let (name, id) = rest.rsplit_once('#')?;
        let (offset, total) = (offset.parse().ok()?, total.parse().ok()?);
        (!id.is_empty() && offset < total).then_some(Self { name, id, offset, total })
    }
}

impl fmt::Display for PieceName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}@{}/{}", self.name, self.id, self.offset, self.total)
    }
}

/// A SHA-256 under way.
pub(crate) struct Hash(Context);

impl Hash {
    pub(crate) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// In hexadecimal.
    pub(crate) fn finish(self) -> String {
        self.0.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Writes raw bodies to files of a folder.
pub(crate) struct Saver {
    dir: PathBuf,
    incomplete: Mutex<HashMap<String, Partial>>,
    order: AtomicU64,
    bars: MultiProgress,
}

/// A file that is not whole yet. Under its own name it appears only when it is.
struct Partial {
    file: File,
    path: PathBuf,
    next: u64,
    total: u64,
    hash: Hash,
    order: u64,
    bar: ProgressBar,
}

/// A file that is whole.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

impl Saver {
    pub(crate) async fn new(dir: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(dir).await.map_err(|error| Failure::file(dir, &error))?;
        Ok(Self {
            dir: dir.to_owned(),
            incomplete: Mutex::default(),
            order: AtomicU64::new(0),
            bars: MultiProgress::new(),
        })
    }

    /// Writes a raw body. Gives the file, when it is whole.
    pub(crate) async fn save(&self, peer: &str, frame: &str, body: &Bytes) -> Result<Option<Saved>, String> {
        let Some(piece) = PieceName::parse(frame) else {
            let mut partial = self.begin(frame, body.len() as u64).await?;
            partial.add(body).await?;
            return self.finish(frame, partial).await.map(Some);
        };
        let key = format!("{peer} {}#{}", piece.name, piece.id);
        let known = self.incomplete.lock().await.remove(&key);
        let mut partial = match known {
            Some(partial) => partial,
            None if piece.offset == 0 => self.begin(piece.name, piece.total).await?,
            None => return Err(format!("the beginning of `{}` has not come", piece.name.escape_debug())),
        };
        if partial.next != piece.offset || partial.total != piece.total {
            return Err(format!(
                "`{}` goes on at byte {} of {}, where byte {} of {} was to come",
                piece.name.escape_debug(),
                piece.offset,
                piece.total,
                partial.next,
                partial.total
            ));
        }
        partial.add(body).await?;
        match partial.next.cmp(&partial.total) {
            std::cmp::Ordering::Equal => return self.finish(piece.name, partial).await.map(Some),
            std::cmp::Ordering::Greater => {
                return Err(format!("`{}` has more bytes than it said", piece.name.escape_debug()));
            }
            std::cmp::Ordering::Less => {}
        }
        let mut incomplete = self.incomplete.lock().await;
        if incomplete.len() >= INCOMPLETE
            && let Some(oldest) = incomplete.iter().min_by_key(|(_, partial)| partial.order)
        {
            let oldest = oldest.0.clone();
            incomplete.remove(&oldest);
        }
        incomplete.insert(key, partial);
        Ok(None)
    }

    /// Prints, with no bar in the way.
    pub(crate) fn aside<R>(&self, print: impl FnOnce() -> R) -> R {
        self.bars.suspend(print)
    }

    async fn begin(&self, name: &str, total: u64) -> Result<Partial, String> {
        let order = self.order.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!(".{}.{}-{order}.part", harmless(name), std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path).await;
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        let bar = if total >= progress::LONG && progress::is_seen() {
            self.bars.add(progress::bar(&harmless(name), total))
        } else {
            ProgressBar::hidden()
        };
        Ok(Partial { file, path, next: 0, total, hash: Hash::new(), order, bar })
    }

    /// Gives a whole file its name, or that with a number when it is taken: nothing is written over.
    async fn finish(&self, name: &str, mut partial: Partial) -> Result<Saved, String> {
        let said = |error: std::io::Error| format!("{}: {error}", partial.path.display());
        partial.file.sync_all().await.map_err(said)?;
        let name = harmless(name);
        let (stem, extension) = match name.rsplit_once('.') {
            Some((stem, extension)) => (stem, format!(".{extension}")),
            None => (name.as_str(), String::new()),
        };
        for number in 0_u32.. {
            let number = if number == 0 { String::new() } else { format!(".{number}") };
            let path = self.dir.join(format!("{stem}{number}{extension}"));
            match fs::hard_link(&partial.path, &path).await {
                Ok(()) => {
                    let hash = std::mem::replace(&mut partial.hash, Hash::new());
                    return Ok(Saved { path, bytes: partial.next, sha256: hash.finish() });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(format!("{}: {error}", path.display())),
            }
        }
        Err(format!("no name is left for `{name}`"))
    }
}

impl Partial {
    async fn add(&mut self, body: &Bytes) -> Result<(), String> {
        self.hash.update(body);
        self.next += body.len() as u64;
        self.bar.set_position(self.next);
        let written = self.file.write_all(body).await;
        written.map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

/// Nothing half-written stays; a whole file has another name by then.
impl Drop for Partial {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a partial file stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pieces_come_back() {
        let piece = PieceName { name: "a/b#c@d", id: "5f", offset: 0, total: 9 };
        assert_eq!(piece.to_string(), "a/b#c@d#5f@0/9");
        assert_eq!(PieceName::parse("a/b#c@d#5f@0/9"), Some(piece));
        for other in ["photo.png", "a#b@9/9", "a#@0/9", "a#b@-1/9", "a@0/9", "a#b@0"] {
            assert_eq!(PieceName::parse(other), None, "{other}");
        }
    }
}
