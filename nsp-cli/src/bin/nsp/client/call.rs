//! `nsp call` and `nsp send`

use std::io::Read;
use std::mem::discriminant;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use indicatif::ProgressBar;
use nsp::carrier::Meter;
use nsp::proto::{Data, RawJson};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::task::JoinHandle;

use nsp_cli::exit::Failure;
use nsp_cli::output;
use nsp_cli::progress::{self, LONG};

use super::reach::{Reach, Stay};

/// Most bytes that are read of a file or of standard input; a daemon has its own limit, which is smaller unless its owner says otherwise.
const MOST: u64 = 256 << 20;

/// Call a function of a service, and print what it gives.
///
/// JSON is printed as JSON, bytes as they are, or into --out. When the service says that it failed, that is printed to standard error and
/// the status is 1, or 7 when there is no such service or function, 5 when it needs a login, 6 when the user may not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  nsp call Chat Hello '{\"d\":\"I am here.\"}'
  nsp call Chat Avatar '{\"w\":64}' --blob me.png --out small.png
  nsp call NoShell sendC '{\"c\":\"service list\"}' --json")]
pub(crate) struct CallArgs {
    /// The service.
    service: String,

    /// The function.
    function: String,

    /// Its argument: JSON, @FILE, or - for standard input. Nothing means null. With --blob it says something about the bytes.
    #[arg(allow_negative_numbers = true)]
    argument: Option<String>,

    /// Send the bytes of this file, - for standard input, to a blob function.
    #[arg(long, value_name = "FILE")]
    blob: Option<PathBuf>,

    /// Write the bytes or the JSON that come into this file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// One JSON object: {"answer":…}, or {"size":…,"blob_b64":…,"meta":…}, or {"error":…}.
    #[arg(long, env = "NSP_JSON")]
    json: bool,

    #[command(flatten)]
    reach: Reach,
}

/// Send data to a service, and wait until it says that it has it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  nsp send Chat '{\"typing\":true}'")]
pub(crate) struct SendArgs {
    /// The service.
    service: String,

    /// The data: JSON, @FILE, or - for standard input.
    #[arg(allow_negative_numbers = true)]
    data: String,

    #[command(flatten)]
    reach: Reach,
}

/// The text of an argument, checked to be JSON before anybody is bothered with it.
pub(crate) fn argument(argument: Option<&str>) -> Result<RawJson, Failure> {
    let bytes = match argument {
        None => return Ok(RawJson::NULL),
        Some("-") => read(Path::new("-"))?,
        Some(text) => match text.strip_prefix('@') {
            Some(path) => read(Path::new(path))?,
            None => text.as_bytes().to_vec(),
        },
    };
    RawJson::new(bytes).map_err(|error| Failure::Usage(format!("the argument is not JSON: {error}")))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        let read = std::io::stdin().lock().take(MOST + 1).read_to_end(&mut bytes);
        read.map_err(|error| Failure::Other(format!("standard input: {error}")))?;
    } else {
        let file = std::fs::File::open(path).map_err(|error| Failure::file(path, &error))?;
        file.take(MOST + 1).read_to_end(&mut bytes).map_err(|error| Failure::file(path, &error))?;
    }
    if bytes.len() as u64 > MOST {
        return Err(Failure::Usage(format!("{} has more than {MOST} bytes", path.display())));
    }
    Ok(bytes)
}

pub(crate) async fn call(args: CallArgs) -> Result<(), Failure> {
    let is_input_taken =
        args.argument.as_deref() == Some("-") && args.blob.as_deref() == Some(Path::new("-"));
    if is_input_taken {
        return Err(Failure::Usage("standard input cannot be both the argument and the bytes".to_owned()));
    }
    let argument = argument(args.argument.as_deref())?;
    let blob = args.blob.as_deref().map(read).transpose()?;
    let session = args.reach.connect(Stay::Once).await?;
    let activity = session.open(&args.service).await?;
    let progress = Progress::start(&session.meter, blob.as_ref().map_or(0, Vec::len) as u64);
    let result = match blob {
        Some(blob) => {
            let meta: &RawValue = argument.read().map_err(|error| Failure::Usage(error.to_string()))?;
            let called = activity.call_blob(&args.function, Bytes::from(blob), meta).await;
            called.map(|(data, meta)| (data, Some(meta)))
        }
        None => activity.call_raw(&args.function, argument).await.map(|data| (data, None)),
    };
    progress.end().await;
    let printed = match result {
        Ok((data, meta)) => print(&args, data, meta.as_ref()),
        Err(error) => {
            if let (true, Some(failure)) = (args.json, error.failure()) {
                output::json(&json!({
                    "error": {"code": failure.code, "message": failure.text, "id": failure.id},
                }))?;
            }
            Err(error.into())
        }
    };
    session.close().await;
    printed
}

fn print(args: &CallArgs, data: Data, meta: Option<&RawJson>) -> Result<(), Failure> {
    let value = match data.into_json() {
        Ok(json) => json,
        Err(blob) => return print_blob(args, &blob, meta),
    };
    if let Some(out) = &args.out {
        return save(out, value.as_bytes());
    }
    let text: &RawValue = value.read().map_err(|error| Failure::Protocol(error.to_string()))?;
    if args.json {
        return output::json(&json!({ "answer": text }));
    }
    output::line(&pretty(text))
}

