use super::*;
use crate::clock::Timestamp;
use crate::password::PasswordHash;

const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$QkbEeGxpOhKUu6Xl9HkXvQ0iTBJeSbpVz6lDhcSLWmo";

fn account(name: &str) -> Account {
    let mut user = User::new(UserId::random(), Username::parse(name).unwrap(), 1, Timestamp::EPOCH);
    user.display_name = "x".repeat(200);
    user.roles = vec!["reader".into()];
    Account { user, password: PasswordHash::parse(HASH).unwrap() }
}

/// Sets up the connection that writes.
async fn pragma(store: &Sqlite, name: &'static str, value: i64) {
    let (done, is_done) = oneshot::channel();
    let work = move |connection: &Connection| {
        connection
            .pragma_update_and_check(None, name, value, |_| Ok(()))
            .or_else(|_| connection.pragma_update(None, name, value))
            .unwrap();
        done.send(()).unwrap();
    };
    store.changes.send(Job::Do(Box::new(work))).await.unwrap();
    is_done.await.unwrap();
}

fn without_path(error: &impl ToString, folder: &tempfile::TempDir) -> String {
    error.to_string().replace(&format!("{}/", folder.path().display()), "")
}

#[tokio::test]
async fn a_second_daemon_on_the_same_file_is_refused_and_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let first = Sqlite::open(&path).await.unwrap();
    let error = Sqlite::open(&path).await.unwrap_err();
    assert_eq!(without_path(&error, &folder), "users.db is in use by another daemon or program");
    // The first one is none the worse, and the second may have the file once it is closed.
    first.change(Change::Create(account("alice"))).await.unwrap();
    first.close().await.unwrap();
    let second = Sqlite::open(&path).await.unwrap();
    assert!(second.account(Username::parse("alice").unwrap().into()).await.unwrap().is_some());
    let error = first.change(Change::Create(account("bobby"))).await.unwrap_err();
    assert_eq!(error.to_string(), "the store of users is closed");
    assert!(matches!(first.tokens(UserId::random()).await, Err(StoreError::Closed)));
    second.close().await.unwrap();
    second.close().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_fails_the_change_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path().join("users.db")).await.unwrap();
    store.change(Change::Create(account("alice"))).await.unwrap();
    pragma(&store, "max_page_count", 14).await;
    let mut kept = 0;
    let error = loop {
        match store.change(Change::Create(account(&format!("user{kept}")))).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 1000);
    };
    assert_eq!(without_path(&error, &folder), "there is no room for users.db: the disk is full");
    // What was acknowledged is there, what was not is not, and with room it goes on.
    assert_eq!(store.search("user".into(), None, 1000).await.unwrap().len(), kept);
    pragma(&store, "max_page_count", 100_000).await;
    store.change(Change::Create(account(&format!("user{kept}")))).await.unwrap();
    assert_eq!(store.search("user".into(), None, 1000).await.unwrap().len(), kept + 1);
}

#[tokio::test]
async fn a_failure_in_a_batch_is_the_fault_of_one_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path().join("users.db")).await.unwrap();
    // All of these are in the queue before the thread comes to them.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let hold = move |_: &Connection| wait.recv().unwrap();
    store.changes.send(Job::Do(Box::new(hold))).await.unwrap();
    pragma_later(&store, "max_page_count", 20).await;
    let large =
        Account { user: User { detail: "x".repeat(1 << 20), ..account("large").user }, ..account("large") };
    let changes = [account("alice"), large, account("alice"), account("bobby")].map(Change::Create);
    let answers: Vec<_> = changes
        .into_iter()
        .map(|change| {
            let (answer, answered) = oneshot::channel();
            store.changes.try_send(Job::Change(Box::new(change), answer)).unwrap();
            answered
        })
        .collect();
    go.send(()).unwrap();
    let mut results = Vec::new();
    for answer in answers {
        results.push(answer.await.unwrap().map(drop).map_err(|error| without_path(&error, &folder)));
    }
    let full = "there is no room for users.db: the disk is full".to_owned();
    assert_eq!(results, [Ok(()), Err(full), Err("there is a user alice already".into()), Ok(())]);
    assert_eq!(store.search(String::new(), None, 10).await.unwrap().len(), 2);
}

