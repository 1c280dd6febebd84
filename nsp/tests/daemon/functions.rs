//! Functions: called, refused, failing, never ending.

use std::time::Duration;

use bytes::Bytes;
use nsp::daemon::{Blob, Caller, Daemon, Data, Entity, Fail, Json, Limits, Meta, Service, State};
use nsp::proto::cs::{Answer, Request};
use nsp::proto::{Data as Payload, RawJson};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::wire::{Wire, code, daemon};

#[derive(Deserialize)]
struct Hello {
    d: String,
}

#[derive(Serialize)]
struct Reply {
    r: String,
}

fn chat() -> Service {
    Service::new("Chat")
        .function("Hello", async |Json(hello): Json<Hello>| -> Result<Reply, Fail> {
            if hello.d.is_empty() {
                return Err(Fail::new("empty", "say something"));
            }
            Ok(Reply { r: format!("you said: {}", hello.d) })
        })
        .function("Later", async |Json(n): Json<u64>| {
            tokio::time::sleep(Duration::from_secs(n)).await;
            n
        })
        .function("Panic", async || -> u8 { panic!("at the disco in /etc/secret") })
        .function("PanicLater", async || -> u8 {
            tokio::task::yield_now().await;
            panic!("later")
        })
        .function("Never", async || std::future::pending::<u8>().await)
        .function("File", async || -> Result<String, Fail> { Ok(std::fs::read_to_string("/no/such/file")?) })
        .function("Who", async |entity: Entity, caller: Caller| {
            (entity.service().to_owned(), caller.is_confidential, entity.proved_user().is_some())
        })
        .blob_function("Reverse", async |Blob(blob): Blob, Meta(meta): Meta<serde_json::Value>| {
            let reversed: Vec<u8> = blob.iter().rev().copied().collect();
            (Blob(reversed.into()), Meta(meta))
        })
        .blob_function("Length", async |data: Data| data.len())
}

#[tokio::test(start_paused = true)]
async fn function_takes_json_and_gives_json() {
    let (_daemon, handle) = daemon(Daemon::builder().service(chat())).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Chat").await;
    assert_eq!(wire.call(&entity, "Hello", json!({"d": "hi"})).await, Ok(json!({"r": "you said: hi"})));
    assert_eq!(wire.call(&entity, "Who", json!(null)).await, Ok(json!(["Chat", true, false])));
    let failure = wire.call(&entity, "Hello", json!({"d": ""})).await.unwrap_err();
    assert_eq!((failure.text.as_deref(), failure.code.as_deref()), (Some("say something"), Some("empty")));
    assert_eq!(failure.id.unwrap().len(), 16);
    let failure = wire.call(&entity, "Hello", json!({"e": 1})).await.unwrap_err();
    assert_eq!(failure.code.as_deref(), Some("bad_argument"));
    assert!(failure.text.unwrap().contains("missing field `d`"));
    assert_eq!(handle.stats().calls, 4);
    assert_eq!(handle.stats().failed, 2);
}

#[tokio::test(start_paused = true)]
async fn functions_run_side_by_side() {
    let (_daemon, handle) = daemon(Daemon::builder().service(chat())).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Chat").await;
    let slow = wire.begin(&entity, "Later", json!(5)).await;
    let quick = wire.begin(&entity, "Later", json!(1)).await;
    assert_eq!(wire.returned().await, (quick, Ok(json!(1))));
    assert_eq!(handle.stats().calls_running, 1);
    assert_eq!(wire.returned().await, (slow, Ok(json!(5))));
    assert_eq!(handle.stats().calls_running, 0);
}

