use std::rc::Rc;

use nossock::Router;

fn main() {
    let _ = Router::new().on("hello", async || {
        let local = Rc::new(1);
        std::future::ready(()).await;
        drop(local);
    });
}
