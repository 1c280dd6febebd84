//! All that is said and shown, to be searched for what must not be.
#![allow(dead_code, unreachable_pub, reason = "each test file includes this and uses what it needs")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::error::Error;
use std::fmt::{Arguments, Debug};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// A log that is kept.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Of everything that anybody says to `tracing` in this process, at every level.
    pub fn of_everything() -> Self {
        let log = Self::default();
        let subscriber =
            tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(log.clone());
        tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
        log
    }

    /// How many lines say this.
    pub fn lines(&self, what: &str) -> usize {
        let text = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        text.lines().filter(|line| line.contains(what)).count()
    }

    /// What is said in other ways goes here, too.
    pub fn says(&self, text: Arguments<'_>) {
        writeln!(self.0.lock().unwrap(), "{text}").unwrap();
    }

    /// What a program would print of it.
    pub fn shows<T: Debug>(&self, what: T) -> T {
        self.says(format_args!("{what:?} {what:#?}"));
        what
    }

    /// What a program would print of an error, and of its causes.
    pub fn fails(&self, error: impl Error) {
        self.says(format_args!("{error} {error:?} {error:#?}"));
        let mut source = error.source();
        while let Some(error) = source {
            self.says(format_args!("{error} {error:?} {error:#?}"));
            source = error.source();
        }
    }

    /// Sees that none of the secrets was said, in whatever form; and that each of these was, so that anything was.
    pub fn holds_none_of<S: AsRef<str>>(&self, secrets: &[S], said: &[&str]) {
        let text = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        assert!(text.len() > 1000, "something was said at all");
        for said in said {
            assert!(text.contains(said), "`{said}` shows that something was said at all:\n{text}");
        }
        // The last line of a key may be so short that it is there by chance.
        let secrets: Vec<_> = secrets.iter().map(AsRef::as_ref).filter(|secret| secret.len() >= 8).collect();
        assert!(!secrets.is_empty());
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} is in\n{text}");
            // As a list of numbers, which is what `Debug` makes of bytes.
            let numbers = format!("{:?}", secret.as_bytes().get(..10).unwrap_or(secret.as_bytes()));
            assert!(!text.contains(numbers.trim_matches(['[', ']'])), "{secret} is as bytes in\n{text}");
            let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            assert!(!text.contains(&hex), "{secret} is as hexadecimal digits in\n{text}");
        }
    }
}
