//! The configuration of the daemon, as TOML: what may be in it, and which line is wrong.
//!
//! Nothing has to be in it, and there need be none. A path in it begins at the folder it is in. What the command line says
//! goes before what it says.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use nsp_cli::exit::Failure;
use nsp_cli::text;

/// What a file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    /// Where to listen: URLs.
    pub(crate) listen: Option<Vec<String>>,
    /// Where to listen for the original's clients as well.
    pub(crate) legacy_clients: Vec<String>,
    /// Lets them send secrets.
    pub(crate) legacy_secrets: Option<bool>,
    /// Web pages whose browsers are let in.
    pub(crate) origins: Vec<String>,
    /// Allows carriers in clear beyond loopback.
    pub(crate) plaintext: Option<bool>,
    /// The folder with services.
    pub(crate) services: Option<PathBuf>,
    /// What a stop gives to what runs.
    pub(crate) grace: Option<Time>,
    /// The address of the metrics.
    pub(crate) metrics: Option<String>,
    /// What is logged.
    pub(crate) log: Option<String>,
    /// Who may do what.
    pub(crate) policy: Option<PathBuf>,
    /// How many users anybody may make in an hour.
    pub(crate) open_registration: Option<Count>,
    pub(crate) tls: Tls,
    pub(crate) limits: LimitsFile,
    pub(crate) passwords: Passwords,
    pub(crate) tokens: Tokens,
    #[serde(rename = "function")]
    pub(crate) functions: Vec<FunctionFile>,
}

/// Who the daemon is to its clients.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tls {
    /// The certificate and those that issued it; made by the daemon when it is not there.
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    /// Names of the certificate that the daemon makes.
    pub(crate) names: Vec<String>,
}

/// Bounds. What is not there is as [`Limits::default`] has it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsFile {
    connections: Option<Count>,
    connections_per_address: Option<Count>,
    message: Option<Size>,
    message_before_login: Option<Size>,
    entities: Option<Count>,
    requests: Option<Count>,
    request_timeout: Option<Time>,
    login_within: Option<Time>,
}

/// What hashing a password costs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Passwords {
    pub(crate) memory: Option<Size>,
    pub(crate) passes: Option<Count>,
    pub(crate) minimum_length: Option<Count>,
}

/// For how long a login is good.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tokens {
    pub(crate) lifetime: Option<Time>,
}

/// A script as a function.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FunctionFile {
    /// `SERVICE.FUNCTION`
    pub(crate) name: Spanned<String>,
    pub(crate) command: Spanned<Words>,
    #[serde(default)]
    pub(crate) description: String,
    /// Only for superusers with a token.
    #[serde(default)]
    pub(crate) secure: bool,
    /// Only for users who have logged in, whose name the script then knows.
    #[serde(default)]
    pub(crate) login: bool,
    pub(crate) timeout: Option<Time>,
    pub(crate) memory: Option<Size>,
    pub(crate) output: Option<Size>,
    pub(crate) parallel: Option<Count>,
    pub(crate) waiting: Option<Count>,
}

/// A program, or a program and its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Words(pub(crate) Vec<String>);

/// A time: `"10s"`, or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

/// A size: `"1MiB"`, or a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// How many; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) u32);

/// The bounds that hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) connections_per_address: usize,
    pub(crate) message: u64,
    pub(crate) message_before_login: u64,
    pub(crate) entities: usize,
    pub(crate) requests: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) login_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 256,
            message: 1 << 20,
            message_before_login: 16 << 10,
            entities: 64,
            requests: 256,
            request_timeout: Duration::from_secs(240),
            login_within: Duration::from_secs(30),
        }
    }
}

impl Limits {
    pub(crate) fn of(file: &LimitsFile) -> Self {
        let default = Self::default();
        let count = |given: Option<Count>, or: usize| given.map_or(or, |count| count.0 as usize);
        Self {
            connections: count(file.connections, default.connections),
            connections_per_address: count(file.connections_per_address, default.connections_per_address),
            message: file.message.map_or(default.message, |size| size.0),
            message_before_login: file
                .message_before_login
                .map_or(default.message_before_login, |size| size.0),
            entities: count(file.entities, default.entities),
            requests: count(file.requests, default.requests),
            request_timeout: file.request_timeout.map_or(default.request_timeout, |time| time.0),
            login_within: file.login_within.map_or(default.login_within, |time| time.0),
        }
    }

