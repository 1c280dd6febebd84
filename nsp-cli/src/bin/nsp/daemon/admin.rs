//! `NoAdmin`: what `nsp user`, `nsp token` and `nsp top` ask the daemon for, over the wire like anything else.
//!
//! Whoever is logged in may ask about themselves; everything else is for superusers with a token.
//!
//! | function | takes | gives |
//! |---|---|---|
//! | `whoami` | nothing | the caller's user |
//! | `myTokens` | nothing | `[token, …]` |
//! | `revokeMyToken` | `{"id"}` | nothing |
//! | `logout` | `{"token"}`: the one to end, as only its holder knows it | nothing |
//! | `setMyPassword` | `{"password"}`; asks for the old one | nothing |
//! | `users` | `{"prefix", "after"}` | `{"users": […], "next"}` |
//! | `user` | `{"name"}` | the user |
//! | `addUser` | `{"name", "password", "privilege", "display_name", "roles"}`; a missing password is made up | `{"user", "password"}` |
//! | `setPassword` | `{"name", "password"}`; a missing password is made up | `{"password"}` |
//! | `setPrivilege` | `{"name", "privilege"}` | the user |
//! | `setRoles` | `{"name", "roles"}` | the user |
//! | `lockUser`, `unlockUser`, `removeUser` | `{"name"}` | the user |
//! | `importUsers` | `{"path", "key", "skip_refused"}`: a database on the daemon's machine | who was imported |
//! | `tokens`, `revokeTokens` | `{"name"}` | tokens; how many |
//! | `revokeToken` | `{"name", "id"}` | nothing |
//! | `status` | nothing | counters, connections, entities, what has ended last |
//! | `kick` | `{"connection", "reason"}` | whether it was there |

use nsp::daemon::{
    DaemonHandle, Demand, Emitter, Entity, Fail, FunctionManifest, Json, Manifest, Service, State, code,
};
use nsp::machine::entities::ConnectionId;
use nsp::{Password, Token};
use nsp_auth::import::{Import, ImportError};
use nsp_auth::token::{TokenHash, TokenId};
use nsp_auth::user::{Names, User, Username, Who};
use nsp_auth::users::{NewUser, UserError};
use nsp_auth::{Authority, Users};
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) const NAME: &str = "NoAdmin";

type Result<T = Json<Value>> = std::result::Result<T, Fail>;

