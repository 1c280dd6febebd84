//! What an idle connection costs.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[path = "daemon/wire.rs"]
#[allow(dead_code, reason = "written for other stories")]
mod wire;

use nsp::daemon::{Daemon, Json, Service};

/// What a connection with one entity may take, in bytes; here with its client, and with the carrier in memory between the two.
const MOST: usize = 6 * 1024;

const CONNECTIONS: usize = 5_000;

/// Bytes of memory that this process has.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[tokio::test]
async fn idle_connection_with_one_entity_is_small() {
    let chat = Service::new("Chat").function("echo", async |Json(text): Json<String>| -> String { text });
    let (_daemon, handle) = wire::daemon(Daemon::builder().service(chat)).await;
    let mut kept = Vec::with_capacity(CONNECTIONS);
    let before = resident();
    for _ in 0..CONNECTIONS {
        let mut wire = wire::Wire::to(&handle);
        let entity = wire.open_as("Chat", Some("ann")).await;
        // What a call needs may stay for the next one, and counts.
        assert_eq!(wire.call(&entity, "echo", "hello".into()).await, Ok("hello".into()));
        kept.push(wire);
    }
    let each = (resident() - before) / CONNECTIONS;
    assert!(each <= MOST, "{each} bytes");
}
