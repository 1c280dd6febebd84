//! A server in a process of its own, for stories that look at its memory and at its file descriptors; and connections that
//! say nothing, as many as a process may have.
//!
//! ```text
//! victim serve tcp|tls DIRECTORY   prints its port, serves until its input ends
//! victim silent COUNT PORT         prints how many it has, keeps them until its input ends
//! ```
#![allow(clippy::unwrap_used, reason = "a story's helper fails by panicking")]
#![allow(clippy::print_stdout, reason = "it is what it is for")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use nossock::transport::tls::{Identity, ServerTls};
use nossock::{Config, Json, Limits, Router, Server, ServerLimits};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};

/// Connections of one source address, of those that the server allows one.
const OF_ONE_ADDRESS: usize = 250;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", scheme, directory] => serve(scheme, directory).await,
        ["silent", count, port] => silent(count.parse().unwrap(), port.parse().unwrap()).await,
        _ => panic!("no such mode: {arguments:?}"),
    }
}

async fn until_input_ends() {
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
}

async fn serve(scheme: &str, directory: &str) {
    let router = Router::new()
        .on("note", async |Json(_): Json<u64>| {})
        .on_request("echo", async |Json(value): Json<serde_json::Value>| value)
        .on_request("forever", async || std::future::pending::<u64>().await);
    let limits = ServerLimits { connections: 20_000, ..ServerLimits::default() };
    // Short enough for a story; the sizes are those that everybody gets.
    let times = Limits {
        connect: Duration::from_secs(3),
        frame_time: Duration::from_secs(3),
        write_stall: Duration::from_secs(3),
        close_grace: Duration::from_millis(500),
        ..Limits::default()
    };
    let mut builder = Server::bind(format!("{scheme}://127.0.0.1:0").as_str()).unwrap().limits(limits);
    if scheme == "tls" {
        let file = |name: &str| format!("{directory}/{name}");
        let identity = Identity::from_pem_files(file("server.cert.pem"), file("server.key.pem")).unwrap();
        builder = builder.tls(ServerTls::new(identity).unwrap());
    }
    let server = builder.config(Config { limits: times, ..Config::default() }).listen().await.unwrap();
    println!("{}", server.address().to_string().rsplit(':').next().unwrap());
    server.serve_until(router, until_input_ends()).await;
}

async fn silent(count: usize, port: u16) {
    let mut streams: Vec<TcpStream> = Vec::with_capacity(count);
    for n in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        let third = u8::try_from(1 + n / OF_ONE_ADDRESS).unwrap();
        socket.bind(SocketAddr::from(([127, 0, third, 1], 0))).unwrap();
        streams.push(socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.unwrap());
    }
    println!("{}", streams.len());
    until_input_ends().await;
}
