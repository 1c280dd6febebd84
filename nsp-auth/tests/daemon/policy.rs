use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nsp::daemon::{BindError, Blob, Daemon, DaemonHandle, Fail, Json, Meta, Service, State};
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

const OWNERS: &str = r#"
    [roles.anonymous]
    grants = [{ may = "read", on = "Notes" }]
    [roles.user]
    grants = [
        { may = "delete:own", on = "Notes" },
        { may = "read", on = "Notes", shows = ["*", "!secret"] },
        { may = "read:own", on = "Notes" },
        { may = "update", on = "Notes" },
    ]
    denies = [{ may = "update:own", on = "Notes", functions = "approve" }]
    [roles.superuser]
    grants = [{ may = "*", on = "*" }]
    [functions.Notes]
    remove = "delete"
    read = "read"
    approve = "update"
    tidy = "delete:own"
    all = "read"
"#;

/// Notes with their owners, and how often somebody asked for one.
#[derive(Debug, Default)]
struct Shelf {
    owners: BTreeMap<&'static str, &'static str>,
    asked: AtomicUsize,
}

impl Shelf {
    fn owner(&self, id: &str) -> Option<String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.owners.get(id).map(ToString::to_string)
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

type OnShelf = State<Arc<Shelf>>;

#[tokio::test(start_paused = true)]
async fn service_tells_whose_a_thing_is_and_the_policy_what_follows() {
    let shelf = Arc::new(Shelf { owners: [("hers", "alice"), ("his", "robert")].into(), ..Shelf::default() });
    let owner = async |Json(id): Json<String>, State(shelf): OnShelf| shelf.owner(&id);
    let notes = Service::with_state("Notes", Arc::clone(&shelf))
        .function("remove", async |Json(id): Json<String>| format!("removed {id}"))
        .function("tidy", async |Json(id): Json<String>| id)
        .function("approve", async |Json(id): Json<String>| id)
        .function("read", async |Json(_): Json<String>| note())
        .function("all", async || "titles")
        .owner_of("remove", owner)
        .owner_of("read", owner)
        .owner_of("approve", owner)
        .owner_of(
            "tidy",
            async |Json(id): Json<String>, State(shelf): OnShelf| -> Result<Option<String>, Fail> {
                if id == "lost" { Err(Fail::new("lost", "nobody knows")) } else { Ok(shelf.owner(&id)) }
            },
        );
    let policies = Arc::new(Policies::of(Policy::from_toml(OWNERS).unwrap()));
    let daemon = Daemon::builder().authority(Book::with(&policies)).service(notes).bind().await.unwrap();
    let handle = daemon.handle();

    let mut wire = Wire::to(&handle, Some("token of alice"));
    let alice = wire.open("Notes", Some("alice")).await.unwrap();
    let hers = json!("hers");
    // One's own, and nobody else's, nor nobody's.
    assert_eq!(wire.call_with(&alice, "remove", &hers).await, Ok(json!("removed hers")));
    for id in ["his", "none"] {
        assert_eq!(wire.call_with(&alice, "remove", &json!(id)).await, forbidden(), "{id}");
    }
    assert_eq!(shelf.asked(), 3);
    // More of one's own is shown.
    assert_eq!(wire.call_with(&alice, "read", &hers).await, Ok(note()));
    assert_eq!(wire.call_with(&alice, "read", &json!("his")).await.unwrap().get("secret"), None);
    // Who may with any, but not with their own.
    assert_eq!(wire.call_with(&alice, "approve", &json!("his")).await, Ok(json!("his")));
    assert_eq!(wire.call_with(&alice, "approve", &hers).await, forbidden());
    // What is declared as the caller's own, and is not.
    assert_eq!(wire.call_with(&alice, "tidy", &hers).await, Ok(json!("hers")));
    assert_eq!(wire.call_with(&alice, "tidy", &json!("his")).await, forbidden());
    assert_eq!(shelf.asked(), 6);
    // What cannot be told is the answer.
    assert_eq!(wire.call_with(&alice, "tidy", &json!("lost")).await, Err("lost".to_owned()));
    assert_eq!(wire.call_with(&alice, "remove", &json!(7)).await, Err("bad_argument".to_owned()));
    // Nobody is asked where it makes no difference: for who is nobody, for who may with any, for other functions.
    assert_eq!(wire.call(&alice, "all").await, Ok(json!("titles")));
    let mut wire = Wire::to(&handle, None);
    let nobody = wire.open("Notes", None).await.unwrap();
    assert_eq!(wire.call_with(&nobody, "remove", &hers).await, forbidden());
    assert_eq!(wire.call_with(&nobody, "read", &hers).await, Ok(note()));
    let mut wire = Wire::to(&handle, Some("token of admin"));
    let admin = wire.open("Notes", Some("admin")).await.unwrap();
    assert_eq!(wire.call_with(&admin, "remove", &json!("his")).await, Ok(json!("removed his")));
    policies.replace(None);
    assert_eq!(wire.call_with(&admin, "remove", &json!("none")).await, Ok(json!("removed none")));
    assert_eq!(shelf.asked(), 0);
}

#[tokio::test]
async fn owners_of_a_function_that_is_not_offered_are_a_mistake() {
    let notes = Service::new("Notes").function("remove", async || ()).owner_of("remvoe", async || None);
    let error = Daemon::builder().service(notes).bind().await.unwrap_err();
    assert!(matches!(&error, BindError::NotOffered { .. }), "{error}");
    assert_eq!(error.to_string(), "`Notes` tells the owners of `remvoe`, and does not offer it");
}
