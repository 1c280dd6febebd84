//! A body that cannot be read from JSON.

use nossock::{Json, Router};

struct Point {
    x: u32,
}

fn main() {
    let _ = Router::new().on("point", async |Json(point): Json<Point>| drop(point.x));
}
