//! `nsp bench`

use std::sync::Arc;

use nsp::daemon::DISCOVERY;

use nsp_cli::bench::Load;
use nsp_cli::exit::Failure;
use nsp_cli::output;

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

    #[command(flatten)]
    load: Load,

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
    for _ in 0..args.load.connections {
        let session = args.reach.connect(Stay::Once).await?;
        let activity = session.open(&args.service).await?;
        // One each before the clock runs: a function that fails is told at once.
        activity.call_raw(&args.function, argument.clone()).await?;
        sessions.push(session);
        activities.push(activity);
    }
    let function: Arc<str> = args.function.as_str().into();
    let times = args.load.run(&activities, move |activity| {
        let (function, argument) = (Arc::clone(&function), argument.clone());
        async move { activity.call_raw(&function, argument).await.map(drop) }
    });
    let times = times.await?;
    for session in sessions {
        session.close().await;
    }
    if args.json { output::json(&times.to_json("calls", &args.load)) } else { times.print("calls") }
}
