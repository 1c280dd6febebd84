//! Named profiles: which daemon, as whom, trusting whom. They hold no secrets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use nsp_cli::exit::Failure;
use nsp_cli::{files, output};

use crate::place::{self, Home};

/// The context that is there without having been made: the daemon that `nsp daemon` starts on this machine.
pub(crate) const LOCAL: &str = "local";

/// Where that daemon listens.
pub(crate) const LOCAL_URL: &str = "nsps://127.0.0.1:43580";

/// One profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    pub(crate) url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default, rename = "context")]
    contexts: BTreeMap<String, Context>,
}

impl Contexts {
    pub(crate) fn read(home: &Home) -> Result<Self, Failure> {
        let path = home.contexts()?;
        let Some(text) = files::read_if_there(&path)? else { return Ok(Self::default()) };
        toml::from_str(&text).map_err(|error| {
            let message = error.message().lines().next().unwrap_or_default();
            Failure::Usage(format!("{} cannot be read: {message}", path.display()))
        })
    }

    fn change(home: &Home, change: impl FnOnce(&mut Self) -> Result<(), Failure>) -> Result<(), Failure> {
        let path = home.contexts()?;
        if let Some(folder) = path.parent() {
            files::private_folder(folder)?;
        }
        let _alone = files::Lock::take(&path.with_extension("lock"))?;
        let mut contexts = Self::read(home)?;
        change(&mut contexts)?;
        let text = toml::to_string(&contexts).map_err(|error| Failure::Other(error.to_string()))?;
        files::write_private(&path, text.as_bytes())
    }

    /// The one of that name, or the current one.
    pub(crate) fn pick(&self, name: Option<&str>) -> Result<(String, Context), Failure> {
        let name = name.or(self.current.as_deref()).unwrap_or(LOCAL);
        if let Some(context) = self.contexts.get(name) {
            return Ok((name.to_owned(), context.clone()));
        }
        if name == LOCAL {
            return Ok((name.to_owned(), local()));
        }
        Err(Failure::Usage(format!("there is no context `{name}`: nsp context ls shows those there are")))
    }

    /// Keeps a context under a name, and makes it the current one.
    pub(crate) fn keep(home: &Home, name: &str, context: Context) -> Result<(), Failure> {
        Self::change(home, |contexts| {
            contexts.contexts.insert(name.to_owned(), context);
            contexts.current = Some(name.to_owned());
            Ok(())
        })
    }
}

/// The daemon of this machine and this user, whose CA is at hand.
fn local() -> Context {
    let ca = place::default_data().ok().map(|data| data.join("ca.pem")).filter(|ca| ca.exists());
    Context { url: LOCAL_URL.to_owned(), user: None, ca }
}

/// Keep which daemon, as whom and trusting whom under a name.
///
/// The context `local` is always there: the daemon that `nsp daemon` starts on this machine. `nsp login --save NAME` makes one of
/// what it has logged in with.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Examples:
  nsp context add prod nsps://chat.example.org:43580 --user alice --use
  nsp context ls
  nsp services --context local")]
pub(crate) enum Command {
    /// Show all, with a star at the current one.
    Ls {
        /// One JSON object a line.
        #[arg(long, env = "NSP_JSON")]
        json: bool,
    },
    /// Add one, or replace it.
    Add {
        name: String,
        url: String,
        /// The user.
        #[arg(long)]
        user: Option<String>,
        /// The CA (PEM) that issues the daemon's certificate.
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// Make it the current one.
        #[arg(long = "use")]
        select: bool,
    },
    /// Make one the current one.
    Use { name: String },
    /// Remove one.
    Rm { name: String },
}

pub(crate) fn run(home: &Home, command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls { json } => list(home, json),
        Command::Add { name, url, user, ca, select } => {
            check_name(&name)?;
            url.parse::<nsp::carrier::Address>().map_err(|error| Failure::Usage(error.to_string()))?;
            let ca = match ca {
                Some(ca) => Some(std::path::absolute(&ca).map_err(|error| Failure::file(&ca, &error))?),
                None => None,
            };
            Contexts::change(home, |contexts| {
                contexts.contexts.insert(name.clone(), Context { url, user, ca });
                if select {
                    contexts.current = Some(name);
                }
                Ok(())
            })
        }
        Command::Use { name } => Contexts::change(home, |contexts| {
            contexts.pick(Some(&name))?;
            contexts.current = Some(name);
            Ok(())
        }),
        Command::Rm { name } => Contexts::change(home, |contexts| {
            if contexts.contexts.remove(&name).is_none() {
                return Err(Failure::Usage(format!("there is no context `{name}`")));
            }
            if contexts.current.as_deref() == Some(&*name) {
                contexts.current = None;
            }
            Ok(())
        }),
    }
}

fn check_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return Err(Failure::Usage(format!(
            "`{}` is no name of a context: letters, digits, - _ and . only",
            name.escape_debug()
        )));
    }
    Ok(())
}

fn list(home: &Home, json: bool) -> Result<(), Failure> {
    let mut contexts = Contexts::read(home)?;
    let (current, _) = contexts.pick(None).unwrap_or_default();
    contexts.contexts.entry(LOCAL.to_owned()).or_insert_with(local);
    for (name, context) in &contexts.contexts {
        let is_current = *name == current;
        if json {
            output::json(&serde_json::json!({
                "name": name, "current": is_current, "url": context.url, "user": context.user, "ca": context.ca,
            }))?;
        } else {
            let star = if is_current { "*" } else { " " };
            let user = context.user.as_deref().unwrap_or("-");
            output::line(&format!("{star} {name}  {}  {user}", context.url))?;
        }
    }
    Ok(())
}