pub(crate) fn service(authority: Authority) -> Service<Authority> {
    let named = || json!({"name": "string"});
    let told = |description: &str, call: Value| FunctionManifest::new(description).call(call);
    let manifest = Manifest::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .display_name("Administration")
        .description("Users, tokens and connections of this daemon")
        .function("whoami", told("The caller's own user", Value::Null))
        .function("myTokens", told("The caller's own tokens", Value::Null))
        .function("revokeMyToken", told("Ends one of the caller's own tokens", json!({"id": "string"})))
        .function("logout", told("Ends the token that is shown", json!({"token": "string"})))
        .function("setMyPassword", told("Changes the caller's own password", json!({"password": "string"})))
        .function("users", told("Lists users", json!({"prefix": "string?", "after": "string?"})))
        .function("user", told("Shows a user", named()))
        .function(
            "addUser",
            told(
                "Creates a user",
                json!({"name": "string", "password": "string?", "privilege": "integer?",
                    "display_name": "string?", "roles": "array?"}),
            ),
        )
        .function(
            "setPassword",
            told("Gives a user another password", json!({"name": "string", "password": "string?"})),
        )
        .function(
            "setPrivilege",
            told("Gives a user another privilege", json!({"name": "string", "privilege": "integer"})),
        )
        .function(
            "setRoles",
            told("Gives a user other roles", json!({"name": "string", "roles": ["string"]})),
        )
        .function("lockUser", told("Refuses logins of a user", named()))
        .function("unlockUser", told("Permits logins of a user again", named()))
        .function("removeUser", told("Removes a user", named()))
        .function(
            "importUsers",
            told(
                "Imports the users of a NoService database",
                json!({"path": "string", "key": "string?", "skip_refused": "boolean?"}),
            ),
        )
        .function("tokens", told("Lists the tokens of a user", named()))
        .function("revokeToken", told("Ends a token of a user", json!({"name": "string", "id": "string"})))
        .function("revokeTokens", told("Ends all tokens of a user", named()))
        .function("status", told("Counters, connections and entities", Value::Null))
        .function("kick", told("Ends a connection", json!({"connection": "integer", "reason": "string?"})));
    Service::with_state(NAME, authority)
        .manifest(manifest)
        .function("whoami", whoami)
        .function("myTokens", my_tokens)
        .function("revokeMyToken", revoke_my_token)
        .function("logout", logout)
        .function("setMyPassword", set_my_password)
        .secure_function("users", users)
        .secure_function("user", user)
        .secure_function("addUser", add_user)
        .secure_function("setPassword", set_password)
        .secure_function("setPrivilege", set_privilege)
        .secure_function("setRoles", set_roles)
        .secure_function("lockUser", lock_user)
        .secure_function("unlockUser", unlock_user)
        .secure_function("removeUser", remove_user)
        .secure_function("importUsers", import_users)
        .secure_function("tokens", tokens)
        .secure_function("revokeToken", revoke_token)
        .secure_function("revokeTokens", revoke_tokens)
        .secure_function("status", status)
        .secure_function("kick", kick)
        .strict()
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

fn username(name: &str) -> Result<Username> {
    Username::parse(name).map_err(|error| Fail::bad_argument(error.to_string()))
}

fn token_id(id: &str) -> Result<TokenId> {
    TokenId::parse(id).ok_or_else(|| Fail::bad_argument("a token is named by 16 hexadecimal digits"))
}

/// What the caller may know: everything but what a broken store says.
fn refused(error: UserError) -> Fail {
    use nsp_auth::store::ChangeError;
    let code = match &error {
        UserError::Store(_) => {
            return Fail::new(code::UNAVAILABLE, "the users cannot be looked up now").caused_by(error);
        }
        UserError::Busy(_) => code::BUSY,
        UserError::Change(ChangeError::NoUser) => "no_user",
        UserError::Change(ChangeError::NoToken) => "no_token",
        UserError::Change(ChangeError::Exists(_)) => "exists",
        UserError::Change(_) => "refused",
        _ => code::BAD_ARGUMENT,
    };
    Fail::new(code, error.to_string())
}

/// The users, with the caller's name in the audit log.
fn as_caller(authority: &Authority, entity: &Entity) -> Users {
    let actor = entity.proved_user();
    authority.users().by(actor.as_deref().unwrap_or("daemon"))
}

/// Who calls, proved.
async fn me(authority: &Authority, entity: &Entity, demand: Demand) -> Result<(Users, User)> {
    let passed = entity.prove(demand).await?;
    let name = passed.user.ok_or_else(|| Fail::new(code::AUTH_FAILED, "AuthFailed: this is for users"))?;
    let users = authority.users().by(&name);
    match users.find(username(&name)?).await {
        Ok(Some(user)) => Ok((users, user)),
        Ok(None) => Err(Fail::new(code::AUTH_FAILED, "AuthFailed: the user is gone")),
        Err(error) => Err(refused(error.into())),
    }
}

async fn whoami(State(authority): State<Authority>, entity: Entity) -> Result<Json<User>> {
    Ok(Json(me(&authority, &entity, Demand::Token).await?.1))
}

async fn my_tokens(State(authority): State<Authority>, entity: Entity) -> Result {
    let (users, user) = me(&authority, &entity, Demand::Token).await?;
    list_tokens(&users, &user).await
}

async fn list_tokens(users: &Users, user: impl Into<Who>) -> Result {
    let tokens = users.tokens(user).await.map_err(refused)?;
    let shown = tokens.iter().map(|token| {
        json!({
            "id": token.hash.id(), "label": token.label, "created": token.created,
            "last_used": token.last_used, "expires": token.expires,
        })
    });
    Ok(Json(shown.collect()))
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

async fn revoke_my_token(State(authority): State<Authority>, entity: Entity, Json(id): Json<Id>) -> Result {
    let id = token_id(&id.id)?;
    let (users, user) = me(&authority, &entity, Demand::Token).await?;
    users.revoke_token(&user, id).await.map_err(refused)?;
    Ok(Json(Value::Null))
}

#[derive(Deserialize)]
struct Shown {
    token: String,
}

async fn logout(State(authority): State<Authority>, entity: Entity, Json(shown): Json<Shown>) -> Result {
    let id = TokenHash::of(&Token::new(shown.token)).id();
    let (users, user) = me(&authority, &entity, Demand::Token).await?;
    users.revoke_token(&user, id).await.map_err(refused)?;
    Ok(Json(Value::Null))
}

#[derive(Deserialize)]
struct NewPassword {
    password: String,
}

async fn set_my_password(
    State(authority): State<Authority>,
    entity: Entity,
    Json(new): Json<NewPassword>,
) -> Result {
    let (users, user) = me(&authority, &entity, Demand::Password).await?;
    let password = Password::new(new.password);
    users.set_password(&user, password).await.map_err(refused)?;
    Ok(Json(Value::Null))
}

#[derive(Deserialize)]
struct Search {
    #[serde(default)]
    prefix: Option<String>,
    #[serde(default)]
    after: Option<String>,
}

async fn users(State(authority): State<Authority>, Json(search): Json<Option<Search>>) -> Result {
    let search = search.unwrap_or(Search { prefix: None, after: None });
    let after = search.after.as_deref().map(username).transpose()?;
    let found = authority.users().search(search.prefix.as_deref().unwrap_or(""), after.as_ref(), 500).await;
    let page = found.map_err(|error| refused(error.into()))?;
    Ok(Json(json!({"users": page.users, "next": page.next})))
}

async fn user(State(authority): State<Authority>, Json(named): Json<Named>) -> Result<Json<User>> {
    match authority.users().find(username(&named.name)?).await {
        Ok(Some(user)) => Ok(Json(user)),
        Ok(None) => Err(Fail::new("no_user", "there is no such user")),
        Err(error) => Err(refused(error.into())),
    }
}

#[derive(Deserialize)]
struct Add {
    name: String,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    privilege: Option<i64>,
    #[serde(default)]
    display_name: Option<String>,
    #[serde(default)]
    roles: Option<Vec<String>>,
}

async fn add_user(State(authority): State<Authority>, entity: Entity, Json(add): Json<Add>) -> Result {
    let users = as_caller(&authority, &entity);
    let name = username(&add.name)?;
    let made_up = add.password.is_none().then(made_up_password);
    let password =
        add.password.map(Password::new).or_else(|| made_up.clone()).unwrap_or_else(|| Password::new(""));
    let names = Names { display_name: add.display_name, ..Names::default() };
    let mut new = NewUser::new(name, password)
        .privilege(add.privilege.unwrap_or(1))
        .names(names)
        .roles(add.roles.unwrap_or_default());
    if made_up.is_some() {
        new = new.must_change_password();
    }
    let user = users.create(new).await.map_err(refused)?;
    Ok(Json(json!({"user": user, "password": made_up.as_ref().map(Password::reveal)})))
}

/// A password that nobody has seen: 100 random bits, in letters and digits that are not taken for others.
fn made_up_password() -> Password {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz2345678";
    let mut bytes = [0; 20];
    nsp::secure::Random::fill(&mut nsp::secure::SystemRandom, &mut bytes);
    let letters = bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte % 32)));
    let text: Vec<u8> = letters.copied().collect();
    Password::new(text.chunks(5).map(String::from_utf8_lossy).collect::<Vec<_>>().join("-"))
}

