//! A daemon from its beginning to its end, and what it says about itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use nsp::authority::{Action, Permission};
use nsp::carrier::CarrierEnd;
use nsp::daemon::{
    BindError, CustomCall, DISCOVERY, Daemon, Emitter, Entity, Fail, FunctionManifest, Json, Limits,
    Manifest, Service, State,
};
use nsp::proto::{Asker, CustomMethod, Form, Leg, Method, Packet, Payload, Rule, Side, ca};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::book::{Book, granted};
use crate::wire::{Wire, code, daemon};

fn sleeper() -> Service {
    Service::new("Sleeper")
        .function("sleep", async |Json(seconds): Json<u64>| {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        })
        .function("echo", async |Json(value): Json<Value>| value)
}

#[tokio::test(start_paused = true)]
async fn stopping_lets_what_runs_end_tells_the_clients_and_counts() {
    let (daemon, handle) = daemon(Daemon::builder().service(sleeper())).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(daemon.serve_until(async { drop(stopped.await) }));
    let (mut idle, mut busy, mut stuck) = (Wire::to(&handle), Wire::to(&handle), Wire::to(&handle));
    let idle_entity = idle.open("Sleeper").await;
    let busy_entity = busy.open("Sleeper").await;
    let stuck_entity = stuck.open("Sleeper").await;
    busy.begin(&busy_entity, "sleep", json!(5)).await;
    stuck.begin(&stuck_entity, "sleep", json!(3600)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let begun = tokio::time::Instant::now();
    drop(stop);

    assert_eq!(idle.event().await, ca::Request::Close { entity: idle_entity });
    assert!(matches!(idle.end().await, CarrierEnd::PeerSaid(why) if why == "going away"));
    assert_eq!(code(busy.call(&busy_entity, "echo", json!(1)).await), "closing");
    let create = busy.wanting("Sleeper", None);
    assert_eq!(busy.create(create).await.unwrap_err().code.as_deref(), Some("closing"));
    assert_eq!(busy.returned().await.1, Ok(json!(null)), "what ran has ended");
    assert!(begun.elapsed() >= Duration::from_millis(4990));
    assert!(matches!(busy.end().await, CarrierEnd::PeerSaid(_)));
    assert!(matches!(stuck.end().await, CarrierEnd::PeerSaid(_)), "it is told, though it is cut");

    let drained = serving.await.unwrap();
    assert_eq!((drained.drained, drained.aborted), (2, 1));
    assert!(begun.elapsed() <= Limits::default().grace);
}

#[tokio::test(start_paused = true)]
async fn stopping_without_anybody_is_quick() {
    let drained = Daemon::builder().service(sleeper()).serve_until(async {}).await.unwrap();
    assert_eq!((drained.drained, drained.aborted), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn goodbyes_are_waited_for_but_not_for_ever() {
    let log: Arc<Mutex<Vec<&str>>> = Arc::default();
    let service = Service::with_state("Slow", Arc::clone(&log)).on_close(
        async |State(log): State<Arc<Mutex<Vec<&'static str>>>>, entity: Entity| {
            let is_stuck = entity.claimed_owner().is_some();
            tokio::time::sleep(Duration::from_secs(if is_stuck { 3600 } else { 1 })).await;
            log.lock().unwrap().push("said goodbye");
        },
    );
    let (daemon, handle) = daemon(Daemon::builder().service(service)).await;
    let (mut one, mut other) = (Wire::to(&handle), Wire::to(&handle));
    one.open("Slow").await;
    other.open_as("Slow", Some("stuck")).await;
    let begun = tokio::time::Instant::now();
    daemon.serve_until(async {}).await;
    assert!(begun.elapsed() <= Limits::default().grace);
    assert_eq!(*log.lock().unwrap(), ["said goodbye"]);
}

#[tokio::test]
async fn services_have_one_name_each_and_all_that_they_need() {
    let twice = Daemon::builder().service(sleeper()).service(sleeper()).bind().await;
    assert!(matches!(twice.unwrap_err(), BindError::DuplicateService { name } if name == "Sleeper"));
    let needing = sleeper().manifest(Manifest::new("").depends_on("Users", "1.0.0"));
    let error = Daemon::builder().service(needing).bind().await.unwrap_err();
    assert_eq!(error.to_string(), "the service `Sleeper` needs `Users`, which is not there");
}

#[tokio::test]
async fn manifest_that_promises_a_secure_function_is_held_to_it() {
    let text = r#"{"servicefunctions": {"sleep": {"secure": true}, "nobody": {}}}"#;
    let service = sleeper().manifest(Manifest::from_json(text).unwrap());
    let error = Daemon::builder().service(service).bind().await.unwrap_err();
    assert_eq!(error.to_string(), "the manifest of `Sleeper` says that `sleep` is secure, and it is not");
}

#[tokio::test(start_paused = true)]
async fn authority_that_panics_is_answered_for_and_the_connection_goes_on() {
    struct Panicking;
    impl nsp::authority::Authority for Panicking {
        fn sign_in<'a>(
            &'a self,
            _: &'a str,
            _: Option<nsp::Password>,
            _: nsp::authority::Origin,
        ) -> nsp::authority::Answer<'a, Result<nsp::Token, nsp::authority::Denied>> {
            panic!("at the users")
        }
        fn judge_token<'a>(
            &'a self,
            _: &'a str,
            _: &'a nsp::Token,
            _: nsp::authority::Origin,
        ) -> nsp::authority::Answer<'a, Result<nsp::authority::Proved, nsp::authority::Denied>> {
            panic!("at the tokens")
        }
        fn judge_password<'a>(
            &'a self,
            _: &'a str,
            _: &'a nsp::Password,
            _: nsp::authority::Origin,
        ) -> nsp::authority::Answer<'a, Result<nsp::authority::Proved, nsp::authority::Denied>> {
            panic!("at the passwords")
        }
        fn privilege<'a>(
            &'a self,
            _: &'a str,
        ) -> nsp::authority::Answer<'a, Result<Option<i64>, nsp::authority::Denied>> {
            panic!("at the ranks")
        }
    }
    let service = sleeper().secure_function("secure", async || ());
    let (_daemon, handle) = daemon(Daemon::builder().authority(Panicking).service(service)).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open_as("Sleeper", Some("ann")).await;
    wire.begin(&entity, "secure", json!(null)).await;
    wire.show("token").await;
    assert_eq!(code(wire.returned().await.1), "internal");
    let ask = nsp::proto::gt::Request { user: "ann".into(), password: None };
    wire.say(ask.encode()).await;
    assert_eq!(&wire.next_of(Method::Gt).await.payload.json[..], br#"{"u":"ann","s":"Fail"}"#);
    assert_eq!(wire.call(&entity, "echo", json!(1)).await, Ok(json!(1)));
}

