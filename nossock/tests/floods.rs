//! What strangers can bring about as often as they like does not fill the log.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "common/log.rs"]
mod log;

use nossock::{Config, Json, Limits, RequestError, Router, Server, ServerLimits, Side, Socket};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tracing_subscriber::filter::LevelFilter;

use self::log::Log;

#[tokio::test]
async fn refused_connections_and_replaced_answers_are_a_line_a_second() {
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(LevelFilter::INFO).with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let begun = std::time::Instant::now();

    let limits = ServerLimits { connections_per_address: 1, ..ServerLimits::default() };
    let server = Server::bind("tcp://127.0.0.1:0").unwrap().limits(limits).listen().await.unwrap();
    let port: u16 = server.address().to_string().rsplit(':').next().unwrap().parse().unwrap();
    let serving = tokio::spawn(server.serve(Router::new()));
    let _first = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    for _ in 0..200 {
        let mut refused = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let _ = refused.read(&mut [0]).await; // its end
    }
    serving.abort();

    let router = Router::new().on_request("much", async |Json(bytes): Json<usize>| "x".repeat(bytes));
    let config = Config { limits: Limits { max_body: 1000, ..Limits::default() }, ..Config::default() };
    let (one, other) = tokio::io::duplex(1024);
    let _server = Socket::routed(one, Side::Server, config, router);
    let client = Socket::over(other, Side::Client, Config::default());
    for _ in 0..200 {
        let error = client.request::<String, _>("much", &2000).await.unwrap_err();
        assert!(matches!(error, RequestError::Rejected { .. }), "{error}");
    }

    let most = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    for what in ["too many connections of one address", "an answer was replaced"] {
        let told = log.lines(what);
        assert!((1..=most).contains(&told), "{told} lines of `{what}`");
    }
}
