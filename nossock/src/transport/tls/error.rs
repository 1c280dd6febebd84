//! Why a TLS connection was not made, or broke: who erred, and what would help.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rustls::{AlertDescription, CertificateError, Error as Rustls};
use rustls_pki_types::UnixTime;

use super::verify::NotPinned;
use super::{Fingerprint, LooksLike};
use crate::Side;

/// Why a TLS connection was not made, or broke.
///
/// The variants fall into four groups: the peer's certificate was not accepted here, ours was not accepted there, the
/// peer does not speak our TLS or none at all, and the connection below failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Nobody we trust issued the peer's certificate: it is another CA's, or an intermediate certificate is missing.
    #[error(
        "the {whose}'s certificate was issued by nobody trusted here: give its CA with `ca`, or let the {whose} send its intermediate certificates"
    )]
    UnknownIssuer {
        /// Whose certificate it is.
        whose: Side,
        /// What the verifier says.
        source: Rustls,
    },
    /// The peer's certificate is no longer valid.
    #[error("the {whose}'s certificate expired{}: it needs a new one, or the clock here is wrong", When(" on ", *since))]
    Expired {
        /// Whose certificate it is.
        whose: Side,
        /// Since when, if the verifier says.
        since: Option<SystemTime>,
        /// What the verifier says.
        source: Rustls,
    },
    /// The peer's certificate is not valid yet.
    #[error("the {whose}'s certificate is not valid yet{}: the clock here or where it was issued is wrong", When(", but from ", *from))]
    NotYetValid {
        /// Whose certificate it is.
        whose: Side,
        /// From when on, if the verifier says.
        from: Option<SystemTime>,
        /// What the verifier says.
        source: Rustls,
    },
    /// The server's certificate is another host's.
    #[error(
        "the server's certificate is for {}, not for {wanted:?}: connect by a name it has, or name one with `server_name`",
        Names(presented)
    )]
    WrongName {
        /// The name that was asked for.
        wanted: String,
        /// The names in the certificate.
        presented: Vec<String>,
        /// What the verifier says.
        source: Rustls,
    },
    /// The peer presented the certificate of a CA as its own, which many commands for "self-signed" ones make.
    #[error(
        "the {whose} presents a CA certificate as its own: issue one with basicConstraints CA:FALSE, or pin this one"
    )]
    CaUsedAsEndEntity {
        /// Whose certificate it is.
        whose: Side,
        /// What the verifier says.
        source: Rustls,
    },
    /// The peer's certificate was issued for something else.
    #[error(
        "the {whose}'s certificate was not issued for a {whose}: its extended key usage lacks {whose}Auth"
    )]
    WrongPurpose {
        /// Whose certificate it is.
        whose: Side,
        /// What the verifier says.
        source: Rustls,
    },
    /// The peer's certificate was revoked.
    #[error("the {whose}'s certificate was revoked: it needs a new one")]
    Revoked {
        /// Whose certificate it is.
        whose: Side,
        /// What the verifier says.
        source: Rustls,
    },
    /// The server's certificate is not one of those pinned: it was replaced, or this is somebody else.
    #[error(
        "the server's certificate is {presented}, which is not pinned: ask its owner before pinning that one"
    )]
    WrongPin {
        /// The certificate that was presented.
        presented: Fingerprint,
    },
    /// The peer's certificate is unacceptable for another reason.
    #[error("the {whose}'s certificate cannot be accepted")]
    BadCertificate {
        /// Whose certificate it is.
        whose: Side,
        /// What the verifier says.
        source: Rustls,
    },
    /// Seen by the server: the client presented no certificate, and has to.
    #[error("the client presented no certificate, and this server requires one")]
    ClientCertificateMissing {
        /// What rustls says.
        source: Rustls,
    },
    /// Seen by the client: the server requires a certificate, and none was given.
    #[error("the server requires a client certificate: give one with `identity`")]
    ClientCertificateRequired {
        /// What rustls says.
        source: Rustls,
    },
    /// The peer does not accept our certificate.
    #[error("the peer refuses the certificate of this side: {reason}")]
    OurCertificateRefused {
        /// Why, as far as the peer says.
        reason: &'static str,
        /// What rustls says.
        source: Rustls,
    },
    /// The peer speaks TLS, and not of nossock.
    #[error("no application protocol in common: this side speaks {}", super::ALPN)]
    NoCommonProtocol {
        /// What rustls says.
        source: Rustls,
    },
    /// The peer's TLS and ours have too little in common.
    #[error("the peer's TLS and this side's have no version, cipher suite or signature in common")]
    Incompatible {
        /// What rustls says.
        source: Rustls,
    },
    /// The peer refused with the one alert that says nothing. Under TLS 1.2, OpenSSL (and Node with it) sends it to a
    /// client without a certificate, where rustls says what is missing.
    #[error(
        "the peer refused the handshake and did not say why: it may require a client certificate, to be given with `identity`, or have no cipher suite in common"
    )]
    Refused {
        /// What rustls says.
        source: Rustls,
    },
    /// The peer does not speak TLS.
    #[error("the peer does not speak TLS: {looks_like}")]
    NotTls {
        /// What it seems to speak.
        looks_like: LooksLike,
    },
    /// The host of the address cannot be a name in a certificate.
    #[error("{name:?} is no name that a certificate could carry: name one with `server_name`")]
    ServerName {
        /// The host.
        name: String,
    },
    /// The peer broke the rules of TLS, or refused for a reason that is not about certificates.
    #[error("TLS failed")]
    Protocol {
        /// What rustls says.
        source: Rustls,
    },
    /// The peer ended the connection before the handshake was over.
    #[error(
        "the peer ended the connection in the middle of the TLS handshake: it may not speak TLS, or not want to"
    )]
    CutOff {
        /// What the system or rustls says.
        source: io::Error,
    },
    /// The peer's stream ended after the handshake, and without the word that TLS has for it. What was cut off, nobody
    /// can tell.
    #[error(
        "the peer ended its TLS stream without close_notify: it crashed or refused us, or somebody cut the connection"
    )]
    NoFarewell {
        /// What rustls says.
        source: io::Error,
    },
    /// The connection below failed.
    #[error("the connection failed during the TLS handshake")]
    Io {
        /// What the system says.
        source: io::Error,
    },
}

