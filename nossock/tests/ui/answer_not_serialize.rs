//! An answer that cannot be written as JSON.

use nossock::{Json, Reject, Router};

struct Total(u32);

async fn plain(Json(n): Json<u32>) -> Total {
    Total(n)
}

async fn fallible(Json(n): Json<u32>) -> Result<Total, Reject> {
    Ok(Total(n))
}

fn main() {
    let _ = Router::new().on_request("plain", plain);
    let _ = Router::new().on_request("fallible", fallible);
}
