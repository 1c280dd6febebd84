//! Measures calls, events and blobs on every carrier, beside the requests of nossock.
//!
//! The processes, the measuring and the table are those of nossock's own benchmark, so that both say the same of the same thing; here are only the
//! [`rows`] and the [`peers`]. What the layers below cost by themselves is in the benchmark `layers`.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "both ends are this program, and a broken run is to end loudly; not all of the other program is needed"
)]

#[path = "../../../nossock/benches/transports/client.rs"]
mod client;
mod count;
#[path = "../../../nossock/benches/transports/load.rs"]
mod load;
#[path = "../../../nossock/benches/transports/measure.rs"]
mod measure;
#[path = "../../../nossock/benches/transports/messages.rs"]
mod messages;
#[path = "../../../nossock/benches/transports/net.rs"]
mod net;
#[path = "../../../nossock/benches/transports/options.rs"]
mod options;
#[path = "../../../nossock/benches/transports/peer.rs"]
mod peer;
mod peers;
mod rows;
#[path = "../../../nossock/benches/transports/run.rs"]
mod run;
#[path = "../../../nossock/benches/transports/server.rs"]
mod server;
#[path = "../../../nossock/benches/transports/table.rs"]
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
        ["--count", peer, connections, depth, calls, ..] => count::process(peer, [connections, depth, calls]),
        ["--help" | "-h", ..] => write!(io::stdout(), "{}{}", rows::ABOUT, options::HELP),
        // `cargo test --benches` says nothing, or `--test`.
        [] | ["--test", ..] => Options::smoke().and_then(measure_all),
        _ => Options::parse(arguments).and_then(measure_all),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("carriers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all(mut options: Options) -> io::Result<()> {
    // The daemon binds its sockets itself, and knows no such option; everybody gets the system's.
    options.congestion = None;
    let until = Instant::now() + options.limit;
    let mut results = Vec::new();
    let mut out = io::stdout();
    table::header(&mut out, &options)?;
    for row in &options.rows {
        let result = run::row(*row, &options, until);
        table::row(&mut out, &result)?;
        results.push(result);
    }
    table::summary(&mut out, &results)?;
    if let Some(file) = &options.json {
        table::json(file, &options, &results)?;
    }
    let failures: usize = results.iter().map(|result| result.failures.len()).sum();
    if failures > 0 {
        return Err(io::Error::other(format!("{failures} runs failed or were left out")));
    }
    Ok(())
}
