//! An argument that no call can be taken apart into.
use nsp::daemon::{Json, Service};

struct Mine;

fn main() {
    let _ = Service::new("Chat").function("hello", async |Json(name): Json<String>, _: Mine| name);
}
