//! The peers: this crate on each carrier, and nossock's requests to compare with.

mod blobs;
mod daemon;
mod nsp;
#[path = "../../../nossock/benches/transports/peers/ours.rs"]
mod ours;

use std::io;

use crate::count;
use crate::net::Door;
pub(crate) use crate::peer::{Arrivals, Caller, Link, Peer, calls_from_tasks, peers};

peers! {
    "nossock": blobs::Asked,
    "nsp": nsp::Plain,
    "nsp+sp": nsp::Secured<nsp::Plain>,
    "nsps": nsp::Tls,
    "ws": nsp::WebSocket,
    "ws+sp": nsp::Secured<nsp::WebSocket>,
    "wss": nsp::WebSocketTls,
    "noservice": nsp::Chunks,
    "noservice+sp": nsp::Secured<nsp::Chunks>,
    "memory": nsp::Memory,
    "nsp+token": nsp::Proved,
}

/// Makes calls as the peer of that name, for `--count`.
pub(crate) async fn count(name: &str, door: Door, numbers: [u64; 3]) -> io::Result<u64> {
    match name {
        "nossock" => count::calls::<ours::Ours>(door, numbers).await,
        "nsp" => count::calls::<nsp::Plain>(door, numbers).await,
        "nsp+sp" => count::calls::<nsp::Secured<nsp::Plain>>(door, numbers).await,
        "noservice+sp" => count::calls::<nsp::Secured<nsp::Chunks>>(door, numbers).await,
        "ws+sp" => count::calls::<nsp::Secured<nsp::WebSocket>>(door, numbers).await,
        "nsp+token" => count::calls::<nsp::Proved>(door, numbers).await,
        "ws" => count::calls::<nsp::WebSocket>(door, numbers).await,
        "noservice" => count::calls::<nsp::Chunks>(door, numbers).await,
        "memory" => count::calls::<nsp::Memory>(door, numbers).await,
        _ => Err(io::Error::other(format!("no calls of {name} are counted"))),
    }
}
