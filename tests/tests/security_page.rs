//! The page about security names tests: each of them exists.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_test_that_the_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let mut files = Vec::new();
    for package in ["nossock", "nsp", "nsp-auth", "nsp-cli", "tests"] {
        for folder in ["src", "tests"] {
            let folder = root.join(package).join(folder);
            if folder.is_dir() {
                sources(&folder, &mut files);
            }
        }
    }
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let threats = page.split("## Threats").nth(1).unwrap().split("## Out of scope").next().unwrap();
    let rows = threats.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| threat"));
    let mut named = 0;
    for row in rows {
        let tests = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let tests: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test is named in: {row}");
        for test in tests {
            let exists =
                [format!("fn {test}("), format!("fn {test}<")].iter().any(|name| text.contains(name));
            assert!(exists, "no test is called {test}");
            named += 1;
        }
    }
    assert!(named > 50, "{named}");
}
