//! Stopping without loss: what runs is finished and what was said has left, within a grace that ends.
//!
//! A real server would wait for a signal (`tokio::signal::ctrl_c()`) where this one waits for the client's word.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use nossock::{Json, Router, Server, ServerLimits, State};
use tokio::sync::Notify;

/// A handler that is in the middle of something when the server is told to stop.
async fn bake(State(stop): State<Arc<Notify>>, Json(cake): Json<String>) -> String {
    stop.notify_one();
    tokio::time::sleep(Duration::from_millis(100)).await;
    format!("one {cake}, as ordered")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let stop = Arc::new(Notify::new());
    let router = Router::with_state(Arc::clone(&stop)).on_request("bake", bake);
    let limits = ServerLimits { grace: Duration::from_secs(3), ..ServerLimits::default() };
    let server = Server::bind("tcp://127.0.0.1:0")?.limits(limits).listen().await?;
    let address = server.address().clone();
    let serving = tokio::spawn(server.serve_until(router, async move { stop.notified().await }));

    let socket = nossock::connect(address.clone()).await?;
    let cake: String = socket.request("bake", "cake").await?;
    println!("{cake}");
    println!("the connection was {}", socket.closed().await);

    let drained = serving.await?;
    println!("{} connection ended in peace, {} were cut", drained.drained, drained.aborted);
    let late = nossock::connect(address).await.err();
    println!(
        "too late: {}",
        if late.is_some() { "nobody listens any more" } else { "somebody still listens" }
    );
    Ok(())
}
