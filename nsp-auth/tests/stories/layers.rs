//! What the tree promises: no file is too long to read, and what is pure stays so.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_file_is_longer_than_a_reader_has_patience_for() {
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    }
    assert!(found.len() > 30, "only {} files", found.len());
    for path in found {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 520, "{} has {lines} lines", path.display());
    }
}

#[test]
fn what_decides_knows_no_runtime_no_file_and_no_clock() {
    for file in ["throttle.rs", "token.rs", "user.rs", "password/hash.rs", "password/rules.rs"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file)).unwrap();
        for word in
            ["tokio", "rusqlite", "std::fs", "std::thread", "SystemTime", "Instant", "async fn", ".await"]
        {
            assert!(!text.contains(word), "{file} knows {word}");
        }
    }
}
