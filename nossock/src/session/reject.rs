use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The error of a reply: whatever JSON the handler chose, in the first place of `[error, value]`.
///
/// What this crate makes itself is `{"code":…,"message":…}`, and so is what [`Reject::new`] makes; handlers are
/// free to say anything else with [`Reject::value`]. `null`, `false`, `0` and `""` would be read as success and
/// become an [`Internal`](RejectCode::Internal) instead.
#[derive(Clone, PartialEq)]
pub struct Reject(Value);

impl Reject {
    /// An error with a code for programs and a message for people.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self(serde_json::json!({"code": code, "message": message.into()}))
    }

    pub(crate) fn of(code: RejectCode, message: impl Into<String>) -> Self {
        Self::new(code.as_str(), message)
    }

    /// An error of any shape.
    #[must_use]
    pub fn value<T: Serialize>(value: &T) -> Self {
        match serde_json::to_value(value) {
            Ok(value) if is_error(&value) => Self(value),
            Ok(value) => {
                Self::of(RejectCode::Internal, format!("a handler failed with {value}, which says success"))
            }
            Err(error) => {
                Self::of(RejectCode::Internal, format!("a handler's error cannot be JSON: {error}"))
            }
        }
    }

    pub(crate) const fn received(value: Value) -> Self {
        Self(value)
    }

    /// The error as it was or will be on the wire.
    #[must_use]
    pub const fn as_value(&self) -> &Value {
        &self.0
    }

    /// Reads the error as a type of the caller's.
    ///
    /// # Errors
    /// When it has another shape.
    pub fn parse<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        T::deserialize(&self.0)
    }

    /// The member `code`, when there is one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.0.get("code")?.as_str()
    }

    /// The member `message`, or the error itself when it is a text.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.0.get("message").unwrap_or(&self.0).as_str()
    }

    /// Whether the code is one of ours.
    #[must_use]
    pub fn is(&self, code: RejectCode) -> bool {
        self.code() == Some(code.as_str())
    }
}

/// Whether the first place of a reply says error: anything but `null`, `false`, `0` and `""`, as the npm package
/// and every JavaScript program has it.
fn is_error(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

/// The codes of errors that this crate makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RejectCode {
    /// Nobody handles requests of this name.
    NoHandler,
    /// The body is not what the handler reads.
    BadBody,
    /// The body is over the limit of the side that answers, or the answer over that of the side that asked.
    TooLarge,
    /// Too much waits already.
    Busy,
    /// The handler took too long.
    Timeout,
    /// The request was cancelled.
    Cancelled,
    /// The handler failed in a way it did not choose.
    Internal,
}

impl RejectCode {
    /// The code on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoHandler => "no_handler",
            Self::BadBody => "bad_body",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }
}

impl std::fmt::Debug for Reject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reject({})", self.0)
    }
}

/// The message and code where there are such, or the JSON; escaped.
impl std::fmt::Display for Reject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.message(), self.code()) {
            (Some(message), Some(code)) => write!(f, "{} ({})", message.escape_debug(), code.escape_debug()),
            (Some(message), None) => message.escape_debug().fmt(f),
            _ => self.0.fmt(f),
        }
    }
}

impl std::error::Error for Reject {}

impl From<&str> for Reject {
    fn from(message: &str) -> Self {
        Self::value(&message)
    }
}

impl From<String> for Reject {
    fn from(message: String) -> Self {
        Self::value(&message)
    }
}

/// What came back for a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// The JSON text of the value.
    Json(Bytes),
    /// A raw value.
    Raw(Bytes),
    /// The handler's error.
    Rejected(Reject),
}

/// The JSON text of a short value, kept in place: that costs less than sharing the buffer it came in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Short {
    len: u8,
    bytes: [u8; Self::MAX],
}

impl Short {
    const MAX: usize = 63;

    /// Takes these bytes, if they are few.
    #[inline]
    pub(crate) fn set(&mut self, bytes: &[u8]) -> bool {
        let (Some(room), Ok(len)) = (self.bytes.get_mut(..bytes.len()), u8::try_from(bytes.len())) else {
            return false;
        };
        room.copy_from_slice(bytes);
        self.len = len;
        true
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl Default for Short {
    fn default() -> Self {
        Self { len: 0, bytes: [0; Self::MAX] }
    }
}

impl std::fmt::Debug for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Short({} bytes)", self.len)
    }
}

/// What nearly every reply is, `[null,value]`: the value is what stands between this start and the last bracket.
#[inline]
pub(crate) fn success(body: &[u8]) -> Option<&[u8]> {
    body.strip_prefix(b"[null,")?.strip_suffix(b"]")
}

/// Reads the JSON body of a reply, `[error, value]`.
pub(crate) fn read_reply(body: Bytes) -> serde_json::Result<Outcome> {
    if let Some(value) = success(&body) {
        let (at, end) = (b"[null,".len(), b"[null,".len() + value.len());
        return Ok(Outcome::Json(body.slice(at..end)));
    }
    let mut parts: Vec<Value> = serde_json::from_slice(&body)?;
    let mut parts = parts.drain(..);
    let error = parts.next().unwrap_or_default();
    if is_error(&error) {
        return Ok(Outcome::Rejected(Reject::received(error)));
    }
    let value = parts.next().unwrap_or_default();
    Ok(Outcome::Json(serde_json::to_vec(&value)?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_javascript_takes_for_false_is_success() {
        for (reply, expected) in [
            ("[null,7]", Outcome::Json(Bytes::from("7"))),
            ("[null, 7 ]", Outcome::Json(Bytes::from(" 7 "))),
            ("[ null ,7]", Outcome::Json(Bytes::from("7"))),
            ("[false,[1]]", Outcome::Json(Bytes::from("[1]"))),
            ("[0,7]", Outcome::Json(Bytes::from("7"))),
            ("[\"\",7]", Outcome::Json(Bytes::from("7"))),
            ("[null]", Outcome::Json(Bytes::from("null"))),
            ("[]", Outcome::Json(Bytes::from("null"))),
            ("[\"no\",7]", Outcome::Rejected(Reject::from("no"))),
            ("[{}]", Outcome::Rejected(Reject::value(&serde_json::json!({})))),
            ("[1,null]", Outcome::Rejected(Reject::value(&1))),
        ] {
            assert_eq!(read_reply(Bytes::from(reply)).unwrap(), expected, "{reply}");
        }
        for bad in ["", "7", "{}", "[null", "[nul,1]", "\u{7f}"] {
            assert!(read_reply(Bytes::from(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn error_that_says_success_is_not_sent() {
        assert!(Reject::value(&false).is(RejectCode::Internal));
        assert!(Reject::from("").is(RejectCode::Internal));
        assert_eq!(Reject::new("no_money", "0 left").to_string(), "0 left (no_money)");
        assert_eq!(Reject::from("plain\n").to_string(), "plain\\n");
    }
}
