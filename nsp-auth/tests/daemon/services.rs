use nsp::authority::{Access, Action};
use nsp::client::{Activity, CallError, Client, Login};
use nsp::daemon::{Daemon, DaemonHandle, Emitter, Service};
use nsp_auth::Authority;
use nsp_auth::extract::{CallingService, Owner, Superuser};
use nsp_auth::password::Cost;
use nsp_auth::policy::{Policies, Policy};
use nsp_auth::store::Memory;
use nsp_auth::user::Username;
use nsp_auth::users::NewUser;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::wire::Wire;

const POLICY: &str = r#"
    [roles.anonymous]
    grants = [{ may = "read", on = "Notes", functions = "public" }]
    [roles.user]
    grants = [{ may = "read", on = "Notes" }]
    [roles.superuser]
    grants = [{ may = "*", on = "*" }]
    [roles.backup]
    grants = [
        { may = "read", on = "Notes", shows = ["*", "!secret"] },
        { may = "update", on = "Notes", functions = ["touch", "mine", "wipe"] },
    ]
    [roles.cleaner]
    inherits = "backup"
    grants = [{ may = "delete", on = "Notes" }]
    denies = [{ may = "*", on = "Notes", functions = "all" }]

    [services]
    NoBackup = "backup"
    Cleaner = ["cleaner"]

    [users]
    cleaner = "cleaner"

    [functions.Notes]
    public = "read"
    all = "read"
    remove = "delete"
    tidy = "delete:own"
"#;

fn notes() -> Service {
    Service::new("Notes")
        .function("public", async || "hello")
        .function("all", async || json!({"text": "milk", "secret": 7}))
        .function("touch", async |service: CallingService| service.name().to_owned())
        .function("mine", async |owner: Owner| owner.name().to_owned())
        .function("wipe", async |superuser: Superuser| superuser.name().to_owned())
        .function("remove", async || "removed")
        .function("tidy", async || "tidied")
}

/// A daemon with services that call others, and the ways by which they do.
async fn daemon() -> (Authority, Daemon, DaemonHandle, mpsc::UnboundedReceiver<Emitter>) {
    let policies = Policies::of(Policy::from_toml(POLICY).unwrap());
    let cheap = Cost { memory_kib: 8, passes: 1 };
    let authority =
        Authority::builder().cost(cheap).policies(policies).open_store(Memory::new()).await.unwrap();
    for name in ["cleaner", "nobackup"] {
        let new = NewUser::new(Username::parse(name).unwrap(), "correct horse battery".into());
        authority.users().create(new).await.unwrap();
    }
    let (give, given) = mpsc::unbounded_channel();
    let calling = |name: &str| {
        let give = give.clone();
        Service::new(name).on_start(move |emitter: Emitter| drop(give.send(emitter)))
    };
    let builder = Daemon::builder().authority(authority.clone()).service(notes());
    let builder =
        ["NoBackup", "Cleaner", "Stranger"].into_iter().fold(builder, |b, name| b.service(calling(name)));
    let daemon = builder.bind().await.unwrap();
    let handle = daemon.handle();
    (authority, daemon, handle, given)
}

async fn call(notes: &Activity, function: &str) -> Result<Value, String> {
    notes.call(function, &()).await.map_err(|error| match error {
        CallError::Failed(failure) => failure.code.unwrap_or_default(),
        other => other.to_string(),
    })
}

fn forbidden<T>() -> Result<T, String> {
    Err("forbidden".to_owned())
}

