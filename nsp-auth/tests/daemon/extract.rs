use std::sync::Arc;

use nsp::daemon::{Daemon, DaemonHandle, Entity, Fail, Service};
use nsp::proto::cs::Mode;
use nsp_auth::extract::{Group, Member, Owner, Superuser};
use nsp_auth::policy::Policies;
use serde_json::json;

use crate::Book;
use crate::wire::Wire;

enum Keyholders {}

impl Group for Keyholders {
    const NAME: &str = "keyholders";
}

async fn room() -> (Daemon, DaemonHandle) {
    let room = Service::new("Room")
        .function("mine", async |owner: Owner| owner.name().to_owned())
        .function("demolish", async |superuser: Superuser| superuser.name().to_owned())
        .function("enter", async |member: Member<Keyholders>| member.entity().groups())
        .function("take_key", async |entity: Entity, _: Owner| -> Result<(), Fail> {
            entity.join("keyholders")?;
            Ok(())
        })
        .function("give_key_back", async |entity: Entity| entity.leave("keyholders"));
    let book = Book::with(&Arc::new(Policies::none()));
    let daemon = Daemon::builder().authority(book).service(room).bind().await.unwrap();
    let handle = daemon.handle();
    (daemon, handle)
}

#[tokio::test(start_paused = true)]
async fn owner_is_who_has_proved_it() {
    let (_daemon, handle) = room().await;
    let mut wire = Wire::to(&handle, Some("token of alice"));
    let alice = wire.open("Room", Some("alice")).await.unwrap();
    for _ in 0..3 {
        assert_eq!(wire.call(&alice, "mine").await, Ok(json!("alice")));
    }
    assert_eq!(wire.asked, 1, "it is remembered");

    let mut wire = Wire::to(&handle, Some("token of mallory"));
    let claimed = wire.open("Room", Some("alice")).await.unwrap();
    assert_eq!(wire.call(&claimed, "mine").await, Err("auth_failed".into()));
    let nobody = wire.open("Room", None).await.unwrap();
    assert_eq!(wire.call(&nobody, "mine").await, Err("auth_failed".into()));
    wire.token = None;
    assert_eq!(wire.call(&claimed, "mine").await, Err("auth_failed".into()));
}

#[tokio::test(start_paused = true)]
async fn superuser_is_more_than_an_owner() {
    let (_daemon, handle) = room().await;
    let mut wire = Wire::to(&handle, Some("token of admin"));
    let admin = wire.open("Room", Some("admin")).await.unwrap();
    assert_eq!(wire.call(&admin, "demolish").await, Ok(json!("admin")));
    wire.token = Some("token of alice");
    let alice = wire.open("Room", Some("alice")).await.unwrap();
    assert_eq!(wire.call(&alice, "demolish").await, Err("forbidden".into()));
    let claimed = wire.open("Room", Some("admin")).await.unwrap();
    assert_eq!(wire.call(&claimed, "demolish").await, Err("auth_failed".into()), "a claim is not enough");
}

#[tokio::test(start_paused = true)]
async fn member_is_whom_the_service_has_let_join() {
    let (_daemon, handle) = room().await;
    let mut wire = Wire::to(&handle, Some("token of alice"));
    let alice = wire.open("Room", Some("alice")).await.unwrap();
    let other = wire.open("Room", Some("alice")).await.unwrap();
    assert_eq!(wire.call(&alice, "enter").await, Err("forbidden".into()));
    wire.call(&alice, "take_key").await.unwrap();
    assert_eq!(wire.call(&alice, "enter").await, Ok(json!(["keyholders"])));
    assert_eq!(wire.call(&other, "enter").await, Err("forbidden".into()), "it is the entity that is in it");
    wire.call(&alice, "give_key_back").await.unwrap();
    assert_eq!(wire.call(&alice, "enter").await, Err("forbidden".into()));
}

#[tokio::test(start_paused = true)]
async fn trusted_daemon_is_whom_it_names() {
    let (_daemon, handle) = room().await;
    let mut wire = Wire::from_loopback(&handle);
    let alice = wire.open_as("Room", Some("alice"), Mode::Daemon, Some("the key")).await.unwrap();
    assert_eq!(wire.call(&alice, "mine").await, Ok(json!("alice")));
    assert_eq!(wire.call(&alice, "demolish").await, Err("forbidden".into()));
    let admin = wire.open_as("Room", Some("admin"), Mode::Daemon, Some("the key")).await.unwrap();
    assert_eq!(wire.call(&admin, "demolish").await, Ok(json!("admin")));
    let nobody = wire.open_as("Room", None, Mode::Daemon, Some("the key")).await.unwrap();
    assert_eq!(wire.call(&nobody, "mine").await, Err("auth_failed".into()), "it names nobody");
    assert_eq!(wire.call(&nobody, "demolish").await, Err("forbidden".into()));
    for key in [None, Some("a key")] {
        let entity = wire.open_as("Room", Some("alice"), Mode::Daemon, key).await.unwrap();
        assert_eq!(wire.call(&entity, "mine").await, Err("auth_failed".into()));
    }
    assert_eq!(wire.asked, 0);
}

#[tokio::test(start_paused = true)]
async fn daemon_that_is_not_trusted_is_nobody() {
    let (_daemon, handle) = room().await;
    let mut wire = Wire::to(&handle, Some("token of alice"));
    // A connection inside the process has no address that could be trusted.
    let entity = wire.open_as("Room", Some("alice"), Mode::Daemon, Some("the key")).await.unwrap();
    assert_eq!(wire.call(&entity, "mine").await, Err("auth_failed".into()));
    assert_eq!(wire.call(&entity, "demolish").await, Err("auth_failed".into()));
}
