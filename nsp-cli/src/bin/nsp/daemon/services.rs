//! Scripts and programs as services of the daemon.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use nsp::daemon::{
    Audience, Call, Data, Demand, Emitter, Entity, Fail, FromCall, FunctionManifest, Manifest, Overflow,
    Service, State,
};
use nsp::proto::EntityId;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::script::{self, Caller, Fault, Found, Function, Pace, Recipient, Said};

/// What a program wants that waits to be done; then it is not read.
const SAID: usize = 64;

/// One call, with all that a program is told of it.
struct Asked {
    function: String,
    data: Box<RawValue>,
    caller: Caller,
}

impl<S: Sync> FromCall<S> for Asked {
    async fn from_call(call: &Call, _: &S) -> Result<Self, Fail> {
        let data = match call.data() {
            Data::None => RawValue::NULL.to_owned(),
            Data::Json(json) => json.read::<&RawValue>()?.to_owned(),
            Data::Blob(_) => return Err(Fail::bad_argument("this takes JSON, and a blob was sent")),
        };
        let entity = call.entity();
        let user = entity.proved_user().map(|user| user.as_str().to_owned());
        Ok(Self {
            function: call.name().to_owned(),
            data,
            caller: Caller { user, entity: entity.id().as_str().to_owned() },
        })
    }
}

impl From<Fault> for Fail {
    fn from(fault: Fault) -> Self {
        Self::new(fault.code, fault.message)
    }
}

/// A script, with what callers may know of it.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) service: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) secure: bool,
    pub(super) login: bool,
    pub(super) function: Arc<Function>,
}

type Scripts = Arc<HashMap<String, Script>>;

/// One service for each name that scripts have before the dot.
pub(super) fn of_scripts(scripts: &[Script]) -> Vec<Service<Scripts>> {
    let mut by_service: BTreeMap<&str, Vec<&Script>> = BTreeMap::new();
    for script in scripts {
        by_service.entry(&script.service).or_default().push(script);
    }
    let services = by_service.into_iter().map(|(name, scripts)| {
        let functions = scripts.iter().map(|script| (script.name.clone(), (*script).clone())).collect();
        let mut manifest = Manifest::new(name).description("Scripts of the daemon's owner");
        let mut service = Service::with_state(name, Arc::new(functions));
        for script in scripts {
            manifest = manifest.function(&*script.name, FunctionManifest::new(&*script.description));
            service = if script.secure {
                service.secure_function(&script.name, run_script)
            } else {
                service.function(&script.name, run_script)
            };
        }
        service.manifest(manifest)
    });
    services.collect()
}

async fn run_script(
    State(scripts): State<Scripts>,
    entity: Entity,
    mut asked: Asked,
) -> Result<Box<RawValue>, Fail> {
    let script = scripts
        .get(&asked.function)
        .ok_or_else(|| Fail::new(nsp::daemon::code::NO_FUNCTION, "no such function"))?;
    if script.login {
        let passed = entity.prove(Demand::Token).await?;
        asked.caller.user = passed.user.map(|user| user.as_str().to_owned());
    }
    script.function.call(asked.data.get(), &asked.caller).await.map_err(Fail::from)
}

/// A program as a service; and what keeps it running.
pub(super) fn of_program(found: Found, pace: Pace) -> (Service<Arc<script::Service>>, Arc<script::Service>) {
    let (tell, said) = mpsc::channel(SAID);
    let manifest = found.manifest.clone();
    let program = script::Service::new(found, pace, tell);
    let mut service = Service::with_state(&*manifest.name, Arc::clone(&program))
        // It cannot be told that somebody has missed something, so who has is sent away.
        .overflow(Overflow::Close)
        .on_connect(opened)
        .on_data(said_data)
        .on_close(closed)
        .on_start(|emitter| drop(tokio::spawn(perform(emitter, said))));
    for (name, function) in &manifest.functions {
        service = if function.secure {
            service.secure_function(name, run_program)
        } else {
            service.function(name, run_program)
        };
    }
    (service.manifest(manifest), program)
}

async fn run_program(
    State(program): State<Arc<script::Service>>,
    entity: Entity,
    mut asked: Asked,
) -> Result<Box<RawValue>, Fail> {
    if program.needs_login(&asked.function) {
        let passed = entity.prove(Demand::Token).await?;
        asked.caller.user = passed.user.map(|user| user.as_str().to_owned());
    }
    program.call(&asked.function, &asked.data, &asked.caller).await.map_err(Fail::from)
}

async fn opened(State(program): State<Arc<script::Service>>, entity: Entity) {
    program.open(entity.id().as_str(), entity.proved_user().as_deref()).await;
}

async fn said_data(State(program): State<Arc<script::Service>>, asked: Asked) {
    program.data(&asked.caller.entity, asked.caller.user.as_deref(), &asked.data).await;
}

async fn closed(State(program): State<Arc<script::Service>>, entity: Entity) {
    program.close(entity.id().as_str()).await;
}

/// Does what the program wants, until there is no program any more.
async fn perform(emitter: Emitter, mut said: mpsc::Receiver<Said>) {
    while let Some(said) = said.recv().await {
        match said {
            Said::Event { name, data, to } => {
                if let Some(audience) = audience(&emitter, to) {
                    drop(audience.emit(&name, &data).await);
                }
            }
            Said::Data { data, to } => {
                if let Some(audience) = audience(&emitter, to) {
                    drop(audience.send(&data).await);
                }
            }
            Said::Join { entity, groups } => {
                if let Some(entity) = entity_of(&emitter, &entity) {
                    for group in groups {
                        if let Err(error) = entity.join(&group) {
                            tracing::warn!(service = %emitter.service(), %error, "an entity did not join a group");
                        }
                    }
                }
            }
            Said::Leave { entity, groups } => {
                if let Some(entity) = entity_of(&emitter, &entity) {
                    groups.iter().for_each(|group| entity.leave(group));
                }
            }
        }
    }
}

fn audience(emitter: &Emitter, to: Recipient) -> Option<Audience> {
    Some(match to {
        Recipient::All => emitter.to_all(),
        Recipient::Entity(id) => emitter.to_entity(&entity_of(emitter, &id)?),
        Recipient::User(user) => emitter.to_user(user),
        Recipient::Any(groups) => emitter.to_groups(groups),
        Recipient::Every(groups) => emitter.to_including_groups(groups),
    })
}

/// An entity of this service, and of no other.
fn entity_of(emitter: &Emitter, id: &str) -> Option<Entity> {
    let entity = emitter.daemon()?.entity(&EntityId::new(id)?)?;
    (entity.service() == emitter.service()).then_some(entity)
}
