//! What comes out: a page of Markdown, and a file of JSON with every sample.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::measure::Sample;
use crate::options::Options;
use crate::rows::{Load, TITLE, Unit};
use crate::run::RowResult;

/// Says on what and how it was measured.
pub(crate) fn header(out: &mut impl Write, options: &Options) -> io::Result<()> {
    writeln!(out, "# {TITLE}\n")?;
    for line in Setting::read(options).lines() {
        writeln!(out, "- {line}")?;
    }
    writeln!(
        out,
        "\nFigures and CPU are medians of n runs. A ratio is that of one run to the mean of the two reference runs beside\n\
         it; its median is given, and in brackets the least and the most. CPU is user and system time of both processes."
    )
}

/// The table of one row.
pub(crate) fn row(out: &mut impl Write, result: &RowResult) -> io::Result<()> {
    let row = &result.row;
    let unit = row.unit();
    let waits = matches!(row.load, Load::Calls { .. } | Load::Fan { .. });
    let (cpu, percentiles) = match unit {
        Unit::GibPerSecond => ("CPU s/GiB", ""),
        Unit::BytesPerConnection => ("CPU µs/connection", ""),
        Unit::OperationsPerSecond if waits => ("CPU µs/op", " p50 µs | p99 µs |"),
        Unit::OperationsPerSecond => ("CPU µs/op", ""),
    };
    let reference = &result.reference;
    writeln!(out, "\n## {}\n", row.name)?;
    writeln!(
        out,
        "| peer | {unit} | ratio to {reference} |{percentiles} {cpu} | CPU ratio | RSS MiB server/client | n |"
    )?;
    writeln!(
        out,
        "| --- | ---: | ---: |{} ---: | ---: | ---: | ---: |",
        " ---: |".repeat(if waits { 2 } else { 0 })
    )?;
    for (place, peer) in result.peers.iter().enumerate().filter(|(_, peer)| !peer.samples.is_empty()) {
        let of = |figure: &dyn Fn(&Sample) -> f64| median(peer.samples.iter().map(figure));
        write!(out, "| {} | {} | ", peer.name, short(of(&|sample| sample.rate(unit))))?;
        if place == 0 {
            write!(out, "1 (itself {}) |", spread(&peer.ratios))?;
        } else {
            write!(out, "{} |", spread(&peer.ratios))?;
        }
        if waits {
            let p50 = of(&|sample| sample.p50.unwrap_or(f64::NAN));
            let p99 = of(&|sample| sample.p99.unwrap_or(f64::NAN));
            write!(out, " {} | {} |", short(p50), short(p99))?;
        }
        let mib = f64::from(1 << 20);
        writeln!(
            out,
            " {} | {} | {:.1}/{:.1} | {} |",
            short(of(&|sample| sample.cpu(unit))),
            if place == 0 { "1".to_owned() } else { short(median(peer.cpu_ratios.iter().copied())) },
            of(&|sample| sample.server_memory as f64) / mib,
            of(&|sample| sample.client_memory as f64) / mib,
            peer.samples.len(),
        )?;
    }
    let samples = || result.peers.iter().flat_map(|peer| &peer.samples);
    let runs = samples().count().max(1) as f64;
    writeln!(
        out,
        "\nOther processes used {:.2} cores on average, the host took {:.2}.",
        samples().map(|sample| sample.others).sum::<f64>() / runs,
        samples().map(|sample| sample.stolen).sum::<f64>() / runs,
    )?;
    for failure in &result.failures {
        writeln!(out, "\nFailed: {failure}.")?;
    }
    Ok(())
}

/// All rows at a glance: ratios only.
pub(crate) fn summary(out: &mut impl Write, results: &[RowResult]) -> io::Result<()> {
    let mut names: Vec<&str> = Vec::new();
    for peer in results.iter().flat_map(|result| result.peers.iter().skip(1)) {
        if !names.contains(&peer.name.as_str()) {
            names.push(&peer.name);
        }
    }
    writeln!(out, "\n## All rows: ratio to the reference (ratio of CPU an operation)\n")?;
    writeln!(out, "| row | reference | {} |", names.join(" | "))?;
    writeln!(out, "| --- | --- |{}", " ---: |".repeat(names.len()))?;
    for result in results {
        write!(out, "| {} | {} |", result.name, result.reference)?;
        for name in &names {
            match result.peers.iter().find(|peer| peer.name == *name && !peer.ratios.is_empty()) {
                Some(peer) => write!(
                    out,
                    " {} ({}) |",
                    short(median(peer.ratios.iter().copied())),
                    short(median(peer.cpu_ratios.iter().copied()))
                )?,
                None => write!(out, " – |")?,
            }
        }
        writeln!(out)?;
    }
    writeln!(
        out,
        "\nMore is better, but fewer bytes a connection in the idle rows; less CPU is better everywhere."
    )
}

/// Writes every sample.
pub(crate) fn json(file: &Path, options: &Options, results: &[RowResult]) -> io::Result<()> {
    #[derive(Serialize)]
    struct Page<'a> {
        setting: &'a [String],
        rounds: u32,
        seconds: f64,
        rows: &'a [RowResult],
    }
    let setting = Setting::read(options).lines();
    let page = Page { setting: &setting, rounds: options.rounds, seconds: options.seconds, rows: results };
    fs::write(file, serde_json::to_vec_pretty(&page)?)
}

/// A sample's main figure with its unit.
pub(crate) fn figure(unit: Unit, sample: &Sample) -> String {
    format!("{} {unit}", short(sample.rate(unit)))
}

/// The machine and the options.
#[derive(Debug)]
struct Setting {
    date: String,
    machine: String,
    congestion: String,
    memcpy: String,
    runs: String,
}

impl Setting {
    fn read(options: &Options) -> Self {
        let line = |file: &str| fs::read_to_string(file).unwrap_or_default().trim().to_owned();
        let processor = line("/proc/cpuinfo");
        let processor = processor
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown processor", |(_, name)| name);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let system = line("/proc/sys/net/ipv4/tcp_congestion_control");
        Self {
            date: date(),
            machine: format!("{cores} × {processor}, Linux {}", line("/proc/sys/kernel/osrelease")),
            congestion: match &options.congestion {
                Some(ours) => format!("congestion control {ours} on every socket; the system's is {system}"),
                None => format!("congestion control {system}, the system's"),
            },
            memcpy: match options.memcpy.tunables() {
                Some(tunables) => format!("GLIBC_TUNABLES={tunables} in every process"),
                None => "glibc's memcpy as it is".to_owned(),
            },
            runs: format!(
                "{} rounds of {} s; at most {} connections, for {} descriptors; servers have two worker threads, \
                 clients one thread{}",
                options.rounds,
                options.seconds,
                options.connections,
                crate::measure::descriptors(),
                if options.spin { "; rtt beside idle-priority spinners" } else { "" },
            ),
        }
    }

    fn lines(self) -> Vec<String> {
        vec![self.date, self.machine, self.congestion, self.memcpy, self.runs]
    }
}

/// Today in UTC. Howard Hinnant's `civil_from_days`: years begin in March, so that the leap day is their last.
fn date() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

fn spread(ratios: &[f64]) -> String {
    if ratios.is_empty() {
        return "–".to_owned();
    }
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} [{}–{}]", short(median(ratios.iter().copied())), short(least), short(most))
}

/// Three digits.
fn short(value: f64) -> String {
    match value {
        value if !value.is_finite() => "–".to_owned(),
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e4 => format!("{:.1} k", value / 1e3),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 0.1 => format!("{value:.2}"),
        value => format!("{value:.4}"),
    }
}
