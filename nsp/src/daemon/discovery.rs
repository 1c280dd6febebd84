//! The service that says which services there are.

use serde::{Deserialize, Serialize};

use super::emit::Emitter;
use super::entity::Entity;
use super::extract::Json;
use super::fail::{Fail, code};
use super::manifest::{FunctionManifest, Manifest};
use super::service::Service;
use crate::authority::{Access, Action, Permission};
use crate::machine::check::Demand;

/// The name of the service that says which services there are.
///
/// | function | takes | gives |
/// |---|---|---|
/// | `list` | nothing | `{"services": [{"name", "version", "displayname", "description"}]}`, by name |
/// | `describe` | `{"service": name}` | the [`Manifest`] of it, its functions with their shapes; or `no_service` |
///
/// Of a service that one may not open, one does not learn that it is there.
pub const DISCOVERY: &str = "NoDiscovery";

#[derive(Serialize)]
struct Listing {
    services: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    name: String,
    version: String,
    displayname: String,
    description: String,
}

#[derive(Deserialize)]
struct Describe {
    service: String,
}

pub(crate) fn service() -> Service {
    let manifest = Manifest::new(DISCOVERY)
        .version(env!("CARGO_PKG_VERSION"))
        .display_name("Discovery")
        .description("Says which services there are, and what they offer")
        .function(
            "list",
            FunctionManifest::new("Lists the services").returns(serde_json::json!({
                "services": [{"name": "string", "version": "string", "displayname": "string", "description": "string"}]
            })),
        )
        .function(
            "describe",
            FunctionManifest::new("Describes a service and its functions")
                .call(serde_json::json!({"service": "string"}))
                .returns(serde_json::json!("object")),
        );
    Service::new(DISCOVERY).manifest(manifest).function("list", list).function("describe", describe)
}

async fn list(entity: Entity, emitter: Emitter) -> Result<Json<Listing>, Fail> {
    let mut services = Vec::new();
    for manifest in all(&emitter) {
        if may_open(&entity, &manifest.name).await {
            services.push(Listed {
                name: manifest.name,
                version: manifest.version,
                displayname: manifest.display_name,
                description: manifest.description,
            });
        }
    }
    Ok(Json(Listing { services }))
}

async fn describe(
    entity: Entity,
    emitter: Emitter,
    Json(Describe { service }): Json<Describe>,
) -> Result<Json<Manifest>, Fail> {
    let found = all(&emitter).into_iter().find(|manifest| manifest.name == service);
    match found {
        Some(manifest) if may_open(&entity, &service).await => Ok(Json(manifest)),
        _ => Err(Fail::new(code::NO_SERVICE, "Error: no such service")),
    }
}

fn all(emitter: &Emitter) -> Vec<Manifest> {
    emitter.daemon().map_or_else(Vec::new, |daemon| daemon.services().into_iter().cloned().collect())
}

async fn may_open(entity: &Entity, service: &str) -> bool {
    let Some(daemon) = entity.daemon() else { return false };
    let user = match entity.proved_user() {
        Some(user) => Some(user),
        // Who has shown it before, and only them: nobody is asked for a token to read a list.
        None if entity.remembered().is_some() => {
            entity.prove(Demand::Token).await.ok().and_then(|passed| passed.user)
        }
        None => None,
    };
    let access = Access::new(user.as_deref(), Action::Open, service);
    matches!(daemon.authority.permits(&access).await, Permission::Granted { .. })
}
