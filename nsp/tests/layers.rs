//! The pure layers stay pure: they know no runtime, no socket and no clock, and hold no file that is too long.
#![allow(clippy::unwrap_used, reason = "a test that cannot read the sources has failed")]

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

fn all(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder), &mut found);
    found
}

#[test]
fn pure_layers_know_no_runtime_no_socket_and_no_clock() {
    let forbidden = [
        "tokio",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "ToSocketAddrs",
        "std::thread",
        "std::fs",
        "Instant::now",
        "SystemTime",
        "async fn",
        ".await",
    ];
    let files: Vec<_> = PURE.iter().flat_map(|layer| all(layer)).collect();
    assert!(files.len() > 10, "only {} files", files.len());
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        for word in forbidden {
            assert!(!text.contains(word), "{} knows {word}", path.display());
        }
    }
}

const PURE: [&str; 3] = ["proto", "secure", "machine"];

#[test]
fn no_file_is_longer_than_a_reader_has_patience_for() {
    for path in all("") {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 520, "{} has {lines} lines", path.display());
    }
}

#[test]
fn every_test_that_the_page_on_compatibility_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("src/manual/compatibility.md")).unwrap();
    let mut files = all("");
    sources(&root.join("tests"), &mut files);
    let code: String = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    // A name of a test is a sentence: the codes of failures are shorter.
    let named: Vec<_> = page.split('`').filter(|word| word.matches('_').count() >= 3).collect();
    assert!(named.len() >= 25, "only {}", named.len());
    for name in named {
        assert!(code.contains(&format!("fn {name}()")), "there is no test {name}");
    }
}
