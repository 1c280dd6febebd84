//! A function that is not async.
use nsp::daemon::{Json, Service};

fn main() {
    let _ = Service::new("Chat").function("hello", |Json(name): Json<String>| name);
}
