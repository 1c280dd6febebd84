//! `nsp listen`

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nsp::client::{ActivityState, EventError, Happening};
use nsp::proto::{Data, RawJson};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};

use nsp_cli::exit::Failure;
use nsp_cli::output::{self, printable};
use nsp_cli::process::stopped;
use nsp_cli::text::duration;

use super::reach::{Reach, Stay, not_open};

/// Print what a service sends: events and data.
///
/// One line each: `NAME DATA` for an event, `- DATA` for data. With --json one JSON object a line:
/// {"event":…,"data":…}, {"data":…}, or {"event":…,"size":…,"blob_b64":…,"meta":…}. When the connection is lost it comes back by itself, and
/// standard error says so.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  nsp listen Chat
  nsp listen Chat --event message --count 1 --json")]
pub(crate) struct Args {
    /// The service.
    service: String,

    /// Only events of this name.
    #[arg(long, value_name = "NAME")]
    event: Option<String>,

    /// End after so many.
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// End when nothing has come for so long: 500ms, 2s, 1m.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    idle: Option<Duration>,

    /// End after so long.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    max_time: Option<Duration>,

    /// One JSON object a line.
    #[arg(long, env = "NSP_JSON")]
    json: bool,

    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let session = args.reach.connect(Stay::Reconnect).await?;
    let mut opening = session.client.activity(&args.service);
    if let Some(user) = &session.target.user {
        opening = opening.owner(user);
    }
    // Made before it is opened: a service may greet before it has agreed.
    let mut happenings = opening.happenings();
    let open = async { opening.open().await.map_err(|error| not_open(&args.service, error)) };
    let activity = session.at_first(open).await?;
    let mut stop = std::pin::pin!(stopped());
    nsp_cli::note!("listening to {}", printable(&args.service));
    let start = Instant::now();
    let far = Duration::from_secs(60 * 60 * 24 * 365);
    let mut last = start;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        tokio::select! {
            () = &mut stop => break,
            () = sleep_until(start + args.max_time.unwrap_or(far)) => break,
            () = sleep_until(last + args.idle.unwrap_or(far)) => break,
            next = next(&mut happenings) => match next {
                Some(Ok(Happening::Reopened)) => nsp_cli::note!("nsp: the connection was lost and is back; what was sent in between did not arrive"),
                Some(Ok(happening)) => {
                    if show(&happening, args.event.as_deref(), args.json)? {
                        left -= 1;
                        last = Instant::now();
                    }
                }
                Some(Err(EventError::Missed(missed))) => nsp_cli::note!("nsp: {missed} were not read in time"),
                Some(Err(error)) => nsp_cli::note!("nsp: {error}"),
                None => {
                    return match &*activity.state().borrow() {
                        ActivityState::Closed(end) => Err(end.clone().into()),
                        _ => Err(Failure::Disconnected("the activity is closed".to_owned())),
                    };
                }
            },
        }
    }
    session.close().await;
    Ok(())
}

/// The next message of a stream.
pub(crate) async fn next<S: futures_core::Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|cx| std::pin::Pin::new(&mut *stream).poll_next(cx)).await
}

/// Prints one, unless it is another event than is wanted; says whether it did.
fn show(happening: &Happening, wanted: Option<&str>, as_json: bool) -> Result<bool, Failure> {
    let (event, data, meta) = match happening {
        Happening::Data(_) if wanted.is_some() => return Ok(false),
        Happening::Data(data) => (None, data, None),
        Happening::Event { event, data } => (Some(event.as_str()), data, None),
        Happening::BlobEvent { event, meta, data } => (Some(event.as_str()), data, meta.as_ref()),
        _ => return Ok(false),
    };
    if wanted.is_some_and(|wanted| event != Some(wanted)) {
        return Ok(false);
    }
    if as_json {
        output::json(&object(event, data, meta))?;
    } else {
        output::line(&line(event, data))?;
    }
    Ok(true)
}

/// One, as a line to read.
pub(crate) fn line(event: Option<&str>, data: &Data) -> String {
    let name = event.map_or_else(|| "-".to_owned(), printable);
    match data {
        Data::None => name,
        Data::Json(json) => format!("{name} {}", printable(json.as_str())),
        Data::Blob(blob) => format!("{name} <{} bytes>", blob.len()),
    }
}

fn object(event: Option<&str>, data: &Data, meta: Option<&RawJson>) -> serde_json::Value {
    let raw = |json: &RawJson| json.read::<&RawValue>().map(|value| json!(value)).unwrap_or_default();
    let mut object = match data {
        Data::None => json!({ "data": null }),
        Data::Json(json) => json!({ "data": raw(json) }),
        Data::Blob(blob) => json!({ "size": blob.len(), "blob_b64": STANDARD.encode(blob) }),
    };
    if let Some(fields) = object.as_object_mut() {
        if let Some(event) = event {
            fields.insert("event".to_owned(), event.into());
        }
        if let Some(meta) = meta {
            fields.insert("meta".to_owned(), raw(meta));
        }
    }
    object
}
