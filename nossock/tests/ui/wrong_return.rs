//! A handler of messages that gives a value, as if somebody had asked.

use nossock::{Json, Router};

fn main() {
    let _ = Router::new().on("count", async |Json(n): Json<u32>| n + 1);
}
