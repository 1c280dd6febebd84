use std::sync::Arc;

use nsp::daemon::{Blob, Daemon, DaemonHandle, Meta, Service};
use nsp_auth::policy::{Policies, Policy};
use serde_json::{Value, json};

use crate::Book;
use crate::wire::Wire;

const POLICY: &str = r#"
    [roles.anonymous]
    grants = [{ may = "read", on = "Notes", functions = "public" }]
    [roles.user]
    inherits = "anonymous"
    grants = [
        { may = "read", on = "Notes", shows = ["*", "!secret", "!by.email"] },
        { may = "update:own", on = "Notes" },
    ]
    [roles.superuser]
    grants = [{ may = "*", on = "*" }]
    denies = [{ may = "delete", on = "Notes", functions = "wipe" }]
    [functions.Notes]
    public = "read"
    get = "read"
    photo = "read"
    wipe = "delete"
    profile = "update:own"
"#;

fn note() -> Value {
    json!({"text": "milk", "secret": 7, "by": {"name": "ann", "email": "a@example.org"}})
}

fn shown() -> Value {
    json!({"text": "milk", "by": {"name": "ann"}})
}

async fn notes(policies: &Arc<Policies>) -> (Daemon, DaemonHandle) {
    let notes = Service::new("Notes")
        .function("public", async || "hello")
        .function("get", async || note())
        .blob_function("photo", async || (Blob("photo".into()), Meta(note())))
        .function("profile", async || "changed")
        .function("rename", async || "renamed")
        .function("wipe", async || "gone");
    let other = Service::new("Other").function("get", async || note());
    let builder = Daemon::builder().authority(Book::with(policies)).service(notes).service(other);
    let daemon = builder.bind().await.unwrap();
    let handle = daemon.handle();
    (daemon, handle)
}

fn forbidden<T>() -> Result<T, String> {
    Err("forbidden".to_owned())
}

#[tokio::test(start_paused = true)]
async fn policy_lets_in_and_keeps_out() {
    let policies = Arc::new(Policies::of(Policy::from_toml(POLICY).unwrap()));
    let (_daemon, handle) = notes(&policies).await;
    let mut wire = Wire::to(&handle, None);
    let nobody = wire.open("Notes", None).await.unwrap();
    assert_eq!(wire.call(&nobody, "public").await, Ok(json!("hello")));
    assert_eq!(wire.call(&nobody, "get").await, forbidden());
    assert_eq!(wire.open("Other", None).await, forbidden());
    assert_eq!(wire.asked, 0);

    let mut wire = Wire::to(&handle, Some("token of alice"));
    let alice = wire.open("Notes", Some("alice")).await.unwrap();
    assert_eq!(wire.asked, 0, "what anybody may needs no proof");
    assert_eq!(wire.call(&alice, "get").await, Ok(shown()));
    assert_eq!(wire.asked, 1, "what is more does");
    assert_eq!(wire.call(&alice, "profile").await, Ok(json!("changed")));
    assert_eq!(wire.call(&alice, "rename").await, forbidden(), "nobody has said that it is hers");
    assert_eq!(wire.call(&alice, "wipe").await, forbidden());
    assert_eq!(wire.open("Other", Some("alice")).await, forbidden());

    let mut wire = Wire::to(&handle, Some("token of admin"));
    let admin = wire.open("Other", Some("admin")).await.unwrap();
    assert_eq!(wire.call(&admin, "get").await, Ok(note()));
    let admin = wire.open("Notes", Some("admin")).await.unwrap();
    assert_eq!(wire.call(&admin, "rename").await, Ok(json!("renamed")));
    assert_eq!(wire.call(&admin, "wipe").await, forbidden(), "a denial wins");

    let mut wire = Wire::to(&handle, Some("token of mallory"));
    let claimed = wire.open("Notes", Some("admin")).await.unwrap();
    assert!(wire.call(&claimed, "rename").await.is_err(), "a claim grants nothing");
}

#[tokio::test(start_paused = true)]
async fn what_is_said_about_a_blob_is_filtered_too() {
    let policies = Arc::new(Policies::of(Policy::from_toml(POLICY).unwrap()));
    let (_daemon, handle) = notes(&policies).await;
    let mut wire = Wire::to(&handle, Some("token of alice"));
    let alice = wire.open("Notes", Some("alice")).await.unwrap();
    assert_eq!(wire.call_blob(&alice, "photo").await, Ok(shown()));
    wire.token = Some("token of admin");
    let admin = wire.open("Notes", Some("admin")).await.unwrap();
    assert_eq!(wire.call_blob(&admin, "photo").await, Ok(note()));
}

#[tokio::test(start_paused = true)]
async fn another_policy_holds_for_entities_that_are_there() {
    let policies = Arc::new(Policies::none());
    let (_daemon, handle) = notes(&policies).await;
    let mut wire = Wire::to(&handle, Some("token of alice"));
    let alice = wire.open("Notes", Some("alice")).await.unwrap();
    assert_eq!(wire.call(&alice, "get").await, Ok(note()), "without a policy all is shown");
    assert_eq!(wire.call(&alice, "wipe").await, Ok(json!("gone")));
    policies.replace(Some(Policy::from_toml(POLICY).unwrap()));
    assert_eq!(wire.call(&alice, "get").await, Ok(shown()));
    assert_eq!(wire.call(&alice, "wipe").await, forbidden());
    policies.replace(Some(Policy::from_toml("").unwrap()));
    assert_eq!(wire.call(&alice, "get").await, forbidden());
    policies.replace(None);
    assert_eq!(wire.call(&alice, "wipe").await, Ok(json!("gone")));
}
