//! What a client may be told before it begins.

use std::time::Duration;

use crate::machine::SpMode;
use crate::proto::Methods;
use crate::proto::text::Dialect;

/// How a client behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The methods it speaks.
    pub methods: Methods,
    /// As which text of NSP 0.4 it speaks, on a carrier of whole messages. `None` is NSP 0.5.
    pub text: Option<Dialect>,
    /// Most bytes of a message of NSP 0.4, encrypted. What there is of NSP 0.5, the carrier looks at.
    pub largest_text: usize,
    /// What it wants of SP.
    pub sp: SpMode,
    /// How long it waits for the daemon to ask for SP. 5 s: a round trip and a daemon that is busy.
    pub sp_wait: Duration,
    /// Whether tokens and passwords may go out although there was no SP.
    pub secrets: Secrets,
    /// Whether data and events are acknowledged, as the original initiator does. No daemon waits for it, so over a carrier that only daemons of ours
    /// speak the client leaves it: each would be a write here, and a read there.
    pub acknowledges: bool,
    /// How long a daemon may take to create and verify an entity. 30 s, unless its service asks questions meanwhile: those stop the clock.
    pub open_timeout: Duration,
    /// How long opening may take in all, however often the daemon asks. 15 min: five questions, each answered at the last moment.
    pub open_limit: Duration,
    /// How long it waits for somebody to answer the daemon's question. 170 s: the original gives up after 180.
    pub question_timeout: Duration,
    /// What a daemon may make it keep.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            methods: Methods::default(),
            text: None,
            largest_text: usize::MAX,
            sp: SpMode::default(),
            sp_wait: Duration::from_secs(5),
            secrets: Secrets::default(),
            acknowledges: true,
            open_timeout: Duration::from_secs(30),
            open_limit: Duration::from_secs(15 * 60),
            question_timeout: Duration::from_secs(170),
            limits: Limits::default(),
        }
    }
}

/// Where tokens and passwords may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(clippy::exhaustive_enums, reason = "they may or they may not")]
pub enum Secrets {
    /// Only over a connection that SP has secured.
    #[default]
    OnlySecured,
    /// Over this connection as it is: there is TLS below, or it does not leave the machine, or its owner wants it so.
    Anywhere,
}

/// How much a client keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Most activities at once. 64, as many as our daemon lets one connection have.
    pub activities: usize,
    /// Most calls and sends that wait for an answer. 256: beyond, the caller should wait, not the daemon. There are never more than 65,536.
    pub calls: usize,
    /// Most questions of the daemon that wait for somebody to answer; further ones are declined. 16.
    pub questions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { activities: 64, calls: 256, questions: 16 }
    }
}
