//! Entities: who they belong to, how they come and go, what they say.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nsp::carrier::CarrierEnd;
use nsp::daemon::{Daemon, Emitter, Entity, Fail, Json, Service, State};
use nsp::machine::Filter;
use nsp::proto::cs::Request;
use nsp::proto::{Data, EntityId, Method, ca};
use serde_json::{Value, json};

use crate::wire::{Wire, code, daemon};

type Log = Arc<Mutex<Vec<String>>>;

/// A service that notes what it hears, and lets in who does not call itself `bad`.
fn noting(log: &Log) -> Service<Log> {
    Service::with_state("Chat", Arc::clone(log))
        .on_connect(async |State(log): State<Log>, entity: Entity| -> Result<(), Fail> {
            let owner = entity.claimed_owner().map_or("nobody", |owner| owner.unproved()).to_owned();
            log.lock().unwrap().push(format!("{owner} comes"));
            if owner == "slow" {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            entity.join("everybody")?;
            if owner == "bad" { Err(Fail::new("go_away", "not you")) } else { Ok(()) }
        })
        .on_data(async |State(log): State<Log>, Json(data): Json<Value>| {
            if data == "wait" {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            assert_ne!(data, "panic");
            log.lock().unwrap().push(format!("says {data}"));
        })
        .on_close(async |State(log): State<Log>, entity: Entity, everybody: Emitter| {
            let (groups, others) = (entity.groups(), everybody.to_all().entities().len());
            log.lock().unwrap().push(format!("goes from {groups:?}, {others} are left"));
        })
        .function("echo", async |Json(value): Json<Value>| value)
        .function("leave", async |entity: Entity| entity.close())
        .function("leave late", async |entity: Entity, all: Emitter| {
            all.to_all().close();
            tokio::time::sleep(Duration::from_secs(1)).await;
            entity.groups()
        })
        .function("sleep", async || tokio::time::sleep(Duration::from_secs(60)).await)
}

fn noted(log: &Log) -> Vec<String> {
    std::mem::take(&mut log.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn entity_comes_speaks_in_order_and_goes() {
    let log = Log::default();
    let (_daemon, handle) = daemon(Daemon::builder().service(noting(&log))).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Chat").await;
    assert!(entity.as_str().len() == 26);
    for data in ["wait", "2", "panic", "wait", "3"] {
        wire.send(&entity, json!(data)).await;
    }
    for _ in 0..5 {
        assert_eq!(wire.sent().await, Ok(()));
    }
    // Functions do not wait for it.
    assert_eq!(wire.call(&entity, "echo", json!(1)).await, Ok(json!(1)));
    assert_eq!(noted(&log), ["nobody comes"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(noted(&log), [r#"says "wait""#, r#"says "2""#, r#"says "wait""#, r#"says "3""#]);
    wire.ask(Request::Close { entity: entity.clone() }).await;
    assert!(wire.is_silent().await);
    assert_eq!(noted(&log), [r#"goes from ["everybody"], 0 are left"#]);
    assert_eq!(code(wire.call(&entity, "echo", json!(1)).await), "no_entity");
    assert_eq!(handle.stats().data, 5);
}

#[tokio::test(start_paused = true)]
async fn service_refuses_an_entity_and_all_that_it_asked_meanwhile() {
    let log = Log::default();
    let (_daemon, handle) = daemon(Daemon::builder().service(noting(&log))).await;
    let mut wire = Wire::to(&handle);
    let create = wire.wanting("Chat", Some("bad"));
    let entity = wire.create(create).await.unwrap();
    wire.ask(Request::Verify { entity: entity.clone() }).await;
    wire.begin(&entity, "echo", json!(1)).await;
    let failure = wire.verified().await.unwrap_err();
    assert_eq!((failure.text.as_deref(), failure.code.as_deref()), (Some("not you"), Some("go_away")));
    assert!(matches!(code(wire.returned().await.1).as_str(), "refused" | "no_entity"));
    assert_eq!(noted(&log), ["bad comes"], "nobody says goodbye to who was not let in");
    assert_eq!(handle.stats().entities, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_before_the_service_has_looked_is_served_after() {
    let log = Log::default();
    let (_daemon, handle) = daemon(Daemon::builder().service(noting(&log))).await;
    let mut wire = Wire::to(&handle);
    let create = wire.wanting("Chat", Some("slow"));
    let entity = wire.create(create).await.unwrap();
    wire.ask(Request::Verify { entity: entity.clone() }).await;
    wire.begin(&entity, "echo", json!("early")).await;
    assert_eq!(wire.verified().await, Ok(()));
    assert_eq!(wire.returned().await.1, Ok(json!("early")));
}

#[tokio::test(start_paused = true)]
async fn service_that_never_looks_at_an_entity_is_answered_for() {
    let stuck = Service::new("Stuck")
        .on_connect(async || std::future::pending::<()>().await)
        .function("echo", async |Json(value): Json<Value>| value);
    let builder = Daemon::builder().service(stuck).request_time(Duration::from_secs(9));
    let (_daemon, handle) = daemon(builder).await;
    let mut wire = Wire::to(&handle);
    let create = wire.wanting("Stuck", None);
    let entity = wire.create(create).await.unwrap();
    wire.ask(Request::Verify { entity: entity.clone() }).await;
    wire.begin(&entity, "echo", json!(1)).await;
    assert_eq!(wire.verified().await.unwrap_err().code.as_deref(), Some("timeout"));
    assert_eq!(code(wire.returned().await.1), "refused");
    let stats = handle.stats();
    assert_eq!((stats.entities, stats.calls_running), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn client_that_leaves_while_it_is_looked_at_leaves_nothing_behind() {
    let log = Log::default();
    let (_daemon, handle) = daemon(Daemon::builder().service(noting(&log))).await;
    let mut wire = Wire::to(&handle);
    let create = wire.wanting("Chat", Some("slow"));
    let entity = wire.create(create).await.unwrap();
    wire.ask(Request::Verify { entity: entity.clone() }).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    wire.ask(Request::Close { entity }).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let stats = handle.stats();
    assert_eq!((stats.entities, stats.calls_running, stats.connections), (0, 0, 1));
    assert_eq!(noted(&log), ["slow comes"], "it was not let in, so nobody says goodbye");
}

#[tokio::test(start_paused = true)]
async fn nobody_uses_or_closes_the_entity_of_another_connection() {
    let log = Log::default();
    let (_daemon, handle) = daemon(Daemon::builder().service(noting(&log))).await;
    let (mut mine, mut theirs) = (Wire::to(&handle), Wire::to(&handle));
    let entity = mine.open("Chat").await;
    assert_eq!(code(theirs.call(&entity, "echo", json!(1)).await), "no_entity");
    theirs.send(&entity, json!("as you")).await;
    assert_eq!(theirs.sent().await.unwrap_err().code.as_deref(), Some("no_entity"));
    assert!(theirs.verify(&entity).await.is_err());
    theirs.ask(Request::Close { entity: entity.clone() }).await;
    assert!(theirs.is_silent().await);
    assert_eq!(mine.call(&entity, "echo", json!(1)).await, Ok(json!(1)));
    assert_eq!(noted(&log), ["nobody comes"]);
}

#[tokio::test(start_paused = true)]
async fn service_closes_an_entity() {
    let log = Log::default();
    let (_daemon, handle) = daemon(Daemon::builder().service(noting(&log))).await;
    let mut wire = Wire::to(&handle);
    let (entity, other) = (wire.open("Chat").await, wire.open("Chat").await);
    wire.begin(&entity, "sleep", json!(null)).await;
    assert_eq!(wire.call(&entity, "leave", json!(null)).await, Ok(json!(null)));
    assert_eq!(wire.event().await, ca::Request::Close { entity });
    assert_eq!(wire.call(&other, "echo", json!(1)).await, Ok(json!(1)));
    assert_eq!(noted(&log).last().unwrap(), r#"goes from ["everybody"], 1 are left"#);
    assert_eq!(handle.stats().calls_running, 0, "what ran for it was stopped");
}

#[tokio::test(start_paused = true)]
async fn function_that_closes_who_has_called_it_is_answered_before() {
    let log = Log::default();
    let (_daemon, handle) = daemon(Daemon::builder().service(noting(&log))).await;
    let (mut wire, mut other) = (Wire::to(&handle), Wire::to(&handle));
    let (entity, another) = (wire.open("Chat").await, other.open("Chat").await);
    wire.begin(&entity, "leave late", json!(null)).await;
    assert_eq!(other.event().await, ca::Request::Close { entity: another });
    assert_eq!(wire.returned().await.1, Ok(json!(["everybody"])));
    assert_eq!(wire.event().await, ca::Request::Close { entity });
}

#[tokio::test(start_paused = true)]
async fn connection_that_is_cut_takes_its_entities_with_it() {
    let log = Log::default();
    let (_daemon, handle) = daemon(Daemon::builder().service(noting(&log))).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Chat").await;
    wire.begin(&entity, "sleep", json!(null)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(handle.stats().calls_running, 1);
    drop(wire);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(noted(&log), ["nobody comes", r#"goes from ["everybody"], 0 are left"#]);
    let stats = handle.stats();
    assert_eq!((stats.connections, stats.entities, stats.calls_running), (0, 0, 0));
    let closed = handle.closed();
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].reason.to_string(), "closed by the peer");
}

#[tokio::test(start_paused = true)]
async fn kicked_connection_reads_why() {
    let log = Log::default();
    let (_daemon, handle) = daemon(Daemon::builder().service(noting(&log))).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open_as("Chat", Some("ann")).await;
    let [view] = &handle.connections()[..] else { panic!() };
    assert_eq!(view.entities, std::slice::from_ref(&entity));
    let [seen] = &handle.entities(&Filter::everybody())[..] else { panic!() };
    assert_eq!((seen.claimed_owner.as_deref(), &*seen.groups), (Some("ann"), &["everybody".to_owned()][..]));
    assert!(handle.kick(view.id, "too loud"));
    assert_eq!(wire.event().await, ca::Request::Close { entity });
    assert!(matches!(wire.end().await, CarrierEnd::PeerSaid(why) if why == "too loud"));
    assert!(!handle.kick(view.id, "again"));
    assert_eq!(handle.closed()[0].reason.to_string(), "too loud");
}

#[tokio::test(start_paused = true)]
async fn data_that_a_service_does_not_keep_up_with_is_not_read() {
    let log = Log::default();
    let (_daemon, handle) = daemon(Daemon::builder().service(noting(&log))).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Chat").await;
    wire.send(&entity, json!("wait")).await;
    let large = "x".repeat(10_000);
    // As much as fits where it waits: whoever sends more, waits with it.
    for _ in 0..45 {
        wire.send(&entity, json!(large)).await;
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let read = handle.stats().data;
    assert!((20..30).contains(&read), "{read}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(handle.stats().data, 46);
}

#[tokio::test(start_paused = true)]
async fn entities_of_one_connection_are_limited() {
    let log = Log::default();
    let (_daemon, handle) = daemon(Daemon::builder().service(noting(&log))).await;
    let mut wire = Wire::to(&handle);
    for _ in 0..64 {
        wire.open("Chat").await;
    }
    let create = wire.wanting("Chat", None);
    assert_eq!(wire.create(create).await.unwrap_err().code.as_deref(), Some("busy"));
    assert_eq!(handle.stats().entities, 64);
}

#[tokio::test(start_paused = true)]
async fn client_that_does_nothing_is_given_up() {
    let log = Log::default();
    let (_daemon, handle) = daemon(Daemon::builder().service(noting(&log))).await;
    let begun = tokio::time::Instant::now();
    let CarrierEnd::PeerSaid(why) = Wire::to(&handle).end().await else { panic!() };
    assert_eq!(why, "no entity was created within 30 s");
    assert_eq!(begun.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn metadata_shows_what_is_known_and_no_key() {
    let service = Service::new("Chat").function("me", async |entity: Entity| entity.metadata().unwrap());
    let service = service.on_connect(async |entity: Entity| -> Result<(), Fail> { Ok(entity.join("g")?) });
    let (_daemon, handle) = daemon(Daemon::builder().service(service)).await;
    let mut wire = Wire::to(&handle);
    let mut create = wire.wanting("Chat", Some("ann"));
    create.key = Some("secret key".into());
    let entity = wire.create(create).await.unwrap();
    wire.verify(&entity).await.unwrap();
    let me = wire.call(&entity, "me", json!(null)).await.unwrap();
    assert_eq!(me["owner"], "ann");
    assert_eq!(me["groups"], json!(["g"]));
    assert_eq!(me["connectiontype"], "Local");
    assert!(!me.to_string().contains("secret"));
}

#[tokio::test(start_paused = true)]
async fn handle_of_an_entity_that_is_gone_reaches_nobody() {
    let kept: Arc<Mutex<Option<Entity>>> = Arc::default();
    let service = Service::with_state("Chat", Arc::clone(&kept)).on_connect(
        async |State(kept): State<Arc<Mutex<Option<Entity>>>>, entity: Entity| {
            *kept.lock().unwrap() = Some(entity);
        },
    );
    let (_daemon, handle) = daemon(Daemon::builder().service(service)).await;
    let mut wire = Wire::to(&handle);
    wire.open("Chat").await;
    let entity = kept.lock().unwrap().take().unwrap();
    assert_eq!(entity.emit("e", &1).await.unwrap().sent, 1);
    let ca::Request::Event { event, data: Data::Json(_), .. } = wire.event().await else { panic!() };
    assert_eq!(event, "e");
    drop(wire);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let reached = entity.emit("e", &2).await.unwrap();
    assert_eq!((reached.sent, reached.gone, reached.missed()), (0, 1, 1));
    assert!(entity.join("g").is_err());
    assert!(EntityId::new(entity.id().as_str()).is_some());
}

#[tokio::test(start_paused = true)]
async fn function_that_closes_everybody_is_answered_before_its_own_entity_alone() {
    let (_daemon, handle) = daemon(Daemon::builder().service(noting(&Log::default()))).await;
    let mut wire = Wire::to(&handle);
    let (one, other) = (wire.open("Chat").await, wire.open("Chat").await);
    wire.begin(&one, "leave late", json!(null)).await;
    // The other one is of the same connection, and has not called.
    assert_eq!(wire.event().await, ca::Request::Close { entity: other });
    assert!(wire.returned().await.1.is_ok());
    assert_eq!(wire.event().await, ca::Request::Close { entity: one });
}

#[tokio::test(start_paused = true)]
async fn what_a_function_sends_comes_before_its_answer_and_that_before_the_next_one_sends() {
    let service = Service::new("Steps").function("step", async |entity: Entity, Json(n): Json<u8>| {
        entity.emit("step", &n).await.map(|reached| reached.sent).map_err(Fail::from)
    });
    let (_daemon, handle) = daemon(Daemon::builder().service(service)).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Steps").await;
    for n in 0..3 {
        wire.begin(&entity, "step", json!(n)).await;
    }
    let mut heard = Vec::new();
    for _ in 0..6 {
        heard.push(wire.next().await.unwrap().method);
    }
    assert_eq!(heard, [Method::Ca, Method::Cs, Method::Ca, Method::Cs, Method::Ca, Method::Cs]);
}
