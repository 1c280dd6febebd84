//! The tour of the workspace's page, typed as it is printed there, in an empty home folder.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A command of the page, and what it is said to print.
#[derive(Debug)]
struct Step {
    command: String,
    printed: Vec<String>,
}

/// The commands of all `console` blocks, block by block.
fn blocks(page: &str) -> Vec<Vec<Step>> {
    let mut blocks = Vec::new();
    for block in page.split("```console\n").skip(1) {
        let mut steps: Vec<Step> = Vec::new();
        for line in block.split("```").next().unwrap().lines() {
            match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step { command: command.to_owned(), printed: Vec::new() }),
                None => steps.last_mut().unwrap().printed.push(line.to_owned()),
            }
        }
        blocks.push(steps);
    }
    blocks
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

/// Whether a line is as printed on the page, where `…` stands for anything.
fn is_as_printed(expected: &str, line: &str) -> bool {
    let (expected, line) = (without_ports(expected), without_ports(line));
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

fn assert_as_printed(command: &str, expected: &[String], lines: &[String]) {
    let same = expected.len() == lines.len()
        && expected.iter().zip(lines).all(|(expected, line)| is_as_printed(expected, line.trim_end()));
    assert!(same, "{command}\nprinted\n{}\nthe page says\n{}", lines.join("\n"), expected.join("\n"));
}

/// A program that runs on in the background, until the test is over.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Terminal<'a> {
    folder: &'a Path,
    environment: Vec<(&'static str, String)>,
}

impl Terminal<'_> {
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        // `exec`, so that it is the program that is ended, and not the shell around it.
        command.args(["-c", &format!("exec {line}")]).current_dir(self.folder).env_clear();
        let programs = Path::new(env!("CARGO_BIN_EXE_nsp")).parent().unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("HOME", self.folder).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Runs a command to its end; gives what a person sees.
    fn run(&self, line: &str) -> Vec<String> {
        let output = self.command(line).output().unwrap();
        let seen = [output.stdout, output.stderr].concat();
        String::from_utf8(seen).unwrap().lines().map(str::to_owned).collect()
    }

    /// Starts a program that goes on; gives the first lines of what it says.
    fn start(&self, line: &str, lines: usize) -> (Running, Vec<String>) {
        let child = self.command(line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut running = Running(child.unwrap());
        let mut said = BufReader::new(running.0.stderr.take().unwrap()).lines();
        let first = said.by_ref().take(lines).map(Result::unwrap).collect();
        std::thread::spawn(move || said.for_each(drop)); // a pipe that nobody reads would stop it
        (running, first)
    }
}

#[test]
fn tour_prints_what_the_page_says() {
    if Command::new("python3").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "the tour needs python3, and CI has to have it");
        eprintln!("skipped: the tour needs python3");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let blocks = blocks(&fs::read_to_string(root.join("README.md")).unwrap());
    let [daemon, calls, frames] = &blocks[..] else { panic!("the page has {} blocks", blocks.len()) };

    let folder = tempfile::tempdir().unwrap();
    for there in ["examples", "LICENSE"] {
        symlink(root.join(there), folder.path().join(there)).unwrap();
    }
    let environment = vec![("NSP_LISTEN", "nsps://127.0.0.1:0,ws://127.0.0.1:0".to_owned())];
    let mut terminal = Terminal { folder: folder.path(), environment };

    let [build, daemon] = &daemon[..] else { panic!("{daemon:?}") };
    assert!(build.command.starts_with("cargo build"), "this has been built for the test: {}", build.command);
    let (_daemon, said) = terminal.start(&daemon.command, daemon.printed.len());
    assert_as_printed(&daemon.command, &daemon.printed, &said);

    // What a person reads off the screen, types at the prompt, or need not say with the usual ports.
    let url = said.iter().find_map(|line| line.strip_prefix("listening nsps://")).unwrap();
    let password = said.iter().find_map(|line| line.strip_prefix("user admin, password ")).unwrap();
    let ca = folder.path().join(".local/share/nsp/ca.pem");
    terminal.environment = vec![
        ("NSP_URL", format!("nsps://{url}")),
        ("NSP_CA", ca.to_str().unwrap().to_owned()),
        ("NSP_PASSWORD", password.split(' ').next().unwrap().to_owned()),
    ];
    for Step { command, printed } in calls {
        assert_as_printed(command, printed, &terminal.run(command));
    }

    let mut running = Vec::new();
    for Step { command, printed } in frames {
        match command.strip_suffix(" &") {
            Some(command) => {
                let (program, said) = terminal.start(command, printed.len());
                assert_as_printed(command, printed, &said);
                running.push(program);
            }
            None => assert_as_printed(command, printed, &terminal.run(command)),
        }
    }
}

#[test]
fn dots_stand_for_anything() {
    assert!(is_as_printed("a … b", "a x y b"));
    assert!(is_as_printed("port 127.0.0.1:1, …", "port 127.0.0.1:2345, and so on"));
    assert!(is_as_printed("a…", "a"));
    assert!(!is_as_printed("a … b", "a x y c"));
    assert!(!is_as_printed("a", "a b"));
}
