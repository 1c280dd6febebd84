//! Ten seconds of `soak`; `cargo run -p tests --bin soak -- 1800` runs half an hour of it.
#![allow(clippy::print_stdout, reason = "prints the figures")]

use std::process::Command;

#[test]
fn what_was_acknowledged_is_there_and_nothing_came_twice() {
    let ran = Command::new(env!("CARGO_BIN_EXE_soak")).arg("10").output().expect("it runs");
    let (table, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    println!("{table}{errors}");
    assert!(ran.status.success(), "{table}{errors}");
    assert!(
        table.contains("| lost of those acknowledged | 0 |") && table.contains("| received twice | 0 |"),
        "{table}"
    );
}
