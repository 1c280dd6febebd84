//! An argument that no message can be taken apart into.

use nossock::Router;

fn main() {
    let _ = Router::new().on("count", async |n: u32| drop(n));
    let _ = Router::new().on_request("count", async |n: u32| n);
}
