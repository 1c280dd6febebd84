//! What the compiler says of handlers that do not fit.
//!
//! Its words change from release to release, so they are compared under one toolchain; under others this says that it
//! was skipped. `TRYBUILD=overwrite cargo +1.95.0 test -p nsp --test ui` writes down what is said now.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::process::Command;

/// The toolchain whose words are written down.
const RELEASE: &str = "1.95.";

/// Set where no test may be skipped.
const CI: &str = "CI";

#[test]
fn wrong_handler_is_explained() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    if !version.strip_prefix("rustc ").is_some_and(|version| version.starts_with(RELEASE)) {
        assert!(std::env::var_os(CI).is_none(), "this runs under rustc {RELEASE}x, and here is {version}");
        eprintln!("skipped: the diagnostics are those of rustc {RELEASE}x, and here is {version}");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
