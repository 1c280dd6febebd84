//! The service `NoUser`, by which clients of the original see and change users.
//!
//! | function | takes | gives | who may |
//! |---|---|---|---|
//! | `createUser` | `{un, dn, pw, cp, dt, fn, ln}` | `{s}` or `{s, e: true}` | anybody, where registration is open |
//! | `returnUserMeta` | anything | all about oneself | with a token |
//! | `updateUser` | `{firstname, lastname, email, gender, birthday, country, phonenumber, address, aboutme, [pw, cp]}` | `{s}` or `{s, e: true}` | with the password |
//! | `getUserMetaByUserId` | `{i}` | what others may see | with a token |
//! | `searchUsersByUsername` | `{n}` | `{e: null, r: [..]}`, at most ten | with a token |
//!
//! The shapes are the original's, spelling included. What differs: registration is closed unless the daemon opens it; fields
//! that are missing are left as they are instead of ending the process; `%` and `_` in a search are what they are; and nobody sees anybody's
//! privilege, hash or token.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nsp::Password;
use nsp::daemon::{Demand, Entity, Fail, Json, Service, State};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::store::ChangeError;
use crate::user::{Names, Profile, User, UserId, Username};
use crate::users::{NewUser, UserError, Users};

/// The service `NoUser` of a daemon.
///
/// ```
/// use nsp::daemon::Daemon;
/// use nsp_auth::Authority;
/// use nsp_auth::no_user::NoUser;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let authority = Authority::builder().open_store(nsp_auth::store::Memory::new()).await?;
/// let no_user = NoUser::new(authority.users()).open_registration(60).into_service();
/// let daemon = Daemon::builder().authority(authority).service(no_user);
/// # let _ = daemon; Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct NoUser {
    users: Users,
    registration: Option<Arc<Mutex<Registration>>>,
}

/// How many have registered in this hour.
#[derive(Debug)]
struct Registration {
    per_hour: u32,
    begin: Timestamp,
    count: u32,
}

const HOUR: Duration = Duration::from_secs(60 * 60);

impl NoUser {
    /// For these users, with registration closed.
    #[must_use]
    pub fn new(users: &Users) -> Self {
        Self { users: users.by("NoUser"), registration: None }
    }

    /// Lets anybody register, so many an hour in all: whoever fills the database has to take their time. They have privilege 1, as in the
    /// original.
    #[must_use]
    pub fn open_registration(mut self, per_hour: u32) -> Self {
        let registration = Registration { per_hour, begin: Timestamp::EPOCH, count: 0 };
        self.registration = Some(Arc::new(Mutex::new(registration)));
        self
    }

    /// The service, to be given to a daemon.
    pub fn into_service(self) -> Service<Self> {
        Service::with_state("NoUser", self)
            .function("createUser", create_user)
            .function("returnUserMeta", return_user_meta)
            .function("updateUser", update_user)
            .function("getUserMetaByUserId", user_meta_by_user_id)
            .function("searchUsersByUsername", search_users_by_username)
    }

    /// Whether one more may register now.
    fn admits(&self) -> Result<(), &'static str> {
        let registration = self.registration.as_ref().ok_or("Registration is closed.")?;
        let mut registration = registration.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.users.core.now();
        if now.since(registration.begin) >= HOUR || registration.begin > now {
            (registration.begin, registration.count) = (now, 0);
        }
        if registration.count >= registration.per_hour {
            return Err("Too many have registered. Try again later.");
        }
        registration.count += 1;
        Ok(())
    }

    /// The user for whom the entity speaks, once that is proved.
    async fn user(&self, entity: &Entity, demand: Demand) -> Result<User, Fail> {
        let passed = entity.prove(demand).await?;
        let name = match (&passed.user, entity.claimed_owner()) {
            (Some(user), _) => user.as_str().to_owned(),
            // A trusted daemon acts for whomever it says.
            (None, Some(owner)) => owner.unproved().to_owned(),
            (None, None) => return Err(Fail::forbidden()),
        };
        let name = Username::parse(&name).map_err(|_| Fail::forbidden())?;
        self.users.find(name).await?.ok_or_else(Fail::forbidden)
    }
}

#[derive(Deserialize)]
struct NewMeta {
    un: String,
    #[serde(default)]
    dn: Option<String>,
    pw: String,
    cp: String,
    #[serde(default)]
    dt: Option<String>,
    #[serde(default, rename = "fn")]
    first_name: Option<String>,
    #[serde(default, rename = "ln")]
    last_name: Option<String>,
}

async fn create_user(State(this): State<NoUser>, Json(new): Json<NewMeta>) -> Result<Value, Fail> {
    let NewMeta { un, dn, pw, cp, dt, first_name, last_name } = new;
    let (password, confirmed) = (Password::new(pw), Password::new(cp));
    let Ok(name) = Username::parse(&un) else { return Ok(error("Username invalid.")) };
    if password != confirmed {
        return Ok(error("The passwords differ."));
    }
    if let Err(closed) = this.admits() {
        return Ok(error(closed));
    }
    let names = Names { display_name: dn, first_name, last_name, detail: dt, profile: None };
    match this.users.create(NewUser::new(name, password).names(names)).await {
        Ok(_) => Ok(json!({"s": "Succeessfully created."})),
        Err(failed) => told(failed),
    }
}

