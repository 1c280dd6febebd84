//! `nsp user`

use std::path::PathBuf;

use serde_json::{Value, json};

use nsp_cli::exit::Failure;
use nsp_cli::output::{self, printable};

use crate::keyring;
use crate::secret;

use super::admin::{Admin, Office};

/// Manage the users of a daemon.
///
/// For superusers who are logged in, or with --data for whoever may write to the folder of a daemon that does not run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  nsp user add alice
  nsp user add robot --new-password-file robot.password --privilege 5
  nsp user passwd
  nsp user ls --json
  nsp user import NoService.db")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List users whose names begin with a text.
    Ls {
        /// The text.
        #[arg(default_value = "")]
        prefix: String,
        #[command(flatten)]
        shown: Shown,
    },
    /// Show a user.
    Show {
        name: String,
        #[command(flatten)]
        shown: Shown,
    },
    /// Create a user. The password is asked for, or made up and printed once.
    Add {
        /// 5 to 64 letters and digits.
        name: String,
        /// 0 is a superuser; what other numbers mean, services say.
        #[arg(long, value_name = "N", allow_negative_numbers = true)]
        privilege: Option<i64>,
        /// What others see.
        #[arg(long, value_name = "TEXT")]
        display_name: Option<String>,
        /// A role, for policies.
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        #[command(flatten)]
        password: NewPassword,
        #[command(flatten)]
        shown: Shown,
    },
    /// Change a password: one's own without a name, for which the old one is asked. All logins of the user end.
    Passwd {
        name: Option<String>,
        #[command(flatten)]
        password: NewPassword,
        #[command(flatten)]
        shown: Shown,
    },
    /// Give a user another privilege.
    Privilege {
        name: String,
        #[arg(allow_negative_numbers = true)]
        privilege: i64,
        #[command(flatten)]
        shown: Shown,
    },
    /// Give a user other roles; none without any.
    Roles {
        name: String,
        roles: Vec<String>,
        #[command(flatten)]
        shown: Shown,
    },
    /// Refuse logins of a user, and end those there are.
    Lock {
        name: String,
        #[command(flatten)]
        shown: Shown,
    },
    /// Permit logins of a user again.
    Unlock {
        name: String,
        #[command(flatten)]
        shown: Shown,
    },
    /// Remove a user.
    Rm {
        name: String,
        #[command(flatten)]
        shown: Shown,
    },
    /// Import the users of a NoService daemon. Their passwords stay what they were.
    Import {
        /// Its SQLite database, on the daemon's machine.
        path: PathBuf,
        /// A file whose first line is the key of its password hashes, for versions before 0.6.
        #[arg(long, value_name = "FILE")]
        hash_key_file: Option<PathBuf>,
        /// Leave out rows that cannot become users, instead of importing nothing.
        #[arg(long)]
        skip_refused: bool,
        #[command(flatten)]
        shown: Shown,
    },
}

/// Where, and how it is printed.
#[derive(Debug, clap::Args)]
struct Shown {
    /// One JSON object a line.
    #[arg(long, env = "NSP_JSON")]
    json: bool,

    #[command(flatten)]
    office: Office,
}

/// Where a new password comes from.
#[derive(Debug, clap::Args)]
struct NewPassword {
    /// A file whose first line is the new password. Without, it is asked for on the terminal; without a terminal, made up and printed.
    #[arg(long, value_name = "FILE", env = "NSP_NEW_PASSWORD_FILE")]
    new_password_file: Option<PathBuf>,

    /// Make one up, and print it.
    #[arg(long, conflicts_with = "new_password_file")]
    generate: bool,
}

impl NewPassword {
    /// The password; `None` if the daemon is to make one up.
    fn read(&self, name: &str) -> Result<Option<String>, Failure> {
        if let Some(path) = &self.new_password_file {
            return Ok(Some(secret::of_file(path)?.reveal().to_owned()));
        }
        if self.generate || !secret::can_ask() {
            return Ok(None);
        }
        Ok(Some(secret::ask_twice(&format!("New password of {name}: "))?.reveal().to_owned()))
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Ls { prefix, shown } => list(&shown, &prefix).await,
        Command::Show { name, shown } => {
            let user = ask(&shown, "user", &json!({ "name": name })).await?;
            shown.user(&user)
        }
        Command::Add { name, privilege, display_name, roles, password, shown } => {
            let password = password.read(&name)?;
            let new = json!({
                "name": name, "password": password, "privilege": privilege,
                "display_name": display_name, "roles": roles,
            });
            let made = ask(&shown, "addUser", &new).await?;
            if shown.json {
                return output::json(&made);
            }
            shown.user(made.get("user").unwrap_or(&Value::Null))?;
            print_password(&made)
        }
        Command::Passwd { name, password, shown } => passwd(&shown, name, &password).await,
        Command::Privilege { name, privilege, shown } => {
            let user = ask(&shown, "setPrivilege", &json!({ "name": name, "privilege": privilege })).await?;
            shown.user(&user)
        }
        Command::Roles { name, roles, shown } => {
            let user = ask(&shown, "setRoles", &json!({ "name": name, "roles": roles })).await?;
            shown.user(&user)
        }
        Command::Lock { name, shown } => {
            let user = ask(&shown, "lockUser", &json!({ "name": name })).await?;
            shown.user(&user)
        }
        Command::Unlock { name, shown } => {
            let user = ask(&shown, "unlockUser", &json!({ "name": name })).await?;
            shown.user(&user)
        }
        Command::Rm { name, shown } => {
            let user = ask(&shown, "removeUser", &json!({ "name": name })).await?;
            shown.user(&user)
        }
        Command::Import { path, hash_key_file, skip_refused, shown } => {
            let key = match &hash_key_file {
                Some(path) => Some(secret::of_file(path)?.reveal().to_owned()),
                None => None,
            };
            // The daemon may run in another folder.
            let path = std::path::absolute(&path).map_err(|error| Failure::file(&path, &error))?;
            let import = json!({ "path": path, "key": key, "skip_refused": skip_refused });
            imported(&shown, &ask(&shown, "importUsers", &import).await?)
        }
    }
}

