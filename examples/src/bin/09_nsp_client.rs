//! A client of the daemon in `08_nsp_daemon`: calls functions, sends a blob, hears events.
//!
//! ```sh
//! cargo run -p examples --bin 09_nsp_client -- nsps://127.0.0.1:43580
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;

use futures_util::StreamExt as _;
use nsp::client::{CallError, Client, KnownHosts, Trust};
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
struct Hello<'a> {
    name: &'a str,
}

#[derive(Deserialize)]
struct Reply {
    text: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("say where the daemon is: nsp://127.0.0.1:43580")?;

    // The first time a daemon is met its key is remembered; if it is another one the next time, that is an error. A program
    // would keep the file in its configuration.
    let folder = tempfile::tempdir()?;
    let trust = Trust::accept_new(KnownHosts::open(folder.path().join("known_hosts")));
    let client = Client::connect(address.as_str()).trust(trust).trust_certificates().await?;

    // Two activities on one connection: each is an entity of its own at the daemon.
    let ann = client.activity("Chat").open().await?;
    let mut arrivals = ann.events::<String>("arrived");
    let mut messages = ann.events::<String>("message");
    let reply: Reply = ann.call("Hello", &Hello { name: "Ann" }).await?;
    println!("{}", reply.text);

    let bob = client.activity("Chat").open().await?;
    let reply: Reply = bob.call("Hello", &Hello { name: "Bob" }).await?;
    println!("{}", reply.text);
    println!("Ann sees {} arrive", arrivals.next().await.ok_or("no event")??);
    let heard: usize = bob.call("Say", &"Tea, anyone?").await?;
    println!("Bob was heard by {heard}; Ann hears: {}", messages.next().await.ok_or("no event")??);

    // Bytes go as they are, with JSON that says what they are.
    let (small, meta) = bob.call_blob("Shrink", vec![7; 1000], &serde_json::json!({"width": 64})).await?;
    println!("1000 bytes became {}, {}", small.len(), meta.as_str());

    // What goes wrong is an error of one call.
    let nobody = bob.call::<Reply>("Hello", &Hello { name: "" }).await;
    if let Err(CallError::Failed(failure)) = nobody {
        println!("without a name: {failure}");
    }
    client.close().await;
    Ok(())
}
