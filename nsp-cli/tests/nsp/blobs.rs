//! Bytes, data and events of a service that is written in Rust, in this process.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nsp::daemon::{Blob, Daemon, Emitter, Entity, Fail, Json, Limits, Meta, Service, State};
use serde_json::{Value, json};
use tests::{Await, terminal};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::support::{Beside, nsp, path, said};

type Seen = Arc<Mutex<Vec<Value>>>;

/// A daemon in this process, until it is dropped.
struct Here {
    url: String,
    seen: Seen,
    home: tempfile::TempDir,
    _stop: oneshot::Sender<()>,
    _runtime: Runtime,
}

impl Here {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let seen = Seen::default();
        let service = Service::with_state("Files", Arc::clone(&seen))
            .blob_function("Turn", async |Blob(bytes): Blob, Meta(meta): Meta<Value>| {
                let turned: Vec<u8> = bytes.iter().rev().copied().collect();
                (Blob(turned.into()), Meta(json!({ "asked": meta })))
            })
            .blob_function("Count", async |Blob(bytes): Blob| bytes.len())
            .on_data(async |State(seen): State<Seen>, Json(data): Json<Value>| {
                seen.lock().unwrap().push(data);
            })
            .on_connect(async |emitter: Emitter, entity: Entity| -> Result<(), Fail> {
                let to = emitter.to_entity(&entity);
                to.emit_blob("picture", vec![1, 2, 3], &json!({ "w": 3 })).await?;
                entity.send(&"plain").await?;
                Ok(())
            });
        let mut limits = Limits::default();
        limits.connection.message = 64 << 20;
        limits.connection.request_bytes = 64 << 20;
        let builder = Daemon::builder().limits(limits).service(service).listen("nsp://127.0.0.1:0");
        let daemon = runtime.block_on(builder.bind()).unwrap();
        let url = daemon.addresses()[0].to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        runtime.spawn(daemon.serve_until(async { drop(stopped.await) }));
        Self { url, seen, home: tempfile::tempdir().unwrap(), _stop: stop, _runtime: runtime }
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = nsp();
        command.args(args).env("NSP_URL", &self.url).env("NSP_HOME", self.home.path());
        command
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        said(&self.command(args).output().unwrap())
    }

    fn file(&self, name: &str) -> String {
        path(&self.home.path().join(name)).to_owned()
    }
}

#[test]
fn bytes_go_there_and_come_back_as_they_are() {
    let here = Here::start();
    let (from, to) = (here.file("from"), here.file("to"));
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    fs::write(&from, &bytes).unwrap();
    let (status, printed, note) =
        here.run(&["call", "Files", "Turn", "{\"w\":64}", "--blob", &from, "--out", &to]);
    assert_eq!((status, printed.as_str()), (0, ""));
    assert_eq!(note, format!("300000 bytes in {to}"));
    let turned: Vec<u8> = bytes.iter().rev().copied().collect();
    assert!(fs::read(&to).unwrap() == turned);
    let output = here.command(&["call", "Files", "Turn", "--blob", &from]).output().unwrap();
    assert!(output.stdout == turned, "without --out they are the output");

    fs::write(&from, "abc").unwrap();
    let (_, printed, _) = here.run(&["call", "Files", "Turn", "7", "--blob", &from, "--json"]);
    let line: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(line, json!({"size": 3, "blob_b64": "Y2Jh", "out": null, "meta": {"asked": 7}}));
    assert_eq!(here.run(&["call", "Files", "Count", "--blob", &from]).1, "3", "JSON may come instead");
    assert_eq!(here.run(&["call", "Files", "Count", "--blob", &here.file("nowhere")]).0, 1);
    assert!(!Path::new(&here.file("nowhere")).exists());
}