#[derive(Deserialize)]
struct SetPassword {
    name: String,
    #[serde(default)]
    password: Option<String>,
}

async fn set_password(
    State(authority): State<Authority>,
    entity: Entity,
    Json(set): Json<SetPassword>,
) -> Result {
    let (users, name) = (as_caller(&authority, &entity), username(&set.name)?);
    let Some(password) = set.password else {
        let (_, password) = users.reset_password(name).await.map_err(refused)?;
        return Ok(Json(json!({"password": password.reveal()})));
    };
    users.set_password(name, Password::new(password)).await.map_err(refused)?;
    Ok(Json(json!({"password": null})))
}

#[derive(Deserialize)]
struct SetPrivilege {
    name: String,
    privilege: i64,
}

async fn set_privilege(
    State(authority): State<Authority>,
    entity: Entity,
    Json(set): Json<SetPrivilege>,
) -> Result<Json<User>> {
    let users = as_caller(&authority, &entity);
    Ok(Json(users.set_privilege(username(&set.name)?, set.privilege).await.map_err(refused)?))
}

#[derive(Deserialize)]
struct SetRoles {
    name: String,
    roles: Vec<String>,
}

async fn set_roles(
    State(authority): State<Authority>,
    entity: Entity,
    Json(set): Json<SetRoles>,
) -> Result<Json<User>> {
    let users = as_caller(&authority, &entity);
    Ok(Json(users.set_roles(username(&set.name)?, set.roles).await.map_err(refused)?))
}

async fn lock_user(
    State(authority): State<Authority>,
    entity: Entity,
    Json(named): Json<Named>,
) -> Result<Json<User>> {
    Ok(Json(as_caller(&authority, &entity).lock(username(&named.name)?).await.map_err(refused)?))
}

async fn unlock_user(
    State(authority): State<Authority>,
    entity: Entity,
    Json(named): Json<Named>,
) -> Result<Json<User>> {
    Ok(Json(as_caller(&authority, &entity).unlock(username(&named.name)?).await.map_err(refused)?))
}