    /// Each with its value, as it would be written in the file.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        vec![
            ("connections", self.connections.to_string()),
            ("connections_per_address", self.connections_per_address.to_string()),
            ("message", text::shown_size(self.message)),
            ("message_before_login", text::shown_size(self.message_before_login)),
            ("entities", self.entities.to_string()),
            ("requests", self.requests.to_string()),
            ("request_timeout", text::shown_time(self.request_timeout)),
            ("login_within", text::shown_time(self.login_within)),
        ]
    }
}

/// A file, and what is needed to say where something in it is.
#[derive(Debug, Default)]
pub(crate) struct Config {
    pub(crate) file: File,
    path: PathBuf,
    text: String,
}

impl Config {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, &error))?;
        Self::parse(path, text)
    }

    pub(crate) fn parse(path: &Path, text: String) -> Result<Self, Failure> {
        let file = toml::from_str(&text).map_err(|error| {
            let at = error.span().unwrap_or_default();
            Failure::Usage(located(path, &text, &at, error.message()))
        })?;
        Ok(Self { file, path: path.to_owned(), text })
    }

    /// An error about what is at this place of the file.
    pub(crate) fn wrong(&self, span: &std::ops::Range<usize>, message: &str) -> Failure {
        Failure::Usage(located(&self.path, &self.text, span, message))
    }

    /// A path of the file, from where the program is.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.path.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }

    /// The folder that paths begin at.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or_else(|| Path::new(""))
    }
}

/// `nsp.toml:3: limits.message: …`, in one line.
fn located(path: &Path, text: &str, span: &std::ops::Range<usize>, message: &str) -> String {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let message = message.lines().collect::<Vec<_>>().join("; ");
    let mut said = format!("{}:{line}: ", path.display());
    if let Some(field) = field_at(text, span.start) {
        said.push_str(&field);
        said.push_str(": ");
    }
    said + &message
}

/// The path of the field at a place, such as `limits.message`, as far as the file can be read at all.
fn field_at(text: &str, at: usize) -> Option<String> {
    let (table, _) = DeTable::parse_recoverable(text);
    let mut path = Vec::new();
    descend(table.get_ref(), at, &mut path);
    (!path.is_empty()).then(|| path.join("."))
}

fn descend(table: &DeTable<'_>, at: usize, path: &mut Vec<String>) {
    for (key, value) in table {
        let here = key.span().contains(&at) || value.span().contains(&at);
        match value.get_ref() {
            // The parts of a table may be anywhere in the file.
            DeValue::Table(inner) => {
                let depth = path.len();
                path.push(key.get_ref().to_string());
                descend(inner, at, path);
                if path.len() > depth + 1 || here {
                    return;
                }
                path.truncate(depth);
            }
            DeValue::Array(items) => {
                let depth = path.len();
                path.push(key.get_ref().to_string());
                for item in items.iter() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        descend(inner, at, path);
                    }
                }
                if path.len() > depth + 1 || here {
                    return;
                }
                path.truncate(depth);
            }
            _ if here => {
                path.push(key.get_ref().to_string());
                return;
            }
            _ => {}
        }
    }
}

macro_rules! from_text_or_number {
    ($name:ident, $expecting:literal, $text:expr, $number:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Seen;
                impl Visitor<'_> for Seen {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        let parse: fn(&str) -> Result<$name, String> = $text;
                        parse(text).map_err(E::custom)
                    }
                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$name, E> {
                        let take: fn(u64) -> Option<$name> = $number;
                        u64::try_from(number)
                            .ok()
                            .and_then(take)
                            .ok_or_else(|| E::custom(format!("{number} is out of range")))
                    }
                }
                deserializer.deserialize_any(Seen)
            }
        }
    };
}

