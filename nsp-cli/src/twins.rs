//! A variable of the environment for every flag.

use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, Command};

/// Gives each flag that has no variable of its own one that is named after where it stands: `--count` of `nsp ping` is
/// `NSP_PING_COUNT`. Flags that take two values, and those that only show something, have none.
#[must_use]
pub fn with_twins(command: Command, prefix: &str) -> Command {
    let command = command.mut_args(|arg| twin(arg, prefix));
    command.mut_subcommands(|sub| {
        let prefix = format!("{prefix}_{}", shout(sub.get_name()));
        with_twins(sub, &prefix)
    })
}

fn twin(arg: Arg, prefix: &str) -> Arg {
    let Some(long) = arg.get_long() else { return arg };
    let takes_two = arg.get_num_args().is_some_and(|values| values.min_values() > 1);
    let shows = matches!(
        arg.get_action(),
        ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
    );
    if takes_two || shows {
        return arg;
    }
    let variable = format!("{prefix}_{}", shout(long));
    // In a variable a switch is on with `1` or `yes`, too.
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let arg = if is_switch { arg.value_parser(BoolishValueParser::new()) } else { arg };
    if arg.get_env().is_some() {
        return arg;
    }
    // Once in the life of the program: names of variables are static to clap.
    let variable: &'static str = variable.leak();
    arg.env(variable)
}

fn shout(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

/// The flags of a command, and of all below it, that have no variable: for a test.
#[must_use]
pub fn without_twins(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter(|arg| {
        let is_asked_for = arg.get_long().is_some_and(|long| !["help", "version"].contains(&long));
        is_asked_for && arg.get_env().is_none()
    });
    let own = own.map(|arg| format!("{} --{}", command.get_name(), arg.get_long().unwrap_or_default()));
    own.chain(command.get_subcommands().flat_map(without_twins)).collect()
}
