//! Peers that others wrote, at our NoService daemon: the packages `nossock` and `ws` of npm, and a NoService client by hand.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::sync::Arc;

use nsp::authority::{Answer, Authority, Denied, Origin, Proved};
use nsp::daemon::{Blob, Daemon, DaemonHandle, Emitter, Entity, Fail, Json, Listen, Meta, Service, WeakUse};
use nsp::secure::ServerKey;
use nsp::{Password, Token};
use serde_json::{Value, json};
use tests::{Certificates, Node, with_original};

/// One superuser, `root`, whose token is `token` and whose password is `password`.
#[derive(Debug)]
struct Root;

fn judged(is_right: bool) -> Answer<'static, Result<Proved, Denied>> {
    let proved = Proved { rely_for: std::time::Duration::from_secs(60) };
    Answer::now(if is_right { Ok(proved) } else { Err(Denied::Wrong) })
}

impl Authority for Root {
    fn sign_in<'a>(
        &'a self,
        user: &'a str,
        password: Option<Password>,
        _: Origin,
    ) -> Answer<'a, Result<Token, Denied>> {
        let right = user == "root" && password == Some("password".into());
        Answer::now(if right { Ok(Token::new("token")) } else { Err(Denied::Wrong) })
    }

    fn judge_token<'a>(
        &'a self,
        user: &'a str,
        token: &'a Token,
        _: Origin,
    ) -> Answer<'a, Result<Proved, Denied>> {
        judged(user == "root" && token.reveal() == "token")
    }

    fn judge_password<'a>(
        &'a self,
        user: &'a str,
        password: &'a Password,
        _: Origin,
    ) -> Answer<'a, Result<Proved, Denied>> {
        judged(user == "root" && password.reveal() == "password")
    }

    fn privilege<'a>(&'a self, user: &'a str) -> Answer<'a, Result<Option<i64>, Denied>> {
        Answer::now(Ok((user == "root").then_some(0)))
    }
}

fn chat() -> Service {
    Service::new("Chat")
        .on_connect(async |entity: Entity| -> Result<(), Fail> { Ok(entity.join("everybody")?) })
        .on_data(async |entity: Entity, Json(data): Json<Value>| -> Result<(), Fail> {
            entity.send(&json!({"you said": data})).await?;
            Ok(())
        })
        .function("Say", async |chat: Emitter, Json(text): Json<String>| -> Result<usize, Fail> {
            Ok(chat.to_groups(["everybody"]).emit("message", &text).await?.sent)
        })
        .function("Picture", async |entity: Entity| -> Result<(), Fail> {
            entity.audience().emit_blob("picture", &[1, 2, 3][..], &json!({"w": 1})).await?;
            Ok(())
        })
        .blob_function("Reverse", async |Blob(blob): Blob, Meta(meta): Meta<Value>| {
            let reversed: Vec<u8> = blob.iter().rev().copied().collect();
            (Blob(reversed.into()), Meta(meta))
        })
        .secure_function("Reset", async || "done")
}

/// A daemon that serves as long as the handle is kept, and where it listens.
async fn served(listen: Listen) -> (DaemonHandle, String, u16) {
    let daemon = Daemon::builder().authority(Root).service(chat()).listen(listen).bind().await.unwrap();
    let (handle, address) = (daemon.handle(), daemon.addresses().remove(0));
    tokio::spawn(daemon.serve());
    (handle, address.to_string(), address.port().unwrap())
}

/// Opens an entity by hand: CE, VE.
async fn open(node: &mut Node, owner: Value) -> String {
    let create =
        json!({"m": "CE", "d": {"t": "1", "o": owner, "m": "normal", "s": "Chat", "od": null, "k": false}});
    node.tell(json!({"do": "say", "letters": "CSrq", "json": create})).await;
    let created = node.hear("packet").await;
    assert_eq!(created["json"]["d"]["e"], false, "{created}");
    let entity = created["json"]["d"]["i"].as_str().unwrap().to_owned();
    let verify = json!({"m": "VE", "d": {"i": entity}});
    node.tell(json!({"do": "say", "letters": "CSrq", "json": verify})).await;
    assert_eq!(node.hear("packet").await["json"], json!({"m": "VE", "d": {"i": entity, "s": "OK"}}));
    entity
}

async fn call(node: &mut Node, entity: &str, function: &str, argument: Value) {
    let call = json!({"m": "SF", "d": {"i": entity, "n": function, "t": "_c", "d": argument}});
    node.tell(json!({"do": "say", "letters": "CSrq", "json": call})).await;
}