async fn return_user_meta(State(this): State<NoUser>, entity: Entity) -> Result<Value, Fail> {
    let user = this.user(&entity, Demand::Token).await?;
    let mut meta = public(&user);
    if let Some(fields) = meta.as_object_mut() {
        fields.insert("detail".into(), user.detail.into());
        fields.insert("createdate".into(), date(user.created).into());
        fields.insert("modifydate".into(), date(user.modified).into());
    }
    Ok(meta)
}

#[derive(Deserialize)]
struct Update {
    #[serde(default)]
    firstname: Option<String>,
    #[serde(default)]
    lastname: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    gender: Option<String>,
    #[serde(default)]
    birthday: Option<String>,
    #[serde(default)]
    country: Option<String>,
    #[serde(default)]
    phonenumber: Option<String>,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    aboutme: Option<String>,
    #[serde(default)]
    pw: Option<String>,
    #[serde(default)]
    cp: Option<String>,
}

async fn update_user(
    State(this): State<NoUser>,
    entity: Entity,
    Json(update): Json<Update>,
) -> Result<Value, Fail> {
    let user = this.user(&entity, Demand::Password).await?;
    let users = this.users.by(user.name.as_str());
    if update.email.as_ref().is_some_and(|email| !email.is_empty() && !is_email(email)) {
        return Ok(error("Email invalid."));
    }
    if update.gender.as_ref().is_some_and(|gender| !matches!(&**gender, "" | "male" | "female" | "other")) {
        return Ok(error("Gender invalid."));
    }
    let Profile { email, gender, phone_number, birthday, country, address, about_me } = user.profile.clone();
    let profile = Profile {
        email: update.email.unwrap_or(email),
        gender: update.gender.unwrap_or(gender),
        phone_number: update.phonenumber.unwrap_or(phone_number),
        birthday: update.birthday.unwrap_or(birthday),
        country: update.country.unwrap_or(country),
        address: update.address.unwrap_or(address),
        about_me: update.aboutme.unwrap_or(about_me),
    };
    let password = update.pw.filter(|password| !password.is_empty()).map(Password::new);
    if password.is_some() && password != update.cp.map(Password::new) {
        return Ok(error("The passwords differ."));
    }
    // Before anything is changed: an update that is refused changes nothing.
    let checked = password.as_ref().map_or(Ok(()), |password| users.check_password(password, &user.name));
    if let Err(failed) = checked {
        return told(failed.into());
    }
    let names = Names {
        first_name: update.firstname,
        last_name: update.lastname,
        profile: Some(profile),
        ..Names::default()
    };
    if let Err(failed) = users.set_names(&user, names).await {
        return told(failed);
    }
    if let Some(password) = password {
        // Every connection of the user ends with the old password. This one has just proved it, and is to hear the answer; it has
        // to prove the new one before it can do anything else.
        entity.forget_proof();
        if let Err(failed) = users.set_password(&user, password).await {
            return told(failed);
        }
    }
    Ok(json!({"s": "Succeessfully updated."}))
}

#[derive(Deserialize)]
struct ById {
    i: String,
}

async fn user_meta_by_user_id(
    State(this): State<NoUser>,
    entity: Entity,
    Json(ById { i }): Json<ById>,
) -> Result<Value, Fail> {
    this.user(&entity, Demand::Token).await?;
    let Some(id) = UserId::parse(&i) else { return Ok(error("User not exist.")) };
    let user = this.users.find(id).await?;
    Ok(user.map_or_else(|| error("User not exist."), |user| public(&user)))
}

#[derive(Deserialize)]
struct ByName {
    n: String,
}

/// How many a search gives, as the original.
const FOUND: usize = 10;

async fn search_users_by_username(
    State(this): State<NoUser>,
    entity: Entity,
    Json(ByName { n }): Json<ByName>,
) -> Result<Value, Fail> {
    this.user(&entity, Demand::Token).await?;
    let page = this.users.search(&n, None, FOUND).await?;
    let found: Vec<_> = page.users.iter().map(shown).collect();
    Ok(json!({"e": null, "r": found}))
}

/// What everybody who is logged in may see.
fn shown(user: &User) -> Value {
    json!({
        "username": user.name,
        "userid": user.id,
        "displayname": user.display_name,
        "firstname": user.first_name,
        "lastname": user.last_name,
    })
}

/// With what the user tells.
fn public(user: &User) -> Value {
    let mut all = shown(user);
    if let (Some(all), Ok(Value::Object(profile))) =
        (all.as_object_mut(), serde_json::to_value(&user.profile))
    {
        all.extend(profile);
    }
    all
}

/// Whether it looks like an address; only a letter would show whether it is one.
fn is_email(text: &str) -> bool {
    text.split_once('@').is_some_and(|(name, domain)| {
        let is_plain = |char: char| !char.is_whitespace() && !char.is_control() && char != '@';
        !name.is_empty() && domain.contains('.') && name.chars().all(is_plain) && domain.chars().all(is_plain)
    })
}

/// As the original writes dates.
fn date(time: Timestamp) -> String {
    time.to_string().replace('T', " ").replace('Z', "")
}

fn error(text: &str) -> Value {
    json!({"s": format!("Error: {text}"), "e": true})
}

/// What the caller is told: what is wrong with the request, but not what is wrong with us.
fn told(failed: UserError) -> Result<Value, Fail> {
    match failed {
        UserError::Change(ChangeError::Exists(_)) => Ok(error("User existed.")),
        UserError::Store(_) => Err(Fail::internal(failed)),
        other => Ok(error(&other.to_string())),
    }
}
