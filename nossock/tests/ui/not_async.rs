use nossock::{Json, Router};

fn main() {
    let _ = Router::new().on("hello", |Json(_): Json<u32>| ());
}
