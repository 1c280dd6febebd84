//! Every example runs, ends by itself, and prints what is written here.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// What an example printed on standard output.
fn run(program: &str) -> String {
    run_with(program, &[])
}

fn run_with(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
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
    custom_protocol: "07_custom_protocol" => "\
hub: sensor-7 reports [2150, 2153]
hub: sensor-7 reports [-30000]
sensor: calibrating with ice water
hub: sensor-7 is off by -40
sensor: done
stranger: the peer refused us
";
    events_and_blobs: "10_events_and_blobs" => "\
reached 2 by any topic, 1 by both, 3 with the map
informed: rain stops play
informed: for the well informed
sporty: rain stops play
idle: a map of 300000 bytes, {\"format\":\"png\"}
";
    users_and_tokens: "11_users_and_tokens" => "\
without a token: refused: AuthFailed: the client has shown nothing
with a wrong password: the user or the password is wrong
with a token: Dear diary, today alice wrote an example.
burn it: AuthFailed: the user is no superuser
1 token revoked
afterwards: refused: AuthFailed: user or secret is wrong
";
    authorized_service: "12_authorized_service" => "\
anybody:
  count: 2
  get: AuthFailed: not permitted
  set: AuthFailed: not permitted
nurse1:
  count: 2
  get: {\"bed\":7,\"id\":1}
  set: AuthFailed: not permitted
doctor1:
  count: 2
  get: {\"bed\":7,\"diagnosis\":\"curiosity\",\"id\":1}
  set: \"changed\"
why may the nurse not set? nurse1 may not call Patients.set: it counts as update, \
and none of their roles grants it (anonymous, nurse)
";
}

/// A program that runs until the test is over.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn nsp_client_talks_to_nsp_daemon_by_every_carrier() {
    let daemon = Command::new(env!("CARGO_BIN_EXE_08_nsp_daemon"))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    let mut daemon = Running(daemon.unwrap());
    let lines = BufReader::new(daemon.0.stdout.take().unwrap()).lines();
    let addresses: Vec<String> =
        lines.take(4).map(|line| line.unwrap().strip_prefix("listening ").unwrap().to_owned()).collect();
    let schemes: Vec<_> = addresses.iter().map(|address| address.split_once(':').unwrap().0).collect();
    assert_eq!(schemes, ["nsp", "nsps", "ws", "noservice"]);
    for address in &addresses {
        let printed = run_with(env!("CARGO_BIN_EXE_09_nsp_client"), &[address]);
        let expected = "\
Welcome, Ann.
Welcome, Bob.
Ann sees Bob arrive
Bob was heard by 2; Ann hears: Tea, anyone?
1000 bytes became 500, {\"width\":32}
without a name: who are you?
";
        assert_eq!(printed, expected, "{address}");
    }
}

#[test]
fn examples_are_short_enough_for_one_sitting() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin")).unwrap() {
        let path = entry.unwrap().path();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 120, "{} has {lines} lines", path.display());
    }
}