/// On a runtime of one thread, which would stand still with whoever blocks it.
#[tokio::test]
async fn a_disk_that_is_slow_blocks_no_thread_of_the_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open(folder.path().join("users.db")).await.unwrap());
    store.change(Change::Create(account("alice"))).await.unwrap();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let hold = move |_: &Connection| wait.recv().unwrap();
    store.changes.send(Job::Do(Box::new(hold))).await.unwrap();
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.change(Change::Create(account("bobby"))).await }
    });
    // Others are served meanwhile, what is on the disk already included.
    for _ in 0..10 {
        assert!(store.account(Username::parse("alice").unwrap().into()).await.unwrap().is_some());
    }
    assert!(!writing.is_finished());
    go.send(()).unwrap();
    writing.await.unwrap().unwrap();
}

async fn pragma_later(store: &Sqlite, name: &'static str, value: i64) {
    let work = move |connection: &Connection| {
        connection.pragma_update_and_check(None, name, value, |_| Ok(())).unwrap();
    };
    store.changes.send(Job::Do(Box::new(work))).await.unwrap();
}

#[tokio::test]
async fn a_read_only_database_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let store = Sqlite::open(&path).await.unwrap();
    store.change(Change::Create(account("alice"))).await.unwrap();
    // As on a file system that was mounted read-only meanwhile; the permissions of a file say nothing to an administrator.
    pragma(&store, "query_only", 1).await;
    let error = store.change(Change::Create(account("bobby"))).await.unwrap_err();
    assert_eq!(without_path(&error, &folder), "users.db is read-only");
    assert_eq!(store.search(String::new(), None, 10).await.unwrap().len(), 1);
    store.close().await.unwrap();
    let denied = std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(StoreError::io("users.db", &denied).to_string(), "users.db is read-only");
}

#[tokio::test]
async fn a_program_that_holds_the_file_is_waited_for_and_then_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let store = Sqlite::open(&path).await.unwrap();
    pragma(&store, "busy_timeout", 50).await;
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.change(Change::Create(account("alice"))).await.unwrap_err();
    assert_eq!(without_path(&error, &folder), "users.db is locked by a program that is no daemon");
    other.execute_batch("ROLLBACK").unwrap();
    store.change(Change::Create(account("alice"))).await.unwrap();
}

#[tokio::test]
async fn what_is_no_database_of_ours_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    std::fs::write(&path, "this is a letter to my aunt, and not a database at all".repeat(100)).unwrap();
    let error = Sqlite::open(&path).await.unwrap_err();
    assert_eq!(without_path(&error, &folder), "users.db is not a database of users");
    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE aunts (name TEXT)").unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Sqlite::open(&path).await.unwrap_err();
    assert_eq!(without_path(&error, &folder), "users.db is not a database of users");
    let tables: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .unwrap();
    assert_eq!((tables, before.is_empty()), (1, false));
}

#[tokio::test]
async fn a_newer_database_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    Sqlite::open(&path).await.unwrap().close().await.unwrap();
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Sqlite::open(&path).await.unwrap_err();
    let expected = "users.db was written by a newer version (its schema is 99, this version knows 2)";
    assert_eq!(without_path(&error, &folder), expected);
}

#[tokio::test]
async fn an_older_database_is_brought_up_to_date_with_its_users() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let connection = Connection::open(&path).unwrap();
    schema::make_old(&connection, 1);
    write::change(&connection, &Change::Create(account("alice"))).map_err(|_| ()).unwrap();
    drop(connection);
    let store = Sqlite::open(&path).await.unwrap();
    assert_eq!(store.search("alice".into(), None, 1).await.unwrap().len(), 1);
    assert_eq!(store.counted().await.unwrap(), []);
    store.close().await.unwrap();
    let connection = Connection::open(&path).unwrap();
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, schema::known());
}

