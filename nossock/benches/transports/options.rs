//! The command line.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::measure::descriptors;
use crate::net::may_control;
use crate::peers;
use crate::rows::{ROWS, Row};

/// What is printed for `--help`.
pub(crate) const HELP: &str = "\
Measures nossock beside references made by hand and beside other libraries, on loopback.

cargo bench -p nossock -- [OPTIONS]

  --rows A,B        only these rows: rtt pipe1x64 pipe16x16 oneway bulk64k bulk4m fanout idle,
                    and all but fanout with tls- in front
  --peers A,B       only these peers beside the reference
  --ref PEER        take ratios to this peer
  --rounds N        rounds of each row (5)
  --seconds S       length of a run (1.0)
  --limit S         start no run after so many seconds (3600)
  --operations N    end a run after N requests of a task, or messages on a connection, if the time is not up
  --connections N   idle connections and receivers of the fan-out, at most
  --congestion C    congestion control of all sockets (reno where allowed); `system` leaves it
  --memcpy libc     leave glibc's memcpy as it is, which is slow for some addresses on some processors
  --spin            keep the processors awake in rtt, by idle-priority processes
  --quick           every row once, briefly
  --json FILE       write all samples to FILE as well
";

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) rows: Vec<Row>,
    pub(crate) peers: Option<Vec<String>>,
    pub(crate) reference: Option<String>,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) limit: Duration,
    pub(crate) connections: usize,
    pub(crate) operations: u64,
    /// None leaves the system's.
    pub(crate) congestion: Option<String>,
    pub(crate) memcpy: Memcpy,
    pub(crate) spin: bool,
    pub(crate) json: Option<PathBuf>,
}

/// Which memcpy glibc uses in the processes that are measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Memcpy {
    /// As glibc chooses.
    Libc,
    /// Never `rep movsb`, whose speed depends on the addresses: on some processors by a factor of three.
    Vector,
}

impl Memcpy {
    /// The value of `GLIBC_TUNABLES`.
    pub(crate) fn tunables(self) -> Option<&'static str> {
        match self {
            Self::Libc => None,
            Self::Vector => Some("glibc.cpu.x86_rep_movsb_threshold=1000000000"),
        }
    }
}

/// Descriptors a process needs beside its connections.
const OTHER_DESCRIPTORS: usize = 64;

/// Far above what a second holds; below it the fixed count of digits in a message.
pub(crate) const OPERATIONS: u64 = 80_000_000;

/// Runs that take long enough to be noise.
const ROUNDS: u32 = 5;

impl Options {
    /// A few milliseconds of two rows: what `cargo test --benches` runs.
    pub(crate) fn smoke() -> io::Result<Self> {
        Ok(Self {
            rows: rows("rtt,oneway")?,
            rounds: 1,
            seconds: 0.005,
            limit: Duration::from_secs(60),
            ..Self::all()
        })
    }

    /// Reads the command line.
    ///
    /// # Errors
    /// `InvalidInput`, naming what is wrong.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> io::Result<Self> {
        let mut options = Self::all();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| wrong(&format!("{argument} wants a value")));
            match argument.as_str() {
                // Cargo says it to every benchmark.
                "--bench" => {}
                "--rows" => options.rows = rows(&value()?)?,
                "--peers" => options.peers = Some(value()?.split(',').map(peer).collect::<io::Result<_>>()?),
                "--ref" => options.reference = Some(peer(&value()?)?),
                "--rounds" => options.rounds = number(&argument, &value()?)?,
                "--seconds" => options.seconds = number::<f64>(&argument, &value()?)?.clamp(0.001, 60.0),
                "--limit" => options.limit = Duration::from_secs(number(&argument, &value()?)?),
                "--operations" => options.operations = number(&argument, &value()?)?,
                "--connections" => {
                    options.connections =
                        options.connections.min(number::<usize>(&argument, &value()?)?.max(2));
                }
                "--congestion" => {
                    options.congestion = Some(value()?).filter(|algorithm| algorithm != "system");
                }
                "--memcpy" => {
                    options.memcpy = match value()?.as_str() {
                        "libc" => Memcpy::Libc,
                        "vector" => Memcpy::Vector,
                        other => return Err(wrong(&format!("--memcpy is libc or vector, not {other}"))),
                    }
                }
                "--spin" => options.spin = true,
                "--quick" => {
                    options.rounds = 1;
                    options.seconds = 0.1;
                    options.connections = options.connections.min(1000);
                }
                "--json" => options.json = Some(value()?.into()),
                other => return Err(wrong(&format!("there is no option {other}; --help names them"))),
            }
        }
        Ok(options)
    }

    fn all() -> Self {
        Self {
            rows: ROWS.to_vec(),
            peers: None,
            reference: None,
            rounds: ROUNDS,
            seconds: 1.0,
            limit: Duration::from_secs(3600),
            connections: descriptors().saturating_sub(OTHER_DESCRIPTORS).max(2),
            operations: OPERATIONS,
            congestion: Some("reno".to_owned()).filter(|algorithm| may_control(algorithm)),
            memcpy: Memcpy::Vector,
            spin: false,
            json: None,
        }
    }
}

fn rows(names: &str) -> io::Result<Vec<Row>> {
    names
        .split(',')
        .map(|name| Row::named(name).ok_or_else(|| wrong(&format!("there is no row {name}"))))
        .collect()
}

fn peer(name: &str) -> io::Result<String> {
    if peers::NAMES.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(wrong(&format!("there is no peer {name}, only {}", peers::NAMES.join(", "))))
}

fn number<T: std::str::FromStr>(option: &str, value: &str) -> io::Result<T> {
    value.parse().map_err(|_| wrong(&format!("{option} wants a number, not {value}")))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
