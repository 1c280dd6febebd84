//! What `nossock` shows of long transfers, on a terminal.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs;
use std::process::{Command, Stdio};

use tests::{Await, has_terminal, terminal};

#[test]
fn file_that_is_sent_in_pieces_has_a_bar_on_both_sides() {
    if !has_terminal() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("photo.png"), vec![7; 64 << 20]).unwrap();
    let nossock = env!("CARGO_BIN_EXE_nossock");
    let url = format!("unix:{}", path("socket"));

    // Where the bar is seen, and taken off the screen before the line is printed.
    let steps =
        [Await::then_make("listening unix:", &dir.path().join("ready")), Await::then_type("photo.png ", "")];
    let mut listener = terminal(nossock, &steps);
    listener.args(["listen", &url, "--save", &path("saved"), "--count", "1"]).env("TERM", "xterm");
    let listener =
        listener.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !dir.path().join("ready").exists() {
        std::thread::yield_now();
    }
    let mut sender = terminal(nossock, &[Await::then_type("sending ", "")]);
    sender
        .args(["send", &url, "photo.png", "--raw", &format!("@{}", path("photo.png"))])
        .env("TERM", "xterm");
    let (sent, saved) = (sender.output().unwrap(), listener.wait_with_output().unwrap());
    let text = |output: &std::process::Output| {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout.clone()).unwrap()
    };
    let (sent, saved) = (text(&sent), text(&saved));
    for shown in [&sent, &saved] {
        assert!(shown.contains("/64.00 MiB"), "{shown}");
    }
    assert!(saved.trim_end().lines().last().unwrap().contains(" saved "), "{saved}");
    assert_eq!(fs::metadata(path("saved/photo.png")).unwrap().len(), 64 << 20);

    // Off a terminal nobody would see it.
    let server = Command::new(nossock).args(["serve", &format!("unix:{}", path("other")), "--echo"]).spawn();
    let mut server = server.unwrap();
    while !dir.path().join("other").exists() {
        std::thread::yield_now();
    }
    let args = ["send", &format!("unix:{}", path("other")), "x", "--raw", &format!("@{}", path("photo.png"))];
    let output = Command::new(nossock).args(args).output().unwrap();
    drop(server.kill());
    drop(server.wait());
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
}
