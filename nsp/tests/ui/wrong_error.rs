//! An error that is not told to callers.
use nsp::daemon::Service;

fn main() {
    let _ = Service::new("Chat").function("hello", async || -> Result<(), std::fmt::Error> { Err(std::fmt::Error) });
}
