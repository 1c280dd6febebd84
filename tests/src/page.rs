//! Pages with commands in them, typed as they are printed there.
//!
//! What a page shows in a block of the kind `console` is what a person sees: `$ ` and a command, and then what the command prints, where
//! `…` stands for anything, and alone for any number of lines. A command with `&` behind it, and a daemon, goes on beside the next ones; of
//! it the first lines count. What stands behind the prompt of a shell is typed there.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::terminal::{Await, terminal};

/// A command of a page, and what it is said to print.
#[derive(Debug)]
pub struct Step {
    /// The command.
    pub command: String,
    /// The lines.
    pub printed: Vec<String>,
}

/// The folder of the whole project.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The blocks of a kind, one after the other.
#[must_use]
pub fn blocks<'a>(page: &'a str, kind: &str) -> Vec<&'a str> {
    let begin = format!("```{kind}\n");
    page.split(&begin).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// The commands of all `console` blocks of a page.
#[must_use]
pub fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in blocks(page, "console") {
        let first = steps.len();
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step { command: command.to_owned(), printed: Vec::new() }),
                None => {
                    assert!(steps.len() > first, "a block begins with what nobody has asked for: {line}");
                    steps.last_mut().unwrap().printed.push(line.to_owned());
                }
            }
        }
    }
    steps
}

/// A program that runs on in the background, until the test is over.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Who types, in an empty home folder.
#[derive(Debug)]
pub struct Typist {
    home: TempDir,
    programs: PathBuf,
    environment: Vec<(String, String)>,
    /// Ports as the page has them, and as the system has chosen them here.
    ports: Vec<(String, String)>,
    /// What is typed where a prompt begins like this.
    answers: Vec<(String, String)>,
    running: Vec<Running>,
}

impl Typist {
    /// With these programs before all others, and these files and folders of the project under their names.
    #[must_use]
    pub fn new(program: &str, there: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        for path in there {
            let path = root().join(path);
            symlink(&path, home.path().join(path.file_name().unwrap())).unwrap();
        }
        let programs = Path::new(program).parent().unwrap().to_owned();
        let environment = vec![("NSP_LISTEN".to_owned(), "nsps://127.0.0.1:0,ws://127.0.0.1:0".to_owned())];
        let answers = ["New password of", "Once more"]
            .map(|prompt| (prompt.to_owned(), "a password of my own".to_owned()));
        Self { home, programs, environment, ports: Vec::new(), answers: answers.into(), running: Vec::new() }
    }

    /// The home folder, in which it works.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Types all that a page says, and fails unless it prints what the page says. Gives the number of commands.
    pub fn type_page(&mut self, page: &str) -> usize {
        let steps = steps(&fs::read_to_string(root().join(page)).unwrap());
        for step in &steps {
            self.type_step(step);
        }
        steps.len()
    }

    fn type_step(&mut self, Step { command, printed }: &Step) {
        if command.starts_with("cargo build ") {
            assert!(printed.is_empty(), "this has been built for the test: {command}");
            return;
        }
        let (line, goes_on) = match command.strip_suffix(" &") {
            Some(line) => (line, true),
            None => {
                (&**command, command.starts_with("nsp daemon ") && !command.starts_with("nsp daemon check"))
            }
        };
        let line = self.here(&as_built(line), goes_on);
        let seen = if goes_on { self.start(&line, printed.len()) } else { self.run(&line, printed) };
        let same = match printed.iter().any(|line| typed_in_shell(line).is_some()) {
            // An editor draws lines more than once.
            true => printed.iter().all(|line| {
                let anywhere = format!("…{line}…");
                seen.iter().any(|seen| is_as_printed(&anywhere, seen))
            }),
            false => are_as_printed(printed, &seen),
        };
        assert!(same, "{command}\nprinted\n{}\nthe page says\n{}", seen.join("\n"), printed.join("\n"));
        self.learn(printed, &seen);
    }

    /// A command with the ports of here. What is to listen at a port that nobody knows yet lets the system choose.
    fn here(&self, line: &str, listens: bool) -> String {
        let mut parts = line.split("127.0.0.1:");
        let mut out = parts.next().unwrap().to_owned();
        for part in parts {
            let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
            let port = &part[..part.len() - rest.len()];
            let known = self.ports.iter().rev().find(|(page, _)| page == port).map(|(_, here)| here.as_str());
            let port = known.unwrap_or(if listens { "0" } else { port });
            out += &format!("127.0.0.1:{port}{rest}");
        }
        out
    }