async fn remove_user(
    State(authority): State<Authority>,
    entity: Entity,
    Json(named): Json<Named>,
) -> Result<Json<User>> {
    Ok(Json(as_caller(&authority, &entity).delete(username(&named.name)?).await.map_err(refused)?))
}

#[derive(Deserialize)]
struct ImportFrom {
    path: String,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    skip_refused: Option<bool>,
}

async fn import_users(
    State(authority): State<Authority>,
    entity: Entity,
    Json(from): Json<ImportFrom>,
) -> Result {
    let mut import = Import::new(&from.path);
    if let Some(key) = &from.key {
        import = import.key(key.as_bytes());
    }
    if from.skip_refused == Some(true) {
        import = import.skip_refused();
    }
    let imported = as_caller(&authority, &entity).import(import).await.map_err(|error| match error {
        ImportError::Change(error) => refused(error.into()),
        other => Fail::bad_argument(other.to_string()),
    })?;
    let refused: Vec<String> = imported.refused.iter().map(ToString::to_string).collect();
    Ok(Json(json!({"users": imported.users, "locked": imported.locked, "refused": refused})))
}

async fn tokens(State(authority): State<Authority>, Json(named): Json<Named>) -> Result {
    list_tokens(authority.users(), username(&named.name)?).await
}

#[derive(Deserialize)]
struct RevokeToken {
    name: String,
    id: String,
}

async fn revoke_token(
    State(authority): State<Authority>,
    entity: Entity,
    Json(revoke): Json<RevokeToken>,
) -> Result {
    let (users, name, id) = (as_caller(&authority, &entity), username(&revoke.name)?, token_id(&revoke.id)?);
    users.revoke_token(name, id).await.map_err(refused)?;
    Ok(Json(Value::Null))
}

async fn revoke_tokens(
    State(authority): State<Authority>,
    entity: Entity,
    Json(named): Json<Named>,
) -> Result {
    let revoked = as_caller(&authority, &entity).revoke_tokens(username(&named.name)?).await;
    Ok(Json(json!({"revoked": revoked.map_err(refused)?})))
}

async fn status(emitter: Emitter) -> Result {
    let daemon = emitter.daemon().ok_or_else(|| Fail::new(code::CLOSING, "the daemon stops"))?;
    Ok(Json(shown(&daemon)))
}

fn shown(daemon: &DaemonHandle) -> Value {
    let stats = daemon.stats();
    let connections: Vec<Value> = daemon
        .connections()
        .iter()
        .map(|connection| {
            json!({
                "id": connection.id.0, "address": connection.address, "carrier": format!("{:?}", connection.carrier),
                "confidential": connection.is_confidential,
                "sp": connection.strength.map(|strength| format!("{strength:?}")),
                "age_s": connection.age.as_secs(), "entities": connection.entities.len(),
                "waiting": connection.waiting,
            })
        })
        .collect();
    let entities: Vec<Value> = super::activity::everybody(daemon)
        .iter()
        .map(|entity| {
            json!({
                "id": entity.id.as_str(), "connection": entity.connection.0, "service": entity.service,
                "claims": entity.claimed_owner, "user": entity.proved_user.as_ref().map(nsp::daemon::User::as_str),
                "groups": entity.groups,
            })
        })
        .collect();
    let closed: Vec<Value> = daemon
        .closed()
        .iter()
        .map(|closed| {
            json!({
                "id": closed.id.0, "address": closed.address, "carrier": format!("{:?}", closed.carrier),
                "reason": closed.reason.to_string(), "lasted_s": closed.lasted.as_secs(),
            })
        })
        .collect();
    json!({
        "connections": connections, "entities": entities, "closed": closed,
        "counters": {
            "calls_running": stats.calls_running, "accepted": stats.accepted, "refused": stats.refused,
            "created": stats.created, "calls": stats.calls, "failed": stats.failed, "data": stats.data,
            "pushed": stats.pushed, "dropped": stats.dropped, "ignored": stats.ignored, "cut": stats.cut,
        },
    })
}

#[derive(Deserialize)]
struct Kick {
    connection: u64,
    #[serde(default)]
    reason: Option<String>,
}

async fn kick(emitter: Emitter, Json(kick): Json<Kick>) -> Result {
    let daemon = emitter.daemon().ok_or_else(|| Fail::new(code::CLOSING, "the daemon stops"))?;
    let reason = kick.reason.unwrap_or_else(|| "ended by an administrator".to_owned());
    Ok(Json(json!(daemon.kick(ConnectionId(kick.connection), reason))))
}
