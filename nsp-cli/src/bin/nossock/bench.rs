//! `nossock bench`

use std::time::{Duration, Instant};

use bytes::Bytes;
use nossock::wire::Body;
use nossock::{RequestError, Socket};
use tokio::task::JoinSet;

use nsp_cli::exit::Failure;
use nsp_cli::output;
use nsp_cli::text::duration;

use crate::options::ConnectOptions;

/// Measure round trips against `serve --echo`.
///
/// Each of D × C tasks asks, waits for the answer and asks again. Times are of single requests, from the call to the
/// answer. Loopback figures say what the library costs, not what a network does.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example, in two terminals:
  nossock serve tcp://127.0.0.1:8797 --echo
  nossock bench tcp://127.0.0.1:8797 --connections 4 --inflight 16 --duration 5s")]
pub(crate) struct Args {
    #[command(flatten)]
    connect: ConnectOptions,

    /// Connections.
    #[arg(short, long, value_name = "C", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,

    /// Requests in flight on each.
    #[arg(short, long, value_name = "D", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    inflight: u16,

    /// Bytes of a body.
    #[arg(short, long, value_name = "BYTES", default_value_t = 64)]
    size: u32,

    /// For how long: 500ms, 2s, 1m.
    #[arg(short, long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    duration: Duration,

    /// Raw bodies in place of JSON.
    #[arg(long)]
    raw: bool,

    /// Print one JSON object.
    #[arg(long, env = "NOSSOCK_JSON")]
    json: bool,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let size = usize::try_from(args.size).unwrap_or(usize::MAX);
    let body = if args.raw {
        Body::Raw(Bytes::from(vec![b'x'; size]))
    } else {
        Body::Json(Bytes::from(format!("\"{}\"", "x".repeat(size.saturating_sub(2)))))
    };
    let connector = args.connect.connector()?;
    let mut sockets = Vec::new();
    for _ in 0..args.connections {
        sockets.push(connector.connect().await?);
    }
    // One each before the clock runs: a server that does not echo is told at once.
    for socket in &sockets {
        socket.request_raw(Duration::from_secs(5), "bench", body.clone()).await?;
    }
    let start = Instant::now();
    let end = start + args.duration;
    let mut tasks = JoinSet::new();
    for socket in &sockets {
        for _ in 0..args.inflight {
            tasks.spawn(ask(socket.clone(), body.clone(), end));
        }
    }
    let mut times: Vec<u64> = Vec::new();
    while let Some(task) = tasks.join_next().await {
        times.extend(task.map_err(|error| Failure::Other(error.to_string()))??);
    }
    let elapsed = start.elapsed();
    for socket in sockets {
        socket.close().await?;
    }
    report(&args, &mut times, elapsed)
}

async fn ask(socket: Socket, body: Body, end: Instant) -> Result<Vec<u64>, RequestError> {
    let mut times = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        socket.request_raw(Duration::from_secs(5), "bench", body.clone()).await?;
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
    #[allow(clippy::cast_precision_loss, reason = "a rate is printed in a few digits")]
    let rate = times.len() as f64 / elapsed.as_secs_f64();
    let quantiles = [("p50", at(500)), ("p90", at(900)), ("p99", at(990)), ("max", at(1000))];
    if args.json {
        let mut line = serde_json::json!({
            "requests": times.len(), "seconds": elapsed.as_secs_f64(), "per_second": rate, "size": args.size,
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
    output::line(&format!("{} requests in {:.2} s: {rate:.0} a second", times.len(), elapsed.as_secs_f64()))?;
    for (name, time) in quantiles {
        output::line(&format!("{name}  {time:.1?}"))?;
    }
    Ok(())
}