async fn ask(shown: &Shown, function: &str, argument: &Value) -> Result<Value, Failure> {
    let admin = shown.office.open().await?;
    let answer = admin.call(function, argument).await;
    admin.close().await;
    answer
}

async fn list(shown: &Shown, prefix: &str) -> Result<(), Failure> {
    let admin = shown.office.open().await?;
    let result = print_all(&admin, shown, prefix).await;
    admin.close().await;
    result
}

async fn print_all(admin: &Admin, shown: &Shown, prefix: &str) -> Result<(), Failure> {
    let mut after = Value::Null;
    loop {
        let page = admin.call("users", &json!({ "prefix": prefix, "after": after })).await?;
        for user in page.get("users").and_then(Value::as_array).into_iter().flatten() {
            shown.user(user)?;
        }
        match page.get("next") {
            Some(Value::String(next)) => after = next.as_str().into(),
            _ => return Ok(()),
        }
    }
}

async fn passwd(shown: &Shown, name: Option<String>, new: &NewPassword) -> Result<(), Failure> {
    let name = match name {
        Some(name) => name.to_ascii_lowercase(),
        None if shown.office.is_local() => {
            return Err(Failure::Usage("whose? nsp user passwd NAME --data DIR".to_owned()));
        }
        None => shown.office.reach.target()?.user.ok_or_else(|| {
            Failure::NotAuthenticated("nobody is logged in: nsp login NAME, or name the user".to_owned())
        })?,
    };
    let password = new.read(&name)?;
    if shown.office.is_me(&name)?
        && let Some(password) = &password
    {
        let answer = ask(shown, "setMyPassword", &json!({ "password": password })).await;
        shown.office.has_ended(answer).await?;
        keyring::forget_password(&shown.office.reach.target()?.account());
        nsp_cli::note!("nsp: the password is changed; log in again: nsp login {}", printable(&name));
        return Ok(());
    }
    let answer = ask(shown, "setPassword", &json!({ "name": name, "password": password })).await?;
    if shown.json {
        return output::json(&answer);
    }
    print_password(&answer)
}

/// Prints a password that was made up: the one time that it is shown.
fn print_password(answer: &Value) -> Result<(), Failure> {
    match answer.get("password").and_then(Value::as_str) {
        Some(password) => output::line(&format!("password {}", printable(password))),
        None => Ok(()),
    }
}

fn imported(shown: &Shown, answer: &Value) -> Result<(), Failure> {
    let names = |field: &str| -> Vec<String> {
        let list = answer.get(field).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(printable).collect()
    };
    let refused = names("refused");
    if shown.json {
        output::json(answer)?;
    } else {
        for name in names("users") {
            output::line(&name)?;
        }
        for name in names("locked") {
            nsp_cli::note!(
                "nsp: {name} is locked: it had the password that everybody knows; nsp user passwd {name}, then nsp user unlock {name}"
            );
        }
    }
    for row in &refused {
        nsp_cli::note!("nsp: {row}");
    }
    if refused.is_empty() {
        return Ok(());
    }
    Err(Failure::Partial(format!("{} rows were left out", refused.len())))
}

impl Shown {
    fn user(&self, user: &Value) -> Result<(), Failure> {
        if self.json {
            return output::json(user);
        }
        let text = |field: &str| user.get(field).and_then(Value::as_str).map(printable).unwrap_or_default();
        let privilege = user.get("privilege").and_then(Value::as_i64).unwrap_or_default();
        let mut line = format!("{}  privilege {privilege}", text("name"));
        let roles = user.get("roles").and_then(Value::as_array).into_iter().flatten();
        let roles: Vec<String> = roles.filter_map(Value::as_str).map(printable).collect();
        if !roles.is_empty() {
            line.push_str(&format!("  roles {}", roles.join(",")));
        }
        if user.get("locked") == Some(&Value::Bool(true)) {
            line.push_str("  locked");
        }
        if text("display_name") != text("name") {
            line.push_str(&format!("  {}", text("display_name")));
        }
        output::line(&line)
    }
}
