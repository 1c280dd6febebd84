//! The store in one file.
//!
//! ```text
//! change ──▶ queue ──▶ thread that writes ──▶ up to 64 changes in one transaction, synced once ──▶ answers
//! note   ──▶ heap ─────────────┘              with whatever notes there are
//! read   ──▶ queue ──▶ threads that read, beside it (WAL)
//! ```
//!
//! Nothing here blocks the runtime: whoever asks waits for the queue, which is bounded, and for the answer. An answer to a change is
//! given after its transaction is on the disk, so a process that is killed has lost nothing it has acknowledged.
//!
//! One process at a time: beside `users.db` lies `users.db.lock`, locked for as long as the store is open. The operating system lets go of it
//! when the process ends, however it ends.

mod failure;
mod read;
mod schema;
mod write;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use self::failure::{Failure, Unchanged};
use super::{Account, Change, ChangeError, Changed, Counted, Note, Pending, Store, StoreError};
use crate::token::{TokenHash, TokenRecord};
use crate::user::{User, UserId, Username, Who};

/// Keeps users in one file.
#[derive(Debug)]
pub struct Sqlite {
    changes: mpsc::Sender<Job>,
    reads: mpsc::Sender<Read>,
    notes: Arc<Notes>,
    path: Arc<PathBuf>,
    /// Ends when all threads have.
    alive: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

enum Job {
    Change(Box<Change>, oneshot::Sender<Result<Changed, ChangeError>>),
    /// There are notes, and nothing else to do perhaps.
    Notes,
    Close,
    #[cfg(test)]
    Do(Box<dyn FnOnce(&Connection) + Send>),
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job(..)")
    }
}

/// `None` ends a thread.
type Read = Option<Box<dyn FnOnce(&Connection) + Send>>;

/// How many wait for the disk. 1,024: a second's work of a slow one. Whoever comes later waits for a place.
const QUEUE: usize = 1024;
/// How many changes share one transaction, and one sync of the disk.
const BATCH: usize = 64;
/// How many notes wait for the next transaction. 1,024: they take less time than its sync. Further ones are lost, as they may be.
const NOTES: usize = 1024;
/// How many threads read. Two: reads come from the page cache, and what is asked often is cached above.
const READERS: usize = 2;
/// How long another program may hold a lock on the file.
const LOCKED: Duration = Duration::from_secs(5);

/// Notes that wait. They share the transaction of the next changes, and never stand before those in a queue.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<Note>>);

impl Notes {
    /// Whether this is the first one.
    fn push(&self, note: Note) -> bool {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < NOTES {
            notes.push(note);
        }
        notes.len() == 1
    }

    fn take(&self) -> Vec<Note> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sqlite {
    /// Opens a file, or makes it. The folder must exist.
    ///
    /// # Errors
    ///
    /// When the file is in use by another process, is something else, is damaged, was written by a newer version, or cannot be written to.
    ///
    /// # Cancel safety
    ///
    /// Dropped, what was opened is closed again.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = Arc::new(path.into());
        let (changes, jobs) = mpsc::channel(QUEUE);
        let (reads, queue) = mpsc::channel::<Read>(QUEUE);
        let (living, alive) = mpsc::channel(1);
        let (opened, is_open) = oneshot::channel();
        let notes = Arc::<Notes>::default();
        let (place, noted) = (path.clone(), notes.clone());
        let begin = move || {
            let lock = match lock(&place) {
                Ok(lock) => Arc::new(lock),
                Err(error) => return drop(opened.send(Err(error))),
            };
            let queue = Arc::new(Mutex::new(queue));
            let ready = open(&place, false).and_then(|writer| {
                for n in 0..READERS {
                    let (reader, queue, keep) =
                        (open(&place, true)?, queue.clone(), (lock.clone(), living.clone()));
                    spawn(&format!("nsp-auth-read-{n}"), &place, move || {
                        serve(&reader, &queue);
                        drop((reader, keep));
                    })?;
                }
                Ok(writer)
            });
            match ready {
                Ok(writer) => {
                    if opened.send(Ok(())).is_ok() {
                        write_all(&writer, jobs, &noted, &place);
                    }
                    drop((writer, lock, living));
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        };
        spawn("nsp-auth-write", &path, begin)?;
        is_open.await.map_err(|_| StoreError::Closed)??;
        Ok(Self { changes, reads, notes, path, alive: tokio::sync::Mutex::new(alive) })
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Pending<'_, T> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let work = move |connection: &Connection| drop(answer.send(read(connection)));
            self.reads.send(Some(Box::new(work))).await.map_err(|_| StoreError::Closed)?;
            answered.await.map_err(|_| StoreError::Closed)?.map_err(|failure| failure.of(&self.path))
        })
    }
}

