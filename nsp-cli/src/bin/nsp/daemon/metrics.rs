//! What the daemon does, as numbers that Prometheus reads: `GET /metrics` on a loopback address.
//!
//! The few lines of HTTP that this takes are here: a request is read up to its empty line, and answered once.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use nsp::daemon::{DaemonHandle, Stats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use nsp_cli::exit::Failure;

/// Bytes of a request: a scraper says little.
const REQUEST: usize = 8 * 1024;

/// How long one may take, both ways.
const TIME: Duration = Duration::from_secs(5);

/// Requests at once.
const AT_ONCE: usize = 16;

/// Where numbers are to be read. Anybody who reaches it reads them, so it is on loopback only.
pub(super) fn address(text: &str) -> Result<SocketAddr, Failure> {
    let address: SocketAddr = text.parse().map_err(|_| {
        Failure::Usage(format!("`{}` is no address for metrics: write 127.0.0.1:9464", text.escape_debug()))
    })?;
    if !address.ip().is_loopback() {
        return Err(Failure::Usage(format!(
            "metrics are for everybody who can reach them: {address} is not a loopback address"
        )));
    }
    Ok(address)
}

pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::Connect(format!("cannot listen at {address} for metrics: {error}")))
}

/// Answers until it is dropped.
pub(super) async fn serve(listener: TcpListener, daemon: DaemonHandle) {
    let turns = Semaphore::new(AT_ONCE);
    let turns = std::sync::Arc::new(turns);
    loop {
        let Ok(turn) = std::sync::Arc::clone(&turns).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let text = text(&daemon.stats());
                tokio::spawn(async move {
                    drop(tokio::time::timeout(TIME, answer(stream, &text)).await);
                    drop(turn);
                });
            }
            // Out of descriptors, most often: some will be free again.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, text: &str) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        let mut piece = [0; 1024];
        let length = stream.read(&mut piece).await?;
        request.extend_from_slice(piece.get(..length).unwrap_or_default());
        if length == 0 || request.len() > REQUEST {
            return Ok(());
        }
    }
    let (status, body) = match request.split(|byte| *byte == b'\r').next() {
        Some(line) if line.starts_with(b"GET /metrics ") => ("200 OK", text),
        Some(line) if line.starts_with(b"GET ") => ("404 Not Found", "the numbers are at /metrics\n"),
        _ => ("405 Method Not Allowed", "GET only\n"),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

fn text(stats: &Stats) -> String {
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, kind, help, value) in [
        ("connections", "gauge", "Connections that are there.", count(stats.connections)),
        ("entities", "gauge", "Entities that are there.", count(stats.entities)),
        ("calls_running", "gauge", "Calls that functions are working on.", count(stats.calls_running)),
        ("connections_total", "counter", "Connections that were let in.", stats.accepted),
        ("connections_refused_total", "counter", "Connections that were not let in.", stats.refused),
        ("entities_total", "counter", "Entities that were created.", stats.created),
        ("calls_total", "counter", "Functions that were called.", stats.calls),
        ("calls_failed_total", "counter", "Calls that did not give what was asked for.", stats.failed),
        ("data_total", "counter", "Data that entities have sent.", stats.data),
        ("pushed_total", "counter", "Data and events sent to entities.", stats.pushed),
        ("dropped_total", "counter", "Data and events dropped for who was too slow.", stats.dropped),
        ("ignored_total", "counter", "Messages of clients that made no sense.", stats.ignored),
        ("connections_cut_total", "counter", "Connections that ended with something lost.", stats.cut),
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP nsp_{name} {help}\n# TYPE nsp_{name} {kind}\nnsp_{name} {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn numbers_are_read_over_http_from_loopback_only() {
        let failure = address("0.0.0.0:0").unwrap_err();
        assert!(failure.to_string().contains("not a loopback address"), "{failure}");
        assert!(address("localhost").is_err());
        let daemon = nsp::daemon::Daemon::builder().bind().await.unwrap();
        let listener = bind(address("127.0.0.1:0").unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, daemon.handle()));
        for (request, status, holds) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", "\nnsp_connections 0\n"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found", "/metrics"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method", "GET only"),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {status}")) && text.contains(holds), "{text}");
        }
        serving.abort();
    }
}
