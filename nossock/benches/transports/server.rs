//! The server process: serves one peer until its standard input ends.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use tokio::runtime;

use crate::net::Listener;
use crate::peers;

/// What a server process is told to do.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Job {
    pub(crate) peer: String,
    pub(crate) tls: bool,
    pub(crate) congestion: Option<String>,
}

/// Serves on a runtime of two workers, and prints the invitation as a line of JSON.
///
/// # Errors
/// If the port cannot be bound.
pub(crate) fn process(job: Job) -> io::Result<()> {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let listening = runtime.enter();
    let (listener, invitation) = Listener::bind(job.tls, job.congestion.as_deref())?;
    drop(listening);
    // A task, since the thread of `block_on` is no worker: each wake-up would be handed to it.
    runtime.spawn(async move {
        if let Err(error) = peers::serve(&job.peer, listener).await {
            eprintln!("server: {}: {error}", job.peer);
        }
    });
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &invitation)?;
    writeln!(out)?;
    out.flush()?;
    // Whoever started this process holds the other end, and the system closes it if they are no more.
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    runtime.shutdown_background();
    Ok(())
}
