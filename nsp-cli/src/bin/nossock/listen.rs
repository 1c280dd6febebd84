//! `nossock listen`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nossock::wire::{Body, Name};
use nossock::{Peer, Reject, Router, State};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use nsp_cli::exit::Failure;
use nsp_cli::output as out;
use nsp_cli::process::stopped;
use nsp_cli::text::duration;

use crate::options::ListenOptions;
use crate::output;
use crate::pieces::Saver;

/// Accept connections and print what comes.
///
/// One line a message; with --json one JSON object a line:
/// {"peer":…,"name":…,"kind":"json","size":…,"body":…} or {"peer":…,"name":…,"kind":"raw","size":…,"body_b64":…}.
/// Requests are printed with "request":true, and answered with the error `no_handler`.
///
/// With --save raw bodies go to files named after their messages, and files that were sent in pieces
/// (NAME#ID@OFFSET/TOTAL, see `nossock send --help`) are joined; a file appears when it is whole, and nothing is written
/// over: a second photo.png becomes photo.1.png.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  nossock listen tcp://127.0.0.1:8797
  nossock listen tls://0.0.0.0:8797 --cert server.pem --key server.key --save incoming --json")]
pub(crate) struct Args {
    #[command(flatten)]
    listen: ListenOptions,

    /// One JSON object a line.
    #[arg(long, env = "NOSSOCK_JSON")]
    json: bool,

    /// Write raw bodies to files of this folder.
    #[arg(long, value_name = "DIR", env = "NOSSOCK_SAVE")]
    save: Option<PathBuf>,

    /// End after so many messages; a file counts once.
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// End when nothing has come for so long: 500ms, 2s, 1m.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    idle: Option<Duration>,

    /// End after so long.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    max_time: Option<Duration>,
}

/// What the handlers share.
pub(crate) struct Printer {
    json: bool,
    saver: Option<Saver>,
    /// A tick for each message; or why it is to end.
    ticks: mpsc::UnboundedSender<Result<(), Failure>>,
}

impl Printer {
    pub(crate) async fn message(&self, peer: &Peer, name: &Name, body: &Body, request: bool) {
        match self.print(peer, name, body, request).await {
            Ok(false) => {}
            Ok(true) => drop(self.ticks.send(Ok(()))),
            Err(failure) => drop(self.ticks.send(Err(failure))),
        }
    }

    /// Says whether it was a message of its own, and not one piece of many.
    async fn print(&self, peer: &Peer, name: &Name, body: &Body, request: bool) -> Result<bool, Failure> {
        let (Some(saver), Body::Raw(bytes)) = (&self.saver, body) else {
            output::frame(self.json, peer, name, body, request)?;
            return Ok(true);
        };
        let saved = match saver.save(&peer.to_string(), name, bytes).await {
            Ok(None) => return Ok(false),
            Ok(Some(saved)) => saved,
            Err(error) => {
                saver.aside(|| nsp_cli::note!("nossock: {peer}: {error}"));
                return Ok(false);
            }
        };
        let path = saved.path.display();
        if self.json {
            let line = serde_json::json!({
                "peer": peer.to_string(), "name": crate::pieces::PieceName::parse(name).map_or(name.as_str(), |p| p.name),
                "kind": "file", "size": saved.bytes, "path": path.to_string(), "sha256": saved.sha256,
            });
            saver.aside(|| out::json(&line))?;
        } else {
            let line = format!("{peer} saved {path} {} bytes sha256 {}", saved.bytes, saved.sha256);
            saver.aside(|| out::line(&line))?;
        }
        Ok(true)
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let saver = match &args.save {
        Some(dir) => Some(Saver::new(dir).await?),
        None => None,
    };
    let (ticks, ticked) = mpsc::unbounded_channel();
    let printer = Arc::new(Printer { json: args.json, saver, ticks });
    let router = Router::with_state(printer)
        .fallback(async |State(printer): State<Arc<Printer>>, peer: Peer, name: Name, body: Body| {
            printer.message(&peer, &name, &body, false).await;
        })
        .fallback_request(
            async |State(printer): State<Arc<Printer>>,
                   peer: Peer,
                   name: Name,
                   body: Body|
                   -> Result<(), Reject> {
                printer.message(&peer, &name, &body, true).await;
                Err(Reject::new("no_handler", "this only listens"))
            },
        )
        .on_error(|socket, error| nsp_cli::note!("nossock: {}: {error}", socket.peer()));
    // Before anybody can read that it listens.
    let stop = stopped();
    let server = args.listen.listen().await?;
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let watch = tokio::spawn(async move {
        let result = watch(&args, ticked, stop).await;
        drop(ended);
        result
    });
    server.serve_until(router, async { drop(end.await) }).await;
    watch.await.unwrap_or(Ok(()))
}

/// Waits for the end: a signal, enough messages, silence, time, or that nobody reads the output.
async fn watch(
    args: &Args,
    mut ticked: mpsc::UnboundedReceiver<Result<(), Failure>>,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let start = Instant::now();
    let far = Duration::from_secs(60 * 60 * 24 * 365);
    let mut stop = std::pin::pin!(stop);
    let mut last = start;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        tokio::select! {
            () = &mut stop => break,
            () = sleep_until(start + args.max_time.unwrap_or(far)) => break,
            () = sleep_until(last + args.idle.unwrap_or(far)) => break,
            tick = ticked.recv() => match tick {
                Some(Ok(())) => {
                    left -= 1;
                    last = Instant::now();
                }
                Some(Err(failure)) => return Err(failure),
                None => break,
            },
        }
    }
    Ok(())
}
