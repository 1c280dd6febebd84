//! A service that calls another one of the same daemon.

use std::sync::Arc;

use nsp::authority::{Action, Permission};
use nsp::carrier::{Carrier, CarrierEnd, memory};
use nsp::client::{Client, Login};
use nsp::daemon::{Caller, Daemon, DaemonBuilder, DaemonHandle, Emitter, Entity, Fail, Json, Service};
use nsp::proto::cs::Mode;
use nsp::proto::{EntityId, RawJson};
use serde_json::{Value, json};

use crate::book::{Book, Only, granted};
use crate::wire::{Wire, daemon};

/// Says who calls, as far as the daemon knows.
fn mirror() -> Service {
    Service::new("Mirror")
        .function("who", async |entity: Entity| entity.calling_service().map(str::to_owned))
        .function("from", async |caller: Caller| caller.service)
        .function("read", async || "all of it")
        .function("wipe", async || "gone")
        .secure_function("reset", async || "done")
}

async fn ask(client: &Client, user: Option<&str>, function: &str) -> Result<Value, Fail> {
    let mut opening = client.activity("Mirror");
    if let Some(user) = user {
        opening = opening.owner(user);
    }
    let mirror = opening.open().await?;
    mirror.call(function, &()).await.map_err(|error| Fail::new("mirror", error.to_string()))
}

/// Asks the mirror: for itself, or for a user with that token.
async fn ask_as(
    diary: Emitter,
    Json((function, user, token)): Json<(String, String, String)>,
) -> Result<Value, Fail> {
    let login = Login::new(&*user).token(&*token);
    let client = Client::connect("nsp://localhost:1").credentials(login).over(diary.connect_local());
    ask(&client, Some(&*user).filter(|user| !user.is_empty()), &function).await
}

async fn both(builder: DaemonBuilder) -> (Daemon, DaemonHandle) {
    daemon(builder.service(mirror()).service(Service::new("Diary").function("ask", ask_as))).await
}

/// What the mirror tells the diary, or why it does not.
async fn asked(
    wire: &mut Wire,
    diary: &EntityId,
    function: &str,
    user: &str,
    token: &str,
) -> Result<Value, String> {
    let answer = wire.call(diary, "ask", json!([function, user, token])).await;
    answer.map_err(|failure| failure.text.unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn service_calls_another_one_as_itself() {
    let (_daemon, handle) = both(Daemon::builder()).await;
    let mut wire = Wire::to(&handle);
    let (diary, mirror) = (wire.open("Diary").await, wire.open("Mirror").await);
    for function in ["who", "from"] {
        assert_eq!(asked(&mut wire, &diary, function, "", "").await, Ok(json!("Diary")));
        // Who calls the mirror directly is no service.
        assert_eq!(wire.call(&mirror, function, json!(null)).await, Ok(json!(null)));
    }
}

#[tokio::test(start_paused = true)]
async fn authority_is_asked_about_the_service_and_says_what_it_sees() {
    let book = Book::of(&[]).with_rules(|who, action, name| match (who, action, name) {
        (Some("service Diary"), Action::Call, Some("read")) => {
            Permission::Granted { shows: Some(Arc::new(Only("a part of it"))) }
        }
        (Some("service Diary"), Action::Call, Some("wipe")) | (None, Action::Call, Some("read")) => {
            Permission::Denied
        }
        _ => granted(),
    });
    let (_daemon, handle) = both(Daemon::builder().shared_authority(book.clone())).await;
    let mut wire = Wire::to(&handle);
    let (diary, mirror) = (wire.open("Diary").await, wire.open("Mirror").await);
    assert_eq!(asked(&mut wire, &diary, "read", "", "").await, Ok(json!("a part of it")));
    let refused = asked(&mut wire, &diary, "wipe", "", "").await.unwrap_err();
    assert!(refused.contains("not permitted"), "{refused}");
    assert!(wire.call(&mirror, "read", json!(null)).await.is_err());
    assert_eq!(wire.call(&mirror, "wipe", json!(null)).await, Ok(json!("gone")));
    assert_eq!(book.asked(), 0, "a service has nothing to prove");
}

#[tokio::test(start_paused = true)]
async fn what_a_service_opens_for_a_user_is_that_users() {
    let book = Book::of(&[("ann", 1), ("bob", 1)]).with_rules(|who, _, name| match (who, name) {
        (Some("ann"), _) => granted(),
        (_, Some("wipe")) => Permission::Denied,
        _ => granted(),
    });
    let (_daemon, handle) = both(Daemon::builder().shared_authority(book)).await;
    let mut wire = Wire::to(&handle);
    let diary = wire.open("Diary").await;
    let right = "token of ann";
    assert_eq!(asked(&mut wire, &diary, "who", "ann", right).await, Ok(json!(null)));
    assert_eq!(asked(&mut wire, &diary, "from", "ann", right).await, Ok(json!("Diary")));
    assert_eq!(asked(&mut wire, &diary, "wipe", "ann", right).await, Ok(json!("gone")));
    for (function, user, token, why) in [
        ("wipe", "", "", "not permitted"),
        ("wipe", "ann", "token of bob", "user or secret is wrong"),
        ("wipe", "bob", "token of bob", "not permitted"),
        // A secure function is for superusers: a service is none, and nobody.
        ("reset", "", "", "nobody is signed in"),
    ] {
        let refused = asked(&mut wire, &diary, function, user, token).await.unwrap_err();
        assert!(refused.contains(why), "{function} for {user:?}: {refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_else_can_say_that_they_are_a_service() {
    let (_daemon, handle) = both(Daemon::builder()).await;
    let (near, far) = memory();
    assert!(handle.accept(far));
    let carriers: [Box<dyn Carrier>; 2] = [handle.connect_local(), Box::new(near)];
    for carrier in carriers {
        let mut wire = Wire::over(carrier);
        for (owner, mode) in [
            (None, Mode::Normal),
            (Some("Diary"), Mode::Normal),
            (Some("service Diary"), Mode::Normal),
            (Some(""), Mode::Daemon),
            (None, Mode::Daemon),
        ] {
            let mut create = wire.wanting("Mirror", owner);
            create.mode = mode;
            create.owner_domain = Some("Local".into());
            create.key = Some("Diary".into());
            create.description =
                RawJson::of(&json!({"type": "Service", "service": "Diary", "calling_service": "Diary"})).ok();
            let entity = wire.create(create).await.unwrap();
            assert_eq!(wire.verify(&entity).await, Ok(()));
            for function in ["who", "from"] {
                assert_eq!(wire.call(&entity, function, json!(null)).await, Ok(json!(null)), "{owner:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn connection_made_at_the_start_is_good_for_many_calls_and_ends_with_the_daemon() {
    let (give, mut given) = tokio::sync::mpsc::unbounded_channel();
    let diary = Service::new("Diary").on_start(move |diary: Emitter| {
        let client = Client::over(diary.connect_local());
        drop(give.send((diary, client)));
    });
    let daemon = Daemon::builder().service(mirror()).service(diary).bind().await.unwrap();
    let (emitter, client) = given.recv().await.unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&client, None, "who").await.unwrap(), json!("Diary"));
    }
    let drained = daemon.serve_until(std::future::ready(())).await;
    assert_eq!((drained.drained, drained.aborted), (1, 0));
    assert!(ask(&client, None, "who").await.is_err());
    let mut carrier = emitter.connect_local();
    let end = std::future::poll_fn(|cx| carrier.poll_receive(cx)).await.unwrap_err();
    assert!(matches!(end, CarrierEnd::Peer), "nobody is there any more: {end}");
}