/// What every peer does once it is let in.
async fn converse(node: &mut Node, entity: &str) {
    call(node, entity, "Say", json!("hello, 日本")).await;
    let event = node.hear("packet").await;
    assert_eq!((&event["letters"], &event["json"]["m"]), (&json!("CArq"), &json!("EV")));
    assert_eq!(event["json"]["d"], json!({"i": entity, "n": "message", "d": "hello, 日本"}));
    let answer = node.hear("packet").await;
    assert_eq!(answer["json"]["d"], json!({"t": "_c", "i": entity, "s": "OK", "d": 1}));

    let data = json!({"m": "SS", "d": {"i": entity, "d": 7}});
    node.tell(json!({"do": "say", "letters": "CSrq", "json": data})).await;
    assert_eq!(node.hear("packet").await["json"]["d"], json!({"i": entity, "s": "OK"}));
    assert_eq!(node.hear("packet").await["json"]["d"]["d"], json!({"you said": 7}));

    let blob = json!({"m": "BS", "d": {"i": entity, "n": "Reverse", "t": "_b", "d": null, "m": {"k": 1}}});
    node.tell(json!({"do": "say", "letters": "CSrq", "json": blob, "blob": "00ff10"})).await;
    let answer = node.hear("packet").await;
    assert_eq!((&answer["blob"], &answer["json"]["d"]["m"]), (&json!("10ff00"), &json!({"k": 1})));
    call(node, entity, "Picture", json!(null)).await;
    let picture = node.hear("packet").await;
    assert_eq!((&picture["blob"], &picture["json"]["m"]), (&json!("010203"), &json!("BE")));
    node.hear("packet").await;

    call(node, entity, "Nope", json!(null)).await;
    let refused = node.hear("packet").await;
    assert_eq!(refused["json"]["d"]["s"], "Error: ServiceFunction Nope not exist");
}

#[tokio::test]
async fn original_package_of_npm_opens_an_entity_calls_and_hears_events() {
    with_original(async |original| {
        let (handle, _, port) = served("nsp://127.0.0.1:0".into()).await;
        let mut node = original.connect(port, json!([])).await;
        let send = async |node: &mut Node, json: Value| {
            node.tell(json!({"do": "send", "name": "CSrq", "json": json})).await;
        };
        send(
            &mut node,
            json!({"m": "CE", "d": {"t": 1, "o": "", "m": "normal", "s": "Chat", "od": "", "k": false}}),
        )
        .await;
        let created = node.hear("message").await;
        assert_eq!((&created["name"], &created["kind"]), (&json!("CSrs"), &json!("j")));
        let entity = created["json"]["d"]["i"].as_str().unwrap().to_owned();
        send(&mut node, json!({"m": "VE", "d": {"i": entity}})).await;
        assert_eq!(node.hear("message").await["json"]["d"]["s"], "OK");
        send(&mut node, json!({"m": "SF", "d": {"i": entity, "n": "Say", "t": 2, "d": "hello"}})).await;
        let event = node.hear("message").await;
        assert_eq!(event["name"], "CArq");
        assert_eq!(event["json"], json!({"m": "EV", "d": {"i": entity, "n": "message", "d": "hello"}}));
        let answer = node.hear("message").await;
        assert_eq!(answer["json"], json!({"m": "SF", "d": {"t": 2, "i": entity, "s": "OK", "d": 1}}));
        send(&mut node, json!({"m": "SF", "d": {"i": entity, "n": "Reset", "t": 3, "d": null}})).await;
        assert_eq!(node.hear("message").await["json"], json!({"m": "SI", "i": entity}));
        let refused = node.hear("message").await;
        assert!(refused["json"]["d"]["s"].as_str().unwrap().starts_with("AuthFailed"), "{refused}");
        send(&mut node, json!({"m": "CS", "d": {"i": entity}})).await;
        send(&mut node, json!({"m": "SF", "d": {"i": entity, "n": "Say", "t": 4, "d": "gone"}})).await;
        assert_eq!(node.hear("message").await["json"]["d"]["e"]["code"], "no_entity");
        assert_eq!(handle.stats().entities, 0);
    })
    .await;
}

#[tokio::test]
async fn package_ws_of_npm_opens_an_entity_calls_and_hears_events() {
    with_original(async |original| {
        let (_handle, url, _) =
            served(Listen::on("ws://127.0.0.1:0").origins(["https://chat.example.org"])).await;
        let mut node = original.start_websocket().await;
        node.tell(json!({"do": "connect", "url": url, "origin": "https://chat.example.org"})).await;
        node.hear("connected").await;
        let entity = open(&mut node, json!("root")).await;
        converse(&mut node, &entity).await;

        call(&mut node, &entity, "Reset", json!(null)).await;
        let asked = node.hear("packet").await;
        assert_eq!((&asked["letters"], &asked["json"]["m"]), (&json!("AUrq"), &json!("TK")));
        let answer = json!({"m": "TK", "d": {"t": asked["json"]["d"]["t"], "v": "token"}});
        node.tell(json!({"do": "say", "letters": "AUrs", "json": answer, "text": true})).await;
        assert_eq!(node.hear("packet").await["json"]["d"]["d"], "done");

        let mut stranger = original.start_websocket().await;
        stranger.tell(json!({"do": "connect", "url": url, "origin": "https://evil.example.org"})).await;
        assert_eq!(stranger.hear("refused").await["status"], 403);
    })
    .await;
}

