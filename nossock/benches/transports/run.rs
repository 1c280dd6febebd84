//! The process that was started by hand: starts the others, a server and a client for each run, and pairs what they report.

use std::env;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::measure::Sample;
use crate::net::Invitation;
use crate::options::{Memcpy, Options};
use crate::peers::takes_part;
use crate::rows::{Load, Row};
use crate::{client, server};

/// How long a server may take to listen.
const TO_LISTEN: Duration = Duration::from_secs(10);

/// How long a run may take beside its bursts. Ten thousand handshakes take a while.
const TO_CONNECT: Duration = Duration::from_secs(60);

/// All runs of one row.
#[derive(Debug, Serialize)]
pub(crate) struct RowResult {
    #[serde(skip)]
    pub(crate) row: Row,
    pub(crate) name: &'static str,
    pub(crate) reference: String,
    /// What a ratio is taken of.
    pub(crate) unit: String,
    /// The reference first.
    pub(crate) peers: Vec<PeerResult>,
    pub(crate) failures: Vec<String>,
}

/// All runs of one peer in a row.
#[derive(Debug, Serialize)]
pub(crate) struct PeerResult {
    pub(crate) name: String,
    pub(crate) samples: Vec<Sample>,
    /// The figure over the mean of the two reference runs beside it, run by run. For the reference: over the run before.
    pub(crate) ratios: Vec<f64>,
    /// The same with the processor time of an operation.
    pub(crate) cpu_ratios: Vec<f64>,
}

impl PeerResult {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), samples: Vec::new(), ratios: Vec::new(), cpu_ratios: Vec::new() }
    }
}

/// Runs one row: reference, peer, reference, peer, … reference, for every round.
pub(crate) fn row(row: Row, options: &Options, until: Instant) -> RowResult {
    let reference = options.reference.as_deref().filter(|peer| takes_part(peer, row.load));
    let reference = reference.unwrap_or(row.reference);
    let peers: Vec<&str> = match &options.peers {
        Some(peers) => peers.iter().map(String::as_str).collect(),
        None => row.peers.to_vec(),
    };
    let mut result = RowResult {
        row,
        name: row.name,
        reference: reference.to_owned(),
        unit: row.unit().to_string(),
        peers: vec![PeerResult::new(reference)],
        failures: Vec::new(),
    };
    result.peers.extend(
        peers
            .iter()
            .filter(|peer| **peer != reference && takes_part(peer, row.load))
            .map(|peer| PeerResult::new(peer)),
    );
    let _spinners = (options.spin && matches!(row.load, Load::Calls { depth: 1, .. })).then(Spinners::start);
    for round in 1..=options.rounds {
        let mut runs = Vec::new();
        for peer in 1..result.peers.len().max(2) {
            runs.push(result.attempt(0, round, options, until));
            runs.push(result.attempt(peer, round, options, until));
        }
        runs.push(result.attempt(0, round, options, until));
        result.pair(&runs);
    }
    if Instant::now() >= until {
        result.failures.push("time was up before the last round was over".to_owned());
    }
    result
}

impl RowResult {
    /// Runs one peer and keeps what it reports.
    fn attempt(&mut self, peer: usize, round: u32, options: &Options, until: Instant) -> Option<Sample> {
        let name = self.peers.get(peer)?.name.clone();
        if Instant::now() >= until {
            return None;
        }
        match one(&self.row, &name, options) {
            Ok(sample) => {
                let figure = crate::table::figure(self.row.unit(), &sample);
                eprintln!("{:>14} {name:<12} {round}/{}  {figure}", self.name, options.rounds);
                self.peers.get_mut(peer)?.samples.push(sample);
                Some(sample)
            }
            Err(error) => {
                eprintln!("{:>14} {name:<12} {round}/{}  failed: {error}", self.name, options.rounds);
                self.failures.push(format!("{name}: {error}"));
                None
            }
        }
    }

    /// Takes the ratios of a round: the reference is at the even places.
    fn pair(&mut self, runs: &[Option<Sample>]) {
        let unit = self.row.unit();
        for (place, beside) in runs.windows(3).enumerate() {
            let &[Some(before), Some(here), Some(after)] = beside else { continue };
            if place.is_multiple_of(2) {
                let peer = &mut self.peers[place / 2 + 1];
                peer.ratios.push(here.rate(unit) / f64::midpoint(before.rate(unit), after.rate(unit)));
                peer.cpu_ratios.push(here.cpu(unit) / f64::midpoint(before.cpu(unit), after.cpu(unit)));
                let reference = &mut self.peers[0];
                reference.ratios.push(after.rate(unit) / before.rate(unit));
                reference.cpu_ratios.push(after.cpu(unit) / before.cpu(unit));
            }
        }
    }
}

/// One run: a server and a client, each a process of its own.
fn one(row: &Row, peer: &str, options: &Options) -> io::Result<Sample> {
    let job = server::Job { peer: peer.to_owned(), tls: row.tls, congestion: options.congestion.clone() };
    let mut server = Process::start("--server", &serde_json::to_string(&job)?, options.memcpy)?;
    let invitation: Invitation = serde_json::from_str(&server.line(TO_LISTEN)?)?;
    let job = client::Job {
        peer: peer.to_owned(),
        row: row.name.to_owned(),
        invitation,
        server: server.child.id(),
        seconds: options.seconds,
        connections: options.connections,
        operations: options.operations,
    };
    let mut client = Process::start("--client", &serde_json::to_string(&job)?, options.memcpy)?;
    let report = client.line(TO_CONNECT + Duration::from_secs_f64(3.0 * options.seconds));
    // First, or it would complain of clients that vanish.
    drop(server);
    Ok(serde_json::from_str(&report?)?)
}

/// A process of ours that reports a line. Killed when dropped.
#[derive(Debug)]
struct Process {
    child: Child,
    lines: mpsc::Receiver<io::Result<String>>,
}

impl Process {
    fn start(role: &str, job: &str, memcpy: Memcpy) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args([role, job]).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(tunables) = memcpy.tunables() {
            command.env("GLIBC_TUNABLES", tunables);
        }
        let mut child = command.spawn()?;
        let out = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines() {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines })
    }

    fn line(&mut self, within: Duration) -> io::Result<String> {
        match self.lines.recv_timeout(within) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(io::Error::other("ended without a report; see above"))
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, and then neither is needed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes that keep the processors awake when there is nothing else to do.
#[derive(Debug)]
struct Spinners(Vec<Child>);

impl Spinners {
    fn start() -> Self {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let spinners = (0..count).filter_map(|_| {
            let mut command = Command::new("chrt");
            command.args(["--idle", "0"]).arg(env::current_exe().ok()?).arg("--spinner");
            let started = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
            started.inspect_err(|error| eprintln!("no spinner, since chrt does not start: {error}")).ok()
        });
        Self(spinners.collect())
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        for spinner in &mut self.0 {
            let _ = spinner.kill();
            let _ = spinner.wait();
        }
    }
}

/// Spins until standard input ends.
pub(crate) fn spinner() -> io::Result<()> {
    thread::spawn(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    io::copy(&mut io::stdin().lock(), &mut io::sink()).map(drop)
}
