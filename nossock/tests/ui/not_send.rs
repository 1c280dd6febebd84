//! A handler whose future cannot go to another thread.

use std::rc::Rc;

use nossock::{Json, Router};

fn main() {
    let _ = Router::new().on("count", async |Json(n): Json<u32>| {
        let shared = Rc::new(n);
        tokio::task::yield_now().await;
        drop(shared);
    });
}
