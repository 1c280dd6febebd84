//! `nsp trust`

use nsp::carrier::Address;
use nsp::client::{HostName, KeyKind};
use nsp::secure::Fingerprint;

use nsp_cli::exit::Failure;
use nsp_cli::output;

use super::reach::{Reach, daemon_name};

/// Keep the keys of daemons that no CA vouches for.
///
/// They are remembered at the first meeting, as ssh does. One that has changed is refused until it is removed here.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Examples:
  nsp trust add nsps://chat.example.org:43580
  nsp trust add nsps://chat.example.org:43580 --key SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU
  nsp trust rm chat.example.org:43580")]
pub(crate) enum Command {
    /// Show all that are known.
    Ls {
        /// One JSON object a line.
        #[arg(long, env = "NSP_JSON")]
        json: bool,
        #[command(flatten)]
        home: crate::place::Home,
    },
    /// Connect to a daemon, show its key, and remember it if it is confirmed; or remember a key that is known from elsewhere.
    Add {
        /// The daemon.
        daemon: String,
        /// The key, without asking the daemon.
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// Confirm without looking.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        reach: Box<Reach>,
    },
    /// Forget the keys of a daemon.
    Rm {
        /// HOST:PORT, or its URL.
        daemon: String,
        #[command(flatten)]
        home: crate::place::Home,
    },
}

pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls { json, home } => list(&home, json),
        Command::Add { daemon, key, yes, reach } => add(&daemon, key.as_deref(), yes, *reach).await,
        Command::Rm { daemon, home } => {
            let name = match daemon.parse::<Address>() {
                Ok(address) => daemon_name(&address),
                Err(_) => daemon,
            };
            let known = nsp::client::KnownHosts::open(home.known_daemons()?);
            match known.remove(&name)? {
                0 => Err(Failure::Usage(format!("{} is not known", name.escape_debug()))),
                _ => Ok(()),
            }
        }
    }
}

fn list(home: &crate::place::Home, json: bool) -> Result<(), Failure> {
    let known = nsp::client::KnownHosts::open(home.known_daemons()?);
    for known in known.entries()? {
        let host = known.host.to_string();
        if json {
            let is_hidden = matches!(known.host, HostName::Hashed { .. });
            output::json(&serde_json::json!({
                "host": host, "hidden": is_hidden, "kind": known.kind.to_string(),
                "key": known.fingerprint.to_string(), "line": known.line,
            }))?;
        } else {
            output::line(&format!("{host}  {}  {}", known.kind, known.fingerprint))?;
        }
    }
    Ok(())
}

async fn add(daemon: &str, key: Option<&str>, yes: bool, mut reach: Reach) -> Result<(), Failure> {
    let address: Address = daemon.parse().map_err(|error| {
        Failure::Usage(format!("`{}` is no URL of a daemon: {error}", daemon.escape_debug()))
    })?;
    let known = reach.known()?;
    if let Some(key) = key {
        let key = Fingerprint::parse(key)
            .ok_or_else(|| Failure::Usage("--key: a key is written SHA256: and 43 letters".to_owned()))?;
        let kind = if address.is_tls() { KeyKind::Tls } else { KeyKind::Rsa };
        return known.add(&daemon_name(&address), kind, key).map_err(Failure::from);
    }
    reach.url = Some(daemon.to_owned());
    reach.meet(yes).await?;
    let name = daemon_name(&address);
    let entries = known.entries()?;
    let found: Vec<_> = entries.iter().filter(|known| known.host.is(&name)).collect();
    if found.is_empty() {
        return Err(Failure::Trust(format!("{address} has shown no key: there is neither TLS nor SP")));
    }
    for known in found {
        output::line(&format!("{name}  {}  {}", known.kind, known.fingerprint))?;
    }
    Ok(())
}