#[tokio::test]
async fn a_damaged_database_is_refused_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let store = Sqlite::open(&path).await.unwrap();
    for n in 0..500 {
        store.change(Change::Create(account(&format!("user{n}")))).await.unwrap();
    }
    store.close().await.unwrap();
    // Everything behind the schema.
    let mut bytes = std::fs::read(&path).unwrap();
    assert!(bytes.len() > 100_000, "{}", bytes.len());
    for byte in bytes.iter_mut().skip(12 * 4096) {
        *byte = 0x5a;
    }
    std::fs::write(&path, bytes).unwrap();
    let error = Sqlite::open(&path).await.unwrap_err();
    let text = without_path(&error, &folder);
    assert!(matches!(error, StoreError::Corrupt { .. }), "{text}");
    assert!(text.starts_with("users.db is damaged: "), "{text}");
}

#[tokio::test]
async fn what_somebody_else_wrote_into_it_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let store = Sqlite::open(&path).await.unwrap();
    store.change(Change::Create(account("alice"))).await.unwrap();
    let other = Connection::open(&path).unwrap();
    for (column, value, what) in [
        ("password", "'swordfish'", "a user or token has a bad password"),
        ("profile", "'{'", "a user or token has a bad profile"),
        ("roles", "'{}'", "a user or token has a bad list of roles"),
        ("name", "'ALICE'", "a user or token has a bad name"),
        ("detail", "CAST(x'ff' AS TEXT)", ""),
    ] {
        let was: rusqlite::types::Value =
            other.query_row(&format!("SELECT {column} FROM users"), [], |row| row.get(0)).unwrap();
        other.execute(&format!("UPDATE users SET {column} = {value}"), []).unwrap();
        let id: [u8; 16] = other.query_row("SELECT id FROM users", [], |row| row.get(0)).unwrap();
        let error = store.account(UserId::from_bits(id).into()).await.unwrap_err();
        let text = without_path(&error, &folder);
        assert!(text.starts_with("users.db is damaged: ") && text.ends_with(what), "{column}: {text}");
        other.execute(&format!("UPDATE users SET {column} = ?1"), [was]).unwrap();
    }
    assert!(store.account(Username::parse("alice").unwrap().into()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_folder_that_does_not_exist_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Sqlite::open(folder.path().join("nowhere/users.db")).await.unwrap_err();
    let text = without_path(&error, &folder);
    assert_eq!(text, "cannot use nowhere/users.db: No such file or directory (os error 2)");
    let error = Sqlite::open(folder.path()).await.unwrap_err();
    assert!(error.to_string().ends_with("Is a directory (os error 21)"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn the_files_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let _store = Sqlite::open(&path).await.unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let (name, mode) = (entry.file_name(), entry.metadata().unwrap().permissions().mode());
        assert_eq!(mode & 0o777, 0o600, "{}", name.display());
        names.push(name);
    }
    names.sort();
    assert_eq!(names, ["users.db", "users.db-shm", "users.db-wal", "users.db.lock"]);
}

#[tokio::test]
async fn notes_are_bounded_and_do_not_stand_before_changes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path().join("users.db")).await.unwrap();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let hold = move |_: &Connection| wait.recv().unwrap();
    store.changes.send(Job::Do(Box::new(hold))).await.unwrap();
    for n in 0..100_000_u32 {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        store.note(Note::Used(TokenHash::from_bytes(hash), Timestamp::EPOCH));
    }
    assert_eq!(store.notes.0.lock().unwrap().len(), NOTES);
    assert!(store.changes.capacity() >= QUEUE - 2, "one job tells of all of them");
    go.send(()).unwrap();
    store.change(Change::Create(account("alice"))).await.unwrap();
    assert_eq!(store.notes.0.lock().unwrap().len(), 0);
}

#[test]
fn lock_ends_with_its_owner_and_not_with_a_copy_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let held = lock(&path).unwrap();
    assert!(matches!(lock(&path), Err(StoreError::InUse { .. })));
    // As a program has it that is being started at this moment.
    let copy = held.0.try_clone().unwrap();
    drop(held);
    assert!(lock(&path).is_ok());
    drop(copy);
}
