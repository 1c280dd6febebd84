use nossock::{Router, State};

fn main() {
    let _ = Router::with_state(7_u32).on("hello", async |State(text): State<String>| drop(text));
}
