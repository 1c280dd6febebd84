use nossock::Router;

struct NotJson;

fn main() {
    let _ = Router::new().on_request("hello", async || NotJson);
}
