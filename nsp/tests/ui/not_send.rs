//! A function whose future cannot go to another thread.
use std::rc::Rc;

use nsp::daemon::Service;

fn main() {
    let _ = Service::new("Chat").function("hello", async || {
        let counter = Rc::new(1);
        std::future::ready(()).await;
        *counter
    });
}