from_text_or_number!(Time, "a time such as \"10s\"", |text| text::duration(text).map(Time), |seconds| Some(
    Time(Duration::from_secs(seconds))
));
from_text_or_number!(Size, "a size such as \"1MiB\"", |text| text::size(text).map(Size), |bytes| Some(Size(
    bytes
)));
from_text_or_number!(
    Count,
    "a number",
    |text| Err(format!("\"{text}\" is a text where a number is expected")),
    |count| u32::try_from(count).ok().filter(|count| *count > 0).map(Count)
);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Words;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a program, or a list of a program and its arguments")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Words, E> {
                Ok(Words(vec![text.to_owned()]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut words: A) -> Result<Words, A::Error> {
                let mut all = Vec::new();
                while let Some(word) = words.next_element()? {
                    all.push(word);
                }
                if all.is_empty() {
                    return Err(de::Error::custom("the list is empty"));
                }
                Ok(Words(all))
            }
        }
        deserializer.deserialize_any(Seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("etc/nsp.toml"), text.to_owned()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn all_of_it_can_be_said() {
        let config = parse(
            r#"
listen = ["nsps://0.0.0.0:43580"]
legacy_clients = ["noservice://127.0.0.1:43583"]
plaintext = false
services = "services"
grace = "5s"
metrics = "127.0.0.1:9464"
log = "nsp=debug"
policy = "policy.toml"

[tls]
certificate = "c.pem"
key = "k.pem"
names = ["chat.example.org"]

[limits]
connections = 10
connections_per_address = 5
message = "2MiB"
message_before_login = 4096
entities = 3
requests = 4
request_timeout = 60
login_within = "10s"

[passwords]
memory = "8MiB"
passes = 3
minimum_length = 12

[tokens]
lifetime = "30d"

[[function]]
name = "Chat.Hello"
command = ["python3", "hello.py"]
description = "Greets."
secure = true
timeout = "1s"
memory = "64MiB"
output = "1KiB"
parallel = 2
waiting = 3
"#,
        )
        .unwrap();
        let limits = Limits::of(&config.file.limits);
        assert_eq!((limits.message, limits.message_before_login), (2 << 20, 4096));
        assert_eq!(limits.request_timeout, Duration::from_secs(60));
        assert_eq!(config.path(Path::new("c.pem")), Path::new("etc/c.pem"));
        assert_eq!(config.path(Path::new("/c.pem")), Path::new("/c.pem"));
        let [function] = config.file.functions.as_slice() else { panic!("one function") };
        assert_eq!(function.command.get_ref().0, ["python3", "hello.py"]);
        assert_eq!(Limits::of(&parse("").unwrap().file.limits), Limits::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_line_and_field() {
        for (text, said) in [
            ("grace = \"soon\"", "etc/nsp.toml:1: grace: `soon` is no time: write 500ms, 2s or 1m"),
            ("\n[limits]\nmessage = \"1 TiB\"", "etc/nsp.toml:3: limits.message: `tib` is no unit of size"),
            ("[limits]\nconnections = 0", "etc/nsp.toml:2: limits.connections: 0 is out of range"),
            ("[limits]\nconnections = \"many\"", "etc/nsp.toml:2: limits.connections: \"many\" is a text"),
            ("\n\nlisten = 7", "etc/nsp.toml:3: listen: invalid type: integer `7`"),
            (
                "[limits]\n\nconnektions = 1",
                "etc/nsp.toml:3: limits.connektions: unknown field `connektions`",
            ),
            (
                "[[function]]\nname = \"A.b\"\ncommand = []",
                "etc/nsp.toml:3: function.command: the list is empty",
            ),
            ("[[function]]\ncommand = \"x\"", "etc/nsp.toml:1: function: missing field `name`"),
            ("grace = ", "etc/nsp.toml:1: "),
            ("[limits\n", "etc/nsp.toml:1: "),
            ("a = 1\na = 2", "etc/nsp.toml:"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(said), "{text:?}: {error}");
            assert_eq!(error.lines().count(), 1, "{error:?}");
        }
    }
}
