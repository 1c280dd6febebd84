//! `nsp doctor`

use std::time::{Duration, Instant};

use nsp::carrier::Address;
use nsp::daemon::DISCOVERY;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use nsp_cli::exit::Failure;
use nsp_cli::output;

use crate::daemon::admin;

use super::reach::{Reach, Session, Stay};
use super::services;

/// Find out where the way to a daemon ends: name, TCP, TLS or SP, services, login. One line each, with what to do about it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  nsp doctor nsps://chat.example.org:43580")]
pub(crate) struct Args {
    /// The daemon, if not that of --url or the context.
    daemon: Option<String>,

    /// One JSON object a line: {"step":…,"ok":…,"text":…,"fix":…}.
    #[arg(long, env = "NSP_JSON")]
    json: bool,

    #[command(flatten)]
    reach: Reach,
}

/// How a step went.
enum Step {
    Good(String),
    /// It went wrong, and what follows can be tried all the same, or need not be.
    Bad {
        failure: Failure,
        fix: &'static str,
    },
}

pub(crate) async fn run(mut args: Args) -> Result<(), Failure> {
    if let Some(daemon) = args.daemon.take() {
        args.reach.url = Some(daemon);
    }
    let target = args.reach.target()?;
    let address = target.address.clone();
    if let (Some(host), Some(port)) = (address.host(), address.port()) {
        let limit = args.reach.timeout;
        let found = show(&args, "name", name(host, port, limit).await)?;
        found?;
        let reached = show(&args, "tcp", tcp(host, port, limit).await)?;
        reached?;
    }
    let begin = Instant::now();
    let session = match args.reach.connect_to(target, Stay::Once).await {
        Ok(session) => session,
        Err(failure) => {
            let fix = fix(&failure, &address);
            return show(&args, "nsp", Step::Bad { failure, fix })?;
        }
    };
    let secured = if address.is_tls() { "over TLS, trusted" } else { "without TLS" };
    show(&args, "nsp", Step::Good(format!("connected {secured}, in {:.1?}", begin.elapsed())))??;
    // Services and login do not depend on each other: both are told.
    let services = show(&args, "services", discovery(&session).await)?;
    let login = show(&args, "login", login(&session).await)?;
    session.close().await;
    services.and(login)
}

fn show(args: &Args, step: &str, outcome: Step) -> Result<Result<(), Failure>, Failure> {
    let (result, text, fix) = match outcome {
        Step::Good(text) => (Ok(()), text, None),
        Step::Bad { failure, fix } => (Err(failure.clone()), failure.to_string(), Some(fix)),
    };
    if args.json {
        output::json(&json!({ "step": step, "ok": result.is_ok(), "text": text, "fix": fix }))?;
    } else {
        let mark = if result.is_ok() { "ok  " } else { "FAIL" };
        let fix = fix.map(|fix| format!(" — {fix}")).unwrap_or_default();
        output::line(&format!("{mark}  {step:8}  {text}{fix}"))?;
    }
    Ok(result)
}

async fn name(host: &str, port: u16, limit: Duration) -> Step {
    let bad = |failure| Step::Bad {
        failure,
        fix: "is the name written right, and does this machine have a resolver?",
    };
    match tokio::time::timeout(limit, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(addresses)) => {
            let addresses: Vec<String> = addresses.map(|address| address.ip().to_string()).collect();
            if addresses.is_empty() {
                return bad(Failure::Connect(format!("{host} has no address")));
            }
            Step::Good(format!("{host} is {}", addresses.join(", ")))
        }
        Ok(Err(error)) => bad(Failure::Connect(format!("{host}: {error}"))),
        Err(_) => bad(Failure::TimedOut(format!("{host} was not found within {limit:?}"))),
    }
}

async fn tcp(host: &str, port: u16, limit: Duration) -> Step {
    let begin = Instant::now();
    match tokio::time::timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => {
            let peer = stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
            Step::Good(format!("{peer} answers, in {:.1?}", begin.elapsed()))
        }
        Ok(Err(error)) => Step::Bad {
            failure: Failure::Connect(format!("{host}:{port}: {error}")),
            fix: "does the daemon run, does it listen at this address, and is the port right?",
        },
        Err(_) => Step::Bad {
            failure: Failure::TimedOut(format!("{host}:{port} did not answer within {limit:?}")),
            fix: "is there a firewall between?",
        },
    }
}

fn fix(failure: &Failure, address: &Address) -> &'static str {
    match failure {
        Failure::Trust(_) if address.is_tls() => {
            "give its CA with --ca, or look at its key and remember it: nsp trust add URL"
        }
        Failure::Trust(_) => "look at its key and remember it, nsp trust add URL; or take nsps://",
        Failure::Protocol(_) | Failure::Disconnected(_) | Failure::TimedOut(_) => {
            "is it a daemon at all, and of this kind? nsps, ws and noservice have ports of their own"
        }
        _ => "see above",
    }
}

async fn discovery(session: &Session) -> Step {
    let found = async { services::list(&session.open(DISCOVERY).await?).await };
    match found.await {
        Ok(services) => {
            let names: Vec<String> =
                services.iter().map(|service| output::printable(&service.name)).collect();
            Step::Good(names.join(", "))
        }
        Err(failure) => {
            Step::Bad { failure, fix: "an original daemon cannot be asked; call its services all the same" }
        }
    }
}

async fn login(session: &Session) -> Step {
    let Some(user) = &session.target.user else {
        return Step::Good("nobody: what needs no login can be called".to_owned());
    };
    let known = async {
        let admin = session.open(admin::NAME).await?;
        let me: Value = admin.call("whoami", &Value::Null).await?;
        Ok::<_, Failure>(me)
    };
    match known.await {
        Ok(me) => {
            let privilege = me.get("privilege").and_then(Value::as_i64).unwrap_or_default();
            Step::Good(format!("{} with privilege {privilege}", output::printable(user)))
        }
        Err(failure) => Step::Bad { failure, fix: "log in again: nsp login" },
    }
}
