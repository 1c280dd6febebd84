//! `nossock decode`

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use bytes::BytesMut;
use nossock::Limits;
use nossock::wire::{Decoder, FrameRef, Kind, Next};

use nsp_cli::exit::Failure;
use nsp_cli::output;

use crate::output::FrameLine;

/// Turn bytes of the wire into one JSON line a frame.
///
/// Each line has the offset of its frame in the input. Where the bytes stop being frames it ends with status 10 and names
/// the offset.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  printf 'j\\005hello\\000\\000\\000\\007\"world\"' | nossock decode
  nossock decode recorded.bin")]
pub(crate) struct Args {
    /// The bytes; standard input, if not given or -.
    file: Option<PathBuf>,

    /// The largest body to print, in bytes; larger ones are reported and skipped.
    #[arg(long, value_name = "BYTES", default_value_t = 64 * 1024 * 1024, env = "NOSSOCK_MAX_BODY")]
    max_body: u32,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut input: Box<dyn Read> = match &args.file {
        Some(path) if path.as_os_str() != "-" => {
            Box::new(File::open(path).map_err(|error| Failure::file(path, &error))?)
        }
        _ => Box::new(std::io::stdin().lock()),
    };
    let limits = Limits { max_body: args.max_body, max_skip: u32::MAX, ..Limits::default() };
    let mut decoder = Decoder::new(&limits);
    let mut buf = BytesMut::new();
    let mut chunk = vec![0; 64 * 1024];
    // Where the buffer begins in the input.
    let mut read_in_all = 0_u64;
    loop {
        let n = input.read(&mut chunk).map_err(|error| Failure::Other(format!("cannot read: {error}")))?;
        read_in_all += n as u64;
        buf.extend_from_slice(chunk.get(..n).unwrap_or_default());
        loop {
            let offset = read_in_all - buf.len() as u64;
            match decoder.next(&mut buf) {
                Ok(Next::Frame(head)) => {
                    let frame = buf.split_to(head.frame_len());
                    print(offset, &frame, &head)?;
                }
                Ok(Next::TooLarge { name, size, .. }) => output::json(&serde_json::json!({
                    "offset": offset, "name": name.as_str(), "size": size,
                    "error": format!("the body is over --max-body {}", args.max_body),
                }))?,
                Ok(_) => break,
                Err(error) => return Err(Failure::Protocol(format!("at byte {offset}: {error}"))),
            }
        }
        if n > 0 {
            continue;
        }
        let offset = read_in_all - buf.len() as u64;
        return match decoder.unfinished(&buf) {
            None => Ok(()),
            Some(cut) => Err(Failure::Protocol(format!(
                "the input ends at byte {read_in_all}, {cut}; the frame begins at byte {offset}"
            ))),
        };
    }
}

fn print(offset: u64, bytes: &[u8], head: &nossock::wire::Head) -> Result<(), Failure> {
    let kind = match head.kind() {
        Kind::Json => "json",
        Kind::Raw => "raw",
        _ => "control",
    };
    match FrameRef::new(bytes, head) {
        Ok(frame) => {
            let mut line = FrameLine::new(frame.name, kind, frame.body);
            line.offset = Some(offset);
            output::json(&line)
        }
        Err(error) => output::json(&serde_json::json!({
            "offset": offset, "kind": kind, "size": head.body_len(), "error": error.to_string(),
        })),
    }
}