#[tokio::test(start_paused = true)]
async fn services_may_what_their_roles_grant() {
    let (_authority, _daemon, _handle, mut given) = daemon().await;
    for _ in 0..3 {
        let emitter = given.recv().await.unwrap();
        let client = Client::over(emitter.connect_local());
        let opened = client.activity("Notes").open().await;
        match emitter.service() {
            "NoBackup" => {
                let notes = opened.unwrap();
                assert_eq!(call(&notes, "all").await, Ok(json!({"text": "milk"})), "less is shown to it");
                assert_eq!(call(&notes, "touch").await, Ok(json!("NoBackup")));
                assert_eq!(call(&notes, "remove").await, forbidden());
                // Nothing is a service's own.
                assert_eq!(call(&notes, "tidy").await, forbidden());
                // It may, as far as the policy goes, but it is no user.
                assert_eq!(call(&notes, "mine").await, Err("auth_failed".into()));
                assert_eq!(call(&notes, "wipe").await, Err("auth_failed".into()));
            }
            "Cleaner" => {
                let notes = opened.unwrap();
                assert_eq!(call(&notes, "remove").await, Ok(json!("removed")));
                assert_eq!(call(&notes, "all").await, forbidden(), "a denial wins");
                assert_eq!(call(&notes, "public").await, Ok(json!("hello")));
            }
            // It has no line in the policy: not even what nobody may is granted to it.
            _ => assert!(opened.is_err()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_of_the_same_name_is_no_service_and_a_service_no_user() {
    let (authority, _daemon, handle, mut given) = daemon().await;
    let token = |name: &'static str| {
        let users = authority.users().clone();
        async move { users.issue_token(Username::parse(name).unwrap(), "test").await.unwrap().0 }
    };
    // A user with the roles of a service, from outside: the roles count, and it is no service.
    let login = Login::new("cleaner").token(token("cleaner").await);
    let client = Client::connect("nsp://localhost:1").credentials(login).over(handle.connect_local());
    let notes = client.activity("Notes").owner("cleaner").open().await.unwrap();
    assert_eq!(call(&notes, "remove").await, Ok(json!("removed")));
    assert_eq!(call(&notes, "touch").await, forbidden());
    // One who is called as a service is, apart from capitals, has nothing of it.
    let login = Login::new("nobackup").token(token("nobackup").await);
    let client = Client::connect("nsp://localhost:1").credentials(login).over(handle.connect_local());
    let notes = client.activity("Notes").owner("nobackup").open().await.unwrap();
    assert_eq!(call(&notes, "all").await, Ok(json!({"text": "milk", "secret": 7})), "as every user");
    assert_eq!(call(&notes, "touch").await, forbidden());
    // Who only claims it gets nothing, whatever they claim.
    for owner in ["NoBackup", "Cleaner", "service NoBackup", "cleaner"] {
        let mut wire = Wire::to(&handle, Some("a wrong token"));
        let claimed = wire.open("Notes", Some(owner)).await.unwrap();
        for function in ["all", "touch", "remove"] {
            assert!(wire.call(&claimed, function).await.is_err(), "{owner} {function}");
        }
    }
    // A service that speaks for a user has that user's rights and not its own.
    let emitter = loop {
        let emitter = given.recv().await.unwrap();
        if emitter.service() == "NoBackup" {
            break emitter;
        }
    };
    let login = Login::new("nobackup").token(token("nobackup").await);
    let client = Client::connect("nsp://localhost:1").credentials(login).over(emitter.connect_local());
    let notes = client.activity("Notes").owner("nobackup").open().await.unwrap();
    assert_eq!(call(&notes, "touch").await, forbidden());
    assert_eq!(call(&notes, "all").await, Ok(json!({"text": "milk", "secret": 7})));
}

#[tokio::test(start_paused = true)]
async fn what_a_service_may_is_explained() {
    let (authority, ..) = daemon().await;
    let access =
        |function| Access::new(None, Action::Call, "Notes").name(function).calling_service("NoBackup");
    let explained = authority.explain(&access("all")).await.unwrap().unwrap();
    assert_eq!(explained.subject, "service NoBackup");
    assert!(explained.granted && explained.roles == ["backup"]);
    assert_eq!(
        explained.to_string(),
        "service NoBackup may call Notes.all: it counts as read, and the role backup grants read:any on Notes (grants[0], line 10); \
         of the answer they see *, !secret"
    );
    let explained = authority.explain(&access("remove")).await.unwrap().unwrap();
    let why = "service NoBackup may not call Notes.remove: it counts as delete, and none of their roles grants it (backup)";
    assert_eq!(explained.to_string(), why);
    let stranger = Access::new(None, Action::Open, "Notes").calling_service("Stranger");
    let explained = authority.explain(&stranger).await.unwrap().unwrap();
    assert_eq!(explained.to_string(), "service Stranger may not open Notes: they have no role");
    // The same name as a user is somebody else.
    let user = Access::new(Some("nobackup"), Action::Call, "Notes").name("all");
    assert_eq!(authority.explain(&user).await.unwrap().unwrap().subject, "nobackup");
}
