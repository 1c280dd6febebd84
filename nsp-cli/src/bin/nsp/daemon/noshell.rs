//! `NoShell`: the original's command line over the wire. Each command checks what the caller may; one that is refused looks like
//! one that is not there.
//!
//! | function | takes | gives |
//! |---|---|---|
//! | `sendC` | `{"c": "service list"}` | `{"r": text}` |
//! | `welcome` (secure) | nothing | text |
//!
//! The event `welcome` comes with a text when an activity is opened. Of the original's commands those are here that have
//! something to show in this daemon; passwords are not taken in a line that ends up in somebody's history: `nsp user passwd`.

use nsp::daemon::{
    DaemonHandle, Demand, Emitter, Entity, Fail, FunctionManifest, Json, Manifest, Service, State,
};
use nsp::proto::EntityId;
use nsp_auth::Authority;
use nsp_auth::user::Username;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::activity;

pub(super) const NAME: &str = "NoShell";

const HELP: &str = "\
help                                  this text
echo TEXT                             TEXT
me [entitymeta|usermeta|updatetoken]  the caller; updatetoken ends all logins
daemon [version|status]               for superusers
service list                          the services
service manifest|funclist|funcdict S  what a service offers
service funcshow S F                  one function of it
service entity list|count             for superusers
service entity show I|showuser U      for superusers
activity listuser|showuser U          for superusers
user meta U                           for superusers
auth updatetoken U                    ends all logins of a user; for superusers
auth updateprivilege U V              for superusers";

pub(super) fn service(authority: Authority) -> Service<Authority> {
    let manifest = Manifest::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .display_name("Shell")
        .description("Commands as lines of text")
        .function(
            "sendC",
            FunctionManifest::new("Runs a command line; `help` lists the commands")
                .call(json!({"c": "string"}))
                .returns(json!({"r": "string"})),
        )
        .function("welcome", FunctionManifest::new("The greeting").returns(json!("string")));
    Service::with_state(NAME, authority)
        .manifest(manifest)
        .on_connect(greet)
        .function("sendC", send_command)
        .secure_function("welcome", async |emitter: Emitter| welcome(&emitter))
        .strict()
}

fn welcome(emitter: &Emitter) -> String {
    let services = emitter.daemon().map_or(0, |daemon| daemon.services().len());
    format!("nsp daemon {}, {services} services; `help` lists the commands", env!("CARGO_PKG_VERSION"))
}

async fn greet(entity: Entity, emitter: Emitter) -> Result<(), Fail> {
    entity.emit("welcome", &welcome(&emitter)).await?;
    Ok(())
}

#[derive(Deserialize)]
struct Command {
    c: String,
}

#[derive(Serialize)]
struct Reply {
    r: String,
}

async fn send_command(
    State(authority): State<Authority>,
    entity: Entity,
    emitter: Emitter,
    Json(command): Json<Command>,
) -> Result<Json<Reply>, Fail> {
    let daemon = emitter.daemon().ok_or_else(|| Fail::new("closing", "the daemon stops"))?;
    let shell = Shell { authority, entity, emitter, daemon };
    let words: Vec<&str> = command.c.split_whitespace().collect();
    let text = shell.run(&command.c, &words).await.unwrap_or_else(|| unknown(words.first().copied()));
    Ok(Json(Reply { r: text }))
}

fn unknown(first: Option<&str>) -> String {
    format!(
        "Unknown command. Start at token \"{}\". \nMake sure you have permission of the command and authorized.",
        first.unwrap_or("")
    )
}

/// What a command can ask.
struct Shell {
    authority: Authority,
    entity: Entity,
    emitter: Emitter,
    daemon: DaemonHandle,
}

