//! A handler of requests whose error is not a `Reject`.

use nossock::{Json, Router};

async fn parse(Json(text): Json<String>) -> Result<u32, std::num::ParseIntError> {
    text.parse()
}

fn main() {
    let _ = Router::new().on_request("parse", parse);
}