#[tokio::test]
async fn package_ws_of_npm_comes_over_tls() {
    with_original(async |original| {
        let certificates = Certificates::new();
        let identity = certificates.server().identity();
        let alpn = [nossock::transport::tls::ALPN, nsp::carrier::WEB_ALPN];
        let tls = nossock::transport::tls::ServerTls::builder(identity).alpn(alpn).build().unwrap();
        let (_handle, url, _) = served(Listen::on("wss://127.0.0.1:0").tls(tls)).await;
        let mut node = original.start_websocket().await;
        node.tell(json!({"do": "connect", "url": url})).await;
        node.hear("connected").await;
        let entity = open(&mut node, json!(null)).await;
        converse(&mut node, &entity).await;
    })
    .await;
}

/// A client by hand that has answered SP.
async fn secured(node: &mut Node, port: u16, seed: Value) {
    node.tell(json!({"do": "connect", "port": port})).await;
    node.hear("connected").await;
    node.tell(json!({"do": "probe"})).await;
    assert_eq!(node.hear("packet").await["letters"], "SPrq");
    node.tell(json!({"do": "secure", "r": seed})).await;
    node.hear("answered").await;
}

#[tokio::test]
async fn client_by_hand_comes_over_tcp_in_clear_and_secured() {
    with_original(async |original| {
        let (_handle, _, port) = served("noservice://127.0.0.1:0".into()).await;
        let mut node = original.start_noservice().await;
        node.tell(json!({"do": "connect", "port": port})).await;
        node.hear("connected").await;
        let entity = open(&mut node, json!(null)).await;
        converse(&mut node, &entity).await;

        let key = Arc::new(ServerKey::generate().unwrap());
        let (_handle, _, port) = served(Listen::on("noservice://127.0.0.1:0").sp(key)).await;
        let mut node = original.start_noservice().await;
        secured(&mut node, port, json!("5f0c3e7b1d9a48265f0c3e7b1d9a48265f0c3e7b1d9a48265f0c3e7b1d9a4826"))
            .await;
        let entity = open(&mut node, json!(null)).await;
        converse(&mut node, &entity).await;
    })
    .await;
}

#[tokio::test]
async fn client_with_a_seed_that_can_be_guessed_is_refused_unless_the_listener_lets_it_in() {
    with_original(async |original| {
        let key = Arc::new(ServerKey::generate().unwrap());
        let strict = Listen::on("noservice://127.0.0.1:0").sp(Arc::clone(&key));
        let (handle, _, port) = served(strict.clone()).await;
        let mut node = original.start_noservice().await;
        secured(&mut node, port, json!(31_337)).await;
        node.hear("close").await;
        assert_eq!(handle.stats().created, 0);

        let (_handle, _, port) = served(strict.clone().legacy_clients()).await;
        let mut node = original.start_noservice().await;
        secured(&mut node, port, json!(31_337)).await;
        let entity = open(&mut node, json!("root")).await;
        converse(&mut node, &entity).await;

        let everything = strict.legacy_clients().weak_use(WeakUse::Everything);
        let (_handle, _, port) = served(everything).await;
        let mut node = original.start_noservice().await;
        secured(&mut node, port, json!(31_337)).await;
        let entity = open(&mut node, json!("root")).await;
        call(&mut node, &entity, "Reset", json!(null)).await;
        let asked = node.hear("packet").await;
        let answer = json!({"m": "TK", "d": {"t": asked["json"]["d"]["t"], "v": "token"}});
        node.tell(json!({"do": "say", "letters": "AUrs", "json": answer})).await;
        assert_eq!(node.hear("packet").await["json"]["d"]["d"], "done");
    })
    .await;
}

#[tokio::test]
async fn wrong_answer_to_sp_closes_the_connection() {
    with_original(async |original| {
        let key = Arc::new(ServerKey::generate().unwrap());
        let (_handle, _, port) = served(Listen::on("noservice://127.0.0.1:0").sp(key).legacy_clients()).await;
        let mut node = original.start_noservice().await;
        node.tell(json!({"do": "connect", "port": port})).await;
        node.hear("connected").await;
        node.tell(json!({"do": "probe"})).await;
        node.hear("packet").await;
        node.tell(json!({"do": "secure", "r": 5, "wrong": true})).await;
        node.hear("close").await;
    })
    .await;
}