impl Shell {
    /// The answer to a command; `None` where there is no such command, or not for the caller.
    async fn run(&self, line: &str, words: &[&str]) -> Option<String> {
        match words {
            ["help"] => Some(HELP.to_owned()),
            ["echo", ..] => Some(line.trim_start().strip_prefix("echo")?.trim().to_owned()),
            ["me"] => Some(self.entity.id().as_str().to_owned()),
            ["me", "entitymeta"] => Some(self.entity.metadata()?.as_str().to_owned()),
            ["me", "usermeta"] => self.user(&self.me().await?).await,
            ["me", "updatetoken"] => self.end_logins(&self.me().await?).await,
            ["service", "list"] => Some(self.services()),
            ["service", "manifest", service] => pretty(self.manifest(service)?),
            ["service", "funclist", service] => Some(functions(self.manifest(service)?).join("\n")),
            ["service", "funcdict", service] => pretty(&self.manifest(service)?.functions),
            ["service", "funcshow", service, function] => {
                pretty(self.manifest(service)?.functions.get(*function)?)
            }
            _ => {
                // Nobody is asked for a token for a command that there is not.
                let is_command = matches!(
                    words,
                    ["daemon", "version" | "status"]
                        | ["service", "entity", "list" | "count"]
                        | ["service", "entity", "show" | "showuser", _]
                        | ["activity", "listuser"]
                        | ["activity", "showuser", _]
                        | ["user", "meta", _]
                        | ["auth", "updatetoken", _]
                        | ["auth", "updateprivilege", _, _]
                );
                if !is_command || self.entity.prove(Demand::Superuser).await.is_err() {
                    return None;
                }
                self.run_as_superuser(words).await
            }
        }
    }

    async fn run_as_superuser(&self, words: &[&str]) -> Option<String> {
        match words {
            ["daemon", "version"] => Some(format!("nsp {}", env!("CARGO_PKG_VERSION"))),
            ["daemon", "status"] => {
                let stats = self.daemon.stats();
                Some(format!(
                    "{} connections, {} entities, {} calls, {} of them failed",
                    stats.connections, stats.entities, stats.calls, stats.failed
                ))
            }
            ["service", "entity", "count"] => Some(self.daemon.stats().entities.to_string()),
            ["service", "entity", "list"] => {
                let entities = activity::everybody(&self.daemon);
                let lines = entities.iter().map(|entity| format!("{}  {}", entity.id, entity.service));
                Some(lines.collect::<Vec<_>>().join("\n"))
            }
            ["service", "entity", "show", id] => {
                let entity = self.daemon.entity(&EntityId::new(id)?)?;
                Some(entity.metadata()?.as_str().to_owned())
            }
            ["service", "entity", "showuser", user] | ["activity", "showuser", user] => {
                pretty(&activity::of_user(&self.daemon, user))
            }
            ["activity", "listuser"] => {
                Some(activity::users(&self.daemon).into_iter().collect::<Vec<_>>().join("\n"))
            }
            ["user", "meta", user] => self.user(&Username::parse(user).ok()?).await,
            ["auth", "updatetoken", user] => self.end_logins(&Username::parse(user).ok()?).await,
            ["auth", "updateprivilege", user, privilege] => {
                let (user, privilege) = (Username::parse(user).ok()?, privilege.parse().ok()?);
                let actor = self.entity.proved_user();
                let users = self.authority.users().by(actor.as_deref().unwrap_or("daemon"));
                Some(match users.set_privilege(user, privilege).await {
                    Ok(user) => format!("{} has privilege {}", user.name, user.privilege),
                    Err(error) => format!("Error: {error}"),
                })
            }
            _ => None,
        }
    }

    async fn me(&self) -> Option<Username> {
        Username::parse(&self.entity.prove(Demand::Token).await.ok()?.user?).ok()
    }

    async fn user(&self, name: &Username) -> Option<String> {
        pretty(&self.authority.users().find(name).await.ok()??)
    }

    async fn end_logins(&self, name: &Username) -> Option<String> {
        let actor = self.entity.proved_user();
        let users = self.authority.users().by(actor.as_deref().unwrap_or("daemon"));
        Some(match users.revoke_tokens(name).await {
            Ok(count) => format!("{count} logins have ended"),
            Err(error) => format!("Error: {error}"),
        })
    }

    fn services(&self) -> String {
        let services = self.daemon.services();
        services.iter().map(|manifest| manifest.name.as_str()).collect::<Vec<_>>().join("\n")
    }

    fn manifest(&self, name: &str) -> Option<&Manifest> {
        self.daemon.services().into_iter().find(|manifest| manifest.name == name)
    }
}

impl std::fmt::Debug for Shell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shell").field(&self.emitter).finish()
    }
}

fn functions(manifest: &Manifest) -> Vec<&str> {
    let names = manifest.functions.keys().chain(manifest.blob_functions.keys());
    names.map(String::as_str).collect()
}

fn pretty(value: &impl Serialize) -> Option<String> {
    serde_json::to_string_pretty(value).ok()
}
