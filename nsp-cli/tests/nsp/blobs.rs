//! Bytes, data and events of a service that is written in Rust, in this process.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use nsp::daemon::{Blob, Daemon, Emitter, Entity, Fail, Json, Limits, Meta, Service, State};
use serde_json::{Value, json};
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
        limits.connection.message = 4 << 20;
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
