//! Whether it is the right daemon.

use std::fs;

use crate::support::{Daemon, nsp, path, said};

/// A command that knows of no CA.
fn bare(daemon: &Daemon, args: &[&str]) -> (i32, String, String) {
    let home = daemon.dir.path().join("home");
    said(&nsp().args(args).env("NSP_URL", daemon.url()).env("NSP_HOME", home).output().unwrap())
}

#[test]
fn daemon_that_nobody_vouches_for_is_refused_until_it_is_known() {
    let daemon = Daemon::start(&[]);
    let key = daemon.greeting.lines().find_map(|line| line.strip_prefix("key ")).unwrap();
    let (status, _, error) = bare(&daemon, &["services"]);
    assert_eq!(status, 4);
    assert!(error.contains(key) && error.contains("nsp trust add") && error.lines().count() == 1, "{error}");
    assert_eq!(bare(&daemon, &["services", "--pin", key]).0, 0);
    assert_eq!(bare(&daemon, &["trust", "ls"]).1, "", "a pin is not remembered");
    assert_eq!(bare(&daemon, &["services", "--trust", "accept-new"]).0, 0);
    assert_eq!(bare(&daemon, &["services", "--trust", "strict"]).0, 0, "it is known now");
    let host = daemon.url().strip_prefix("nsps://").unwrap();
    assert_eq!(bare(&daemon, &["trust", "ls"]).1, format!("{host}  tls  {key}"));
    assert_eq!(bare(&daemon, &["trust", "rm", daemon.url()]).0, 0);
    assert_eq!(bare(&daemon, &["trust", "rm", host]).0, 2);
    assert_eq!(bare(&daemon, &["services"]).0, 4);
    assert_eq!(bare(&daemon, &["trust", "add", daemon.url(), "--key", key]).0, 0);
    assert_eq!(bare(&daemon, &["services"]).0, 0);
}

#[test]
fn key_that_has_changed_is_refused_and_said_where_it_is_known() {
    let daemon = Daemon::start(&[]);
    assert_eq!(bare(&daemon, &["trust", "add", daemon.url(), "--yes"]).0, 0);
    let known = daemon.dir.path().join("home/known_daemons");
    let text = fs::read_to_string(&known).unwrap();
    let (host, _) = text.split_once(' ').unwrap();
    fs::write(&known, format!("# ours\n{host} tls SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\n"))
        .unwrap();
    for trust in ["accept-new", "strict", "ask"] {
        let (status, _, error) = bare(&daemon, &["services", "--trust", trust]);
        assert_eq!(status, 4);
        assert!(error.contains("has changed") && error.contains(&format!("{}:2", path(&known))), "{error}");
        assert!(error.lines().count() == 1, "{error}");
    }
    let (status, _, error) = bare(&daemon, &["services", "--insecure"]);
    assert_eq!(status, 0);
    assert!(error.starts_with("nsp: warning: --insecure accepts any key"), "{error}");
}

#[test]
fn certificate_of_another_ca_and_of_another_name_are_refused() {
    let (daemon, other) = (Daemon::start(&[]), Daemon::start(&[]));
    let ca = other.file("ca.pem");
    let (status, _, error) = bare(&daemon, &["services", "--ca", path(&ca)]);
    assert!(status == 4 && error.contains("issued by nobody trusted here"), "{status} {error}");
    let (status, _, error) = daemon.run(&["services", "--sni", "example.org"]);
    assert!(status == 4 && error.contains("example.org"), "{status} {error}");
}

#[test]
fn key_of_sp_is_remembered_as_well() {
    let daemon =
        Daemon::start(&["--listen", "ws://127.0.0.1:0", "--legacy-clients", "noservice://127.0.0.1:0"]);
    let url = &daemon.urls[1];
    let (status, printed, error) = bare(&daemon, &["trust", "add", url, "--yes"]);
    assert_eq!((status, error.as_str()), (0, ""));
    assert!(printed.contains("  nsp-rsa  SHA256:"), "{printed}");
    assert_eq!(bare(&daemon, &["services", "--url", url]).0, 0);
    let known = daemon.dir.path().join("home/known_daemons");
    let text = fs::read_to_string(&known).unwrap();
    let (host, _) = text.split_once(' ').unwrap();
    fs::write(&known, format!("{host} nsp-rsa SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\n"))
        .unwrap();
    let (status, _, error) = bare(&daemon, &["services", "--url", url]);
    assert!(status == 4 && error.contains("has changed"), "{status} {error}");
    let (status, _, error) = bare(&daemon, &["trust", "add", daemon.url(), "--yes"]);
    assert!(status == 4, "there is no key to be seen: {status} {error}");
}

#[test]
fn doctor_says_where_the_way_ends() {
    let daemon = Daemon::start(&[]);
    let (status, shown, _) = daemon.run(&["doctor"]);
    assert_eq!((status, shown.lines().count()), (0, 5), "{shown}");
    assert!(shown.lines().all(|line| line.starts_with("ok ")), "{shown}");
    let (status, shown, _) = bare(&daemon, &["doctor", daemon.url()]);
    assert_eq!(status, 4);
    assert!(
        shown.lines().last().unwrap().starts_with("FAIL  nsp") && shown.contains("nsp trust add"),
        "{shown}"
    );
    let (status, shown, _) = daemon.run(&["doctor", "nsps://127.0.0.1:1", "--json"]);
    let last: serde_json::Value = serde_json::from_str(shown.lines().last().unwrap()).unwrap();
    assert_eq!((status, &last["step"], &last["ok"]), (3, &"tcp".into(), &false.into()));
}
