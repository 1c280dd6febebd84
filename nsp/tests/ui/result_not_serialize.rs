//! A result that cannot be JSON.
use nsp::daemon::Service;

struct Reply;

fn main() {
    let _ = Service::new("Chat").function("hello", async || Reply);
}
