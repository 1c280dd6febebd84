//! The pages about compatibility name tests and recordings: each of them exists.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All that is written in Rust, and the names of all recordings.
fn project() -> (String, Vec<String>) {
    let (mut text, mut recordings) = (String::new(), Vec::new());
    let mut all = Vec::new();
    for folder in [
        "nossock/src",
        "nossock/tests",
        "nsp/src",
        "nsp/tests",
        "nsp-auth/tests",
        "nsp-cli/tests",
        "tests/tests",
    ] {
        files(&root().join(folder), &mut all);
    }
    for file in all {
        if file.extension().is_some_and(|ending| ending == "rs") {
            text.push_str(&std::fs::read_to_string(file).unwrap());
        } else if let Some(name) = file.file_name().and_then(|name| name.to_str()) {
            recordings.push(name.to_owned());
        }
    }
    (text, recordings)
}

#[test]
fn every_test_that_a_page_names_exists() {
    let (text, recordings) = project();
    for (page, least) in
        [("nossock/src/manual/compatibility.md", 15), ("nsp/src/manual/compatibility.md", 40)]
    {
        let written = std::fs::read_to_string(root().join(page)).unwrap();
        let (mut named, mut in_table) = (0, false);
        for row in written.lines() {
            in_table = row.starts_with('|') && (in_table || row.contains("| shown by |"));
            if !in_table || row.contains("| shown by |") || row.starts_with("|---") {
                continue;
            }
            let shown = row.trim_end_matches('|').rsplit("| ").next().unwrap();
            let names: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
            assert!(!names.is_empty(), "{page}: nothing shows: {row}");
            for name in names {
                let is_test = text.contains(&format!("fn {name}(")) || text.contains(&format!("fn {name}<"));
                let is_recording = recordings.iter().any(|file| file.split('.').next() == Some(name));
                assert!(is_test || is_recording, "{page}: nothing is called {name}");
                named += 1;
            }
        }
        assert!(named >= least, "{page}: {named}");
    }
}