impl Store for Sqlite {
    fn account(&self, who: Who) -> Pending<'_, Option<Account>> {
        self.read(move |connection| read::account(connection, &who))
    }

    fn search(&self, prefix: String, after: Option<Username>, most: usize) -> Pending<'_, Vec<User>> {
        self.read(move |connection| read::search(connection, &prefix, after.as_ref(), most))
    }

    fn token(&self, hash: TokenHash) -> Pending<'_, Option<(TokenRecord, User)>> {
        self.read(move |connection| read::token_with_user(connection, &hash))
    }

    fn tokens(&self, user: UserId) -> Pending<'_, Vec<TokenRecord>> {
        self.read(move |connection| read::tokens(connection, user))
    }

    fn counted(&self) -> Pending<'_, Vec<Counted>> {
        self.read(read::counted)
    }

    fn change(&self, change: Change) -> Pending<'_, Changed, ChangeError> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.changes.send(Job::Change(Box::new(change), answer)).await.map_err(|_| StoreError::Closed)?;
            answered.await.map_err(|_| StoreError::Closed)?
        })
    }

    fn note(&self, note: Note) {
        // Where the queue is full, the thread looks at the notes soon enough.
        if self.notes.push(note) {
            let _ = self.changes.try_send(Job::Notes);
        }
    }

    fn close(&self) -> Pending<'_, ()> {
        Box::pin(async move {
            // Whoever closes for the second time finds nobody, which is as well.
            let _ = self.changes.send(Job::Close).await;
            for _ in 0..READERS {
                let _ = self.reads.send(None).await;
            }
            while self.alive.lock().await.recv().await.is_some() {}
            Ok(())
        })
    }
}

fn spawn(name: &str, path: &Path, work: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    let spawned = thread::Builder::new().name(name.into()).spawn(work);
    spawned.map(drop).map_err(|error| StoreError::io(path, &error))
}

/// Keeps other programs from the database until it is dropped.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // In so many words: a program that another thread is just starting has a copy of the open file for a moment, and closing
        // only ours would leave the lock to it. Where this fails the file is closed all the same.
        drop(self.0.unlock());
    }
}

fn lock(path: &Path) -> Result<Lock, StoreError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    // Whoever can open it can lock it, and keep the daemon from its users.
    let file = for_its_owner().create(true).truncate(false).open(&beside);
    let file = file.map_err(|error| StoreError::io(path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.into() }),
        Err(TryLockError::Error(error)) => Err(StoreError::io(path, &error)),
    }
}

fn open(path: &Path, only_reads: bool) -> Result<Connection, StoreError> {
    if !only_reads {
        create(path)?;
    }
    try_open(path, only_reads).map_err(|failure| match failure {
        // SQLite says no more than this where a folder is missing, or the path is a folder.
        Failure::Sqlite(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen) => {
            match OpenOptions::new().read(true).write(true).open(path) {
                Err(error) => StoreError::io(path, &error),
                Ok(_) => Failure::Sqlite(error).of(path),
            }
        }
        other => other.of(path),
    })
}

/// Makes the file for its owner alone: it is enough to guess passwords by.
fn create(path: &Path) -> Result<(), StoreError> {
    match for_its_owner().create_new(true).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(StoreError::io(path, &error)),
        _ => Ok(()),
    }
}

