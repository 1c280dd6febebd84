//! The client process: puts a row's load on a server and measures both processes.

use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::runtime;
use tokio::task::JoinSet;

use crate::measure::{Burst, Moment, Sample, memory};
use crate::messages::{blob, invalid};
use crate::net::{Door, Invitation};
use crate::options::OPERATIONS;
use crate::peers::{self, Arrivals, Link, Peer};
use crate::rows::{Load, Row};

/// What a client process is told to do.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Job {
    pub(crate) peer: String,
    pub(crate) row: String,
    pub(crate) invitation: Invitation,
    /// The server's process.
    pub(crate) server: u32,
    pub(crate) seconds: f64,
    /// At most that many connections.
    pub(crate) connections: usize,
    /// At most that many requests of a task, or messages on a connection, in a burst.
    pub(crate) operations: u64,
}

/// Connections that are opened at the same time.
const OPENING: usize = 64;

/// Connections that are there before the memory of the others is measured.
const SETTLED: usize = 64;

/// Does the job on a runtime of one thread, and prints the sample as a line of JSON.
///
/// # Errors
/// What the peer fails with.
pub(crate) fn process(job: Job) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let sample = runtime.block_on(async move {
        // The thread of `block_on` polls its own future on every wake-up; a task is polled only on its own.
        tokio::spawn(async move { peers::client(&job.peer.clone(), &job).await }).await?
    })?;
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &sample)?;
    writeln!(out)?;
    out.flush()?;
    // The server goes first: what it would say of clients that vanish is no news.
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    runtime.shutdown_background();
    Ok(())
}

/// Runs the row with one peer. Its connections stay open until the process ends.
///
/// # Errors
/// What the peer fails with, and `InvalidData` if an answer is wrong.
pub(crate) async fn run<P: Peer>(job: &Job) -> io::Result<Sample> {
    let row = Row::named(&job.row).ok_or_else(|| io::Error::other(format!("no row is named {}", job.row)))?;
    let door = Door::new(job.invitation.clone())?;
    match row.load {
        Load::Calls { connections, depth } => calls::<P>(job, &door, connections, depth).await,
        Load::Notes => {
            let mut link = P::connect(&door).await?;
            link.notes(&warm_up(job)).await?;
            let start = Moment::now(job.server)?;
            let operations = link.notes(&burst(job)).await?;
            let sample = start.until_now(job.server)?;
            mem::forget(link);
            Ok(Sample { operations, ..sample })
        }
        Load::Blobs { size } => {
            let mut link = P::connect(&door).await?;
            link.blobs(blob(size), &warm_up(job)).await?;
            let body = blob(size);
            let start = Moment::now(job.server)?;
            let operations = link.blobs(body, &burst(job)).await?;
            let sample = start.until_now(job.server)?;
            mem::forget(link);
            Ok(Sample { operations, bytes: operations * size as u64, ..sample })
        }
        Load::Fan { clients } => fan::<P>(job, &door, clients.min(job.connections)).await,
        Load::Idle { connections } => idle::<P>(job, &door, connections.min(job.connections)).await,
    }
}

async fn calls<P: Peer>(job: &Job, door: &Door, connections: usize, depth: usize) -> io::Result<Sample> {
    let mut links = Vec::new();
    for _ in 0..connections {
        links.push(P::connect(door).await?);
    }
    let (links, _) = call_on_all(links, depth, &Arc::new(warm_up(job))).await?;
    let burst = Arc::new(burst(job));
    let start = Moment::now(job.server)?;
    let (links, operations) = call_on_all(links, depth, &burst).await?;
    let sample = start.until_now(job.server)?;
    mem::forget(links);
    let (p50, p99) = burst.percentiles();
    Ok(Sample { operations, p50, p99, ..sample })
}

async fn call_on_all<L: Link>(links: Vec<L>, depth: usize, burst: &Arc<Burst>) -> io::Result<(Vec<L>, u64)> {
    let mut tasks = JoinSet::new();
    for mut link in links {
        let burst = Arc::clone(burst);
        tasks.spawn(async move {
            let answered = link.calls(depth, &burst).await;
            answered.map(|answered| (link, answered))
        });
    }
    let mut links = Vec::new();
    let mut operations = 0;
    while let Some(task) = tasks.join_next().await {
        let (link, answered) = task??;
        links.push(link);
        operations += answered;
    }
    Ok((links, operations))
}

async fn fan<P: Peer>(job: &Job, door: &Door, clients: usize) -> io::Result<Sample> {
    let arrivals = Arc::new(Arrivals::new(clients));
    let mut deliveries = JoinSet::new();
    for _ in 0..clients {
        let mut link = P::connect(door).await?;
        link.join().await?;
        deliveries.spawn(link.deliveries(Arc::clone(&arrivals)));
    }
    let mut control = P::connect(door).await?;
    let mut rounds = async |burst: &Burst| -> io::Result<u64> {
        let mut operations = 0;
        while burst.more(operations) {
            let since = Instant::now();
            let reached = control.fan().await?;
            if reached != clients as u64 {
                return Err(invalid(&format!("a message to all reached {reached} of {clients}")));
            }
            tokio::select! {
                () = arrivals.all() => {}
                Some(ended) = deliveries.join_next() => {
                    ended??;
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            burst.record(since);
            operations += reached;
        }
        Ok(operations)
    };
    rounds(&warm_up(job)).await?;
    let burst = burst(job);
    let start = Moment::now(job.server)?;
    let operations = rounds(&burst).await?;
    let sample = start.until_now(job.server)?;
    deliveries.detach_all();
    mem::forget(control);
    let (p50, p99) = burst.percentiles();
    Ok(Sample { operations, p50, p99, ..sample })
}

async fn idle<P: Peer>(job: &Job, door: &Door, connections: usize) -> io::Result<Sample> {
    let settled = SETTLED.min(connections / 2);
    let settled_links = open_and_call::<P>(door, settled).await?;
    let before = memory(job.server)?;
    let start = Moment::now(job.server)?;
    let added = connections - settled;
    let links = open_and_call::<P>(door, added).await?;
    let sample = start.until_now(job.server)?;
    mem::forget((settled_links, links));
    let grown = sample.server_memory.saturating_sub(before) as f64;
    Ok(Sample { operations: added as u64, bytes_per_connection: Some(grown / added as f64), ..sample })
}

/// Opens connections and makes one request on each: one that has not been used has no buffers yet.
async fn open_and_call<P: Peer>(door: &Door, connections: usize) -> io::Result<Vec<P::Link>> {
    let mut opening = JoinSet::new();
    let mut open = Vec::with_capacity(connections);
    for started in 0..connections {
        if started >= OPENING
            && let Some(task) = opening.join_next().await
        {
            open.push(task??);
        }
        let door = door.clone();
        opening.spawn(async move {
            let mut link = P::connect(&door).await?;
            link.calls(1, &Arc::new(Burst::new(Duration::from_secs(60), 1))).await?;
            io::Result::Ok(link)
        });
    }
    while let Some(task) = opening.join_next().await {
        open.push(task??);
    }
    Ok(open)
}

fn warm_up(job: &Job) -> Burst {
    // A run that ends by its count warms up by a count, however slow a profiler makes it.
    let counted = job.operations < OPERATIONS;
    let seconds = if counted { job.seconds } else { (job.seconds / 5.0).min(0.3) };
    Burst::new(Duration::from_secs_f64(seconds), job.operations / 8)
}

fn burst(job: &Job) -> Burst {
    Burst::new(Duration::from_secs_f64(job.seconds), job.operations)
}
