//! What the compiler says of a handler that does not fit.

/// The toolchain whose words are recorded; others put the same things otherwise.
const RECORDED_WITH: &str = "1.95.";

#[test]
fn wrong_handlers_are_explained_by_the_compiler() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = std::process::Command::new(rustc).arg("--version").output().expect("cargo found it too");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if !version.contains(RECORDED_WITH) {
        assert!(
            std::env::var_os("CI").is_none(),
            "the gate runs with Rust {RECORDED_WITH}x, this is {version}"
        );
        eprintln!("skipped: the messages were recorded with Rust {RECORDED_WITH}x, this is {version}");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