fn print_blob(args: &CallArgs, blob: &Bytes, meta: Option<&RawJson>) -> Result<(), Failure> {
    if let Some(out) = &args.out {
        save(out, blob)?;
        if !args.json {
            nsp_cli::note!("{} bytes in {}", blob.len(), out.display());
            return Ok(());
        }
    }
    if !args.json {
        return output::write(blob);
    }
    let meta: Option<&RawValue> = meta.and_then(|meta| meta.read().ok());
    let bytes = args.out.is_none().then(|| STANDARD.encode(blob));
    output::json(&json!({ "size": blob.len(), "blob_b64": bytes, "out": args.out, "meta": meta }))
}

fn save(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|error| Failure::file(path, &error))
}

/// JSON as it is, or as people read it where somebody looks at it.
pub(crate) fn pretty(text: &RawValue) -> String {
    if output::is_terminal() { laid_out(text) } else { text.get().to_owned() }
}

/// JSON over several lines, unless it is short. Nothing in it commands the terminal.
fn laid_out(text: &RawValue) -> String {
    /// Letters that fit a line of a usual terminal.
    const SHORT: usize = 80;
    if text.get().len() <= SHORT && !text.get().contains('\n') {
        return output::printable(text.get());
    }
    let value: Result<serde_json::Value, _> = serde_json::from_str(text.get());
    let pretty = value.and_then(|value| serde_json::to_string_pretty(&value));
    let text = pretty.unwrap_or_else(|_| text.get().to_owned());
    // JSON escapes the lower control characters, and not those above.
    text.split('\n').map(output::printable).collect::<Vec<_>>().join("\n")
}

pub(crate) async fn send(args: SendArgs) -> Result<(), Failure> {
    let data = argument(Some(&args.data))?;
    let session = args.reach.connect(Stay::Once).await?;
    let activity = session.open(&args.service).await?;
    let text: &RawValue = data.read().map_err(|error| Failure::Usage(error.to_string()))?;
    activity.send(text).await?;
    activity.close().await;
    session.close().await;
    Ok(())
}

/// Shows on a terminal how far a long transfer is.
struct Progress(Option<JoinHandle<()>>);

impl Progress {
    /// Shows it from now on; so many bytes are about to be sent.
    fn start(meter: &Meter, sending: u64) -> Self {
        Self(progress::is_seen().then(|| tokio::spawn(show(meter.clone(), sending))))
    }

    /// Takes it off the screen.
    async fn end(self) {
        if let Some(task) = self.0 {
            task.abort();
            // It is dropped by then, and the bar with it.
            drop(task.await);
        }
    }
}

async fn show(meter: Meter, sending: u64) {
    let (sent, received) = (meter.sent(), meter.received());
    let mut shown: Option<(Doing, ProgressBar)> = None;
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        let come = meter.received() - received;
        let Some(doing) = Doing::now(sending, meter.sent() - sent, come, meter.arriving()) else { continue };
        let bar = match shown.take() {
            Some((before, bar)) if discriminant(&before) == discriminant(&doing) => bar,
            _ => doing.bar(),
        };
        match doing {
            Doing::Sending { done, .. } | Doing::Receiving { done, .. } => bar.set_position(done),
            Doing::Waiting | Doing::Counting { .. } => bar.tick(),
        }
        if let Doing::Counting { done } = doing {
            bar.set_message(format!("receiving, {} KiB so far", done / 1024));
        }
        shown = Some((doing, bar));
    }
}

/// What there is to be shown of a call. Numbers are of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Sending {
        done: u64,
        total: u64,
    },
    Waiting,
    Receiving {
        done: u64,
        total: u64,
    },
    /// Much has come, of a message whose size is not known.
    Counting {
        done: u64,
    },
}

impl Doing {
    /// `None` while nothing takes long.
    fn now(sending: u64, sent: u64, come: u64, arriving: Option<(u64, u64)>) -> Option<Self> {
        if let Some((done, total)) = arriving.filter(|(_, total)| *total >= LONG) {
            return Some(Self::Receiving { done, total });
        }
        if come >= LONG {
            return Some(Self::Counting { done: come });
        }
        match sending {
            total if total < LONG => None,
            total if sent < total => Some(Self::Sending { done: sent, total }),
            _ => Some(Self::Waiting),
        }
    }

    fn bar(self) -> ProgressBar {
        match self {
            Self::Sending { total, .. } => progress::bar("sending", total),
            Self::Waiting => progress::spinner("sent; waiting for the answer"),
            Self::Receiving { total, .. } => progress::bar("receiving", total),
            Self::Counting { .. } => progress::spinner("receiving"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_shown_of_what_takes_long() {
        let large = 10 * LONG;
        for (sending, sent, come, arriving, shown) in [
            (0, 0, 0, None, None),
            (LONG - 1, 5, 0, None, None),
            (large, 0, 0, None, Some(Doing::Sending { done: 0, total: large })),
            (large, 7, 90, Some((90, 100)), Some(Doing::Sending { done: 7, total: large })),
            (large, large + 20, 0, None, Some(Doing::Waiting)),
            (large, large + 20, 9, Some((9, large)), Some(Doing::Receiving { done: 9, total: large })),
            (0, 50, 9, Some((9, large)), Some(Doing::Receiving { done: 9, total: large })),
            (0, 50, LONG, None, Some(Doing::Counting { done: LONG })),
        ] {
            assert_eq!(Doing::now(sending, sent, come, arriving), shown);
        }
    }

    #[test]
    fn short_json_stays_on_its_line() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        assert_eq!(laid_out(&raw(r#"{"to": 2, "be": 2}"#)), r#"{"to": 2, "be": 2}"#);
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(80));
        assert_eq!(laid_out(&raw(&long)), format!("{{\n  \"a\": \"{}\"\n}}", "x".repeat(80)));
        assert_eq!(laid_out(&raw("\"a\u{9b}31m\"")), "\"a\\u{9b}31m\"");
    }
}
