//! Questions and answers: a request is answered once, or fails and says why.
//!
//! Requests of one connection are answered side by side, so a slow one does not hold up a quick one.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use nossock::{Json, Reject, RequestError, Router, Server};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Division {
    dividend: i64,
    divisor: i64,
}

async fn divide(Json(Division { dividend, divisor }): Json<Division>) -> Result<i64, Reject> {
    dividend.checked_div(divisor).ok_or_else(|| Reject::new("undefined", format!("{dividend} / {divisor}")))
}

async fn slowly() -> &'static str {
    tokio::time::sleep(Duration::from_millis(200)).await;
    "at last"
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let router = Router::new().on_request("divide", divide).on_request("slowly", slowly);
    let server = Server::bind("tcp://127.0.0.1:0")?.listen().await?;
    let address = server.address().clone();
    tokio::spawn(server.serve(router));
    let socket = nossock::connect(address).await?;

    // Both are under way at once; the quick one overtakes.
    let slow = tokio::spawn({
        let socket = socket.clone();
        async move { socket.request::<String, _>("slowly", &()).await }
    });
    let quotient: i64 = socket.request("divide", &Division { dividend: 84, divisor: 2 }).await?;
    println!("84 / 2 = {quotient}");
    println!("slowly: {}", slow.await??);

    // What goes wrong is an error of one request. The connection goes on.
    let undefined: Result<i64, _> = socket.request("divide", &Division { dividend: 1, divisor: 0 }).await;
    println!("1 / 0: {}", explain(undefined));
    println!("unreadable: {}", explain(socket.request::<i64, _>("divide", "what?").await));
    println!("nobody: {}", explain(socket.request::<i64, _>("multiply", &()).await));
    let hurried = socket.request_within::<String, _>(Duration::from_millis(20), "slowly", &()).await;
    println!("hurried: {}", explain(hurried));

    socket.close().await?;
    Ok(())
}

fn explain<T>(result: Result<T, RequestError>) -> String {
    result.err().map_or_else(|| "no error".into(), |error| error.to_string())
}
