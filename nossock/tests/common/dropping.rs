//! Futures that are polled so many times and then dropped; and which public ones there are, so that a test can see that it has
//! left none out.
#![allow(dead_code, unreachable_pub, reason = "each test file includes this and uses what it needs")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// When a future is dropped: right after it was polled for the last time, or when what comes after that has happened, so that it was
/// woken and not polled any more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moment {
    AtOnce,
    Woken,
}

/// After how many polls a future is dropped, and when.
pub type When = (usize, Moment);

/// Every number of polls at each moment.
pub fn drops(polls: usize) -> impl Iterator<Item = When> + Clone {
    (1..=polls).flat_map(|polls| [(polls, Moment::AtOnce), (polls, Moment::Woken)])
}

/// Polls a future so many times, lets something happen after each, and drops it; gives what it came to before that.
pub async fn drop_after<F: Future>(
    future: F,
    (polls, moment): When,
    mut between: impl AsyncFnMut(),
) -> Option<F::Output> {
    let mut future = pin!(future);
    for n in 1..=polls {
        if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            return Some(output);
        }
        if n < polls || moment == Moment::Woken {
            between().await;
        }
    }
    None
}

/// Lets everybody else do what there is to do.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// A future that is public, and the test that drops it.
pub type Covered = (&'static str, &'static str);

/// Compares what is dropped with what the sources of a crate offer: each public `async fn`, each public function that gives a future, and
/// each public stream. `files` are the tests: each of those named has to be there, and to name what it is said to drop.
pub fn assert_all_are_dropped(crate_folder: &str, covered: &[Covered], files: &[&str]) {
    let found = offered(&Path::new(crate_folder).join("src"));
    let listed: BTreeSet<String> = covered.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(listed.len(), covered.len(), "one of them is listed twice");
    let missing: Vec<_> = found.difference(&listed).collect();
    assert!(missing.is_empty(), "nobody drops {missing:#?}");
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(gone.is_empty(), "there is no {gone:#?}");
    for (name, test) in covered {
        let body = files.iter().find_map(|file| body_of(file, test));
        let body = body.unwrap_or_else(|| panic!("no test is called {test}"));
        // Streams are made by a function that is called like them; what a macro makes has no name here.
        let called = name.rsplit("::").next().unwrap().to_lowercase();
        let is_named = body.to_lowercase().contains(&called);
        assert!(called.starts_with('$') || is_named, "{test} does not drop {name}");
    }
}

/// The text of a function at the outermost level of a file.
fn body_of<'a>(file: &'a str, name: &str) -> Option<&'a str> {
    let start = file.find(&format!("fn {name}("))?;
    let rest = file.get(start..)?;
    rest.get(..rest.find("\n}")?)
}

/// Public futures and streams below a folder, as `file::Type::function` and `file::Type`.
fn offered(src: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in files(src) {
        let module = file.strip_prefix(src).unwrap().with_extension("");
        let module = module.to_str().unwrap().replace(std::path::MAIN_SEPARATOR, "::");
        let module = module.strip_suffix("::mod").unwrap_or(&module);
        // Tests are at the end, or in files of their own.
        if module.split("::").any(|part| part == "tests") {
            continue;
        }
        let source = fs::read_to_string(&file).unwrap();
        let code = source.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
        found.extend(offered_by(code).into_iter().map(|name| format!("{module}::{name}")));
    }
    assert!(found.len() > 10, "{found:?} cannot be all");
    found
}

/// What the source of one file offers. It is formatted, so what is not indented begins and ends an `impl`.
fn offered_by(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut of, mut is_of_trait) = (String::new(), false);
    let mut lines = source.lines().peekable();
    while let Some(line) = lines.next() {
        let said = line.trim_start();
        if said.starts_with("//") {
            continue;
        }
        if said.starts_with("impl") {
            let (what, whose) = implemented(said);
            if what.ends_with("Stream") {
                found.push(whose.clone());
            }
            // What others are to implement is theirs; what is implemented of it here is as public as the trait.
            is_of_trait = !what.is_empty();
            of = whose;
        } else if line.starts_with('}') || line.starts_with("pub trait") {
            of.clear();
            is_of_trait = false;
        }
        let is_public = said.starts_with("pub ") || (is_of_trait && said.starts_with("fn "));
        let Some((_, name)) = said.split_once("fn ").filter(|_| is_public) else { continue };
        let name = name.split(['(', '<']).next().unwrap();
        let mut signature = said.to_owned();
        while !signature.contains(['{', ';']) {
            let Some(next) = lines.next() else { break };
            signature.push_str(next);
        }
        let gives = signature.split_once("->").map_or("", |(_, gives)| gives.trim_start());
        let boxed = ["Answer<", "Pending<"].iter().any(|future| gives.starts_with(future));
        let is_future = boxed || said.contains("async fn ") || gives.starts_with("impl Future");
        // Of the traits only those that give boxed ones are asked by others than us.
        if is_future && (boxed || said.starts_with("pub ")) {
            found.push(if of.is_empty() { name.to_owned() } else { format!("{of}::{name}") });
        }
    }
    found
}

/// The trait that is implemented, if it is one, and for which type; without what is generic.
fn implemented(line: &str) -> (String, String) {
    let mut rest = line.trim_start_matches("impl");
    if rest.starts_with('<') {
        let mut depth = 0;
        let end = rest.char_indices().find(|(at, char)| {
            depth += i32::from(*char == '<');
            // An arrow closes nothing.
            depth -= i32::from(*char == '>' && !rest.get(..*at).unwrap_or_default().ends_with('-'));
            depth == 0
        });
        rest = end.and_then(|(at, _)| rest.get(at + 1..)).unwrap_or_default();
    }
    let (what, whose) = rest.split_once(" for ").unwrap_or(("", rest));
    let whose = whose.trim();
    let end = whose.find(['<', ' ']).unwrap_or(whose.len());
    let whose = whose.get(..end).unwrap_or_default().rsplit("::").next().unwrap_or_default();
    (what.trim().to_owned(), whose.to_owned())
}

/// Sources below a folder, however deep.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let all = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    all.filter(|path| path.extension().is_some_and(|ending| ending == "rs")).collect()
}

#[test]
fn futures_and_streams_are_found_in_sources() {
    let source = "
pub async fn connect() {
}

impl<A: Fn() -> u8> Socket<A> {
    /// pub async fn not_this() {}
    pub(crate) async fn hidden(&self) {
    }

    pub fn request<'a>(
        &'a self,
    ) -> impl Future<Output = ()>
    where
        A: Send,
    {
    }

    pub fn plain(&self) -> u8 {
    }
}

pub trait Asks {
    fn asked(&self) -> Answer<'_, u8>;
}

impl Asks for Socket {
    fn asked(&self) -> Answer<'_, u8> {
    }
}

impl Stream for Messages<'_> {
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
    }
}
";
    assert_eq!(offered_by(source), ["connect", "Socket::request", "Socket::asked", "Messages"]);
}
