//! A server or a client in a process of its own, for stories that look at its memory and at its file descriptors; and connections
//! that say nothing, as many as a process may have.
//!
//! ```text
//! victim serve tcp|tls DIRECTORY   prints its port, serves until its input ends
//! victim nsp DIRECTORY             prints the ports of nsp, ws, noservice, noservice with SP, and nsps; serves until its input ends
//! victim nsp-client URL            prints `open`, calls `tick` again and again, until its input ends
//! victim silent COUNT PORT         prints how many it has, keeps them until its input ends
//! ```
#![allow(clippy::unwrap_used, reason = "a story's helper fails by panicking")]
#![allow(clippy::print_stdout, reason = "it is what it is for")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nossock::transport::tls::{Identity, ServerTls};
use nossock::{Config, Json, Limits, Router, Server, ServerLimits};
use nsp::carrier;
use nsp::client::{Ask, Client};
use nsp::daemon::{self, Daemon, Demand, Emitter, Entity, Fail, Listen, Overflow, Service};
use nsp::secure::ServerKey;
use nsp_auth::password::Cost;
use nsp_auth::user::Username;
use nsp_auth::users::NewUser;
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
        ["nsp", directory] => nsp(directory).await,
        ["nsp-client", url] => nsp_client(url).await,
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
        builder = builder.tls(tls(directory));
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

fn tls(directory: &str) -> ServerTls {
    let file = |name: &str| format!("{directory}/{name}");
    let identity = Identity::from_pem_files(file("server.cert.pem"), file("server.key.pem")).unwrap();
    ServerTls::new(identity).unwrap()
}

/// What a service that emits does with those who do not read.
const RULES: [Overflow; 4] = [Overflow::Wait, Overflow::DropOldest, Overflow::DropNewest, Overflow::Close];

async fn nsp(directory: &str) {
    let authority = nsp_auth::Authority::builder()
        .cost(Cost { memory_kib: 1024, passes: 1 })
        .open(format!("{directory}/users.db"))
        .await
        .unwrap();
    let ann = NewUser::new(Username::parse("alice").unwrap(), "correct horse battery".into());
    authority.users().create(ann).await.unwrap();
    let service = Service::new("Victim")
        .function("echo", async |daemon::Json(value): daemon::Json<serde_json::Value>| value)
        .function("never", async || std::future::pending::<()>().await)
        .function("ask", async |entity: Entity| -> Result<(), Fail> {
            entity.prove(Demand::Token).await?;
            Ok(())
        })
        .on_data(async || std::future::pending::<()>().await)
        .function("slow", async |entity: Entity| -> Result<(), Fail> { Ok(entity.join("slow")?) })
        .function(
            "flood",
            async |victim: Emitter,
                   daemon::Json((rule, count, size)): daemon::Json<(usize, usize, usize)>|
                   -> Result<(usize, usize), Fail> {
                let event = "x".repeat(size);
                let mut reached = (0, 0);
                for _ in 0..count {
                    let slow = victim.to_groups(["slow"]).overflow(*RULES.get(rule).unwrap());
                    let now = slow.emit("flood", &event).await?;
                    reached = (reached.0 + now.sent, reached.1 + now.missed());
                }
                Ok(reached)
            },
        );
    // Short enough for a story; the sizes are those that everybody gets.
    let limits = daemon::Limits {
        connections: 20_000,
        fresh_per_address: 256,
        accept_rate: 20_000,
        accept_burst: 20_000,
        handshake_time: Duration::from_secs(3),
        write_stall: Duration::from_secs(3),
        push_wait: Duration::from_millis(20),
        ..daemon::Limits::default()
    };
    let key = Arc::new(ServerKey::generate().unwrap());
    let builder = Daemon::builder()
        .authority(authority)
        .service(service)
        .limits(limits)
        .first_entity_time(Duration::from_secs(8))
        .listen("nsp://127.0.0.1:0")
        .listen("ws://127.0.0.1:0")
        .listen("noservice://127.0.0.1:0")
        .listen(Listen::on("noservice://127.0.0.1:0").sp(key))
        .listen(Listen::on("nsps://127.0.0.1:0").tls(tls(directory)));
    let daemon = builder.bind().await.unwrap();
    let ports: Vec<_> =
        daemon.addresses().iter().map(|address| address.port().unwrap().to_string()).collect();
    println!("{}", ports.join(" "));
    daemon.serve_until(until_input_ends()).await;
}

async fn nsp_client(url: &str) {
    // Short enough for a story; the sizes are those that everybody gets.
    let limits = carrier::Limits { write_stall: Duration::from_secs(3), ..carrier::Limits::default() };
    // Whoever is asked has gone for a coffee.
    let nobody = Ask::new(|_, _| std::future::pending());
    let connector = Client::connect(url).limits(limits).credentials(nobody).no_reconnect();
    let client = connector.connect().await.unwrap();
    let activity = client.activity("Victim").open().await.unwrap();
    // They are there, and nobody reads them.
    let _unread = (activity.events::<u64>("flood"), activity.happenings());
    println!("open");
    let ticking = async {
        let mut n = 0_u64;
        while activity.call::<u64>("tick", &n).await.is_ok_and(|answer| answer == n) {
            n += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Not gone before its memory is looked at.
        until_input_ends().await;
    };
    tokio::select! {
        () = ticking => {}
        () = until_input_ends() => {}
    }
}