/// What a failed read or write of an established TLS stream means, if it is TLS that failed.
///
/// Under TLS 1.3 a client has finished its handshake before the server has judged the client's certificate: a refusal
/// reaches it as the error of a later read, and this makes [`TlsError::ClientCertificateRequired`] or
/// [`TlsError::OurCertificateRefused`] of it. `None` says that the error is not of TLS but of the connection below.
#[must_use]
pub fn explain(error: &io::Error) -> Option<TlsError> {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Some(TlsError::NoFarewell { source: io::ErrorKind::UnexpectedEof.into() });
    }
    Some(match rustls_error(error)?.clone() {
        Rustls::AlertReceived(alert) => refused(alert),
        source => TlsError::Protocol { source },
    })
}

impl TlsError {
    /// Whether trying again would give the same, until somebody changes a certificate or a setting.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        !matches!(
            self,
            Self::Protocol { .. } | Self::NoFarewell { .. } | Self::CutOff { .. } | Self::Io { .. }
        )
    }

    /// What the error of a handshake means; `peer` is the other side, `wanted` the name it should have.
    pub(super) fn of_handshake(error: io::Error, peer: Side, wanted: &str) -> Self {
        match rustls_error(&error).cloned() {
            Some(source) => match source {
                Rustls::InvalidCertificate(ref problem) => certificate(problem, peer, wanted, source.clone()),
                Rustls::NoCertificatesPresented => Self::ClientCertificateMissing { source },
                Rustls::AlertReceived(alert) => refused(alert),
                Rustls::NoApplicationProtocol => Self::NoCommonProtocol { source },
                Rustls::PeerIncompatible(_) => Self::Incompatible { source },
                source => Self::Protocol { source },
            },
            None => Self::of_io(error),
        }
    }

    /// What an error of the connection below means while a handshake is under way.
    pub(super) fn of_io(source: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match source.kind() {
            UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe => Self::CutOff { source },
            _ => Self::Io { source },
        }
    }
}