/// For writing; what is made by it is readable for its owner alone, whatever the umask.
fn for_its_owner() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn try_open(path: &Path, only_reads: bool) -> Result<Connection, Failure> {
    let mut connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(LOCKED)?;
    connection.set_prepared_statement_cache_capacity(64);
    // In KiB. The upper levels of a million tokens; SQLite's own 2 MiB would have them read from the system again and again.
    connection.pragma_update(None, "cache_size", -16_384)?;
    if only_reads {
        connection.pragma_update(None, "query_only", true)?;
        return Ok(connection);
    }
    if connection.is_readonly("main")? {
        return Err(Failure::Sqlite(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY),
            None,
        )));
    }
    connection.pragma_update(None, "journal_mode", "wal")?;
    // Every commit is synced: what was acknowledged survives a loss of power too.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    schema::migrate(&mut connection)?;
    // The users, not the tokens: those may be a million, and losing one costs a login.
    let verdict: String = connection.query_row("PRAGMA quick_check('users')", [], |row| row.get(0))?;
    if verdict != "ok" {
        let damage = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        return Err(Failure::Sqlite(rusqlite::Error::SqliteFailure(damage, Some(verdict))));
    }
    Ok(connection)
}

/// Reads until it is closed. The lock of the queue is held while waiting for a job, never while doing it.
fn serve(connection: &Connection, queue: &Mutex<mpsc::Receiver<Read>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        match next {
            Some(Some(work)) => work(connection),
            Some(None) | None => return,
        }
    }
}

/// Writes until it is closed.
fn write_all(connection: &Connection, mut jobs: mpsc::Receiver<Job>, notes: &Notes, path: &Path) {
    let mut batch = Vec::with_capacity(BATCH);
    while jobs.blocking_recv_many(&mut batch, BATCH) > 0 {
        let mut changes = Vec::with_capacity(batch.len());
        let mut closes = false;
        for job in batch.drain(..) {
            match job {
                Job::Change(change, answer) => changes.push((*change, answer)),
                Job::Notes => {}
                Job::Close => closes = true,
                #[cfg(test)]
                Job::Do(work) => work(connection),
            }
        }
        // After the changes were received: what was noted before one of them is made before it.
        commit(connection, changes, &notes.take(), path);
        if closes {
            return;
        }
    }
}

type Asked = (Change, oneshot::Sender<Result<Changed, ChangeError>>);

/// Makes changes in one transaction, or one by one where that fails: the fault of one is not the others' fault.
fn commit(connection: &Connection, changes: Vec<Asked>, notes: &[Note], path: &Path) {
    let note_all = || notes.iter().try_for_each(|note| write::note(connection, *note));
    if changes.is_empty() && notes.is_empty() {
        return;
    }
    let mut results = Vec::with_capacity(changes.len());
    let together = transaction(connection, || {
        note_all()?;
        for (change, _) in &changes {
            results.push(in_savepoint(connection, change)?);
        }
        Ok(())
    });
    if together.is_ok() {
        for ((_, answer), result) in changes.into_iter().zip(results) {
            let _ = answer.send(result);
        }
        return;
    }
    if let Err(failure) = transaction(connection, note_all) {
        tracing::warn!(error = %failure.of(path), notes = notes.len(), "notes about users are lost");
    }
    for (change, answer) in changes {
        let mut result = Err(ChangeError::Store(StoreError::Closed));
        let alone = transaction(connection, || {
            result = in_savepoint(connection, &change)?;
            Ok(())
        });
        let _ = answer.send(alone.map_err(|failure| failure.of(path).into()).and(result));
    }
}

fn transaction(connection: &Connection, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let result = work().and_then(|()| Ok(connection.prepare_cached("COMMIT")?.execute([]).map(drop)?));
    // After some errors SQLite has rolled back itself.
    if result.is_err() && !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    result
}

/// A change that is refused leaves no trace; one that fails ends the transaction.
fn in_savepoint(connection: &Connection, change: &Change) -> Result<Result<Changed, ChangeError>, Failure> {
    connection.prepare_cached("SAVEPOINT change")?.execute([])?;
    let result = match write::change(connection, change) {
        Ok(changed) => Ok(changed),
        Err(Unchanged::Failed(failure)) => return Err(failure),
        Err(Unchanged::Refused(error)) => {
            connection.prepare_cached("ROLLBACK TO change")?.execute([])?;
            Err(error)
        }
    };
    connection.prepare_cached("RELEASE change")?.execute([])?;
    Ok(result)
}

#[cfg(test)]
mod tests;
