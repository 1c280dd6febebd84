//! The pure layers stay pure: bytes and times come in as arguments, bytes and events go out.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders of pure code.
const PURE: [&str; 2] = ["wire", "session"];

/// What would bring in a runtime, a socket, a clock, a thread or chance; and the layers above.
const FOREIGN: [&str; 14] = [
    "tokio",
    "std::net",
    "std::os",
    "std::fs",
    "std::env",
    "std::thread",
    "SystemTime",
    "Instant::now",
    ".elapsed()",
    "RandomState",
    "crate::socket",
    "crate::server",
    "crate::client",
    "async ",
];

/// Files below a folder, however deep.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Lines of code that name something foreign, as `line number: line (what)`. Comments and tests may.
fn foreign(source: &str) -> Vec<String> {
    let code = source.lines().take_while(|line| line.trim() != "#[cfg(test)]").enumerate();
    let mut found = Vec::new();
    for (n, line) in code {
        let said = line.split("//").next().unwrap_or_default();
        for word in FOREIGN.iter().filter(|word| said.contains(**word)) {
            found.push(format!("{}: {} ({word})", n + 1, line.trim()));
        }
    }
    found
}

#[test]
fn wire_and_session_know_no_runtime_no_socket_and_no_clock() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut complaints = String::new();
    let mut read = 0;
    for file in PURE.iter().flat_map(|layer| files(&src.join(layer))) {
        if file.ends_with("tests.rs") {
            continue;
        }
        read += 1;
        for line in foreign(&fs::read_to_string(&file).unwrap()) {
            writeln!(complaints, "{}:{line}", file.strip_prefix(&src).unwrap().display()).unwrap();
        }
    }
    assert!(read >= 10, "{read} files are not all of the pure layers");
    assert!(complaints.is_empty(), "pure code names what it must not know:\n{complaints}");
}

#[test]
fn scan_finds_code_and_leaves_comments_and_tests_alone() {
    let source = "// tokio\nlet now = Instant::now(); // why\n#[cfg(test)]\nuse tokio::test;\n";
    assert_eq!(foreign(source), ["2: let now = Instant::now(); // why (Instant::now)"]);
}
