//! `nsp top`

use std::time::Duration;

use serde_json::Value;

use nsp_cli::exit::Failure;
use nsp_cli::output::{self, printable};
use nsp_cli::process::stopped;
use nsp_cli::text::{duration, shown_time};

use super::admin::{Admin, Office};

/// Watch a daemon: connections, entities and calls. For superusers.
///
/// On a terminal it shows them again and again until it is interrupted; off it, once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  nsp top
  nsp top --once --json
  nsp top --kick 17")]
pub(crate) struct Args {
    /// How often: 500ms, 2s.
    #[arg(short, long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    interval: Duration,

    /// Show it once.
    #[arg(long)]
    once: bool,

    /// End this connection, and show nothing.
    #[arg(long, value_name = "ID")]
    kick: Option<u64>,

    /// One JSON object each time.
    #[arg(long, env = "NSP_JSON")]
    json: bool,

    #[command(flatten)]
    office: Office,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let admin = args.office.open().await?;
    let result = match args.kick {
        Some(id) => kick(&admin, id).await,
        None => watch(&args, &admin).await,
    };
    admin.close().await;
    result
}

async fn kick(admin: &Admin, id: u64) -> Result<(), Failure> {
    match admin.call("kick", &serde_json::json!({ "connection": id })).await? {
        Value::Bool(true) => Ok(()),
        _ => Err(Failure::Usage(format!("there is no connection {id}"))),
    }
}

async fn watch(args: &Args, admin: &Admin) -> Result<(), Failure> {
    let is_once = args.once || !(output::is_terminal() || args.json);
    let mut stop = std::pin::pin!(stopped());
    let mut calls_before = None;
    loop {
        let status = admin.call("status", &Value::Null).await?;
        if args.json {
            output::json(&status)?;
        } else {
            let calls = counter(&status, "calls");
            let seconds = args.interval.as_secs_f64().max(0.001);
            #[expect(clippy::cast_precision_loss, reason = "a rate is printed in a few digits")]
            let rate = calls_before.map(|before| calls.saturating_sub(before) as f64 / seconds);
            calls_before = Some(calls);
            let clear = if is_once { "" } else { "\u{1b}[H\u{1b}[2J" };
            output::write(format!("{clear}{}", shown(&status, rate)).as_bytes())?;
        }
        if is_once {
            return Ok(());
        }
        tokio::select! {
            () = &mut stop => return Ok(()),
            () = tokio::time::sleep(args.interval) => {}
        }
    }
}

fn counter(status: &Value, name: &str) -> u64 {
    status.pointer(&format!("/counters/{name}")).and_then(Value::as_u64).unwrap_or_default()
}

fn shown(status: &Value, rate: Option<f64>) -> String {
    let list = |name: &str| status.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let rate = rate.map(|rate| format!(", {rate:.0} a second")).unwrap_or_default();
    let mut text = format!(
        "{} connections, {} entities, {} calls ({} running, {} failed{rate}), {} sent to entities, {} dropped\n",
        list("connections").len(),
        list("entities").len(),
        counter(status, "calls"),
        counter(status, "calls_running"),
        counter(status, "failed"),
        counter(status, "pushed"),
        counter(status, "dropped"),
    );
    text.push_str("\n  ID  FROM              BY         AGE   SAFE  ENTITIES\n");
    for connection in list("connections") {
        let word = |name: &str| {
            connection.get(name).and_then(Value::as_str).map_or_else(|| "-".to_owned(), printable)
        };
        let number = |name: &str| connection.get(name).and_then(Value::as_u64).unwrap_or_default();
        let id = number("id");
        let safe = match (connection.get("confidential").and_then(Value::as_bool), word("sp").as_str()) {
            (Some(true), _) => "yes".to_owned(),
            (_, sp) => sp.to_lowercase(),
        };
        let entities: Vec<String> = list("entities")
            .iter()
            .filter(|entity| entity.get("connection").and_then(Value::as_u64) == Some(id))
            .map(|entity| {
                let word = |name: &str| entity.get(name).and_then(Value::as_str).map(printable);
                let who = word("user").or_else(|| word("claims").map(|name| format!("{name}?")));
                format!("{}:{}", word("service").unwrap_or_default(), who.unwrap_or_else(|| "-".to_owned()))
            })
            .collect();
        let age = shown_time(Duration::from_secs(number("age_s")));
        text.push_str(&format!(
            "{id:>4}  {:16}  {:9}  {age:>4}  {safe:4}  {}\n",
            word("address"),
            word("carrier"),
            entities.join(" ")
        ));
    }
    let closed = list("closed");
    if !closed.is_empty() {
        text.push_str("\nENDED LAST\n");
        for closed in closed.iter().rev().take(5) {
            let word = |name: &str| {
                closed.get(name).and_then(Value::as_str).map_or_else(|| "-".to_owned(), printable)
            };
            let id = closed.get("id").and_then(Value::as_u64).unwrap_or_default();
            text.push_str(&format!("{id:>4}  {:16}  {}\n", word("address"), word("reason")));
        }
    }
    text
}
