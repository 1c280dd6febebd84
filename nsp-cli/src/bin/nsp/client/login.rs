//! `nsp login`, `logout` and `whoami`

use nsp::carrier::Address;
use nsp::proto::RawJson;
use serde_json::{Value, json};

use nsp_cli::exit::Failure;
use nsp_cli::output::{self, printable};

use crate::daemon::admin;
use crate::keyring::{self, Keyring, Secret};

use super::context::{Context, Contexts};
use super::reach::{Reach, Stay};
use super::tokens::{Held, KeepOptions, Tokens};

/// Log in, and keep the token for the next commands.
///
/// The password is asked for on the terminal, or comes from --password-file, --password-fd, --password-keyring or NSP_PASSWORD. What is
/// kept is a token, in a file that only its owner may read, or with --keyring in the keyring of the system. On Linux that is the
/// kernel's: it is in memory only, and forgets when the machine starts anew, or when nobody has asked it for three days.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  nsp login admin
  nsp login alice --url nsps://chat.example.org:43580 --save chat
  nsp login alice --keyring
  nsp login robot --password-file /run/secrets/robot")]
pub(crate) struct LoginArgs {
    /// The user; NSP_USER and that of the context otherwise.
    name: Option<String>,

    /// Keep URL, user and CA as a context of this name, and make it the current one.
    #[arg(long, value_name = "NAME")]
    save: Option<String>,

    #[command(flatten)]
    keep: KeepOptions,

    /// Keep the password in the keyring as well, for --password-keyring to find it, until `nsp logout`.
    #[arg(long, help_heading = "Login")]
    keep_password: bool,

    /// One JSON object: {"user":…,"daemon":…}.
    #[arg(long, env = "NSP_JSON")]
    json: bool,

    #[command(flatten)]
    reach: Reach,
}

/// End a login: the token is good no more, here and at the daemon. What the keyring has of this user it forgets.
#[derive(Debug, clap::Args)]
pub(crate) struct LogoutArgs {
    /// One JSON object: {"user":…,"daemon":…}.
    #[arg(long, env = "NSP_JSON")]
    json: bool,

    #[command(flatten)]
    reach: Reach,
}

