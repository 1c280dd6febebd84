//! What is measured, and how: time, processor time of both processes, latency, memory.

use std::fs;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::rows::Unit;

/// One run of one peer in one row, as its client process reports it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Sample {
    /// Calls, messages, deliveries or connections.
    pub(crate) operations: u64,
    /// Raw bytes moved, where the row counts them.
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// User and system time of the server and of the client.
    pub(crate) server_cpu_seconds: f64,
    pub(crate) client_cpu_seconds: f64,
    /// Microseconds, where the row waits for something.
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    /// Resident memory at the end, in bytes.
    pub(crate) server_memory: u64,
    pub(crate) client_memory: u64,
    /// What one idle connection holds in the server, in bytes; only in the rows that ask for it.
    pub(crate) bytes_per_connection: Option<f64>,
    /// Processor time of everything but the two processes, in cores.
    pub(crate) others: f64,
    /// Processor time the host took, in cores.
    pub(crate) stolen: f64,
}

impl Sample {
    /// The row's main figure.
    pub(crate) fn rate(&self, unit: Unit) -> f64 {
        match unit {
            Unit::OperationsPerSecond => self.operations as f64 / self.seconds,
            Unit::GibPerSecond => self.gib() / self.seconds,
            Unit::BytesPerConnection => self.bytes_per_connection.unwrap_or(f64::NAN),
        }
    }

    /// Processor time of both processes: microseconds an operation, or seconds a GiB.
    pub(crate) fn cpu(&self, unit: Unit) -> f64 {
        let seconds = self.server_cpu_seconds + self.client_cpu_seconds;
        match unit {
            Unit::OperationsPerSecond | Unit::BytesPerConnection => seconds * 1e6 / self.operations as f64,
            Unit::GibPerSecond => seconds / self.gib(),
        }
    }

    fn gib(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 30)
    }
}

/// How long a load lasts, and what its answers took. Shared by all connections of a client.
#[derive(Debug)]
pub(crate) struct Burst {
    deadline: Instant,
    most: u64,
    over: AtomicBool,
    latency: Mutex<Histogram>,
}

impl Burst {
    /// A burst that ends `lasting` from now, or when a connection has done `most` operations.
    pub(crate) fn new(lasting: Duration, most: u64) -> Self {
        Self {
            deadline: Instant::now() + lasting,
            most,
            over: AtomicBool::new(false),
            latency: Mutex::default(),
        }
    }

    /// Whether a connection that has begun `begun` operations may begin another. Looks at the clock.
    pub(crate) fn more(&self, begun: u64) -> bool {
        if self.is_over() {
            return false;
        }
        let over = Instant::now() >= self.deadline;
        if over {
            self.over.store(true, Ordering::Relaxed);
        }
        !over && begun < self.most
    }

    /// Whether somebody has seen the end. Does not look at the clock.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Records what took until now.
    pub(crate) fn record(&self, since: Instant) {
        let took = since.elapsed();
        self.latency.lock().expect("nobody panics while recording").add(took);
    }

    /// The median and the 99th percentile in microseconds, if anything was recorded.
    pub(crate) fn percentiles(&self) -> (Option<f64>, Option<f64>) {
        let latency = self.latency.lock().expect("nobody panics while recording");
        (latency.quantile(0.50), latency.quantile(0.99))
    }
}

/// Every how many operations one is timed: all at depth 1, few where the clock would be felt.
pub(crate) fn stride(depth: usize) -> u64 {
    if depth == 1 { 1 } else { 16 }
}

/// Durations in buckets of three per cent.
#[derive(Debug)]
struct Histogram {
    buckets: Vec<u64>,
    total: u64,
}

/// Buckets for each power of two, as a power of two.
const FINE: u32 = 5;

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; (64 << FINE) as usize], total: 0 }
    }
}

impl Histogram {
    fn add(&mut self, took: Duration) {
        let nanoseconds = (took.as_nanos() as u64).max(1);
        let bits = nanoseconds.ilog2();
        let shift = bits.saturating_sub(FINE);
        let bucket = ((shift as usize) << FINE) + (nanoseconds >> shift) as usize;
        self.buckets[bucket] += 1;
        self.total += 1;
    }

