//! Every page with commands is typed by a test, or is here with the reason why it is not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use tests::page::{blocks, root, steps};

/// Pages with blocks of the kind `console`, and the test that types them.
const TYPED: [(&str, &str, &str); 3] = [
    ("README.md", "nsp-cli/tests/pages.rs", "tour_of_the_first_page_prints_what_it_says"),
    ("nsp-cli/README.md", "nsp-cli/tests/pages.rs", "first_ten_minutes_print_what_their_page_says"),
    ("nsp/README.md", "examples/tests/pages.rs", "daemon_and_client_print_what_the_page_of_nsp_says"),
];

/// Commands in other blocks and in the heads of examples, which say nothing of what they print, and who has run them.
const NOT_TYPED: [(&str, &str, &str); 16] = [
    ("README.md", "cargo run --release -p nsp-cli --bin nsp -- daemon", "the tour runs it, built"),
    ("README.md", "cargo test --workspace", "it runs this test"),
    ("CONTRIBUTING.md", "cargo test --workspace", "it runs this test"),
    ("CONTRIBUTING.md", ".ci/run", "it runs this test"),
    ("CONTRIBUTING.md", "FUZZ=60 .ci/run", "the same, for longer"),
    ("CONTRIBUTING.md", "cargo bench -p nossock -- --rounds 5", "it takes a quiet machine for half an hour"),
    ("CONTRIBUTING.md", "cargo bench -p nsp", "it takes a quiet machine for minutes"),
    ("CONTRIBUTING.md", "cargo bench -p nsp-auth", "it takes a quiet machine for minutes"),
    (
        "CONTRIBUTING.md",
        "cd fuzz && cargo +nightly fuzz run decoder",
        "it needs a nightly toolchain, and does not end",
    ),
    ("fuzz/README.md", "fuzz/run 60", "it needs a nightly toolchain; .ci/run runs it for 5 seconds a target"),
    ("fuzz/README.md", "fuzz/run 1800 decoder nsp_daemon", "the same for half an hour"),
    ("examples/src/bin/09_nsp_client.rs", "cargo run -p examples --bin 09_nsp_client", "on the page of nsp"),
    ("examples/node/13_client.js", "npm install nossock@0.0.10", "tests/tests/npm_nsp.rs has it installed"),
    ("examples/node/13_client.js", "cargo run -p examples --bin 08_nsp_daemon", "on the page of nsp"),
    ("examples/node/13_client.js", "node examples/node/13_client.js 43580", "tests/tests/npm_nsp.rs runs it"),
    ("examples/python/14_service.py", "nsp ", "on the first page"),
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "node_modules"].contains(&name) {
                files(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

/// Pages and examples, with their names below the root.
fn pages() -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(&root(), &mut found);
    let mut pages = Vec::new();
    for path in found {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let is_example = name.starts_with("examples/") && !name.starts_with("examples/tests/");
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if ending == "md" || (is_example && ["rs", "js", "py"].contains(&ending)) {
            pages.push((name, fs::read_to_string(path).unwrap()));
        }
    }
    assert!(pages.len() > 30, "{}", pages.len());
    pages
}

/// Commands that stand on a page without what they print.
fn bare_commands(name: &str, text: &str) -> Vec<String> {
    let lines: Vec<&str> = if name.ends_with(".md") {
        ["sh", "bash", "shell"].iter().flat_map(|kind| blocks(text, kind)).flat_map(str::lines).collect()
    } else {
        // In the comment at its head.
        let begins = ["cargo ", "nsp ", "nossock ", "node ", "npm "];
        let head = text.lines().skip_while(|line| line.starts_with("#!"));
        let head = head.take_while(|line| line.starts_with(['/', '"', ' ']) || line.is_empty());
        let head = head.map(|line| line.trim_start_matches(['/', '!', ' ']));
        head.filter(|line| begins.iter().any(|begin| line.starts_with(begin))).collect()
    };
    let commands = lines.into_iter().map(|line| line.split(" #").next().unwrap().trim().to_owned());
    commands.filter(|command| !command.is_empty()).collect()
}

#[test]
fn every_page_with_commands_is_typed_or_has_a_reason() {
    let pages = pages();
    let mut reasons: Vec<_> = NOT_TYPED.iter().collect();
    for (name, text) in &pages {
        if !steps(text).is_empty() {
            assert!(TYPED.iter().any(|(page, ..)| page == name), "no test types what {name} shows");
        }
        for command in bare_commands(name, text) {
            let known = NOT_TYPED.iter().any(|(page, begin, _)| page == name && command.starts_with(begin));
            assert!(known, "nobody types this command of {name}: {command}");
            reasons.retain(|(page, begin, _)| !(page == name && command.starts_with(begin)));
        }
    }
    assert!(reasons.is_empty(), "these are on no page any more: {reasons:?}");
    for (page, file, test) in TYPED {
        let text = &pages.iter().find(|(name, _)| name == page).unwrap().1;
        assert!(!steps(text).is_empty(), "{page} has no commands");
        let tests = fs::read_to_string(root().join(file)).unwrap();
        let typed = tests.split(&format!("fn {test}()")).nth(1).unwrap().split("#[test]").next().unwrap();
        assert!(typed.contains(&format!("type_page({page:?})")), "{test} does not type {page}");
    }
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let mut followed = 0;
    for (name, text) in pages().iter().filter(|(name, _)| name.ends_with(".md")) {
        let folder = root().join(name).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            // What rustdoc resolves, and the world outside.
            let is_file = link.contains(['.', '/', '#']);
            if !is_file || link.contains("::") || link.contains("://") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { root().join(name) } else { folder.join(path) };
            assert!(target.exists(), "{name}: {link} is not there");
            if !heading.is_empty() {
                let page = fs::read_to_string(&target).unwrap();
                let headings = page.lines().filter(|line| line.starts_with('#'));
                let there =
                    headings.map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"));
                assert!(there.into_iter().any(|there| there == heading), "{name}: {link} is no heading");
            }
            followed += 1;
        }
    }
    assert!(followed > 20, "{followed}");
}
