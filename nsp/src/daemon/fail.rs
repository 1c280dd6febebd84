//! What a caller is told when something did not work, and what the log is told beside it.

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::proof::ProveError;
use crate::authority::Denied;
use crate::proto::Failure;
use crate::secure::{Random as _, SystemRandom};

/// The codes that a daemon gives by itself, beside those of [`machine::daemon::code`](crate::machine::daemon::code). A service chooses
/// its own.
pub mod code {
    pub use crate::machine::daemon::code::{BUSY, INTERNAL, NO_ENTITY, NOT_VERIFIED, REFUSED, TIMEOUT};

    /// The daemon has no service of that name.
    pub const NO_SERVICE: &str = "no_service";
    /// The service has no function of that name.
    pub const NO_FUNCTION: &str = "no_function";
    /// The argument is not of the shape that the function takes.
    pub const BAD_ARGUMENT: &str = "bad_argument";
    /// The result is larger than a message may be.
    pub const TOO_LARGE: &str = "too_large";
    /// Nobody has proved to be the owner that the entity claims.
    pub const AUTH_FAILED: &str = "auth_failed";
    /// The user is known, and may not.
    pub const FORBIDDEN: &str = "forbidden";
    /// Too many have failed to log in.
    pub const THROTTLED: &str = "throttled";
    /// Something that the daemon depends on does not work now.
    pub const UNAVAILABLE: &str = "unavailable";
    /// The connection is not safe enough for secrets.
    pub const INSECURE: &str = "insecure";
    /// The daemon stops.
    pub const CLOSING: &str = "closing";
}

/// Why a function does not give what it was asked for.
///
/// The caller reads the code, the message and an id, and nothing else. What is told to the log only is the
/// [cause](Self::caused_by), under the same id.
///
/// Any error becomes a `Fail` by `?`; the caller is then told `internal` and the id, for nobody knows what is in the text of an error that was not
/// written for a stranger to read. Those that were, [`ProveError`](super::ProveError) and [`Denied`], keep their words.
///
/// ```
/// use nsp::daemon::Fail;
///
/// fn room(number: &str) -> Result<u16, Fail> {
///     let number: u16 = number.parse()?; // `internal`
///     if number > 100 {
///         return Err(Fail::new("no_room", format!("there is no room {number}")));
///     }
///     Ok(number)
/// }
/// assert_eq!(room("101").unwrap_err().message(), "there is no room 101");
/// assert_eq!(room("x").unwrap_err().code(), "internal");
/// ```
pub struct Fail(Box<Told>);

/// Boxed: it stands in the results of every handler.
struct Told {
    code: Cow<'static, str>,
    message: Cow<'static, str>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Fail {
    /// A failure with a code for programs and a message for people, both of which the caller reads.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Told { code: code.into(), message: message.into(), cause: None }))
    }

    /// A failure that is nobody's business but the log's.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(code::INTERNAL, "Error: something went wrong inside the service").caused_by(cause)
    }

    /// An argument that is not what the function takes.
    pub fn bad_argument(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(code::BAD_ARGUMENT, message)
    }

    /// Somebody who is known, and may not.
    #[must_use]
    pub fn forbidden() -> Self {
        Self::new(code::FORBIDDEN, "AuthFailed: not permitted")
    }

    /// With what really happened, for the log alone.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// What programs are told.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// What people are told.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What the log is told.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync)> {
        self.0.cause.as_deref()
    }

    /// Whether the daemon or the service is to blame, and not the caller.
    fn is_ours(&self) -> bool {
        self.0.cause.is_some() || self.0.code == code::INTERNAL
    }

    /// Logs it under a new id, and makes of it what the caller reads.
    pub(crate) fn tell(self, service: &str, name: &str) -> Box<Failure> {
        let id = error_id();
        let cause = self.0.cause.as_deref().map(tracing::field::display);
        let (code, name) = (&*self.0.code, name.escape_debug());
        if self.is_ours() {
            tracing::error!(service, %name, code, id, cause, "a function failed");
        } else {
            tracing::debug!(service, %name, code, id, "a call was refused");
        }
        let Told { code, message, .. } = *self.0;
        // This one word means success on the wire.
        let message = if message == "OK" { Cow::Borrowed("Error: OK") } else { message };
        Box::new(Failure { text: Some(message.into_owned()), code: Some(code.into_owned()), id: Some(id) })
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Fail {
    fn from(error: E) -> Self {
        // These were written for the caller to read. One implementation for all errors leaves no room for others beside it.
        let any: &dyn Any = &error;
        if let Some(error) = any.downcast_ref::<ProveError>() {
            return error.fail();
        }
        if let Some(denied) = any.downcast_ref::<Denied>() {
            return of_denied(denied);
        }
        Self::internal(error)
    }
}

impl fmt::Debug for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fail")
            .field("code", &self.0.code)
            .field("message", &self.0.message)
            .field("cause", &self.0.cause)
            .finish()
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.message.escape_debug(), self.0.code.escape_debug())
    }
}

/// What a caller is told of an authority that says no.
pub(crate) fn of_denied(denied: &Denied) -> Fail {
    let code = match denied {
        Denied::Wrong => code::AUTH_FAILED,
        Denied::Throttled { .. } => code::THROTTLED,
        Denied::Busy => code::BUSY,
        Denied::Unavailable => code::UNAVAILABLE,
    };
    Fail::new(code, format!("AuthFailed: {denied}"))
}

/// A name for one failure, by which it can be found in the log: no two of a daemon are the same, and nobody can tell from it how many there
/// were before the daemon was started.
fn error_id() -> String {
    static START: LazyLock<u64> = LazyLock::new(|| {
        let mut bytes = [0; 8];
        SystemRandom.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    });
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{:016x}", START.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caller_reads_code_message_and_id_and_not_the_cause() {
        let fail = Fail::new("no_room", "there is no such room").caused_by("table rooms in /var/lib/db");
        let told = fail.tell("Chat", "enter");
        assert_eq!(told.text.as_deref(), Some("there is no such room"));
        assert_eq!(told.code.as_deref(), Some("no_room"));
        assert_eq!(told.id.as_ref().unwrap().len(), 16);
        assert_ne!(told.id, Fail::new("a", "b").tell("Chat", "enter").id);
    }

    #[test]
    fn error_that_was_not_written_for_strangers_is_internal() {
        let error = std::fs::read("/nowhere/at/all").unwrap_err();
        let told = Fail::from(error).tell("Chat", "enter");
        assert_eq!(told.code.as_deref(), Some("internal"));
        assert!(!told.text.unwrap().contains("nowhere"));
    }

    #[test]
    fn message_that_would_mean_success_does_not() {
        assert_eq!(Fail::new("x", "OK").tell("Chat", "f").text.as_deref(), Some("Error: OK"));
    }
}
