//! Who may do what, written down in a policy: roles, what they grant, and what they get to see.
//!
//! The service knows nothing of it. A policy can be replaced while the daemon runs, and says why it decided as it did.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;

use nsp::authority::{Access, Action};
use nsp::client::{Client, Login};
use nsp::daemon::{Daemon, Json, Service};
use nsp_auth::Authority;
use nsp_auth::policy::{Policies, Policy};
use nsp_auth::user::Username;
use nsp_auth::users::NewUser;
use serde_json::{Value, json};

const POLICY: &str = r#"
[roles.anonymous]
grants = [{ may = "read", on = "Patients", functions = "count" }]

[roles.nurse]
inherits = "anonymous"
grants = [{ may = "read", on = "Patients", shows = ["*", "!diagnosis"] }]

[roles.doctor]
inherits = "nurse"
grants = [{ may = ["read", "update"], on = "Patients" }]

[users]
nurse1 = "nurse"
doctor1 = "doctor"

[functions.Patients]
count = "read"
get = "read"
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let policy = Policy::from_toml(POLICY)?;
    let authority =
        Authority::builder().policies(Policies::of(policy)).open(folder.path().join("users.db")).await?;
    for name in ["nurse1", "doctor1"] {
        authority.users().create(NewUser::new(Username::parse(name)?, "a long pass phrase".into())).await?;
    }
    let explain = |user, name| {
        let authority = authority.clone();
        async move {
            let access = Access::new(user, Action::Call, "Patients").name(name);
            authority.explain(&access).await.map(|why| why.map_or_else(String::new, |why| why.to_string()))
        }
    };

    let patients = Service::new("Patients")
        .function("count", async || 2)
        .function("get", async |Json(id): Json<u32>| json!({"id": id, "bed": 7, "diagnosis": "curiosity"}))
        .function("set", async || "changed");
    let daemon = Daemon::builder()
        .authority(authority.clone())
        .service(patients)
        .listen("nsp://127.0.0.1:0")
        .bind()
        .await?;
    let address = daemon.addresses().first().cloned().ok_or("it does not listen")?;
    tokio::spawn(daemon.serve());

    for user in [None, Some("nurse1"), Some("doctor1")] {
        let mut connector = Client::connect(address.clone());
        if let Some(user) = user {
            connector = connector.credentials(
                Login::new(user)
                    .password("a long pass phrase")
                    .token(Client::connect(address.clone()).await?.token(user, "a long pass phrase").await?),
            );
        }
        let client = connector.await?;
        let mut opening = client.activity("Patients");
        if let Some(user) = user {
            opening = opening.owner(user);
        }
        let activity = opening.open().await?;
        println!("{}:", user.unwrap_or("anybody"));
        for (function, argument) in [("count", Value::Null), ("get", json!(1)), ("set", Value::Null)] {
            match activity.call::<Value>(function, &argument).await {
                Ok(answer) => println!("  {function}: {answer}"),
                Err(error) => println!("  {function}: {error}"),
            }
        }
    }
    println!("why may the nurse not set? {}", explain(Some("nurse1"), "set").await?);
    Ok(())
}
