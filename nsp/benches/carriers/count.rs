//! A number of calls between two ends in one thread: what is counted in instructions where the clock is too noisy.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::task::JoinSet;

use crate::measure::Burst;
use crate::net::{Door, Listener};
use crate::peers::{self, Link as _, Peer};

/// Serves and calls, both in this thread.
///
/// # Errors
/// What the peer fails with, and `InvalidInput` if a number is none.
pub(crate) fn process(peer: &str, numbers: [&str; 3]) -> io::Result<()> {
    let mut parsed = [0_u64; 3];
    for (parsed, number) in parsed.iter_mut().zip(numbers) {
        *parsed = number.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, number))?;
    }
    let peer = peer.to_owned();
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let (listener, invitation) = Listener::bind(false, None)?;
        let serving = tokio::spawn({
            let peer = peer.clone();
            async move { peers::serve(&peer, listener).await }
        });
        let calling = tokio::spawn(async move { peers::count(&peer, Door::new(invitation)?, parsed).await });
        let answered = calling.await??;
        serving.abort();
        eprintln!("{answered} calls");
        Ok(())
    })
}

/// Makes `calls` on each of the connections.
pub(crate) async fn calls<P: Peer>(door: Door, numbers: [u64; 3]) -> io::Result<u64> {
    let [connections, depth, calls] = numbers;
    let each = calls / (connections * depth);
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let mut link = P::connect(&door).await?;
        tasks.spawn(async move {
            let burst = Arc::new(Burst::new(Duration::from_secs(3600), each));
            link.calls(depth as usize, &burst).await
        });
    }
    let mut answered = 0;
    while let Some(task) = tasks.join_next().await {
        answered += task??;
    }
    Ok(answered)
}
