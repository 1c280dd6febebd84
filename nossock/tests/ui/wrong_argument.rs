use nossock::Router;

fn main() {
    let _ = Router::new().on("hello", async |who: String| drop(who));
}
