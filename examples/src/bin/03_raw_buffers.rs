//! Bytes as they are: no base64, no copy, and files of any size in pieces.
//!
//! `Bytes` share the memory of the buffer they came in. A body has a limit of 1 MiB unless `Limits` say otherwise, so
//! something large goes in pieces; `send_raw` waits while the peer does not keep up, which is all the flow control it takes.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nossock::wire::Body;
use nossock::{Json, Raw, Router, Server, State};

/// What has arrived so far.
type Received = Arc<Mutex<Vec<u8>>>;

const PIECE: usize = 256 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let router = Router::with_state(Received::default())
        .on("piece", async |State(received): State<Received>, body: Body| {
            if let Body::Raw(bytes) = body {
                received.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes);
            }
        })
        .on_request("size", async |State(received): State<Received>| {
            received.lock().unwrap_or_else(PoisonError::into_inner).len()
        })
        .on_request("part", async |State(received): State<Received>, Json(range): Json<(usize, usize)>| {
            let received = received.lock().unwrap_or_else(PoisonError::into_inner);
            Raw(received.get(range.0..range.1).unwrap_or_default().to_vec().into())
        });
    let server = Server::bind("tcp://127.0.0.1:0")?.listen().await?;
    let address = server.address().clone();
    tokio::spawn(server.serve(router));
    let socket = nossock::connect(address).await?;

    let file: Vec<u8> = (0..5_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    for piece in file.chunks(PIECE) {
        socket.send_raw("piece", piece.to_vec()).await?;
    }

    // The request was sent after the pieces, so it is looked at after them.
    let size: usize = socket.request("size", &()).await?;
    println!("{size} of {} bytes have arrived", file.len());

    // An answer may be bytes too, to a question in JSON.
    let question = Body::Json("[254,260]".into());
    let part = socket.request_raw(Duration::from_secs(5), "part", question).await?.into_body();
    println!("bytes 254 to 260: {:?}", &part.as_bytes()[..]);
    socket.close().await?;
    Ok(())
}
