//! The NoService protocol to a daemon of ours, spoken by hand with the original package of npm: nothing but `send` and `on`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::path::Path;

use nsp::Client;
use nsp::daemon::{Daemon, Emitter, Entity, Fail, Json, Service};
use serde_json::{Value, json};
use tests::{Node, in_time, with_original};
use tokio::sync::oneshot;

/// A chat: everybody hears what one says.
fn chat() -> Service {
    Service::new("Chat")
        .on_connect(async |entity: Entity| -> Result<(), Fail> {
            entity.join("room")?;
            Ok(())
        })
        .function("Say", async |chat: Emitter, Json(text): Json<String>| -> Result<usize, Fail> {
            Ok(chat.to_groups(["room"]).emit("message", &text).await?.sent)
        })
}

async fn hear_packet(node: &mut Node, name: &str) -> Value {
    loop {
        let message = node.hear("message").await;
        if message["name"] == name {
            return message;
        }
    }
}

#[tokio::test]
async fn program_with_the_npm_package_opens_an_entity_calls_and_hears_events() {
    with_original(async |original| {
        let daemon = Daemon::builder().service(chat()).listen("nsp://127.0.0.1:0").bind().await.unwrap();
        let port = daemon.addresses()[0].port().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(daemon.serve_until(async { drop(stopped.await) }));

        let mut node = original.connect(port, json!([])).await;
        let create = json!({"m": "CE", "d": {"t": "1", "o": "", "m": "normal", "s": "Chat", "k": false}});
        node.tell(json!({"do": "send", "name": "CSrq", "json": create})).await;
        let created = hear_packet(&mut node, "CSrs").await["json"]["d"].clone();
        assert_eq!((&created["t"], &created["e"]), (&json!("1"), &json!(false)));
        let entity = &created["i"];
        node.tell(json!({"do": "send", "name": "CSrq", "json": {"m": "VE", "d": {"i": entity}}})).await;
        let verified = hear_packet(&mut node, "CSrs").await;
        assert_eq!(verified["json"], json!({"m": "VE", "d": {"i": entity, "s": "OK"}}));

        let call = json!({"m": "SF", "d": {"i": entity, "n": "Say", "t": "2", "d": "hello"}});
        node.tell(json!({"do": "send", "name": "CSrq", "json": call})).await;
        let event = hear_packet(&mut node, "CArq").await;
        assert_eq!(event["json"], json!({"m": "EV", "d": {"i": entity, "n": "message", "d": "hello"}}));
        let answer = hear_packet(&mut node, "CSrs").await;
        assert_eq!(answer["json"], json!({"m": "SF", "d": {"t": "2", "i": entity, "s": "OK", "d": 1}}));

        // A client of ours is in the same room.
        let client = Client::connect(format!("nsp://127.0.0.1:{port}")).await.unwrap();
        let ours = client.activity("Chat").open().await.unwrap();
        assert_eq!(ours.call::<usize>("Say", "both").await.unwrap(), 2);
        let event = hear_packet(&mut node, "CArq").await;
        assert_eq!(event["json"]["d"]["d"], "both");
        // What is no packet, and what is wrong, harms nobody.
        node.tell(json!({"do": "send", "name": "hello", "json": 1})).await;
        node.tell(json!({"do": "send", "name": "CSrq", "json": {"m": "SF"}})).await;
        node.tell(json!({"do": "send", "name": "CSrq", "json": {"m": "CS", "d": {"i": entity}}})).await;
        let until_alone = async { while ours.call::<usize>("Say", "alone?").await.unwrap() > 1 {} };
        in_time("the other's leaving", until_alone).await;
        client.close().await;
        drop(stop);
        serving.await.unwrap();
    })
    .await;
}

#[derive(serde::Deserialize)]
struct Hello {
    name: String,
}

/// The service of the example `08_nsp_daemon`, as far as the client in Node uses it.
fn chat_of_the_example() -> Service {
    chat().function("Hello", async |entity: Entity, Json(hello): Json<Hello>| -> Result<Value, Fail> {
        entity.join("room")?;
        Ok(json!({"text": format!("Welcome, {}.", hello.name)}))
    })
}

#[tokio::test]
async fn example_of_a_client_in_node_does_what_it_says() {
    with_original(async |original| {
        let daemon = Daemon::builder().service(chat_of_the_example()).listen("nsp://127.0.0.1:0");
        let daemon = daemon.bind().await.unwrap();
        let port = daemon.addresses()[0].port().unwrap().to_string();
        let serving = tokio::spawn(daemon.serve());
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/node/13_client.js");
        let printed = original.run(&example, &[&port]).await;
        assert_eq!(printed, "OK: Welcome, Node.\nEV message: Hello from Node\nOK: heard by 1\n");
        serving.abort();
    })
    .await;
}