    /// Microseconds.
    fn quantile(&self, q: f64) -> Option<f64> {
        let rank = (self.total as f64 * q).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= rank {
                return Some(Self::middle(bucket) / 1000.0);
            }
        }
        None
    }

    /// The nanoseconds in the middle of a bucket. The bucket of shift `s` holds the numbers whose top bits, 32 to 63,
    /// follow `s << FINE`; shift 0 also holds those below 32.
    fn middle(bucket: usize) -> f64 {
        let shift = (bucket >> FINE).saturating_sub(1) as u32;
        let top = bucket - ((shift as usize) << FINE);
        (top as f64 + 0.5) * f64::from(shift).exp2()
    }
}

/// A moment: the clock, the processor time of two processes, and that of the machine.
#[derive(Debug)]
pub(crate) struct Moment {
    at: Instant,
    server: f64,
    client: f64,
    machine: Machine,
}

impl Moment {
    /// Now.
    ///
    /// # Errors
    /// If `/proc` cannot be read, as where there is none.
    pub(crate) fn now(server: u32) -> io::Result<Self> {
        Ok(Self {
            server: cpu_seconds(server)?,
            client: cpu_seconds(std::process::id())?,
            machine: Machine::now()?,
            at: Instant::now(),
        })
    }

    /// What happened from then to now.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub(crate) fn until_now(&self, server: u32) -> io::Result<Sample> {
        let now = Self::now(server)?;
        let seconds = (now.at - self.at).as_secs_f64();
        let server_cpu_seconds = now.server - self.server;
        let client_cpu_seconds = now.client - self.client;
        let ours = server_cpu_seconds + client_cpu_seconds;
        Ok(Sample {
            seconds,
            server_cpu_seconds,
            client_cpu_seconds,
            server_memory: memory(server)?,
            client_memory: memory(std::process::id())?,
            others: ((now.machine.busy - self.machine.busy - ours) / seconds).max(0.0),
            stolen: (now.machine.stolen - self.machine.stolen) / seconds,
            ..Sample::default()
        })
    }
}

/// Processor time of the whole machine, in seconds.
#[derive(Clone, Copy, Debug)]
struct Machine {
    busy: f64,
    stolen: f64,
}

impl Machine {
    fn now() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let first = stat.lines().next().unwrap_or_default();
        // cpu user nice system idle iowait irq softirq steal
        let ticks: Vec<f64> = first.split_whitespace().skip(1).filter_map(|tick| tick.parse().ok()).collect();
        let second = |n: usize| ticks.get(n).copied().unwrap_or_default() / TICKS_PER_SECOND;
        Ok(Self { busy: [0, 1, 2, 5, 6].into_iter().map(second).sum(), stolen: second(7) })
    }
}

/// `USER_HZ`: 100 on every Linux that a program can meet.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time of a process so far.
///
/// `schedstat` has nanoseconds but is kept per thread, and may not be compiled in; `stat` has ticks of 10 ms.
fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let mut nanoseconds = 0_u64;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        nanoseconds += text.split_whitespace().next().and_then(|ran| ran.parse().ok()).unwrap_or(0);
    }
    if nanoseconds > 0 {
        return Ok(nanoseconds as f64 / 1e9);
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in brackets, which may hold blanks.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after.split_whitespace().skip(11).take(2).filter_map(|tick| tick.parse::<f64>().ok());
    Ok(ticks.sum::<f64>() / TICKS_PER_SECOND)
}

/// Resident memory of a process in bytes. `smaps_rollup` counts pages; the figure in `status` lags behind.
pub(crate) fn memory(pid: u32) -> io::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kib =
        rollup.lines().find_map(|line| line.strip_prefix("Rss:")?.split_whitespace().next()?.parse().ok());
    kib.map(|kib: u64| kib * 1024).ok_or_else(|| io::Error::other("smaps_rollup has no Rss"))
}

/// How many file descriptors this process may have open.
pub(crate) fn descriptors() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next())
        .and_then(|soft| soft.parse().ok());
    // `unlimited` is no number, and neither is a missing file.
    soft.unwrap_or(1024)
}
