//! `nsp ping`

use std::time::{Duration, Instant};

use nsp::daemon::DISCOVERY;
use nsp::proto::RawJson;
use serde_json::json;

use nsp_cli::exit::Failure;
use nsp_cli::output;
use nsp_cli::text::duration;

use super::reach::{Reach, Stay};

/// Measure how long a daemon takes: to be connected to, to open an activity, and to answer.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  nsp ping --count 10")]
pub(crate) struct Args {
    /// Answers to wait for.
    #[arg(short, long, value_name = "N", default_value_t = 3)]
    count: u32,

    /// How long to wait between them: 500ms, 2s.
    #[arg(short, long, value_name = "TIME", default_value = "500ms", value_parser = duration)]
    interval: Duration,

    /// The service that answers, with its function as SERVICE.FUNCTION.
    #[arg(long, value_name = "NAME", default_value_t = format!("{DISCOVERY}.list"))]
    function: String,

    /// One JSON object a line.
    #[arg(long, env = "NSP_JSON")]
    json: bool,

    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let (service, function) = args.function.rsplit_once('.').ok_or_else(|| {
        Failure::Usage(format!("`{}` is not SERVICE.FUNCTION", args.function.escape_debug()))
    })?;
    let start = Instant::now();
    let session = args.reach.connect(Stay::Once).await?;
    show(&args, "connect", start.elapsed())?;
    let start = Instant::now();
    let activity = session.open(service).await?;
    show(&args, "open", start.elapsed())?;
    for n in 0..args.count {
        if n > 0 {
            tokio::time::sleep(args.interval).await;
        }
        let start = Instant::now();
        activity.call_raw(function, RawJson::NULL).await?;
        show(&args, "call", start.elapsed())?;
    }
    session.close().await;
    Ok(())
}

fn show(args: &Args, what: &str, time: Duration) -> Result<(), Failure> {
    if args.json {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        return output::json(&json!({ "step": what, "us": micros }));
    }
    output::line(&format!("{what:7}  {time:.1?}"))
}
