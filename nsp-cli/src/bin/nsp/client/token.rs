//! `nsp token`

use serde_json::{Value, json};

use nsp_cli::exit::Failure;
use nsp_cli::output::{self, printable};

use super::admin::Office;

/// Show and end logins: one's own, or with --of those of somebody else.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  nsp token ls
  nsp token revoke 5b7c0f1e2d3c4b5a
  nsp token revoke --all --of alice")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List logins. What is shown is their names, which are no secrets.
    Ls {
        /// One JSON object a line.
        #[arg(long, env = "NSP_JSON")]
        json: bool,
        #[command(flatten)]
        whose: Whose,
    },
    /// End a login, and the connections that it has opened.
    Revoke {
        /// Its name, from `nsp token ls`.
        #[arg(required_unless_present = "all")]
        id: Option<String>,
        /// All of a user.
        #[arg(long, requires = "of", conflicts_with = "id")]
        all: bool,
        #[command(flatten)]
        whose: Whose,
    },
}

#[derive(Debug, clap::Args)]
struct Whose {
    /// Whose, if not one's own; for superusers.
    #[arg(long, value_name = "USER")]
    of: Option<String>,

    #[command(flatten)]
    office: Office,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Ls { json, whose } => {
            let tokens = match &whose.of {
                Some(name) => ask(&whose, "tokens", &json!({ "name": name })).await?,
                None => ask(&whose, "myTokens", &Value::Null).await?,
            };
            for token in tokens.as_array().into_iter().flatten() {
                if json {
                    output::json(token)?;
                    continue;
                }
                let text =
                    |field: &str| token.get(field).and_then(Value::as_str).map(printable).unwrap_or_default();
                let (id, used, until) = (text("id"), text("last_used"), text("expires"));
                output::line(format!("{id}  used {used}  until {until}  {}", text("label")).trim_end())?;
            }
            Ok(())
        }
        Command::Revoke { id, all, whose } => {
            let answer = match (&whose.of, id) {
                (Some(name), _) if all => {
                    let answer = ask(&whose, "revokeTokens", &json!({ "name": name })).await?;
                    let count = answer.get("revoked").and_then(Value::as_u64).unwrap_or_default();
                    return output::line(&format!("{count} logins have ended"));
                }
                (Some(name), Some(id)) => {
                    ask(&whose, "revokeToken", &json!({ "name": name, "id": id })).await
                }
                (_, Some(id)) => ask(&whose, "revokeMyToken", &json!({ "id": id })).await,
                (_, None) => return Err(Failure::Usage("which? nsp token ls shows them".to_owned())),
            };
            // It may have been the one that this connection has shown.
            whose.office.has_ended(answer).await
        }
    }
}

async fn ask(whose: &Whose, function: &str, argument: &Value) -> Result<Value, Failure> {
    let admin = whose.office.open().await?;
    let answer = admin.call(function, argument).await;
    admin.close().await;
    answer
}
