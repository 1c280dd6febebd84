//! A function that hears of entities, and gives something that nobody waits for.
use nsp::daemon::Service;

fn main() {
    let _ = Service::new("Chat").on_connect(async || "hello");
}
