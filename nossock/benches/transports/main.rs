//! Measures nossock beside references made by hand and beside other libraries.
//!
//! `cargo bench -p nossock -- --help` names the options. For every run this program starts itself twice more, as a
//! server and as a client, so that both pay for their own work only and each for all of it.
//!
//! - [`rows`]: what is measured, and whom a row's ratios are taken to.
//! - [`peers`]: who carries the messages; the references in `peers/by_hand`.
//! - [`client`], [`server`], [`net`], [`messages`], [`measure`]: the measured processes.
//! - [`run`], [`options`], [`table`]: the process that starts them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "both ends are this program, and a broken run is to end loudly"
)]

mod client;
mod load;
mod measure;
mod messages;
mod net;
mod options;
mod peer;
mod peers;
mod rows;
mod run;
mod server;
mod table;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use options::Options;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--server", job] => serde_json::from_str(job).map_err(io::Error::from).and_then(server::process),
        ["--client", job] => serde_json::from_str(job).map_err(io::Error::from).and_then(client::process),
        ["--spinner"] => run::spinner(),
        ["--help" | "-h", ..] => print_help(),
        // `cargo test --benches` says nothing, or `--test`.
        [] | ["--test", ..] => Options::smoke().and_then(|options| measure_all(&options)),
        _ => Options::parse(arguments).and_then(|options| measure_all(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("transports: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_help() -> io::Result<()> {
    write!(io::stdout(), "{}{}", rows::ABOUT, options::HELP)
}

fn measure_all(options: &Options) -> io::Result<()> {
    let until = Instant::now() + options.limit;
    let mut results = Vec::new();
    let mut out = io::stdout();
    table::header(&mut out, options)?;
    for row in &options.rows {
        let result = run::row(*row, options, until);
        table::row(&mut out, &result)?;
        results.push(result);
    }
    table::summary(&mut out, &results)?;
    if let Some(file) = &options.json {
        table::json(file, options, &results)?;
    }
    let failures: usize = results.iter().map(|result| result.failures.len()).sum();
    if failures > 0 {
        return Err(io::Error::other(format!("{failures} runs failed or were left out")));
    }
    Ok(())
}
