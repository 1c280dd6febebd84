//! The line editor, in a thread of its own: reading a line blocks.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, ExternalPrinter, Helper};
use tokio::sync::mpsc as channel;

use nsp_cli::exit::Failure;
use nsp_cli::files;

use super::complete::Catalogue;
use super::line::is_secret;

/// Lines that are kept.
const HISTORY: usize = 1000;

/// What was typed.
#[derive(Debug)]
pub(super) enum Typed {
    Line(String),
    /// Ctrl-C: the line is thrown away.
    Interrupted,
    /// Ctrl-D, or the terminal is gone.
    End,
}

/// Prints above the prompt. Cheap to clone.
#[derive(Clone)]
pub(super) struct Printer(Arc<Mutex<dyn ExternalPrinter + Send>>);

impl Printer {
    pub(super) fn print(&self, line: &str) {
        let mut printer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Where there is no terminal any more there is nobody to tell.
        drop(printer.print(format!("{line}\n")));
    }
}

/// The way to the thread.
pub(super) struct Reader {
    ask: mpsc::Sender<String>,
    typed: channel::Receiver<Typed>,
    pub(super) printer: Printer,
}

impl Reader {
    pub(super) fn start(history: PathBuf, catalogue: Arc<Mutex<Catalogue>>) -> Result<Self, Failure> {
        let (ask, asked) = mpsc::channel::<String>();
        let (tell, typed) = channel::channel(1);
        let (ready, started) = mpsc::channel();
        std::thread::Builder::new()
            .name("shell".to_owned())
            .spawn(move || run(&history, catalogue, &asked, &tell, &ready))
            .map_err(|error| Failure::Other(format!("the shell cannot start: {error}")))?;
        let printer = started
            .recv()
            .map_err(|error| error.to_string())
            .and_then(|printer| printer)
            .map_err(|error| Failure::Other(format!("the terminal cannot be used: {error}")))?;
        Ok(Self { ask, typed, printer })
    }

    /// Asks for a line.
    pub(super) async fn line(&mut self, prompt: String) -> Typed {
        if self.ask.send(prompt).is_err() {
            return Typed::End;
        }
        self.typed.recv().await.unwrap_or(Typed::End)
    }
}

fn run(
    history: &PathBuf,
    catalogue: Arc<Mutex<Catalogue>>,
    asked: &mpsc::Receiver<String>,
    tell: &channel::Sender<Typed>,
    ready: &mpsc::Sender<Result<Printer, String>>,
) {
    let mut editor = match open(history, catalogue) {
        Ok((editor, printer)) => {
            drop(ready.send(Ok(printer)));
            editor
        }
        Err(error) => {
            drop(ready.send(Err(error.to_string())));
            return;
        }
    };
    while let Ok(prompt) = asked.recv() {
        let typed = match editor.readline(&prompt) {
            Ok(line) => {
                if !line.trim().is_empty() && !is_secret(&line) {
                    drop(editor.add_history_entry(line.as_str()));
                    keep(&mut editor, history);
                }
                Typed::Line(line)
            }
            Err(ReadlineError::Interrupted) => Typed::Interrupted,
            Err(_) => Typed::End,
        };
        if tell.blocking_send(typed).is_err() {
            return;
        }
    }
}

type ShellEditor = Editor<Completing, FileHistory>;

fn open(history: &PathBuf, catalogue: Arc<Mutex<Catalogue>>) -> rustyline::Result<(ShellEditor, Printer)> {
    let config = Config::builder()
        .max_history_size(HISTORY)?
        .completion_type(rustyline::CompletionType::List)
        .auto_add_history(false)
        .build();
    let mut editor = ShellEditor::with_config(config)?;
    editor.set_helper(Some(Completing(catalogue)));
    // None, or one that cannot be read, is as good as an empty one.
    drop(editor.load_history(history));
    let printer = editor.create_external_printer()?;
    Ok((editor, Printer(Arc::new(Mutex::new(printer)))))
}

/// Writes the history, for its owner only.
fn keep(editor: &mut ShellEditor, path: &PathBuf) {
    if let Some(folder) = path.parent() {
        drop(files::private_folder(folder));
    }
    if !path.exists() {
        drop(files::write_private(path, b""));
    }
    if let Err(error) = editor.append_history(path) {
        tracing::warn!(%error, "the history cannot be written");
    }
}

/// Completes from what the daemon offers.
struct Completing(Arc<Mutex<Catalogue>>);

impl Completer for Completing {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let catalogue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let completion = catalogue.complete(line.get(..pos).unwrap_or(line));
        // A candidate comes from the daemon, and is put on the terminal.
        let is_plain = |text: &String| !text.chars().any(char::is_control);
        Ok((completion.start, completion.candidates.into_iter().filter(is_plain).collect()))
    }
}

impl Hinter for Completing {
    type Hint = String;
}

impl Highlighter for Completing {}

impl Validator for Completing {}

impl Helper for Completing {}
