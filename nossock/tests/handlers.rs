//! What is told of handlers that fail, and of requests that cannot be.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::{Arc, Mutex};

use nossock::wire::NameError;
use nossock::{Config, HandlerError, RequestError, Router, SendError, Side, Socket};

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

/// `req::1` is no request to anybody, so nobody would answer it.
#[tokio::test(start_paused = true)]
async fn request_without_a_name_is_refused_before_it_is_sent() {
    let (one, other) = tokio::io::duplex(1024);
    let _server = Socket::routed(one, Side::Server, Config::default(), Router::new());
    let client = Socket::over(other, Side::Client, Config::default());
    let error = client.request::<u32, _>("", &1).await.unwrap_err();
    let RequestError::NotSent(SendError::Name(NameError::EmptyRequest)) = error else { panic!("{error}") };
}
