//! What a program does around its commands: reads its line, logs, ends with a status.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Command, FromArgMatches};
use clap_complete::Shell;

use crate::exit::Failure;
use crate::output;

/// The commands about the program itself.
#[expect(clippy::exhaustive_enums, reason = "both programs and this library come as one package")]
#[derive(Debug, clap::Subcommand)]
pub enum About {
    /// Print completions for a shell.
    Completions {
        /// Which one.
        shell: Shell,
    },
    /// Write the manual pages into a folder.
    Man {
        /// Where to; made if it is not there.
        dir: PathBuf,
    },
}

impl About {
    /// Does it, for the program with these commands.
    ///
    /// # Errors
    /// When the output or a page cannot be written.
    pub fn run(self, mut command_line: Command) -> Result<(), Failure> {
        match self {
            Self::Completions { shell } => {
                let name = command_line.get_name().to_owned();
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut command_line, name, &mut script);
                output::write(&script)
            }
            Self::Man { dir } => {
                let failed = |error: std::io::Error| Failure::file(&dir, &error);
                std::fs::create_dir_all(&dir).map_err(failed)?;
                clap_mangen::generate_to(command_line, &dir).map_err(failed)
            }
        }
    }
}

/// What the command line says. Where it says nothing that makes sense, or asks for help, the program ends here.
pub fn parsed<C: FromArgMatches>(command_line: Command) -> C {
    let matches = command_line.get_matches();
    C::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Logs on standard error: from `quiet` on, and more for each `-v`.
pub fn log(verbose: u8, quiet: &str) {
    let level = match verbose {
        0 => quiet,
        1 => "debug",
        _ => "trace",
    };
    tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).init();
}

/// The status that a program ends with; says why, if it failed.
#[must_use]
pub fn ended(program: &str, result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    if !failure.is_quiet() {
        crate::note!("{program}: {failure}");
    }
    failure.code()
}

/// The examples in the help of a program that are no commands of it, with what is wrong: for a test.
#[must_use]
pub fn wrong_examples(command_line: &Command) -> Vec<String> {
    let mut wrong = Vec::new();
    let examples = examples(command_line);
    if examples.is_empty() {
        wrong.push("there are no examples".to_owned());
    }
    for example in examples {
        if let Err(error) = command_line.clone().try_get_matches_from(words(&example)) {
            let error = error.to_string();
            wrong.push(format!("{example}: {}", error.lines().next().unwrap_or_default()));
        }
    }
    wrong
}

/// The lines below `Examples:` of a command and of all below it, from the program's name on.
fn examples(command: &Command) -> Vec<String> {
    fn of(command: &Command, program: &str, found: &mut Vec<String>) {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in text.lines().filter(|line| line.starts_with("  ")) {
            // Something may be piped into it.
            let example =
                line.trim_start().split(" | ").find(|part| part.starts_with(&format!("{program} ")));
            found.extend(example.map(str::to_owned));
        }
        command.get_subcommands().for_each(|command| of(command, program, found));
    }
    let mut found = Vec::new();
    of(command, command.get_name(), &mut found);
    found
}

/// The words of a line, as a shell takes it apart; up to where its output goes elsewhere.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '>') => return words,
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_found_and_taken_apart() {
        let command =
            Command::new("p").subcommand(Command::new("ask").arg(clap::Arg::new("what")).after_help(
                "Examples:\n  echo x | p ask '{\"a\": 1}' > file\n  p ask x y\n\nA text with p ask in it.",
            ));
        assert_eq!(examples(&command), ["p ask '{\"a\": 1}' > file", "p ask x y"]);
        assert_eq!(words("p ask '{\"a\": 1}' > file"), ["p", "ask", "{\"a\": 1}"]);
        let wrong = wrong_examples(&command);
        assert!(
            wrong.len() == 1 && wrong[0].starts_with("p ask x y: error: unexpected argument 'y'"),
            "{wrong:?}"
        );
    }
}
