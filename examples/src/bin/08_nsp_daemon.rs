//! A NoService daemon with one service: functions, a blob function, events, groups.
//!
//! Run it, and `09_nsp_client` with one of the addresses that it prints. The same service is reached by every carrier;
//! addresses may be given as arguments.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::sync::Arc;

use nossock::transport::tls::{Identity, ServerTls};
use nsp::daemon::{Blob, Daemon, Emitter, Entity, Fail, Json, Listen, Meta, Service};
use nsp::secure::ServerKey;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Hello {
    name: String,
}

#[derive(Serialize)]
struct Reply {
    text: String,
    here: usize,
}

#[derive(Deserialize, Serialize)]
struct Format {
    width: u32,
}

/// Greets somebody, and tells everybody else in the room.
async fn hello(entity: Entity, chat: Emitter, Json(hello): Json<Hello>) -> Result<Reply, Fail> {
    if hello.name.is_empty() {
        return Err(Fail::bad_argument("who are you?"));
    }
    let told = chat.to_groups(["room"]).except(&entity).emit("arrived", &hello.name).await?;
    entity.join("room")?;
    Ok(Reply { text: format!("Welcome, {}.", hello.name), here: told.sent + 1 })
}

/// Says something to everybody in the room; gives how many that were.
async fn say(chat: Emitter, Json(text): Json<String>) -> Result<usize, Fail> {
    Ok(chat.to_groups(["room"]).emit("message", &text).await?.sent)
}

/// Makes a picture smaller: by leaving out every other byte, which will do for an example.
async fn shrink(Blob(picture): Blob, Meta(format): Meta<Format>) -> (Blob, Meta<Format>) {
    let half: Vec<u8> = picture.iter().step_by(2).copied().collect();
    (Blob(half.into()), Meta(Format { width: format.width / 2 }))
}

/// A certificate that this daemon makes itself. Clients remember it, as ssh does.
fn tls() -> Result<ServerTls, Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    Ok(ServerTls::new(Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem())?)?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let chat =
        Service::new("Chat").function("Hello", hello).function("Say", say).blob_function("Shrink", shrink);

    let mut addresses: Vec<String> = std::env::args().skip(1).collect();
    if addresses.is_empty() {
        addresses = ["nsp", "nsps", "ws", "noservice"].map(|scheme| format!("{scheme}://127.0.0.1:0")).into();
    }
    let (tls, key) = (tls()?, Arc::new(ServerKey::generate()?));
    let mut daemon = Daemon::builder().service(chat);
    for address in addresses {
        // `nsps://` and `wss://` have TLS. `noservice://` gets the encryption of the protocol itself, SP.
        let listen = Listen::on(&*address);
        daemon = daemon.listen(match address.split_once("://") {
            Some(("nsps" | "wss", _)) => listen.tls(tls.clone()),
            Some(("noservice", _)) => listen.sp(Arc::clone(&key)),
            _ => listen,
        });
    }
    let daemon = daemon.bind().await?;
    for address in daemon.addresses() {
        println!("listening {address}");
    }

    let drained = daemon.serve_until(async { drop(tokio::signal::ctrl_c().await) }).await;
    println!("{} connections ended in peace, {} were cut", drained.drained, drained.aborted);
    Ok(())
}