    fn command(&self, mut command: Command) -> Command {
        command.current_dir(self.home()).env_clear();
        let path = format!("{}:{}", self.programs.display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("HOME", self.home()).env("TERM", "xterm");
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Runs a command to its end, on a terminal; gives what a person sees.
    fn run(&self, line: &str, printed: &[String]) -> Vec<String> {
        let asked = printed.iter().filter_map(|line| {
            if let Some(typed) = typed_in_shell(line) {
                return Some(Await::then_type("> ", format!("{typed}\n")));
            }
            let (prompt, answer) = self.answers.iter().find(|(prompt, _)| line.starts_with(prompt))?;
            Some(Await::then_type(prompt, format!("{answer}\n")))
        });
        let mut command = terminal("/bin/bash", &asked.collect::<Vec<_>>());
        command.args(["-c", line]);
        let output = self.command(command).stdin(Stdio::null()).output().unwrap();
        let seen = [output.stdout, output.stderr].concat();
        String::from_utf8(seen).unwrap().lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// Starts a program that goes on; gives the first lines of what it says.
    fn start(&mut self, line: &str, lines: usize) -> Vec<String> {
        let mut command = Command::new("bash");
        // `exec`, so that it is the program that is ended, and not the shell around it.
        command.args(["-c", &format!("exec {line} 2>&1")]);
        let child = self.command(command).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut running = Running(child.unwrap());
        let mut said = BufReader::new(running.0.stdout.take().unwrap()).lines();
        let first = said.by_ref().take(lines).map(Result::unwrap).collect();
        std::thread::spawn(move || said.for_each(drop)); // a pipe that nobody reads would stop it
        self.running.push(running);
        first
    }

    /// What a person reads off the screen, to type it later, or need not say with the usual ports.
    fn learn(&mut self, printed: &[String], seen: &[String]) {
        for (page, here) in printed.iter().zip(seen) {
            if let (Some(page), Some(here)) = (port(page), port(here)) {
                self.ports.push((page.to_owned(), here.to_owned()));
            }
            if let Some(rest) = here.strip_prefix("user admin, password ") {
                let password = rest.split(' ').next().unwrap();
                self.answers.push(("Password of admin".to_owned(), password.to_owned()));
                // It is the daemon of this home: the first address is the one that is found without being told.
                let first = seen.iter().find_map(|line| line.strip_prefix("listening ")).unwrap();
                let ca = self.home().join(".local/share/nsp/ca.pem");
                self.environment.push(("NSP_URL".to_owned(), first.to_owned()));
                self.environment.push(("NSP_CA".to_owned(), ca.to_str().unwrap().to_owned()));
            }
        }
    }
}

/// A command that would build a program first, as it runs the one that is built.
fn as_built(line: &str) -> String {
    let Some(rest) = line.strip_prefix("cargo run ") else { return line.to_owned() };
    let (_, rest) = rest.split_once("--bin ").unwrap();
    rest.replacen(" -- ", " ", 1)
}

/// The first port of this machine in a line.
fn port(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("127.0.0.1:")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)
}

/// Ports are the system's choice here.
fn without_ports(line: &str) -> String {
    let mut parts = line.split("127.0.0.1:");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        out += "127.0.0.1:PORT";
        out += part.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out
}

/// What is typed in a line that shows the prompt of a shell.
fn typed_in_shell(line: &str) -> Option<&str> {
    let (prompt, typed) = line.split_once("> ")?;
    prompt.contains("@127.0.0.1:").then_some(typed)
}

/// Whether lines are as printed on the page, where `…` alone stands for any number of them.
fn are_as_printed(expected: &[String], lines: &[String]) -> bool {
    let Some((first, rest)) = expected.split_first() else { return lines.is_empty() };
    if first == "…" {
        return (0..=lines.len()).any(|at| are_as_printed(rest, lines.get(at..).unwrap()));
    }
    let Some((line, others)) = lines.split_first() else { return false };
    is_as_printed(first, line) && are_as_printed(rest, others)
}

/// Whether a line is as printed on the page, where `…` stands for anything.
fn is_as_printed(expected: &str, line: &str) -> bool {
    let (expected, line) = (without_ports(expected.trim_end()), without_ports(line.trim_end()));
    let mut parts = expected.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        let at = if parts.peek().is_none() {
            rest.ends_with(part).then(|| rest.len() - part.len())
        } else {
            rest.find(part)
        };
        let Some(at) = at else { return false };
        rest = rest.get(at + part.len()..).unwrap();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_stand_for_anything() {
        assert!(is_as_printed("a … b", "a x y b"));
        assert!(is_as_printed("port 127.0.0.1:1, …", "port 127.0.0.1:2345, and so on"));
        assert!(is_as_printed("a…", "a"));
        assert!(!is_as_printed("a … b", "a x y c"));
        assert!(!is_as_printed("a", "a b"));
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert!(are_as_printed(&lines("a\n…\nd"), &lines("a\nb\nc\nd")));
        assert!(are_as_printed(&lines("a\n…"), &lines("a")));
        assert!(!are_as_printed(&lines("a\n…\nd"), &lines("a\nb")));
        assert!(!are_as_printed(&lines("a"), &lines("a\nb")));
        assert_eq!(typed_in_shell("[7] me@127.0.0.1:1 Chat> a > b"), Some("a > b"));
    }

    #[test]
    fn page_is_taken_apart() {
        let page = "text\n```console\n$ a b\nc\n$ d &\n```\nmore\n```sh\ne\n```\n```console\n$ f\n```\n";
        let steps = steps(page);
        let commands: Vec<_> = steps.iter().map(|step| step.command.as_str()).collect();
        assert_eq!(
            (commands.as_slice(), &*steps[0].printed),
            (&["a b", "d &", "f"][..], &["c".to_owned()][..])
        );
        assert_eq!(blocks(page, "sh"), ["e\n"]);
        assert_eq!(as_built("cargo run --release -p x --bin y -- z"), "y z");
        assert_eq!(as_built("cargo run -p x --bin y"), "y");
    }
}
