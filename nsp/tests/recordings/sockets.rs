//! The recorded clients against our daemon, over a real socket: `noservice://`.
//!
//! The machine alone is replayed [beside this](crate::daemon); here the same bytes go through listener, carrier, driver and services.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nsp::authority::{Answer, Authority, Denied, Origin, Proved};
use nsp::daemon::{Blob, Daemon, Demand, Emitter, Entity, Fail, Json, Listen, Meta, Service, State, WeakUse};
use nsp::proto::{Data, HEARTBEAT, Methods, Packet, RawJson, chunk};
use nsp::secure::{Cipher, ServerKey, SystemRandom};
use nsp::{DaemonKey, Password, Token};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::daemon::{DEVIATIONS, learned_key};
use crate::ids::Ids;
use crate::service::{TOKEN, js_type};
use crate::testing::{Flow, Message, flows};

/// Whom the recorded daemon knew.
#[derive(Debug)]
struct Admin;

fn judged(is_right: bool) -> Answer<'static, Result<Proved, Denied>> {
    let proved = Proved { rely_for: Duration::from_secs(60) };
    Answer::now(if is_right { Ok(proved) } else { Err(Denied::Wrong) })
}

impl Authority for Admin {
    fn sign_in<'a>(
        &'a self,
        user: &'a str,
        password: Option<Password>,
        _: Origin,
    ) -> Answer<'a, Result<Token, Denied>> {
        let right = user.eq_ignore_ascii_case("admin") && password == Some("admin".into());
        Answer::now(if right { Ok(Token::new(TOKEN)) } else { Err(Denied::Wrong) })
    }

    fn judge_token<'a>(
        &'a self,
        user: &'a str,
        token: &'a Token,
        _: Origin,
    ) -> Answer<'a, Result<Proved, Denied>> {
        judged(user == "admin" && token.reveal() == TOKEN)
    }

    fn judge_password<'a>(
        &'a self,
        user: &'a str,
        password: &'a Password,
        _: Origin,
    ) -> Answer<'a, Result<Proved, Denied>> {
        judged(user == "admin" && password.reveal() == "admin")
    }

    fn privilege<'a>(&'a self, user: &'a str) -> Answer<'a, Result<Option<i64>, Denied>> {
        Answer::now(Ok((user == "admin").then_some(0)))
    }

    fn trusts(&self, address: std::net::IpAddr) -> bool {
        address.is_loopback()
    }

    fn is_daemon_key(&self, key: &DaemonKey) -> bool {
        key.reveal() == "WHATAKEY"
    }
}

fn groups(argument: &Value) -> Vec<String> {
    serde_json::from_value(argument["g"].clone()).unwrap_or_default()
}

