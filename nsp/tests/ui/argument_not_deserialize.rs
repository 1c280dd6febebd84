//! An argument that JSON cannot be read as.
use nsp::daemon::{Json, Service};

struct Hello;

fn main() {
    let _ = Service::new("Chat").function("hello", async |Json(_): Json<Hello>| ());
}
