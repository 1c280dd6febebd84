//! What a daemon is told about a connection before it begins.

use std::time::Duration;

use crate::machine::SpPolicy;
use crate::proto::Methods;
use crate::proto::text::Dialect;

/// How a daemon behaves towards one client.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The methods it speaks.
    pub methods: Methods,
    /// What it demands of SP.
    pub sp: SpPolicy,
    /// Whether clients of NSP 0.4 are served, and which of its forms they speak. They are told apart by their first byte, on carriers of whole messages.
    pub text: Option<Dialect>,
    /// How often it sends a heartbeat; `None` on carriers that look after themselves. 60 s on the others, as the original.
    pub heartbeat: Option<Duration>,
    /// How long a client may be connected without an entity. 30 s: time to log in by hand is not needed for that.
    pub first_entity: Duration,
    /// How long a service may take for one request. 240 s: longer than a question to the user may take.
    pub request_timeout: Duration,
    /// How long a client may take to answer a question. 180 s, as the original.
    pub question_timeout: Duration,
    /// What a client may make it keep.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            methods: Methods::default(),
            sp: SpPolicy::default(),
            text: None,
            heartbeat: None,
            first_entity: Duration::from_secs(30),
            request_timeout: Duration::from_secs(240),
            question_timeout: Duration::from_secs(180),
            limits: Limits::default(),
        }
    }
}

/// How much a daemon keeps for one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Largest message before the client has an entity, in bytes. 16 KiB: nothing that comes before is larger than a description.
    pub first_message: usize,
    /// Largest message after that, in bytes. 1 MiB for a blob, and 64 KiB for what goes with it.
    pub message: usize,
    /// Most entities. 64.
    pub entities: usize,
    /// Most entities that are being created, and most tokens that are being asked for, at once. 4.
    pub logins: usize,
    /// Most requests that services are working on. 256. There are never more than 65,536.
    pub requests: usize,
    /// Most bytes in them, each with its whole message; and as many in the names of requests for tokens that wait for their turn, which those
    /// beyond are refused without. 8 MiB.
    pub request_bytes: usize,
    /// Most questions that wait for the client's answer. 16.
    pub questions: usize,
    /// Most messages that make no sense, until the connection is closed. 100: enough to find a mistake by, too few to keep us busy.
    pub faults: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first_message: 16 * 1024,
            message: (1024 + 64) * 1024,
            entities: 64,
            logins: 4,
            requests: 256,
            request_bytes: 8 * 1024 * 1024,
            questions: 16,
            faults: 100,
        }
    }
}
