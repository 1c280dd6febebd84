//! `nossock request`

use std::sync::Arc;
use std::time::{Duration, Instant};

use nossock::wire::Body;
use nossock::{RecvError, RequestError, Socket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use nsp_cli::exit::Failure;
use nsp_cli::output;
use nsp_cli::text::duration;

use crate::body::BodyOptions;
use crate::options::ConnectOptions;

/// Ask, and print the answer.
///
/// A JSON answer is printed as JSON, a raw one as it is. When the peer answers with an error, that is printed to standard
/// error and the status is 1, or 7 when nobody handles the request.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  nossock request tcp://127.0.0.1:8797 sum '[1,2,3]'
  nossock request tcp://127.0.0.1:8797 thumbnail @photo.png --raw > small.png
  nossock request tcp://127.0.0.1:8797 ping --repeat 10 --json")]
pub(crate) struct Args {
    #[command(flatten)]
    connect: ConnectOptions,

    /// What to ask for.
    name: String,

    #[command(flatten)]
    body: BodyOptions,

    /// How long an answer may take: 500ms, 2s, 1m.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration, env = "NOSSOCK_TIMEOUT")]
    timeout: Duration,

    /// Ask so many times.
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: u64,

    /// Requests at once.
    #[arg(long, value_name = "P", default_value_t = 1)]
    parallel: usize,

    /// One JSON object an answer: {"name":…,"answer":…,"rtt_us":…}.
    #[arg(long, env = "NOSSOCK_JSON")]
    json: bool,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let body = args.body.read(args.connect.max_body())?;
    let socket = args.connect.connect().await?;
    // Messages that are sent to us are not what was asked for; left unread they would keep the answers back.
    let reader = socket.clone();
    tokio::spawn(
        async move { while !matches!(reader.recv().await, Ok(None) | Err(RecvError::Closed(_))) {} },
    );
    let turns = Arc::new(Semaphore::new(args.parallel.clamp(1, 4096)));
    let args = Arc::new(args);
    let mut tasks = JoinSet::new();
    let mut failure = None;
    for _ in 0..args.repeat {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { break };
        while let Some(ended) = tasks.try_join_next() {
            note(ended, &mut failure)?;
        }
        let (socket, args, body) = (socket.clone(), Arc::clone(&args), body.clone());
        tasks.spawn(async move {
            let result = ask(&socket, &args, body).await;
            drop(turn);
            result
        });
    }
    while let Some(ended) = tasks.join_next().await {
        note(ended, &mut failure)?;
    }
    if failure.is_none() {
        socket.close().await?;
    }
    failure.map_or(Ok(()), Err)
}

/// Keeps the first failure; stops at once when nobody reads the output.
fn note(
    ended: Result<Result<(), Failure>, tokio::task::JoinError>,
    failure: &mut Option<Failure>,
) -> Result<(), Failure> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Failure::OutputClosed)) => Err(Failure::OutputClosed),
        Ok(Err(error)) => {
            failure.get_or_insert(error);
            Ok(())
        }
        Err(error) => Err(Failure::Other(error.to_string())),
    }
}

async fn ask(socket: &Socket, args: &Args, body: Body) -> Result<(), Failure> {
    let start = Instant::now();
    let answer = socket.request_raw(args.timeout, &args.name, body).await;
    let rtt_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    match answer {
        Ok(value) => print(args, value.into_body(), rtt_us),
        Err(RequestError::Rejected { name, reject }) if args.json => {
            output::json(&serde_json::json!({"name": name, "error": reject.as_value(), "rtt_us": rtt_us}))?;
            Err(RequestError::Rejected { name, reject }.into())
        }
        Err(error) => Err(error.into()),
    }
}

fn print(args: &Args, body: Body, rtt_us: u64) -> Result<(), Failure> {
    let bytes = match &body {
        Body::Raw(bytes) if !args.json => return output::write(bytes),
        body => body.as_bytes(),
    };
    if args.json {
        let kind = if matches!(body, Body::Raw(_)) { "raw" } else { "json" };
        let frame = crate::output::FrameLine::new(&args.name, kind, bytes);
        let mut line = serde_json::to_value(&frame).map_err(|error| Failure::Other(error.to_string()))?;
        if let Some(line) = line.as_object_mut() {
            if let Some(body) = line.remove("body") {
                line.insert("answer".into(), body);
            }
            line.insert("rtt_us".into(), rtt_us.into());
        }
        return output::json(&line);
    }
    let value: serde_json::Value = serde_json::from_slice(bytes)
        .map_err(|error| Failure::Protocol(format!("the answer is not JSON: {error}")))?;
    let text = if output::is_terminal() {
        serde_json::to_string_pretty(&value)
    } else {
        serde_json::to_string(&value)
    };
    output::line(&text.map_err(|error| Failure::Other(error.to_string()))?)
}
