//! `nossock send`

use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use bytes::BytesMut;
use nossock::{RecvError, Socket};
use tokio::io::AsyncReadExt;

use crate::body::{BodyOptions, Source};
use crate::options::ConnectOptions;
use crate::pieces::{Hash, PIECE, PieceName};
use nsp_cli::exit::Failure;
use nsp_cli::progress;

/// Send one message, or a file.
///
/// Returns when the message has left and the peer has ended its side too; a status of 0 says that. With --raw @FILE a
/// file that is larger than a piece goes in pieces of 262144 bytes, each a raw message named
/// NAME#ID@OFFSET/TOTAL: ID tells files of the same name apart, OFFSET and TOTAL are decimal numbers of bytes, and the
/// pieces come in order. `nossock listen --save` and `nossock serve --save` join them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  nossock send tcp://127.0.0.1:8797 hello '\"world\"'
  nossock send tls://host:8797 --ca ca.pem --raw photo.png @photo.png
  echo some text | nossock send tcp://127.0.0.1:8797 note - --text")]
pub(crate) struct Args {
    #[command(flatten)]
    connect: ConnectOptions,

    /// The name of the message.
    name: String,

    #[command(flatten)]
    body: BodyOptions,

    /// Print the SHA-256 of what was sent.
    #[arg(long)]
    sha256: bool,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let large = match args.body.source() {
        Source::File(path) if args.body.raw => {
            let size = tokio::fs::metadata(&path).await.map_err(|error| Failure::file(&path, &error))?.len();
            (size > u64::from(PIECE.min(args.connect.max_body()))).then_some((path, size))
        }
        _ => None,
    };
    // Read before connecting: a bad body is nothing to bother a server with.
    let body = if large.is_none() { Some(args.body.read(args.connect.max_body())?) } else { None };
    let socket = args.connect.connect().await?;
    // Whoever sends back, as `serve --echo` does, would stop reading if nobody took it.
    let reader = socket.clone();
    tokio::spawn(
        async move { while !matches!(reader.recv().await, Ok(None) | Err(RecvError::Closed(_))) {} },
    );

    let mut hash = Hash::new();
    match (&body, &large) {
        (Some(body), _) => {
            hash.update(body.as_bytes());
            match body {
                nossock::wire::Body::Raw(bytes) => socket.send_raw(&args.name, bytes.clone()).await?,
                body => {
                    let value: &serde_json::value::RawValue = serde_json::from_slice(body.as_bytes())
                        .map_err(|error| Failure::Usage(error.to_string()))?;
                    socket.send(&args.name, value).await?;
                }
            }
        }
        (None, Some((path, size))) => send_file(&args, &socket, path, *size, &mut hash).await?,
        (None, None) => {}
    }
    socket.close().await?;
    match socket.close_reason() {
        Some(reason) if !reason.is_clean() => return Err(reason.into()),
        _ => {}
    }
    if args.sha256 {
        nsp_cli::output::line(&format!("{}  {}", hash.finish(), args.name))?;
    }
    Ok(())
}

async fn send_file(
    args: &Args,
    socket: &Socket,
    path: &Path,
    total: u64,
    hash: &mut Hash,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::file(path, &error);
    let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
    let piece = usize::try_from(PIECE.min(args.connect.max_body())).unwrap_or(usize::MAX);
    let id = format!("{:08x}", RandomState::new().hash_one(total) >> 32);
    let bar = progress::bar("sending", total);
    let mut offset = 0;
    let mut buffer = BytesMut::new();
    while offset < total {
        buffer.reserve(piece);
        let want = usize::try_from(total - offset).unwrap_or(usize::MAX).min(piece);
        while buffer.len() < want {
            let mut rest = (&mut file).take((want - buffer.len()) as u64);
            if rest.read_buf(&mut buffer).await.map_err(failed)? == 0 {
                return Err(Failure::Other(format!("{} became shorter while it was sent", path.display())));
            }
        }
        hash.update(&buffer);
        let name = PieceName { name: &args.name, id: &id, offset, total }.to_string();
        offset += buffer.len() as u64;
        socket.send_raw(&name, buffer.split().freeze()).await?;
        bar.set_position(offset);
    }
    Ok(())
}