fn rustls_error(error: &io::Error) -> Option<&Rustls> {
    error.get_ref()?.downcast_ref()
}

/// Says what is wrong with the peer's certificate.
fn certificate(problem: &CertificateError, whose: Side, wanted: &str, source: Rustls) -> TlsError {
    match problem {
        CertificateError::UnknownIssuer => TlsError::UnknownIssuer { whose, source },
        CertificateError::Expired => TlsError::Expired { whose, since: None, source },
        CertificateError::ExpiredContext { not_after, .. } => {
            TlsError::Expired { whose, since: system_time(*not_after), source }
        }
        CertificateError::NotValidYet => TlsError::NotYetValid { whose, from: None, source },
        CertificateError::NotValidYetContext { not_before, .. } => {
            TlsError::NotYetValid { whose, from: system_time(*not_before), source }
        }
        CertificateError::NotValidForName => {
            TlsError::WrongName { wanted: wanted.to_owned(), presented: Vec::new(), source }
        }
        CertificateError::NotValidForNameContext { presented, .. } => TlsError::WrongName {
            wanted: wanted.to_owned(),
            presented: presented.iter().map(|name| bare_name(name)).collect(),
            source,
        },
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            TlsError::WrongPurpose { whose, source }
        }
        CertificateError::Revoked => TlsError::Revoked { whose, source },
        CertificateError::Other(other) => match other.0.downcast_ref::<NotPinned>() {
            Some(NotPinned(presented)) => TlsError::WrongPin { presented: *presented },
            None if matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) => {
                TlsError::CaUsedAsEndEntity { whose, source }
            }
            None => TlsError::BadCertificate { whose, source },
        },
        _ => TlsError::BadCertificate { whose, source },
    }
}

/// Says why the peer refused.
fn refused(alert: AlertDescription) -> TlsError {
    let source = Rustls::AlertReceived(alert);
    let reason = match alert {
        AlertDescription::CertificateRequired => return TlsError::ClientCertificateRequired { source },
        AlertDescription::NoApplicationProtocol => return TlsError::NoCommonProtocol { source },
        AlertDescription::HandshakeFailure => return TlsError::Refused { source },
        AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => {
            return TlsError::Incompatible { source };
        }
        AlertDescription::UnknownCA => "it does not trust who issued it",
        // What OpenSSL and rustls say of a name that is not the one they wanted, and of a damaged certificate.
        AlertDescription::BadCertificate => "it has another name, or cannot be read",
        AlertDescription::CertificateExpired => "it has expired, or is not valid yet",
        AlertDescription::CertificateRevoked => "it was revoked",
        AlertDescription::UnsupportedCertificate => "it is of a kind or for a purpose that is not accepted",
        AlertDescription::CertificateUnknown => "it is not accepted, for a reason that was not given",
        AlertDescription::AccessDenied => "it is valid, and not allowed in",
        _ => return TlsError::Protocol { source },
    };
    TlsError::OurCertificateRefused { reason, source }
}

/// Takes a name out of the way the verifier shows it: `DnsName("a.example")`, `IpAddress(127.0.0.1)`.
fn bare_name(shown: &str) -> String {
    let inner = shown.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    let bare = inner.unwrap_or(shown).trim_matches('"');
    // The verifier writes `::1` as `0::1`.
    bare.parse::<IpAddr>().map_or_else(|_| bare.to_owned(), |address| address.to_string())
}

