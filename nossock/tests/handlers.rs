//! What is told of handlers that fail.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::{Arc, Mutex};

use nossock::{Config, HandlerError, Router, Side, Socket};

#[tokio::test(start_paused = true)]
async fn panic_of_a_handler_that_waited_is_told_with_its_name() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&told);
    let router = Router::new()
        .on_request("breaks", async || -> u32 {
            tokio::task::yield_now().await;
            panic!("on purpose")
        })
        .on_error(move |_: &Socket, error: &HandlerError| hear.lock().unwrap().push(error.to_string()));
    let (one, other) = tokio::io::duplex(1024);
    let _server = Socket::routed(one, Side::Server, Config::default(), router);
    let client = Socket::over(other, Side::Client, Config::default());
    let error = client.request::<u32, _>("breaks", &1).await.unwrap_err();
    assert_eq!(error.to_string(), "`breaks` was rejected: the handler ended without an answer (internal)");
    client.close().await.unwrap();
    assert_eq!(*told.lock().unwrap(), ["the handler of `breaks` panicked"]);
}
