//! What peers say that makes no sense, to a daemon with a database: nobody is let in, nothing is lost, and who is in stays in.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use nsp::authority::Authority as _;
use nsp::carrier::Carrier;
use nsp::daemon::{Daemon, DaemonHandle, Service};
use nsp::machine::{Incoming, Outgoing};
use nsp::proto::{Leg, Method, Packet};
use nsp_auth::Authority;
use nsp_auth::throttle::Settings;
use serde_json::{Value, json};

use crate::common::{PASSWORD, builder, judge, login, with_superuser, with_user};

/// A client that says whatever it is told, as bytes.
struct Raw(Box<dyn Carrier>);

impl Raw {
    fn to(daemon: &DaemonHandle) -> Self {
        Self(daemon.connect_local())
    }

    async fn say(&mut self, method: Method, leg: Leg, json: impl Into<Bytes>) {
        self.0.start_send(Outgoing::Packet(Packet::new(method, leg, json.into()))).unwrap();
        poll_fn(|cx| self.0.poll_flush(cx)).await.unwrap();
    }

    async fn hear(&mut self, method: Method) -> Value {
        loop {
            let next = poll_fn(|cx| self.0.poll_receive(cx));
            let next = tokio::time::timeout(Duration::from_secs(60), next).await.expect("something comes");
            let Incoming::Packet(packet) = next.unwrap() else { panic!("no packet") };
            if packet.method == method {
                return serde_json::from_slice(&packet.payload.json).unwrap();
            }
        }
    }

    async fn call(&mut self, entity: &Value, function: &str) {
        let call = json!({"m": "SF", "d": {"i": entity, "n": function, "t": "t", "d": null}});
        self.say(Method::Cs, Leg::Request, call.to_string()).await;
    }

    async fn open(&mut self, owner: &str) -> Value {
        let create = json!({"m": "CE", "d": {"t": "c", "o": owner, "m": "normal", "s": "Vault"}});
        self.say(Method::Cs, Leg::Request, create.to_string()).await;
        let entity = self.hear(Method::Cs).await["d"]["i"].clone();
        self.say(Method::Cs, Leg::Request, json!({"m": "VE", "d": {"i": entity}}).to_string()).await;
        assert_eq!(self.hear(Method::Cs).await["d"]["s"], "OK");
        entity
    }

    /// Answers the question that is asked next.
    async fn show(&mut self, value: &Value) {
        let question = self.hear(Method::Au).await;
        let answer = json!({"m": "TK", "d": {"t": question["d"]["t"], "v": value}});
        self.say(Method::Au, Leg::Answer, answer.to_string()).await;
    }
}

async fn vault(folder: &tempfile::TempDir) -> (Authority, Daemon, DaemonHandle) {
    // Nobody has to wait: that is not what this is about.
    let mut patient = Settings::default();
    patient.free = 1000;
    let authority = builder().throttle(patient).open(folder.path().join("users.db")).await.unwrap();
    with_superuser(&authority, "admin").await;
    with_user(&authority, "alice").await;
    let vault = Service::new("Vault").secure_function("open", async || "opened");
    let daemon = Daemon::builder().authority(authority.clone()).service(vault).bind().await.unwrap();
    let handle = daemon.handle();
    (authority, daemon, handle)
}

#[tokio::test]
async fn names_and_passwords_that_are_something_else_get_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, _daemon, handle) = vault(&folder).await;
    let mut names: Vec<Value> =
        ["adm%", "_____", "a*min", "admin' --", "admin\" OR \"1\"=\"1", "admin\0", "\0", "ａｄｍｉｎ", "%"]
            .map(Value::from)
            .into();
    names.extend([
        json!("x".repeat(64 * 1024 / 8)),
        json!(" admin"),
        json!("admin\n"),
        json!("'; DROP TABLE users; --"),
    ]);
    for (n, user) in names.iter().enumerate() {
        let mut raw = Raw::to(&handle);
        raw.say(Method::Gt, Leg::Request, json!({"u": user, "p": PASSWORD}).to_string()).await;
        assert_eq!(raw.hear(Method::Gt).await, json!({"u": user, "s": "Fail"}), "{n}");
    }
    let passwords = [
        json!(null),
        json!(0),
        json!(true),
        json!([PASSWORD]),
        json!({"p": PASSWORD}),
        json!("\0"),
        json!(""),
        json!("x".repeat(8192)),
    ];
    for password in passwords {
        let mut raw = Raw::to(&handle);
        raw.say(Method::Gt, Leg::Request, json!({"u": "admin", "p": password}).to_string()).await;
        assert_eq!(raw.hear(Method::Gt).await, json!({"u": "admin", "s": "Fail"}), "{password}");
    }
    // What cannot be read as a question for a token is passed over: bad UTF-8, names of other types, more than a message may be.
    let mut raw = Raw::to(&handle);
    let before = handle.stats().ignored;
    let mut bad = vec![
        br#"{"u":"admin\xff","p":"x"}"#.to_vec(),
        b"{\"u\":\"admin\xff\xfe\",\"p\":\"x\"}".to_vec(),
        b"{\"u\":\"\\ud800\",\"p\":\"x\"}".to_vec(),
    ];
    bad.extend(
        [json!({"u": 0, "p": PASSWORD}), json!({"u": ["admin"]}), json!({}), json!([]), json!(null)]
            .map(|v| v.to_string().into_bytes()),
    );
    let count = bad.len() as u64;
    for bytes in bad {
        raw.say(Method::Gt, Leg::Request, bytes).await;
    }
    let entity = raw.open("alice").await;
    assert_eq!(handle.stats().ignored, before + count);
    drop(entity);
    // Everybody is there, and may still log in.
    assert_eq!(authority.users().search("", None, 10).await.unwrap().users.len(), 2);
    for user in ["admin", "alice"] {
        login(&authority, user, PASSWORD).await.unwrap();
    }
}

