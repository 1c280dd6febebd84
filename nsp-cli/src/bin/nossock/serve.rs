//! `nossock serve`

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nossock::wire::{Body, Name};
use nossock::{IntoAnswer, Peer, Raw, Reject, Responder, Router, Socket, State};
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

use nsp_cli::exit::Failure;
use nsp_cli::process::stopped;
use nsp_cli::text::duration;

use crate::options::ListenOptions;
use crate::pieces::Saver;

/// Answer: by echo, or by running commands.
///
/// With --echo every message is sent back under its own name, and every request is answered with its own body. With
/// --exec NAME CMD requests and messages of that name run a shell command: the body is its standard input; what it
/// prints is the answer, as JSON if it is JSON and as a text if it is not, or as it is if the request was raw. A command
/// that fails answers with {"code":"exit","status":N,"message":…}, the message being the last line it wrote to standard
/// error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  nossock serve tcp://127.0.0.1:8797 --echo
  nossock serve tcp://127.0.0.1:8797 --exec upper 'tr a-z A-Z' --exec date date
  nossock serve tls://127.0.0.1:0 --cert leaf.pem --key leaf.key --echo --save incoming")]
pub(crate) struct Args {
    #[command(flatten)]
    listen: ListenOptions,

    /// Send everything back.
    #[arg(long, env = "NOSSOCK_ECHO")]
    echo: bool,

    /// Run a shell command for messages and requests of a name.
    #[arg(long, num_args = 2, value_names = ["NAME", "CMD"])]
    exec: Vec<String>,

    /// How long a command may run.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration, env = "NOSSOCK_EXEC_TIMEOUT")]
    exec_timeout: Duration,

    /// Commands that run at once; the next ones wait.
    #[arg(long, value_name = "N", default_value_t = 16, env = "NOSSOCK_EXEC_PARALLEL")]
    exec_parallel: usize,

    /// Write raw bodies to files of this folder too, as `listen --save` does.
    #[arg(long, value_name = "DIR", env = "NOSSOCK_SAVE")]
    save: Option<PathBuf>,
}

struct Service {
    saver: Option<Saver>,
    running: Semaphore,
    timeout: Duration,
    max_output: u64,
}

/// An answer of the kind that the request was of.
enum Either {
    Json(Box<RawValue>),
    Raw(Bytes),
}

/// Shape of [`Either`] among answers.
enum EitherShape {}

impl IntoAnswer<EitherShape> for Either {
    fn answer(self, responder: Responder) {
        match self {
            Self::Json(value) => value.answer(responder),
            Self::Raw(bytes) => Raw(bytes).answer(responder),
        }
    }
}

