//! `nossock bench`

use std::time::Duration;

use bytes::Bytes;
use nossock::wire::Body;

use nsp_cli::bench::Load;
use nsp_cli::exit::Failure;
use nsp_cli::output;

use crate::options::ConnectOptions;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

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

    #[command(flatten)]
    load: Load,

    /// Bytes of a body.
    #[arg(short, long, value_name = "BYTES", default_value_t = 64)]
    size: u32,

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
    for _ in 0..args.load.connections {
        sockets.push(connector.connect().await?);
    }
    // One each before the clock runs: a server that does not echo is told at once.
    for socket in &sockets {
        socket.request_raw(PATIENCE, "bench", body.clone()).await?;
    }
    let times = args.load.run(&sockets, move |socket| {
        let body = body.clone();
        async move { socket.request_raw(PATIENCE, "bench", body).await.map(drop) }
    });
    let times = times.await?;
    for socket in sockets {
        socket.close().await?;
    }
    if !args.json {
        return times.print("requests");
    }
    let mut line = times.to_json("requests", &args.load);
    if let Some(line) = line.as_object_mut() {
        line.insert("size".to_owned(), args.size.into());
    }
    output::json(&line)
}