/// Show who is logged in, as the daemon sees it.
#[derive(Debug, clap::Args)]
pub(crate) struct WhoamiArgs {
    /// One JSON object.
    #[arg(long, env = "NSP_JSON")]
    json: bool,

    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn login(args: LoginArgs) -> Result<(), Failure> {
    let mut target = args.reach.target()?;
    if let Some(name) = &args.name {
        target.user = Some(name.to_ascii_lowercase());
    }
    let user = target.user.clone().ok_or_else(|| Failure::Usage("as whom? nsp login NAME".to_owned()))?;
    target.token = None;
    let account = target.account();
    let tokens = args.reach.home.tokens()?;
    let for_token = args.keep.keyring(&Tokens::read(tokens.clone())?, &account)?;
    let for_password = if args.keep_password { Some(Keyring::of_the_system()?) } else { None };
    for_password.as_ref().map_or(Ok(()), Keyring::check)?;
    let session = args.reach.connect_to(target.clone(), Stay::Once).await?;
    let (options, whose) = (args.reach.password.clone(), account.clone());
    let password = tokio::task::spawn_blocking(move || options.read(&whose)).await;
    let password = password.map_err(|error| Failure::Other(error.to_string()))??;
    let token = match session.client.token(&user, password.clone()).await {
        Ok(token) => token,
        Err(error) => return Err(session.with_reason(error.into()).await),
    };
    Tokens::keep(tokens, &account, &token, for_token.as_ref())?;
    if let Some(keyring) = for_password {
        keyring.keep(Secret::Password, &account, password.reveal())?;
    }
    if let Some(name) = &args.save {
        let ca = match &target.ca {
            Some(ca) => Some(std::path::absolute(ca).map_err(|error| Failure::file(ca, &error))?),
            None => None,
        };
        let context = Context { url: target.address.to_string(), user: Some(user.clone()), ca };
        Contexts::keep(&args.reach.home, name, context)?;
    }
    if args.json {
        output::json(&json!({ "user": user, "daemon": target.address.to_string() }))?;
    } else {
        output::line(&format!("logged in as {} at {}", printable(&user), target.address))?;
    }
    session.close().await;

    // Whether the password was made by somebody else only the daemon knows; one that cannot say is as good.
    target.token = Some(Held::Here(token));
    let Ok(session) = args.reach.connect_to(target, Stay::Once).await else { return Ok(()) };
    let me = session.open(admin::NAME).await;
    if let Ok(admin) = me
        && let Ok(user) = admin.call::<Value>("whoami", &Value::Null).await
        && user.get("must_change_password") == Some(&Value::Bool(true))
    {
        nsp_cli::note!("nsp: this password was made by somebody else: nsp user passwd");
    }
    session.close().await;
    Ok(())
}

pub(crate) async fn logout(args: LogoutArgs) -> Result<(), Failure> {
    let target = args.reach.target()?;
    let (Some(user), Some(held)) = (target.user.clone(), &target.token) else {
        return Err(Failure::NotAuthenticated(format!("nobody is logged in at {}", target.daemon)));
    };
    let ended = match held.token() {
        Ok(token) => end(&args.reach, token.reveal()).await,
        // The keyring has lost it, so that nobody can show it to the daemon any more.
        Err(lost @ Failure::NotAuthenticated(_)) => {
            nsp_cli::note!("nsp: the keyring has the token no more, so the daemon was not told");
            Err(lost)
        }
        Err(refused) => return Err(refused),
    };
    // Whatever the daemon says, the token is gone here.
    let account = target.account();
    if let Held::InKeyring(_) = held {
        Keyring::of_the_system()?.forget(Secret::Token, &account)?;
    }
    Tokens::forget(args.reach.home.tokens()?, &account)?;
    keyring::forget_password(&account);
    match ended {
        Ok(()) | Err(Failure::NotAuthenticated(_)) if args.json => {
            output::json(&json!({ "user": user, "daemon": target.address.to_string() }))
        }
        Ok(()) => output::line(&format!("{} is logged out", printable(&user))),
        // It was good no more.
        Err(Failure::NotAuthenticated(_)) => output::line(&format!("{} was logged out", printable(&user))),
        Err(failure) => Err(failure.and("the token is forgotten here, and the daemon was not told")),
    }
}

async fn end(reach: &Reach, token: &str) -> Result<(), Failure> {
    let session = reach.connect(Stay::Once).await?;
    let admin = session.open(admin::NAME).await?;
    let argument =
        RawJson::of(&json!({ "token": token })).map_err(|error| Failure::Other(error.to_string()))?;
    let answer = admin.call_raw("logout", argument).await.map_err(Failure::from);
    session.close().await;
    match answer {
        Ok(_) => Ok(()),
        // The end of the token ends the connection that has shown it, and the answer with it.
        Err(failure @ (Failure::Disconnected(_) | Failure::Remote(_))) => match reach.who_am_i().await {
            Err(Failure::NotAuthenticated(_)) => Ok(()),
            _ => Err(failure),
        },
        Err(failure) => Err(failure),
    }
}

pub(crate) async fn whoami(args: WhoamiArgs) -> Result<(), Failure> {
    let target = args.reach.target()?;
    if target.user.is_none() {
        return Err(Failure::NotAuthenticated(format!(
            "nobody is logged in at {}: nsp login NAME",
            target.daemon
        )));
    }
    let user = args.reach.who_am_i().await?;
    if args.json { output::json(&user) } else { output::line(&who(&user, &target.address)) }
}

/// A user as the daemon describes it, in a line.
pub(crate) fn who(user: &Value, address: &Address) -> String {
    let name = user.get("name").and_then(Value::as_str).map(printable).unwrap_or_default();
    let privilege = user.get("privilege").and_then(Value::as_i64).unwrap_or_default();
    let rank = if privilege == 0 { "superuser".to_owned() } else { format!("privilege {privilege}") };
    format!("{name} ({rank}) at {address}")
}
