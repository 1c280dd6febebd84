//! `NoActivity`: who is here. For superusers.
//!
//! | function | takes | gives |
//! |---|---|---|
//! | `getOnline` | nothing | `{"d": [user, …]}`: those who have proved who they are |
//! | `getActivity` | `{"u": user}` | `{"c": how many, "d": {service: [entity, …]}}` |
//!
//! The original takes whoever claims a name for that user, and writes all messages to a file, passwords included. Here it is those
//! who have proved it, and nothing is written.

use std::collections::{BTreeMap, BTreeSet};

use nsp::daemon::{DaemonHandle, Emitter, EntityView, Fail, FunctionManifest, Json, Manifest, Service};
use nsp::machine::entities::{Field, Filter};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub(super) const NAME: &str = "NoActivity";

pub(super) fn service() -> Service {
    let manifest = Manifest::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .display_name("Activity")
        .description("Says who is here")
        .function(
            "getOnline",
            FunctionManifest::new("The users who are here").returns(json!({"d": ["string"]})),
        )
        .function(
            "getActivity",
            FunctionManifest::new("The activities of a user")
                .call(json!({"u": "string"}))
                .returns(json!({"c": "integer", "d": "object"})),
        );
    Service::new(NAME)
        .manifest(manifest)
        .secure_function("getOnline", online)
        .secure_function("getActivity", activity)
        .strict()
}

/// All entities of a daemon.
pub(super) fn everybody(daemon: &DaemonHandle) -> Vec<EntityView> {
    // No entity is without a name.
    daemon.entities(&Filter::is(Field::Id, "").not())
}

/// The users who have proved that they are here, by their names.
pub(super) fn users(daemon: &DaemonHandle) -> BTreeSet<String> {
    everybody(daemon).into_iter().filter_map(|entity| Some(entity.proved_user?.as_str().to_owned())).collect()
}

/// The entities of a user, by service.
pub(super) fn of_user(daemon: &DaemonHandle, user: &str) -> BTreeMap<String, Vec<String>> {
    let mut services: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entity in everybody(daemon) {
        if entity.proved_user.is_some_and(|proved| proved.as_str().eq_ignore_ascii_case(user)) {
            services.entry(entity.service).or_default().push(entity.id.as_str().to_owned());
        }
    }
    services
}

#[derive(Serialize)]
struct Online {
    d: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Of {
    u: String,
}

#[derive(Serialize)]
struct Activity {
    c: usize,
    d: BTreeMap<String, Vec<String>>,
}

async fn online(emitter: Emitter) -> Json<Online> {
    Json(Online { d: emitter.daemon().map(|daemon| users(&daemon)).unwrap_or_default() })
}

async fn activity(emitter: Emitter, Json(of): Json<Of>) -> Result<Json<Activity>, Fail> {
    let d = emitter.daemon().map(|daemon| of_user(&daemon, &of.u)).unwrap_or_default();
    Ok(Json(Activity { c: d.values().map(Vec::len).sum(), d }))
}
