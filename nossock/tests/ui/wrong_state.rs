//! A handler that asks for a state that the router does not have.

use nossock::{Router, State};

fn main() {
    let _ = Router::with_state(7_u64).on("count", async |State(name): State<String>| drop(name));
}