#[tokio::test]
async fn a_password_of_a_mebibyte_ends_no_more_than_its_own_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, daemon, _) = vault(&folder).await;
    drop(daemon);
    let daemon =
        Daemon::builder().authority(authority.clone()).listen("nsp://127.0.0.1:0").bind().await.unwrap();
    let address = daemon.addresses()[0].to_string();
    tokio::spawn(daemon.serve());
    let client = nsp::Client::connect(&*address).no_reconnect().await.unwrap();
    let large = "x".repeat(1 << 20);
    assert!(client.token("admin", large.as_str()).await.is_err());
    assert!(client.token(&large, PASSWORD).await.is_err());
    let client = nsp::Client::connect(&*address).no_reconnect().await.unwrap();
    assert!(client.token("admin", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn answers_that_are_something_else_prove_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, _daemon, handle) = vault(&folder).await;
    let token = login(&authority, "admin", PASSWORD).await.unwrap();
    let alices = login(&authority, "alice", PASSWORD).await.unwrap();
    let mut raw = Raw::to(&handle);
    let entity = raw.open("admin").await;
    for value in [
        json!(null),
        json!(false),
        json!(0),
        json!([token.reveal()]),
        json!({"v": token.reveal()}),
        json!(""),
        json!("%"),
        json!(format!("{}\0", token.reveal())),
        json!(format!(" {}", token.reveal())),
        json!("' OR 1=1 --"),
        json!("x".repeat(8192)),
        // Good, and somebody else's.
        json!(alices.reveal()),
    ] {
        raw.call(&entity, "open").await;
        raw.show(&value).await;
        let answer = raw.hear(Method::Cs).await;
        assert_eq!(answer["d"]["e"]["code"], "auth_failed", "{value}: {answer}");
    }
    raw.call(&entity, "open").await;
    raw.show(&json!(token.reveal())).await;
    assert_eq!(raw.hear(Method::Cs).await["d"]["d"], "opened");
}

#[tokio::test]
async fn an_answer_to_no_question_or_to_that_of_another_connection_counts_for_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, _daemon, handle) = vault(&folder).await;
    let token = login(&authority, "admin", PASSWORD).await.unwrap();
    let answer = |t: &Value, value: &str| json!({"m": "TK", "d": {"t": t, "v": value}}).to_string();
    let (mut admin, mut other) = (Raw::to(&handle), Raw::to(&handle));
    // Before anything was asked.
    admin.say(Method::Au, Leg::Answer, answer(&json!("t"), token.reveal())).await;
    let (entity, others) = (admin.open("admin").await, other.open("admin").await);
    admin.call(&entity, "open").await;
    let question = admin.hear(Method::Au).await["d"]["t"].clone();
    // The other knows the question, and even the right answer.
    other.say(Method::Au, Leg::Answer, answer(&question, token.reveal())).await;
    other.call(&others, "open").await;
    let asked = other.hear(Method::Au).await["d"]["t"].clone();
    assert_ne!(asked, question);
    // Each answers what the other was asked.
    admin.say(Method::Au, Leg::Answer, answer(&asked, token.reveal())).await;
    other.say(Method::Au, Leg::Answer, answer(&question, token.reveal())).await;
    // What was said is heard by the time that something else is answered.
    admin.open("alice").await;
    other.open("alice").await;
    assert_eq!(handle.stats().calls_running, 2, "both wait for the answer to their own");
    other.say(Method::Au, Leg::Answer, answer(&asked, "wrong")).await;
    assert_eq!(other.hear(Method::Cs).await["d"]["e"]["code"], "auth_failed");
    admin.say(Method::Au, Leg::Answer, answer(&question, token.reveal())).await;
    assert_eq!(admin.hear(Method::Cs).await["d"]["d"], "opened");
    // And once more: it was answered already.
    admin.say(Method::Au, Leg::Answer, answer(&question, "wrong")).await;
    admin.call(&entity, "open").await;
    assert_eq!(admin.hear(Method::Cs).await["d"]["d"], "opened");
    assert!(judge(&authority, "admin", &token).await.is_ok());
    assert!(authority.judge_token("admin", &"wrong".into(), Default::default()).await.is_err());
}