impl Either {
    fn like(asked: &Body, bytes: Vec<u8>) -> Self {
        if matches!(asked, Body::Raw(_)) {
            return Self::Raw(bytes.into());
        }
        let text = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
        let text = if text.is_empty() { "null".to_owned() } else { text };
        RawValue::from_string(text).map_or_else(
            |_| {
                let text = String::from_utf8_lossy(&bytes);
                let value = serde_json::value::to_raw_value(text.trim_end_matches('\n'));
                Self::Json(value.unwrap_or_default())
            },
            Self::Json,
        )
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    if !args.echo && args.exec.is_empty() && args.save.is_none() {
        return Err(Failure::Usage("nothing to serve: give --echo, --exec NAME CMD or --save DIR".into()));
    }
    let saver = match &args.save {
        Some(dir) => Some(Saver::new(dir).await?),
        None => None,
    };
    let service = Arc::new(Service {
        saver,
        running: Semaphore::new(args.exec_parallel.clamp(1, 4096)),
        timeout: args.exec_timeout,
        max_output: u64::from(args.listen.max_body()),
    });
    let mut router = Router::with_state(Arc::clone(&service))
        .on_error(|socket, error| nsp_cli::note!("nossock: {}: {error}", socket.peer()));
    for pair in args.exec.chunks_exact(2) {
        let [name, command] = pair else { continue };
        router = exec(router, name, command);
    }
    router =
        router.fallback(async |State(service): State<Arc<Service>>, peer: Peer, name: Name, body: Body| {
            service.save(&peer, &name, &body).await;
        });
    if args.echo {
        router = router
            .fallback(async |State(service): State<Arc<Service>>, socket: Socket, name: Name, body: Body| {
                service.save(socket.peer(), &name, &body).await;
                echo(&socket, &name, body).await
            })
            .fallback_request(async |body: Body| -> Result<Either, Reject> {
                match body {
                    Body::Raw(bytes) => Ok(Either::Raw(bytes)),
                    body => match serde_json::from_slice(body.as_bytes()) {
                        Ok(value) => Ok(Either::Json(value)),
                        Err(error) => Err(Reject::new("bad_body", format!("the body is not JSON: {error}"))),
                    },
                }
            });
    }
    // Before anybody can read that it listens.
    let stop = stopped();
    let server = args.listen.listen().await?;
    let drained = server.serve_until(router, stop).await;
    if drained.aborted > 0 {
        return Err(Failure::Partial(format!("{} connections had to be cut", drained.aborted)));
    }
    Ok(())
}

async fn echo(socket: &Socket, name: &str, body: Body) -> Result<(), String> {
    let sent = match body {
        Body::Raw(bytes) => socket.send_raw(name, bytes).await,
        body => match serde_json::from_slice::<&RawValue>(body.as_bytes()) {
            Ok(value) => socket.send(name, value).await,
            Err(error) => return Err(format!("the body is not JSON: {error}")),
        },
    };
    sent.map_err(|error| error.to_string())
}

impl Service {
    async fn save(&self, peer: &Peer, name: &Name, body: &Body) {
        let (Some(saver), Body::Raw(bytes)) = (&self.saver, body) else { return };
        match saver.save(&peer.to_string(), name, bytes).await {
            Ok(None) => {}
            Ok(Some(saved)) => {
                let line = format!(
                    "{peer} saved {} {} bytes sha256 {}",
                    saved.path.display(),
                    saved.bytes,
                    saved.sha256
                );
                if saver.aside(|| nsp_cli::output::line(&line)).is_err() {
                    nsp_cli::note!("{line}");
                }
            }
            Err(error) => saver.aside(|| nsp_cli::note!("nossock: {peer}: {error}")),
        }
    }

    /// Runs a command with the body as its input; gives its output.
    async fn run(&self, command: &str, body: &Body) -> Result<Vec<u8>, Reject> {
        let failed = |error: std::io::Error| Reject::new("exec", format!("cannot run the command: {error}"));
        let _turn = self.running.acquire().await;
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A command need not read what it is given.
                drop(stdin.write_all(body.as_bytes()).await);
            }
        };
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let read = async {
            if let Some(stdout) = stdout {
                drop(stdout.take(self.max_output + 1).read_to_end(&mut output).await);
            }
        };
        let listen = async {
            if let Some(stderr) = stderr {
                drop(stderr.take(64 * 1024).read_to_end(&mut errors).await);
            }
        };
        let work = async {
            tokio::join!(feed, read, listen);
            child.wait().await
        };
        let status = match tokio::time::timeout(self.timeout, work).await {
            Ok(status) => status.map_err(failed)?,
            Err(_) => {
                return Err(Reject::new(
                    "timeout",
                    format!("the command ran longer than {:?}", self.timeout),
                ));
            }
        };
        if output.len() as u64 > self.max_output {
            return Err(Reject::new(
                "too_large",
                format!("the command printed more than {} bytes", self.max_output),
            ));
        }
        if status.success() {
            return Ok(output);
        }
        let errors = String::from_utf8_lossy(&errors);
        Err(Reject::value(&serde_json::json!({
            "code": "exit",
            "status": status.code(),
            "message": errors.lines().last().unwrap_or("the command failed"),
        })))
    }
}

fn exec(router: Router<Arc<Service>>, name: &str, command: &str) -> Router<Arc<Service>> {
    let (for_message, for_request): (Arc<str>, Arc<str>) = (command.into(), command.into());
    router
        .on(name, move |State(service): State<Arc<Service>>, body: Body| {
            let command = Arc::clone(&for_message);
            async move { service.run(&command, &body).await.map(drop) }
        })
        .on_request(name, move |State(service): State<Arc<Service>>, body: Body| {
            let command = Arc::clone(&for_request);
            async move {
                let output = service.run(&command, &body).await?;
                Ok::<_, Reject>(Either::like(&body, output))
            }
        })
}