/// The service that was running when the conversations were recorded.
fn nsp_test(other: &Arc<OnceLock<Emitter>>) -> Service<Arc<OnceLock<Emitter>>> {
    Service::with_state("NspTest", Arc::clone(other))
        .on_data(async |entity: Entity, Json(data): Json<Value>| -> Result<(), Fail> {
            entity.send(&json!({"echo": data})).await?;
            Ok(())
        })
        .function("Echo", async |Json(value): Json<Value>| json!({"type": js_type(&value), "got": value}))
        .function("Raw", async |data: Data| data)
        .function("NoValue", async || Data::None)
        .function("Err", async || -> Result<(), Fail> { Err(Fail::new("boom", "Error: Error: boom")) })
        .function("ErrStr", async || -> Result<(), Fail> { Err(Fail::new("", "Fail")) })
        .function("ErrTrue", async || -> Result<(), Fail> { Err(Fail::new("", "Fail")) })
        .function("Throw", async || std::future::pending::<()>().await)
        .function("EmitEvent", async |entity: Entity| -> Result<Value, Fail> {
            entity.emit("Tick", &json!({"n": 1})).await?;
            Ok(json!({"s": "emitted"}))
        })
        .function("EmitAll", async |all: Emitter| -> Result<Value, Fail> {
            all.to_all().emit("All", &json!({"n": 2})).await?;
            Ok(json!({"s": "emitted"}))
        })
        .function("SendAll", async |all: Emitter| -> Result<Value, Fail> {
            all.to_all().send(&json!({"n": 3})).await?;
            Ok(json!({"s": "sent"}))
        })
        .function("EmitBlob", async |entity: Entity| -> Result<Value, Fail> {
            let blob = Bytes::from_static(&[0, 1, 2, 253, 254, 255]);
            entity.audience().emit_blob("Pic", blob, &json!({"mime": "x/test"})).await?;
            Ok(json!({"s": "emitted"}))
        })
        .function("Join", async |entity: Entity, Json(argument): Json<Value>| -> Result<Value, Fail> {
            groups(&argument).iter().try_for_each(|group| entity.join(group))?;
            Ok(json!({"e": null}))
        })
        .function("EmitGroups", async |all: Emitter, Json(argument): Json<Value>| -> Result<Value, Fail> {
            let groups = groups(&argument);
            all.to_groups(groups.clone()).emit("Grp", &json!({"g": groups})).await?;
            Ok(json!({"s": "ok"}))
        })
        .function("EmitIncGroups", async |all: Emitter, Json(argument): Json<Value>| -> Result<Value, Fail> {
            let groups = groups(&argument);
            all.to_including_groups(groups.clone()).emit("IncGrp", &json!({"g": groups})).await?;
            Ok(json!({"s": "ok"}))
        })
        .function("Meta", async |entity: Entity| {
            let metadata = entity.metadata().unwrap();
            RawJson::new(format!("{{\"m\":{}}}", metadata.as_str())).unwrap()
        })
        .function("Relaunch2", async |State(other): State<Arc<OnceLock<Emitter>>>| {
            other.get().unwrap().to_all().close();
            json!({"s": "ok"})
        })
        .function("Secure", async |entity: Entity| {
            let passed = entity.prove(Demand::Superuser).await.is_ok();
            json!({"s": if passed { "granted" } else { "denied" }})
        })
        .function("Auth_Password", async |entity: Entity| {
            let passed = entity.prove(Demand::Password).await.is_ok();
            json!({"err": null, "pass": passed.then_some(true)})
        })
        .blob_function("BlobEcho", async |Blob(blob): Blob, Meta(meta): Meta<Value>| {
            let meta = json!({"isBuffer": true, "meta": meta, "len": blob.len()});
            (Blob(blob), Meta(meta))
        })
        .blob_function("BlobJson", async || (Json(json!({"not": "a buffer"})), Meta(json!({"m": 1}))))
        .blob_function("BlobErr", async || -> Result<(), Fail> {
            Err(Fail::new("boom", "Error: Error: blob boom"))
        })
}

fn peer() -> Service {
    Service::new("Peer")
        .on_data(async |entity: Entity| -> Result<(), Fail> {
            entity.send(&json!({"back": 1})).await?;
            entity.emit("Tick", &json!({"n": 1})).await?;
            let blob = Bytes::from_static(&[0, 1, 254, 255]);
            entity.audience().emit_blob("Pic", blob, &json!({"mime": "x/test"})).await?;
            Ok(())
        })
        .function("F", async || json!({"ok": 1}))
        .blob_function("B", async |Blob(blob): Blob| {
            let reversed: Bytes = blob.iter().rev().copied().collect();
            let meta = Meta(json!({"len": reversed.len()}));
            (Blob(reversed), meta)
        })
}

