//! A closure that captures what its future would borrow from it.
use nsp::daemon::Service;

fn main() {
    let greeting = String::from("hello");
    let _ = Service::new("Chat").function("hello", async move || greeting.len());
}
