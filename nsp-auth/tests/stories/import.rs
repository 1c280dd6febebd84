//! The users of a NoService daemon.

use std::path::{Path, PathBuf};

use nsp::authority::Authority as _;
use nsp_auth::import::{Import, ImportError};
use nsp_auth::store::{Sqlite, Store};
use rusqlite::Connection;

use crate::common::{PASSWORD, builder, login, name, with_user};

/// What the original says to SQLite when it begins: the list of its models, and the model of users, which is a pair of two keys with timestamps.
/// Its types are no more than affinities: a number in a column of text becomes one, and a blob stays what it is.
const SCHEMA: &str = "
    CREATE TABLE NoService_Models(name VARCHAR(255) NOT NULL, structure TEXT, PRIMARY KEY (name)) ;
    CREATE TABLE NoService_Model_NSUser(username VARCHAR(255) NOT NULL, userid VARCHAR(255) NOT NULL, displayname VARCHAR(255), \
    pwdhash TEXT, token VARCHAR(255), tokenexpire VARCHAR(255), privilege integer, detail TEXT, firstname VARCHAR(255), \
    lastname VARCHAR(255), createdate DATETIME, modifydate DATETIME, PRIMARY KEY (username, userid)) ;
    REPLACE INTO  NoService_Models(name, structure) VALUES ('NSUser', '{\"model_type\":\"Pair\",\"do_timestamp\":true,\
    \"model_key\":[\"username\",\"userid\"],\"structure\":{\"username\":\"VARCHAR(255)\",\"userid\":\"VARCHAR(255)\",\
    \"displayname\":\"VARCHAR(255)\",\"pwdhash\":\"TEXT\",\"token\":\"VARCHAR(255)\",\"tokenexpire\":\"VARCHAR(255)\",\
    \"privilege\":\"integer\",\"detail\":\"TEXT\",\"firstname\":\"VARCHAR(255)\",\"lastname\":\"VARCHAR(255)\",\
    \"createdate\":\"DATETIME\",\"modifydate\":\"DATETIME\"}}');";

/// How it adds a user: the columns in the order in which it names them.
const ROW: &str = "INSERT INTO NoService_Model_NSUser(userid, username, displayname, pwdhash, token, tokenexpire, privilege, \
    detail, firstname, lastname, createdate, modifydate) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// What the original keeps of `admin`, as its database has it.
const ADMIN: &str = "d3acf235cbaa63e87a67493afd4fdf7b95aac8a263a0bfc2a11f68c8333e60a0";

fn original(folder: &Path) -> (PathBuf, Connection) {
    let path = folder.join("noservice.sqlite3");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    (path, connection)
}

fn insert(connection: &Connection, user: &str, n: u8, hash: &str, privilege: impl rusqlite::ToSql) {
    let id = format!("1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4b{n:02x}");
    let (token, expires) = ("1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed", "2026-12-01 00:00:00");
    let (created, modified) = ("2020-02-29 12:34:56", "2021-01-01 00:00:00");
    let values: [&dyn rusqlite::ToSql; 12] = [
        &id,
        &user,
        &"Shown",
        &hash,
        &token,
        &expires,
        &privilege,
        &"a detail",
        &"First",
        &"Last",
        &created,
        &modified,
    ];
    connection.execute(ROW, values).unwrap();
}