async fn daemon_for(flow: &Flow) -> (Daemon, String) {
    let other = Arc::new(OnceLock::new());
    let started = Arc::clone(&other);
    let refusing = Service::new("NspTest2")
        .on_connect(async || -> Result<(), Fail> { Err(Fail::new("", "Fail")) })
        .on_start(move |emitter| started.set(emitter).unwrap());
    let mut listen = Listen::on("noservice://127.0.0.1:0");
    if let Some(pem) = &flow.rsa_private_pem {
        let key = Arc::new(ServerKey::from_pem(pem).unwrap());
        listen = listen.sp(key).legacy_clients().weak_use(WeakUse::Everything);
    }
    let daemon = Daemon::builder()
        .authority(Admin)
        .service(nsp_test(&other))
        .service(refusing)
        .service(peer())
        .listen(listen)
        .bind()
        .await
        .unwrap();
    let address = &daemon.addresses()[0];
    let address = format!("127.0.0.1:{}", address.port().unwrap());
    (daemon, address)
}

/// One recording, replayed over sockets.
struct Replay {
    address: String,
    connections: HashMap<bool, TcpStream>,
    ids: Ids,
    cipher: Option<Cipher>,
}

impl Replay {
    const fn is_second(message: &Message) -> bool {
        matches!(&message.connection, Some(name) if matches!(name.as_bytes(), b"B"))
    }

    async fn connection(&mut self, is_second: bool) -> &mut TcpStream {
        if !self.connections.contains_key(&is_second) {
            let stream = TcpStream::connect(&self.address).await.unwrap();
            self.connections.insert(is_second, stream);
        }
        self.connections.get_mut(&is_second).unwrap()
    }

    async fn say(&mut self, message: &Message) {
        let wire = self.wire(message);
        // An error is a connection that ours has closed: the recording says so in its next step, or we do.
        let _ = self.connection(Self::is_second(message)).await.write_all(&wire).await;
    }

    /// The recorded bytes, unless there are ids in them that are others here.
    fn wire(&self, message: &Message) -> Bytes {
        let wire = message.wire.clone().unwrap();
        let Some(plain) = &message.plain else { return wire };
        let Ok(packet) = Packet::decode(plain.clone(), &Methods::default()) else { return wire };
        let translated = self.ids.translate(&packet);
        if translated == packet {
            return wire;
        }
        let mut out = BytesMut::new();
        match &self.cipher {
            Some(cipher) if wire.slice(16..) != plain => {
                let write = |out: &mut BytesMut| translated.encode(&Methods::default(), out);
                let mut sealed = BytesMut::new();
                cipher.seal(&mut SystemRandom, &mut sealed, write).unwrap();
                chunk::encode_bytes(&sealed, &mut out);
            }
            _ => chunk::encode(&translated, &Methods::default(), &mut out).unwrap(),
        }
        out.freeze()
    }

    async fn hear(&mut self, is_second: bool) -> Option<Packet> {
        let stream = self.connection(is_second).await;
        let read = async {
            let mut length = [0; 16];
            stream.read_exact(&mut length).await.ok()?;
            let length = std::str::from_utf8(&length).unwrap().parse().unwrap();
            let mut message = vec![0; length];
            stream.read_exact(&mut message).await.ok()?;
            Some(Bytes::from(message))
        };
        let message =
            tokio::time::timeout(Duration::from_secs(20), read).await.expect("it says something")?;
        let plain = match &self.cipher {
            Some(cipher) if !message.starts_with(b"SP") => cipher.open(message).unwrap(),
            _ => message,
        };
        Some(Packet::decode(plain, &Methods::default()).unwrap())
    }

    async fn expect(&mut self, is_second: bool, recorded: Packet) -> Result<(), String> {
        let Some(ours) = self.hear(is_second).await else { return Err("ours has closed".into()) };
        self.ids.compare(&without_reason(recorded), &without_reason(ours))
    }
}

/// A packet whose failure has no code and id, as the recorded ones have none; its keys in the order of their names.
fn without_reason(mut packet: Packet) -> Packet {
    if let Ok(mut json) = serde_json::from_slice::<Value>(&packet.payload.json) {
        if let Some(fields) = json["d"].as_object_mut()
            && fields.get("e").is_some_and(Value::is_object)
        {
            fields["e"] = json!({});
            if fields.contains_key("s") {
                fields.remove("e");
            }
        }
        packet.payload.json = serde_json::to_vec(&json).unwrap().into();
    }
    packet
}

