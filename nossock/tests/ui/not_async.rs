//! A handler that is a plain function.

use nossock::{Json, Router};

fn count(Json(n): Json<u32>) -> u32 {
    n + 1
}

fn note(Json(n): Json<u32>) {
    drop(n);
}

fn main() {
    let _ = Router::new().on("note", note);
    let _ = Router::new().on_request("count", count);
}
