use nossock::{Json, Router};

fn main() {
    let _ = Router::new().on("hello", async |Json(n): Json<u32>| n + 1);
}
