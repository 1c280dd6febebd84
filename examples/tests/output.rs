//! Every example runs, ends by itself, and prints what is written here.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::process::Command;

/// What an example printed on standard output.
fn run(program: &str) -> String {
    let output = Command::new(program).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} ended with {}: {errors}", output.status);
    assert_eq!(errors, "", "{program} complained");
    String::from_utf8(output.stdout).unwrap()
}

macro_rules! examples {
    ($($test:ident: $name:literal => $expected:expr;)*) => {
        $(
            #[test]
            fn $test() {
                assert_eq!(run(env!(concat!("CARGO_BIN_EXE_", $name))), $expected);
            }
        )*
    };
}

examples! {
    echo: "01_echo" => "\
bye: cruel world
bye: cruel café
";
    request_reply: "02_request_reply" => "\
84 / 2 = 42
slowly: at last
1 / 0: `divide` was rejected: 1 / 0 (undefined)
unreadable: `divide` was rejected: the body cannot be read: invalid type: string \\\"what?\\\", \
expected struct Division at line 1 column 7 (bad_body)
nobody: `multiply` was rejected: nobody handles `multiply` here (no_handler)
hurried: `slowly` got no answer within 20ms
";
    raw_buffers: "03_raw_buffers" => "\
5000000 of 5000000 bytes have arrived
bytes 254 to 260: [254, 255, 0, 1, 2, 3]
";
    client_certificates: "04_client_certificates" => "\
the server knows me as alice
without a certificate: the server requires a client certificate: give one with `identity`
without trust: the server's certificate was issued by nobody trusted here: give its CA with `ca`, \
or let the server send its intermediate certificates
";
    chat: "05_chat" => "\
ann enters the kitchen and meets []
bob enters the kitchen and meets [\"ann\"]
eve enters the garden and meets []
ann was heard by 2
ann hears ann: tea?
bob hears ann: tea?
";
    graceful_shutdown: "06_graceful_shutdown" => "\
one cake, as ordered
the connection was closed by the peer: going_away (this side is stopping)
1 connection ended in peace, 0 were cut
too late: nobody listens any more
";
}

#[test]
fn examples_are_short_enough_for_one_sitting() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin")).unwrap() {
        let path = entry.unwrap().path();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 120, "{} has {lines} lines", path.display());
    }
}
