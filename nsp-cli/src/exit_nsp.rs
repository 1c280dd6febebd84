//! What the failures of nsp mean for a program: with which status it ends.

use nsp::carrier::{CarrierEnd, ConnectError};
use nsp::client::{ActivityEnd, CallError, DownReason, KnownHostsError, OpenError};
use nsp::daemon::code;
use nsp::proto::Failure as Told;

use crate::exit::{Failure, chain};
use crate::output::printable;

impl From<&DownReason> for Failure {
    fn from(reason: &DownReason) -> Self {
        let text = chain(reason);
        match reason {
            DownReason::Address(_) => Self::Usage(text),
            DownReason::NotConnected(error) => match &**error {
                ConnectError::Tls(_) | ConnectError::TlsSetup(_) => Self::Trust(text),
                ConnectError::Http(_) => Self::Protocol(text),
                ConnectError::Unsupported { .. } => Self::Usage(text),
                ConnectError::TimedOut { .. } => Self::TimedOut(text),
                _ => Self::Connect(text),
            },
            DownReason::NotTrusted(_) | DownReason::NotSecured(_) => Self::Trust(text),
            DownReason::Ended(end) => ended(end, text),
            _ => Self::Disconnected(text),
        }
    }
}

fn ended(end: &CarrierEnd, text: String) -> Failure {
    match end {
        CarrierEnd::Protocol(_) | CarrierEnd::Undecodable(_) | CarrierEnd::TooLarge { .. } => {
            Failure::Protocol(text)
        }
        CarrierEnd::TimedOut { .. } => Failure::TimedOut(text),
        _ => Failure::Disconnected(text),
    }
}

impl From<DownReason> for Failure {
    fn from(reason: DownReason) -> Self {
        Self::from(&reason)
    }
}

/// What a daemon or a service says of its failure: its text, the code for programs, and the id for who can read the daemon's log.
#[must_use]
pub fn told(told: &Told) -> Failure {
    let mut text = printable(&told.to_string());
    let words: Vec<String> = told.code.iter().chain(&told.id).map(|word| printable(word)).collect();
    if !words.is_empty() {
        text = format!("{text} ({})", words.join(", "));
    }
    match told.code.as_deref() {
        Some(code::NO_SERVICE | code::NO_FUNCTION) => Failure::NoHandler(text),
        Some(code::AUTH_FAILED) => Failure::NotAuthenticated(format!("{text}: log in with nsp login")),
        Some(code::THROTTLED) => Failure::NotAuthenticated(text),
        Some(code::FORBIDDEN) => Failure::NotAuthorized(text),
        Some(code::INSECURE) => Failure::Trust(text),
        Some(code::TIMEOUT) => Failure::TimedOut(text),
        Some(code::BUSY | "too_large") => Failure::Protocol(text),
        // The original has no codes.
        None if text.contains("not exist") => Failure::NoHandler(text),
        None if text.contains("AuthFailed") => Failure::NotAuthenticated(text),
        _ => Failure::Remote(text),
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let text = chain(&error);
        match error {
            // The original gives no reason, and has but this one.
            OpenError::NotCreated(failure) if failure.code.is_none() && failure.text.is_none() => {
                Self::NoHandler("the daemon has no such service".to_owned())
            }
            OpenError::NotCreated(failure) | OpenError::Refused(failure) => told(&failure),
            OpenError::Timeout => Self::TimedOut(text),
            OpenError::TooMany { .. } | OpenError::Encode(_) => Self::Protocol(text),
            OpenError::WouldLeak => Self::Trust(text),
            OpenError::NotConnected(Some(reason)) => Self::from(&reason),
            _ => Self::Disconnected(text),
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let text = chain(&error);
        match error {
            CallError::Failed(failure) => told(&failure),
            CallError::Timeout(_) => Self::TimedOut(text),
            CallError::NotConnected(Some(reason)) => Self::from(&reason),
            CallError::Closed | CallError::Disconnected | CallError::NotConnected(None) => {
                Self::Disconnected(text)
            }
            CallError::WouldLeak => Self::Trust(text),
            CallError::Argument(_) => Self::Usage(text),
            CallError::SignIn => Self::NotAuthenticated(text),
            _ => Self::Protocol(text),
        }
    }
}

impl From<KnownHostsError> for Failure {
    fn from(error: KnownHostsError) -> Self {
        let text = error.to_string();
        match error {
            KnownHostsError::Read { .. } | KnownHostsError::Write { .. } => Self::Other(text),
            KnownHostsError::Host(_) => Self::Usage(text),
            // Whom to trust cannot be told from it.
            _ => Self::Trust(text),
        }
    }
}

impl From<ActivityEnd> for Failure {
    fn from(end: ActivityEnd) -> Self {
        let text = chain(&end);
        match end {
            ActivityEnd::NotOpened(error) => error.into(),
            ActivityEnd::Disconnected(Some(reason)) => Self::from(&reason),
            _ => Self::Disconnected(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_a_daemon_have_their_status() {
        for (code, status) in [
            ("no_service", 7),
            ("no_function", 7),
            ("auth_failed", 5),
            ("throttled", 5),
            ("forbidden", 6),
            ("insecure", 4),
            ("timeout", 8),
            ("busy", 10),
            ("anything", 1),
        ] {
            assert_eq!(told(&Told::new(code, "text")).status(), status, "{code}");
        }
    }

    #[test]
    fn what_a_daemon_says_cannot_command_the_terminal() {
        let failure = told(&Told::new("a\u{1b}[2J", "b\u{9b}31m"));
        assert!(!failure.to_string().contains(['\u{1b}', '\u{9b}']), "{failure}");
    }
}