/// Takes bytes from one to the other, and stops after a MiB until a file is there.
fn take(mut from: TcpStream, mut to: TcpStream, gate: &Path) {
    let (mut piece, mut taken) = (vec![0; 64 << 10], 0);
    while let Ok(read @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..read]).is_err() {
            return;
        }
        taken += read;
        while taken > 1 << 20 && !gate.exists() {
            std::thread::yield_now();
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// A way to a daemon with a gate in each direction.
fn gated(url: &str, [there, back]: [PathBuf; 2]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gated = format!("nsp://{}", listener.local_addr().unwrap());
    let daemon = url.strip_prefix("nsp://").unwrap().to_owned();
    std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let daemon = TcpStream::connect(daemon).unwrap();
        let (from_client, to_daemon) = (client.try_clone().unwrap(), daemon.try_clone().unwrap());
        std::thread::spawn(move || take(from_client, to_daemon, &there));
        take(daemon, client, &back);
    });
    gated
}

#[test]
fn long_transfer_shows_how_far_it_is_in_both_directions() {
    let here = Here::start();
    let (from, to) = (here.file("from"), here.file("to"));
    fs::write(&from, vec![7; 32 << 20]).unwrap();
    let gates = [here.home.path().join("there"), here.home.path().join("back")];
    let steps = [Await::then_make("sending", &gates[0]), Await::then_make("receiving", &gates[1])];
    let mut command = terminal(env!("CARGO_BIN_EXE_nsp"), &steps);
    command.args(["call", "Files", "Turn", "--blob", &from, "--out", &to, "--max-message", "40MiB"]);
    command.env("NSP_URL", gated(&here.url, gates)).env("NSP_HOME", here.home.path()).env("TERM", "xterm");
    let (status, shown, error) = said(&command.output().unwrap());
    assert_eq!(status, 0, "{shown}{error}");
    assert!(shown.contains("/32.00 MiB"), "{shown}");
    assert!(shown.ends_with(&format!("33554432 bytes in {to}")), "{shown}");
    assert_eq!(fs::metadata(&to).unwrap().len(), 32 << 20);

    // Off a terminal nobody would see it.
    let (status, printed, note) =
        here.run(&["call", "Files", "Turn", "--blob", &from, "--out", &to, "--max-message", "40MiB"]);
    assert_eq!((status, printed, note), (0, String::new(), format!("33554432 bytes in {to}")));
}

#[test]
fn message_over_ones_own_limit_is_refused_until_that_is_raised() {
    let here = Here::start();
    let file = here.file("large");
    fs::write(&file, vec![7; 3 << 20]).unwrap();
    let count = ["call", "Files", "Count", "--blob", &file];
    let (status, _, error) = here.run(&count);
    assert!(status == 10 && error.contains("over the limit of"), "{status} {error}");
    let raised = [&count[..], &["--max-message", "4MiB"]].concat();
    assert_eq!(here.run(&raised), (0, "3145728".to_owned(), String::new()));
}

#[test]
fn data_arrives_before_send_ends_and_what_is_sent_is_shown() {
    let here = Here::start();
    assert_eq!(here.run(&["send", "Files", "{\"n\": 1.50}"]), (0, String::new(), String::new()));
    assert_eq!(*here.seen.lock().unwrap(), [json!({"n": 1.5})]);
    let mut listening = Beside::start(here.command(&["listen", "Files", "--count", "2", "--json"]));
    let lines: Vec<Value> = (0..2).map(|_| serde_json::from_str(&listening.line()).unwrap()).collect();
    assert_eq!(lines[0], json!({"event": "picture", "size": 3, "blob_b64": "AQID", "meta": {"w": 3}}));
    assert_eq!(lines[1], json!({"data": "plain"}));
    let (_, printed, _) = here.run(&["listen", "Files", "--count", "2"]);
    assert_eq!(printed, "picture <3 bytes>\n- \"plain\"");
    let (_, printed, _) = here.run(&["listen", "Files", "--event", "picture", "--count", "1"]);
    assert_eq!(printed, "picture <3 bytes>");
}