#[tokio::test(start_paused = true)]
async fn discovery_lists_and_describes_what_one_may_open() {
    let book = Book::of(&[]).with_rules(|_, action, _| match action {
        Action::Open | Action::Call | Action::Send => granted(),
        _ => Permission::Denied,
    });
    let manifest = Manifest::new("ignored")
        .version("2.1.0")
        .description("Sleeps")
        .function("sleep", FunctionManifest::new("Sleeps for some seconds").call(json!("integer")));
    let service = sleeper().secure_function("wake", async || ()).manifest(manifest);
    let (_daemon, handle) = daemon(Daemon::builder().shared_authority(book).service(service)).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open(DISCOVERY).await;
    let list = wire.call(&entity, "list", json!(null)).await.unwrap();
    let names: Vec<_> = list["services"].as_array().unwrap().iter().map(|service| &service["name"]).collect();
    assert_eq!(names, ["NoDiscovery", "Sleeper"]);
    assert_eq!(list["services"][1]["version"], "2.1.0");
    let described = wire.call(&entity, "describe", json!({"service": "Sleeper"})).await.unwrap();
    assert_eq!(described["name"], "Sleeper");
    assert_eq!(described["servicefunctions"]["sleep"]["protocol"]["call"], "integer");
    assert_eq!(described["servicefunctions"]["wake"]["secure"], true);
    assert_eq!(described["servicefunctions"]["echo"]["secure"], false);
    assert_eq!(code(wire.call(&entity, "describe", json!({"service": "Nope"})).await), "no_service");

    let (_daemon, handle) =
        crate::wire::daemon(Daemon::builder().service(sleeper()).without_discovery()).await;
    let mut wire = Wire::to(&handle);
    let create = wire.wanting(DISCOVERY, None);
    assert!(wire.create(create).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn strict_service_names_the_field_that_is_wrong() {
    let shape = json!({"user": {"name": "string"}, "times": "integer?"});
    let manifest = Manifest::new("").function("f", FunctionManifest::new("").call(shape));
    let service = Service::new("Strict").function("f", async |Json(value): Json<Value>| value);
    let service = service.function("free", async || 1).manifest(manifest).strict();
    let (_daemon, handle) = daemon(Daemon::builder().service(service)).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Strict").await;
    let right = json!({"user": {"name": "ann"}, "more": true});
    assert_eq!(wire.call(&entity, "f", right.clone()).await, Ok(right));
    let failure = wire.call(&entity, "f", json!({"user": {"name": 7}})).await.unwrap_err();
    assert_eq!(failure.code.as_deref(), Some("bad_argument"));
    assert_eq!(failure.text.as_deref(), Some("user.name has to be string, and is number"));
    assert_eq!(wire.call(&entity, "free", json!("anything")).await, Ok(json!(1)));
}

#[tokio::test(start_paused = true)]
async fn service_calls_another_service_of_the_same_daemon_without_a_socket() {
    let caller = Service::new("Caller").function("ask", async |emitter: Emitter| -> Result<Value, Fail> {
        let daemon = emitter.daemon().ok_or_else(|| Fail::new("closing", "the daemon stops"))?;
        let mut wire = Wire::to(&daemon);
        let entity = wire.open("Sleeper").await;
        Ok(wire.call(&entity, "echo", json!("from inside")).await.unwrap())
    });
    let (_daemon, handle) = daemon(Daemon::builder().service(sleeper()).service(caller)).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Caller").await;
    assert_eq!(wire.call(&entity, "ask", json!(null)).await, Ok(json!("from inside")));
}

#[tokio::test(start_paused = true)]
async fn method_of_the_user_s_own_is_answered() {
    let weather = Method::Custom(CustomMethod::new("WX").unwrap());
    let rule =
        Rule { method: weather, asker: Asker::Only(Side::Client), request: Form::Bare, answer: Form::Packed };
    let handler = async |call: CustomCall| -> Result<Option<Payload>, Fail> {
        match &call.packet.payload.json[..] {
            b"\"later\"" => tokio::time::sleep(Duration::from_secs(1)).await,
            b"\"fail\"" => return Err(Fail::new("x", "y")),
            b"\"panic\"" => panic!("at the weather"),
            _ => {}
        }
        let json = call.packet.payload.json;
        Ok(Some(Payload { json, blob: Some(Bytes::from_static(b"rain")) }))
    };
    let (_daemon, handle) = daemon(Daemon::builder().service(sleeper()).method(rule, handler)).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Sleeper").await;
    for ask in ["\"later\"", "\"fail\"", "\"panic\"", "\"now\""] {
        wire.say(Packet::new(weather, Leg::Request, Bytes::from_static(ask.as_bytes()))).await;
    }
    for json in ["\"now\"", "\"later\""] {
        let answer = wire.next_of(weather).await;
        assert_eq!(answer.leg, Leg::Answer);
        assert_eq!((answer.payload.json, answer.payload.blob), (json.into(), Some("rain".into())));
    }
    assert_eq!(wire.call(&entity, "echo", json!(1)).await, Ok(json!(1)));
}

#[tokio::test(start_paused = true)]
async fn last_words_of_many_connections_are_remembered_and_not_of_all() {
    let (_daemon, handle) = daemon(Daemon::builder().service(sleeper())).await;
    for _ in 0..100 {
        drop(Wire::to(&handle));
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let closed = handle.closed();
    assert_eq!(closed.len(), 64);
    assert!(closed.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert_eq!((handle.stats().accepted, handle.stats().connections), (100, 0));
}
