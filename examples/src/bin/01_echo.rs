//! A server that says everything back, and a client.
//!
//! Messages have a name and a body. They arrive in the order in which they were sent, and whatever handles one may
//! answer by sending another.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;

use nossock::{Json, Router, Server, Socket};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The server: what it does with messages that are called `hello`. Port 0 lets the system choose one.
    let router = Router::new().on("hello", async |socket: Socket, Json(who): Json<String>| {
        socket.send("bye", &format!("cruel {who}")).await
    });
    let server = Server::bind("tcp://127.0.0.1:0")?.listen().await?;
    let address = server.address().clone();
    tokio::spawn(server.serve(router));

    // The client, which takes what comes by hand.
    let socket = nossock::connect(address).await?;
    for who in ["world", "café"] {
        socket.send("hello", who).await?;
    }
    for _ in 0..2 {
        if let Some(message) = socket.recv().await? {
            println!("{}: {}", message.name, message.json::<String>()?);
        }
    }

    // When this returns, everything that was sent has left.
    socket.close().await?;
    Ok(())
}