async fn replay(flow: &Flow) -> Vec<String> {
    let (daemon, address) = daemon_for(flow).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(daemon.serve_until(async { drop(stopped.await) }));
    let mut replay = Replay { address, connections: HashMap::new(), ids: Ids::default(), cipher: None };
    let mut differences = Vec::new();
    let mut closed = false;
    for (step, message) in flow.messages.iter().enumerate() {
        let is_second = Replay::is_second(message);
        if message.from_client {
            if let Some(cipher) = message.plain.as_ref().and_then(|plain| learned_key(flow, plain)) {
                replay.cipher = Some(cipher);
            }
            replay.say(message).await;
            continue;
        }
        let listed = DEVIATIONS.iter().find(|one| flow.name.starts_with(one.flow) && one.step == step);
        let mut results = Vec::new();
        match (listed, &message.plain) {
            (Some(deviation), _) => {
                for expected in deviation.ours {
                    let packet = expected_packet(expected);
                    results.push(replay.expect(is_second, packet).await);
                }
            }
            (None, Some(plain)) if plain == HEARTBEAT => {}
            (None, Some(plain)) => {
                let recorded = Packet::decode(plain.clone(), &Methods::default()).unwrap();
                results.push(replay.expect(is_second, recorded).await);
            }
            (None, None) if message.note.starts_with("CONNECTION CLOSED") => {
                closed = true;
                let more = replay.hear(is_second).await;
                results.push(more.map_or(Ok(()), |more| Err(format!("recorded a close, we said {more:?}"))));
            }
            (None, None) => {}
        }
        for difference in results.into_iter().filter_map(Result::err) {
            differences.push(format!("{} step {step} ({}):\n{difference}", flow.name, message.note));
        }
    }
    // Whatever was said where silence was recorded stands before the answer to this.
    if !closed && (!flow.secure || replay.cipher.is_some()) {
        let probe = expected_packet(r#"CSrq{"m":"CE","d":{"t":"probe","s":"Nobody"}}"#);
        let mut wire = BytesMut::new();
        match &replay.cipher {
            Some(cipher) => {
                let mut sealed = BytesMut::new();
                let write = |out: &mut BytesMut| probe.encode(&Methods::default(), out);
                cipher.seal(&mut SystemRandom, &mut sealed, write).unwrap();
                chunk::encode_bytes(&sealed, &mut wire);
            }
            None => chunk::encode(&probe, &Methods::default(), &mut wire).unwrap(),
        }
        replay.connection(false).await.write_all(&wire).await.unwrap();
        let answer = expected_packet(r#"CSrs{"m":"CE","d":{"t":"probe","e":{}}}"#);
        if let Err(difference) = replay.expect(false, answer).await {
            differences.push(format!("{}: at the end:\n{difference}", flow.name));
        }
    }
    drop(replay);
    drop(stop);
    serving.await.unwrap();
    differences
}

fn expected_packet(text: &str) -> Packet {
    use nsp::proto::{Leg, Method};
    let (letters, json) = text.split_at(4);
    let method = Method::from_letters(letters.as_bytes()[..2].try_into().unwrap()).unwrap();
    let leg = Leg::from_letters(letters.as_bytes()[2..].try_into().unwrap()).unwrap();
    Packet::new(method, leg, Bytes::copy_from_slice(json.as_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_daemon_says_over_a_socket_what_the_recorded_ones_said() {
    let mut replayed = 0;
    let mut differences = Vec::new();
    // Heartbeats take a minute each; the machine has them under a clock that can be moved.
    let over_tcp = |flow: &&Flow| flow.carrier == "tcp" && !flow.name.starts_with("heartbeat");
    for flow in flows().iter().filter(over_tcp) {
        replayed += 1;
        differences.extend(replay(flow).await);
    }
    assert!(replayed >= 20, "only {replayed}");
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}
