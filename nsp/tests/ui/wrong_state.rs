//! A function that asks for a state that the service does not have.
use nsp::daemon::{Service, State};

fn main() {
    let _ = Service::with_state("Chat", 5_u32).function("hello", async |State(text): State<String>| text);
}
