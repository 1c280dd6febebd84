//! Client, shell and daemon of the NoService Protocol.

mod client;
mod daemon;
mod hidden;
mod keyring;
mod place;
mod script;
mod secret;
mod shell;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use nsp_cli::exit::Failure;
use nsp_cli::process::in_runtime;
use nsp_cli::program::{self, About};

/// Services, users and events over one connection, from the command line.
///
/// `nsp daemon` serves; everything else talks to a daemon. Which one, as whom and trusting whom comes from flags, from the environment, and from
/// the current context, in this order; without any of them it is the daemon of this machine. Results go to standard output, everything
/// else to standard error.
///
/// Exit status: 0 done, 1 the remote handler failed, 2 wrong usage, 3 cannot connect, 4 TLS or trust, 5 not
/// authenticated, 6 not authorized, 7 no such service or function, 8 time-out, 9 disconnected, 10 limit or protocol error, 11 partial.
#[derive(Debug, Parser)]
#[command(name = "nsp", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    /// Say more on standard error; twice says what every packet does. The daemon has --log.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, env = "NSP_VERBOSE")]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

/// What the program does. The commands describe themselves where their flags are.
#[derive(Debug, Subcommand)]
enum Command {
    Daemon(Box<daemon::Args>),
    Login(Box<client::login::LoginArgs>),
    Logout(Box<client::login::LogoutArgs>),
    Whoami(Box<client::login::WhoamiArgs>),
    Call(Box<client::call::CallArgs>),
    Send(Box<client::call::SendArgs>),
    Listen(Box<client::listen::Args>),
    Services(Box<client::services::Args>),
    User(Box<client::user::Args>),
    Token(Box<client::token::Args>),
    #[command(subcommand)]
    Trust(client::trust::Command),
    Ping(Box<client::ping::Args>),
    Bench(Box<client::bench::Args>),
    Top(Box<client::top::Args>),
    Doctor(Box<client::doctor::Args>),
    Shell(Box<shell::Args>),
    Context {
        #[command(flatten)]
        home: place::Home,
        #[command(subcommand)]
        command: client::context::Command,
    },
    #[command(flatten)]
    About(About),
}

/// All commands, each flag with its variable of the environment.
fn command_line() -> clap::Command {
    nsp_cli::with_twins(Cli::command(), "NSP")
}

fn main() -> ExitCode {
    let cli: Cli = program::parsed(command_line());
    if !matches!(cli.command, Command::Daemon(_)) {
        program::log(cli.verbose, "error");
    }
    program::ended("nsp", run(cli.command))
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Daemon(args) => in_runtime(daemon::run(*args)),
        Command::Login(args) => in_runtime(client::login::login(*args)),
        Command::Logout(args) => in_runtime(client::login::logout(*args)),
        Command::Whoami(args) => in_runtime(client::login::whoami(*args)),
        Command::Call(args) => in_runtime(client::call::call(*args)),
        Command::Send(args) => in_runtime(client::call::send(*args)),
        Command::Listen(args) => in_runtime(client::listen::run(*args)),
        Command::Services(args) => in_runtime(client::services::run(*args)),
        Command::User(args) => in_runtime(client::user::run(*args)),
        Command::Token(args) => in_runtime(client::token::run(*args)),
        Command::Trust(command) => in_runtime(client::trust::run(command)),
        Command::Ping(args) => in_runtime(client::ping::run(*args)),
        Command::Bench(args) => in_runtime(client::bench::run(*args)),
        Command::Top(args) => in_runtime(client::top::run(*args)),
        Command::Doctor(args) => in_runtime(client::doctor::run(*args)),
        Command::Shell(args) => in_runtime(shell::run(*args)),
        Command::Context { home, command } => client::context::run(&home, command),
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
        assert_eq!(nsp_cli::without_twins(&command_line()), [""; 0]);
    }

    #[test]
    fn examples_of_the_help_are_commands() {
        assert_eq!(program::wrong_examples(&command_line()), [""; 0]);
    }
}