fn system_time(time: UnixTime) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()))
}

/// Lists the names in a certificate.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A certificate may hold thousands; a message that people read need not.
        const SHOWN: usize = 8;
        let Self(names) = self;
        if names.is_empty() {
            return out.write_str("no name at all");
        }
        for (n, name) in names.iter().take(SHOWN).enumerate() {
            // The names are the peer's: shown with what could fool a terminal escaped.
            write!(out, "{}{name:?}", if n == 0 { "" } else { ", " })?;
        }
        match names.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(out, " and {more} more"),
        }
    }
}

/// Writes a moment in UTC after some words, or nothing if the moment is not known.
struct When(&'static str, Option<SystemTime>);

impl fmt::Display for When {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(words, time) = self;
        let Some(since) = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()) else {
            return Ok(());
        };
        let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute) = (seconds / 3_600, seconds / 60 % 60);
        write!(out, "{words}{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
    }
}

/// The Gregorian date of a number of days after 1970-01-01.
///
/// Years are counted from March, so that the leap day is a year's last and every month begins at the same day of it.
const fn date(days: u64) -> (u64, u64, u64) {
    const TO_YEAR_0: u64 = 719_468;
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let days = days.saturating_add(TO_YEAR_0);
    let (era, day_of_era) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let (month, next_year) = if march_month < 10 { (march_month + 3, 0) } else { (march_month - 9, 1) };
    (era * 400 + year_of_era + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> String {
        When("", Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))).to_string()
    }

    #[test]
    fn moments_are_shown_in_utc() {
        // As `date -u -d @…` prints them.
        assert_eq!(at(0), "1970-01-01 00:00 UTC");
        assert_eq!(at(951_782_399), "2000-02-28 23:59 UTC");
        assert_eq!(at(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(at(1_709_251_199), "2024-02-29 23:59 UTC");
        assert_eq!(at(1_709_251_200), "2024-03-01 00:00 UTC");
        assert_eq!(at(1_735_689_599), "2024-12-31 23:59 UTC");
        assert_eq!(at(4_107_542_400), "2100-03-01 00:00 UTC");
        assert_eq!(When(" on ", None).to_string(), "");
    }

    #[test]
    fn names_are_listed_without_trusting_them() {
        assert_eq!(bare_name("DnsName(\"a.example\")"), "a.example");
        assert_eq!(bare_name("IpAddress(127.0.0.1)"), "127.0.0.1");
        assert_eq!(bare_name("IpAddress(0::1)"), "::1");
        assert_eq!(bare_name("DirectoryName"), "DirectoryName");
        let names = ["a".to_owned(), "\u{1b}[2J".to_owned()];
        assert_eq!(Names(&names).to_string(), "\"a\", \"\\u{1b}[2J\"");
        assert_eq!(Names(&vec!["a".to_owned(); 10]).to_string(), ["\"a\""; 8].join(", ") + " and 2 more");
        assert_eq!(Names(&[]).to_string(), "no name at all");
    }

    #[test]
    fn only_errors_of_tls_are_explained() {
        assert!(explain(&io::ErrorKind::ConnectionReset.into()).is_none());
        assert!(explain(&io::Error::other("something else")).is_none());
        let alert = |alert| explain(&io::Error::other(Rustls::AlertReceived(alert))).unwrap();
        assert!(matches!(
            alert(AlertDescription::CertificateRequired),
            TlsError::ClientCertificateRequired { .. }
        ));
        assert!(matches!(alert(AlertDescription::HandshakeFailure), TlsError::Refused { .. }));
        assert!(matches!(alert(AlertDescription::UnknownCA), TlsError::OurCertificateRefused { .. }));
        let broken = explain(&io::Error::other(Rustls::DecryptError)).unwrap();
        assert!(matches!(broken, TlsError::Protocol { source: Rustls::DecryptError }));
    }
}