fn hmac(password: &str, key: &[u8]) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    aws_lc_rs::hmac::sign(&key, password.as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[tokio::test]
async fn users_of_the_original_log_in_with_their_old_passwords() {
    let folder = tempfile::tempdir().unwrap();
    let (path, connection) = original(folder.path());
    assert_eq!(hmac("admin", b"FATFROG"), ADMIN);
    insert(&connection, "admin", 1, ADMIN, 0);
    insert(&connection, "alice", 2, &hmac("rabbit", b"FATFROG"), 1);
    let users_db = folder.path().join("users.db");
    let authority = builder().open(&users_db).await.unwrap();
    let imported = authority.users().import(Import::new(&path)).await.unwrap();
    assert_eq!(imported.users, [name("admin"), name("alice")]);
    assert_eq!(imported.refused, []);
    // What everybody knows opens nothing.
    assert_eq!(imported.locked, [name("admin")]);
    assert!(login(&authority, "admin", "admin").await.is_err());
    authority.users().set_password(name("admin"), PASSWORD.into()).await.unwrap();
    authority.users().unlock(name("admin")).await.unwrap();
    login(&authority, "admin", PASSWORD).await.unwrap();

    let alice = authority.users().find(name("alice")).await.unwrap().unwrap();
    assert_eq!(alice.id.to_string(), "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4b02");
    assert_eq!(
        (alice.display_name.as_str(), alice.first_name.as_str(), alice.last_name.as_str()),
        ("Shown", "First", "Last")
    );
    assert_eq!((alice.detail.as_str(), alice.privilege, alice.must_change_password), ("a detail", 1, true));
    assert_eq!(alice.created.to_string(), "2020-02-29T12:34:56Z");
    assert!(login(&authority, "alice", "rabbiT").await.is_err());
    assert!(
        login(&authority, "alice", &hmac("rabbit", b"FATFROG")).await.is_err(),
        "the old hash is no password"
    );
    login(&authority, "alice", "rabbit").await.unwrap();
    authority.close().await.unwrap();

    // With the first login the old hash is gone, and the password is as right as before.
    let store = Sqlite::open(&users_db).await.unwrap();
    let kept = store.account(name("alice").into()).await.unwrap().unwrap().password;
    assert!(kept.reveal().starts_with("$argon2id$"), "{}", kept.reveal());
    store.close().await.unwrap();
    let authority = builder().open(&users_db).await.unwrap();
    login(&authority, "alice", "rabbit").await.unwrap();
    // The token that lay there in clear is no token here.
    let old = "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed".into();
    assert!(authority.judge_token("alice", &old, Default::default()).await.is_err());
    // A second import finds them all there, and changes nothing.
    let Err(ImportError::Refused(rows)) = authority.users().import(Import::new(&path)).await else {
        panic!()
    };
    let expected = [
        "row 1 (admin): there is a user admin of this name or id already",
        "row 2 (alice): there is a user alice of this name or id already",
    ];
    assert_eq!(rows.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn rows_that_cannot_become_users_are_listed_and_nothing_is_half_imported() {
    let folder = tempfile::tempdir().unwrap();
    let (path, connection) = original(folder.path());
    let hash = hmac("rabbit", b"FATFROG");
    insert(&connection, "alice", 1, &hash, 1);
    insert(&connection, "adm%", 2, &hash, 0);
    insert(&connection, "ALICE", 3, &hash, 0);
    insert(&connection, "bobby", 4, "plain text", 1);
    insert(&connection, "carol", 5, &hash, "all of it");
    insert(&connection, "david", 6, &hash, "7");
    insert(&connection, "x' --\n\u{1b}[2J", 7, &hash, 1);
    insert(&connection, "frank", 8, &hash, 1);
    connection
        .execute("UPDATE NoService_Model_NSUser SET firstname = x'ff' WHERE username = 'frank'", [])
        .unwrap();
    insert(&connection, "grace", 9, &hash, 1);
    connection
        .execute(
            "UPDATE NoService_Model_NSUser SET lastname = CAST(x'ff' AS TEXT) WHERE username = 'grace'",
            [],
        )
        .unwrap();
    insert(&connection, "henry", 10, &hash, 1);
    connection
        .execute("UPDATE NoService_Model_NSUser SET userid = '%' WHERE username = 'henry'", [])
        .unwrap();
    let authority = builder().open(folder.path().join("users.db")).await.unwrap();
    with_user(&authority, "other").await;
    let error = authority.users().import(Import::new(&path)).await.unwrap_err();
    let first = "row 2 (adm%): a user name has letters a to z and digits only, not '%'";
    assert_eq!(error.to_string(), format!("8 of the rows cannot become users, the first being {first}"));
    assert_eq!(
        authority.users().search("", None, 99).await.unwrap().users.len(),
        1,
        "not even the good ones"
    );

    let imported = authority.users().import(Import::new(&path).skip_refused()).await.unwrap();
    assert_eq!(imported.users, [name("alice"), name("david")]);
    let refused: Vec<_> = imported.refused.iter().map(ToString::to_string).collect();
    let expected = [
        first,
        "row 3 (ALICE): another row has the same name or id",
        "row 4 (bobby): the hash of the password is no HMAC-SHA256 in hexadecimal digits",
        "row 5 (carol): the privilege is no integer",
        "row 7 (x\\' --\\n\\u{1b}[2J): a user name has letters a to z and digits only, not '\\''",
        "row 8 (frank): column firstname is no text",
        "row 9 (grace): column lastname is no UTF-8",
        "row 10 (henry): the user id is no UUID",
    ];
    assert_eq!(refused, expected);
    assert_eq!(authority.users().find(name("david")).await.unwrap().unwrap().privilege, 7);
}

#[tokio::test]
async fn an_older_original_has_another_key() {
    let folder = tempfile::tempdir().unwrap();
    let (path, connection) = original(folder.path());
    insert(&connection, "alice", 1, &hmac("rabbit", b"of the settings"), 1);
    let authority = builder().open(folder.path().join("users.db")).await.unwrap();
    authority.users().import(Import::new(&path).key(b"of the settings")).await.unwrap();
    login(&authority, "alice", "rabbit").await.unwrap();
    login(&authority, "alice", "rabbit").await.unwrap();
}

#[tokio::test]
async fn what_is_no_database_of_the_original_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let authority = builder().open(folder.path().join("users.db")).await.unwrap();
    let import = async |name: &str| {
        let error = authority.users().import(Import::new(folder.path().join(name))).await.unwrap_err();
        error.to_string().replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(import("nothing").await, "cannot read nothing: unable to open database file: nothing");
    assert!(!folder.path().join("nothing").exists());
    std::fs::write(folder.path().join("letter"), "to my aunt ".repeat(1000)).unwrap();
    assert_eq!(import("letter").await, "cannot read letter: file is not a database");
    Connection::open(folder.path().join("empty")).unwrap().execute_batch("CREATE TABLE x (y)").unwrap();
    assert_eq!(import("empty").await, "empty has no table NoService_Model_NSUser with users");
    let table = "CREATE TABLE NoService_Model_NSUser (username)";
    Connection::open(folder.path().join("other")).unwrap().execute_batch(table).unwrap();
    assert_eq!(import("other").await, "other has no table NoService_Model_NSUser with users");
}