#[tokio::test(start_paused = true)]
async fn blob_function_takes_and_gives_a_blob_with_what_is_said_about_it() {
    let (_daemon, handle) = daemon(Daemon::builder().service(chat())).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Chat").await;
    for function in ["Reverse", "Length"] {
        let id = wire.id();
        let meta = Some(RawJson::of(&json!({"w": 64})).unwrap());
        let data = Payload::Blob(Bytes::from_static(&[1, 2, 3]));
        wire.ask(Request::CallBlob { entity: entity.clone(), function: function.into(), id, meta, data })
            .await;
    }
    let Answer::ReturnedBlob { meta, data, .. } = wire.answer().await else { panic!() };
    assert_eq!(
        (meta.unwrap().as_str(), data),
        (r#"{"w":64}"#, Payload::Blob(Bytes::from_static(&[3, 2, 1])))
    );
    let Answer::ReturnedBlob { data, .. } = wire.answer().await else { panic!() };
    assert_eq!(data, Payload::Json(RawJson::of(&3).unwrap()));
    assert_eq!(code(wire.call(&entity, "Reverse", json!(1)).await), "no_function");
}

#[tokio::test(start_paused = true)]
async fn failing_function_tells_an_id_and_nothing_of_the_inside() {
    let (_daemon, handle) = daemon(Daemon::builder().service(chat())).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Chat").await;
    for function in ["Panic", "PanicLater", "File"] {
        let failure = wire.call(&entity, function, json!(null)).await.unwrap_err();
        assert_eq!(failure.code.as_deref(), Some("internal"), "{function}");
        assert_eq!(failure.id.as_ref().unwrap().len(), 16);
        let text = failure.text.unwrap();
        assert!(!text.contains('/') && !text.contains("disco"), "{text}");
    }
    assert_eq!(wire.call(&entity, "Hello", json!({"d": "x"})).await, Ok(json!({"r": "you said: x"})));
}

#[tokio::test(start_paused = true)]
async fn unknown_function_and_service_are_answered_at_once() {
    let (_daemon, handle) = daemon(Daemon::builder().service(chat())).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Chat").await;
    let failure = wire.call(&entity, "Nope", json!(null)).await.unwrap_err();
    assert_eq!(failure.text.as_deref(), Some("Error: ServiceFunction Nope not exist"));
    assert_eq!(failure.code.as_deref(), Some("no_function"));
    let long = "n".repeat(10_000);
    assert!(wire.call(&entity, &long, json!(null)).await.unwrap_err().text.unwrap().len() < 200);
    let create = wire.wanting("__proto__", None);
    assert_eq!(wire.create(create).await.unwrap_err().code.as_deref(), Some("no_service"));
}

#[tokio::test(start_paused = true)]
async fn function_that_never_ends_is_answered_in_its_time_and_stopped() {
    let builder = Daemon::builder().service(chat()).request_time(Duration::from_secs(7));
    let (_daemon, handle) = daemon(builder).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Chat").await;
    let begun = tokio::time::Instant::now();
    assert_eq!(code(wire.call(&entity, "Never", json!(null)).await), "timeout");
    assert_eq!(begun.elapsed().as_secs(), 7);
    assert!(wire.is_silent().await);
    assert_eq!(handle.stats().calls_running, 0);
}

#[tokio::test(start_paused = true)]
async fn calls_at_once_are_limited() {
    let mut limits = Limits::default();
    limits.connection.requests = 2;
    let (_daemon, handle) = daemon(Daemon::builder().service(chat()).limits(limits)).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Chat").await;
    for _ in 0..2 {
        wire.begin(&entity, "Later", json!(1)).await;
    }
    assert_eq!(code(wire.call(&entity, "Later", json!(1)).await), "busy");
    assert_eq!((wire.returned().await.1, wire.returned().await.1), (Ok(json!(1)), Ok(json!(1))));
    assert_eq!(wire.call(&entity, "Later", json!(1)).await, Ok(json!(1)));
}

#[tokio::test(start_paused = true)]
async fn state_is_shared_by_the_functions_of_a_service() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let counter = Service::with_state("Counter", Arc::new(AtomicU64::new(7)))
        .function("next", async |State(counter): State<Arc<AtomicU64>>| {
            counter.fetch_add(1, Ordering::Relaxed)
        });
    let (_daemon, handle) = daemon(Daemon::builder().service(counter)).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Counter").await;
    assert_eq!(wire.call(&entity, "next", json!(null)).await, Ok(json!(7)));
    assert_eq!(wire.call(&entity, "next", json!(null)).await, Ok(json!(8)));
}
