//! `nsp bench`

use std::time::{Duration, Instant};

use nsp::client::{Activity, CallError};
use nsp::daemon::DISCOVERY;
use nsp::proto::RawJson;
use serde_json::json;
use tokio::task::JoinSet;

use nsp_cli::exit::Failure;
use nsp_cli::output;
use nsp_cli::text::duration;

use super::call::argument;
use super::reach::{Reach, Stay};

/// Measure calls of a service function.
///
/// Each of C × D tasks calls, waits for the answer and calls again. Times are of single calls. Loopback figures say what the programs
/// cost, not what a network does.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  nsp bench Chat Hello '\"me\"' --connections 4 --inflight 16 --duration 5s")]
pub(crate) struct Args {
    /// The service.
    #[arg(default_value = DISCOVERY)]
    service: String,

    /// The function.
    #[arg(default_value = "list")]
    function: String,

    /// Its argument: JSON, @FILE, or - for standard input.
    #[arg(allow_negative_numbers = true)]
    argument: Option<String>,

    /// Connections.
    #[arg(short, long, value_name = "C", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,

    /// Calls in flight on each.
    #[arg(short, long, value_name = "D", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    inflight: u16,

    /// For how long: 500ms, 2s, 1m.
    #[arg(short, long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    duration: Duration,

    /// Print one JSON object.
    #[arg(long, env = "NSP_JSON")]
    json: bool,

    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let argument = argument(args.argument.as_deref())?;
    let mut sessions = Vec::new();
    let mut activities = Vec::new();
    for _ in 0..args.connections {
        let session = args.reach.connect(Stay::Once).await?;
        let activity = session.open(&args.service).await?;
        // One each before the clock runs: a function that fails is told at once.
        activity.call_raw(&args.function, argument.clone()).await?;
        sessions.push(session);
        activities.push(activity);
    }
    let start = Instant::now();
    let end = start + args.duration;
    let mut tasks = JoinSet::new();
    for activity in &activities {
        for _ in 0..args.inflight {
            tasks.spawn(call(activity.clone(), args.function.clone(), argument.clone(), end));
        }
    }
    let mut times: Vec<u64> = Vec::new();
    while let Some(task) = tasks.join_next().await {
        times.extend(task.map_err(|error| Failure::Other(error.to_string()))??);
    }
    let elapsed = start.elapsed();
    for session in sessions {
        session.close().await;
    }
    report(&args, &mut times, elapsed)
}

async fn call(
    activity: Activity,
    function: String,
    argument: RawJson,
    end: Instant,
) -> Result<Vec<u64>, CallError> {
    let mut times = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        activity.call_raw(&function, argument.clone()).await?;
        times.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(times)
}

fn report(args: &Args, times: &mut [u64], elapsed: Duration) -> Result<(), Failure> {
    times.sort_unstable();
    let at = |part: usize| {
        let index = (times.len() * part / 1000).min(times.len().saturating_sub(1));
        Duration::from_nanos(times.get(index).copied().unwrap_or_default())
    };
    #[expect(clippy::cast_precision_loss, reason = "a rate is printed in a few digits")]
    let rate = times.len() as f64 / elapsed.as_secs_f64();
    let quantiles = [("p50", at(500)), ("p90", at(900)), ("p99", at(990)), ("max", at(1000))];
    if args.json {
        let mut line = json!({
            "calls": times.len(), "seconds": elapsed.as_secs_f64(), "per_second": rate,
            "connections": args.connections, "inflight": args.inflight,
        });
        for (name, time) in quantiles {
            if let Some(line) = line.as_object_mut() {
                let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                line.insert(format!("{name}_us"), micros.into());
            }
        }
        return output::json(&line);
    }
    output::line(&format!("{} calls in {:.2} s: {rate:.0} a second", times.len(), elapsed.as_secs_f64()))?;
    for (name, time) in quantiles {
        output::line(&format!("{name}  {time:.1?}"))?;
    }
    Ok(())
}
