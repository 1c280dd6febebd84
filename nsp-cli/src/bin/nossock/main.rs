//! netcat for named frames: listens, sends, asks, serves, measures and takes bytes apart.

mod bench;
mod body;
mod cert;
mod decode;
mod listen;
mod options;
mod output;
mod pieces;
mod request;
mod send;
mod serve;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use nsp_cli::exit::Failure;
use nsp_cli::process::in_runtime;
use nsp_cli::program::{self, About};

/// Named messages over one socket, from the command line.
///
/// URLs are tcp://HOST:PORT, tls://HOST:PORT, unix:/PATH, or HOST:PORT for tcp. Results go to standard output, everything
/// else to standard error.
///
/// Exit status: 0 done, 1 the remote handler failed, 2 wrong usage, 3 cannot connect, 4 TLS or trust, 5 not
/// authenticated, 6 not authorized, 7 no such handler, 8 time-out, 9 disconnected, 10 limit or protocol error, 11 partial.
#[derive(Debug, Parser)]
#[command(name = "nossock", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    /// Say more on standard error; twice says what every frame does.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, env = "NOSSOCK_VERBOSE")]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

/// What the program does. The commands describe themselves where their flags are.
#[derive(Debug, Subcommand)]
enum Command {
    Listen(listen::Args),
    Send(send::Args),
    Request(request::Args),
    Serve(serve::Args),
    Bench(bench::Args),
    Decode(decode::Args),
    #[command(subcommand)]
    Cert(cert::Command),
    #[command(flatten)]
    About(About),
}

/// All commands, each flag with its variable of the environment.
fn command_line() -> clap::Command {
    nsp_cli::with_twins(Cli::command(), "NOSSOCK")
}

fn main() -> ExitCode {
    let cli: Cli = program::parsed(command_line());
    program::log(cli.verbose, "warn");
    program::ended("nossock", run(cli.command))
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Listen(args) => in_runtime(listen::run(args)),
        Command::Send(args) => in_runtime(send::run(args)),
        Command::Request(args) => in_runtime(request::run(args)),
        Command::Serve(args) => in_runtime(serve::run(args)),
        Command::Bench(args) => in_runtime(bench::run(args)),
        Command::Decode(args) => decode::run(&args),
        Command::Cert(command) => cert::run(&command),
        Command::About(about) => about.run(command_line()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        command_line().debug_assert();
    }

    #[test]
    fn every_flag_has_a_variable() {
        // One variable cannot hold two values.
        assert_eq!(nsp_cli::without_twins(&command_line()), ["serve --exec"]);
    }

    #[test]
    fn examples_of_the_help_are_commands() {
        assert_eq!(program::wrong_examples(&command_line()), [""; 0]);
    }
}
