//! The text that says where a daemon is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use nossock::transport::{self, UnixAddress};

use super::CarrierKind;

/// Where a daemon is, and by what its packets are carried.
///
/// | text | is |
/// |---|---|
/// | `nsp://example.org:43580` | nossock frames over TCP |
/// | `nsps://example.org:43580` | nossock frames over TLS; never anything else if that fails |
/// | `nsp+unix:/run/nsp.sock`, `nsp+unix:@nsp` | nossock frames over a Unix socket |
/// | `noservice://example.org:43583` | NoService chunks over TCP, as the original daemon has them |
/// | `ws://example.org:43582/path` | WebSocket; port 80 and the path `/` unless others are named |
/// | `wss://example.org/path` | WebSocket over TLS; port 443 and the path `/` unless others are named |
///
/// Apart from the two ports of the web none is guessed. IPv6 addresses stand in brackets. Port 0 is for listening: the system picks one.
///
/// ```
/// use nsp::carrier::{Address, Scheme};
///
/// let address: Address = "nsps://[::1]:43580".parse()?;
/// assert_eq!((address.scheme(), address.host(), address.port()), (Scheme::Nsps, Some("::1"), Some(43580)));
/// assert!(address.is_loopback());
/// assert_eq!("ws://localhost".parse::<Address>()?.to_string(), "ws://localhost:80");
/// assert_eq!("ws://localhost/chat".parse::<Address>()?.to_string(), "ws://localhost:80/chat");
/// # Ok::<(), nsp::carrier::AddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    scheme: Scheme,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    Tcp {
        host: String,
        port: u16,
        /// Path and query of a WebSocket, `/` at least; empty for the others.
        path: String,
    },
    Unix(UnixAddress),
}

/// What stands in front of an [`Address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// `nsp`: nossock frames over TCP.
    Nsp,
    /// `nsps`: nossock frames over TLS.
    Nsps,
    /// `nsp+unix`: nossock frames over a Unix socket.
    NspUnix,
    /// `noservice`: NoService chunks over TCP.
    NoService,
    /// `ws`: WebSocket over TCP.
    Ws,
    /// `wss`: WebSocket over TLS.
    Wss,
}

impl Scheme {
    const ALL: [Self; 6] = [Self::Nsp, Self::Nsps, Self::NspUnix, Self::NoService, Self::Ws, Self::Wss];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nsp => "nsp",
            Self::Nsps => "nsps",
            Self::NspUnix => "nsp+unix",
            Self::NoService => "noservice",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// By what packets are carried.
    #[must_use]
    pub const fn carrier(self) -> CarrierKind {
        match self {
            Self::Nsp | Self::Nsps | Self::NspUnix => CarrierKind::Frames,
            Self::NoService => CarrierKind::Chunks,
            Self::Ws | Self::Wss => CarrierKind::WebSocket,
        }
    }

    /// Whether there is TLS below.
    #[must_use]
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Nsps | Self::Wss)
    }

    /// The port where the web has one for it.
    const fn default_port(self) -> Option<u16> {
        match self {
            Self::Ws => Some(80),
            Self::Wss => Some(443),
            _ => None,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Address {
    /// What stands in front.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// By what packets are carried.
    #[must_use]
    pub const fn carrier(&self) -> CarrierKind {
        self.scheme.carrier()
    }

    /// Whether there is TLS below.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.scheme.is_tls()
    }

    /// The name or IP address, the latter without brackets; a Unix socket has none.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match &self.place {
            Place::Tcp { host, .. } => Some(host),
            Place::Unix(_) => None,
        }
    }

    /// The port; a Unix socket has none.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        match self.place {
            Place::Tcp { port, .. } => Some(port),
            Place::Unix(_) => None,
        }
    }

    /// Path and query of a WebSocket.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match &self.place {
            Place::Tcp { path, .. } => Some(path.as_str()).filter(|path| !path.is_empty()),
            Place::Unix(_) => None,
        }
    }

    /// Where the Unix socket is.
    #[must_use]
    pub const fn unix(&self) -> Option<&UnixAddress> {
        match &self.place {
            Place::Tcp { .. } => None,
            Place::Unix(address) => Some(address),
        }
    }

    /// Whether it does not leave the machine: a loopback address, the name `localhost`, or a Unix socket.
    ///
    /// This is what the text says. Where a connection went in truth, its [peer](super::Carrier::peer) tells.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match &self.place {
            Place::Unix(_) => true,
            Place::Tcp { host, .. } => match host.parse::<IpAddr>() {
                Ok(ip) => ip.to_canonical().is_loopback(),
                Err(_) => host.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
            },
        }
    }

    /// The same address with another port, which is how port 0 becomes the one that the system picked.
    ///
    /// A Unix socket has no port and stays as it is.
    #[must_use]
    pub fn with_port(mut self, new: u16) -> Self {
        if let Place::Tcp { port, .. } = &mut self.place {
            *port = new;
        }
        self
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let Some((word, rest)) = text.split_once(':') else {
            return Err(AddressError::NoScheme(text.to_owned()));
        };
        let found = Scheme::ALL.into_iter().find(|scheme| scheme.as_str().eq_ignore_ascii_case(word));
        let Some(scheme) = found else {
            return Err(match rest.starts_with("//") {
                true => AddressError::Scheme { scheme: word.to_owned() },
                false => AddressError::NoScheme(text.to_owned()),
            });
        };
        let invalid = |source| AddressError::Invalid(renamed(source, text));
        if scheme == Scheme::NspUnix {
            return match format!("unix:{rest}").parse().map_err(invalid)? {
                transport::Address::Unix(address) => Ok(Self { scheme, place: Place::Unix(address) }),
                _ => Err(AddressError::NoScheme(text.to_owned())),
            };
        }
        let Some(rest) = rest.strip_prefix("//") else { return Err(AddressError::NoScheme(text.to_owned())) };
        let (authority, path) = match scheme.carrier() {
            CarrierKind::WebSocket => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let (authority, path) = rest.split_at(end);
                (authority, web_path(path, text)?)
            }
            _ => (rest, String::new()),
        };
        let with_port = match scheme.default_port() {
            Some(port) if !has_port(authority) && !authority.is_empty() => {
                format!("tcp://{authority}:{port}")
            }
            _ => format!("tcp://{authority}"),
        };
        match with_port.parse().map_err(invalid)? {
            transport::Address::Tcp { host, port } => {
                Ok(Self { scheme, place: Place::Tcp { host, port, path } })
            }
            _ => Err(AddressError::NoScheme(text.to_owned())),
        }
    }
}

/// Whether a port stands behind the host.
fn has_port(authority: &str) -> bool {
    authority.rsplit_once(']').map_or(authority, |(_, after)| after).contains(':')
}

/// The path and query that are asked for; what follows `#` is nobody's but the browser's.
fn web_path(path: &str, text: &str) -> Result<String, AddressError> {
    let path = path.split('#').next().unwrap_or_default();
    if path.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(AddressError::Path { address: text.to_owned() });
    }
    Ok(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

/// The error with the text that the user gave.
fn renamed(mut error: transport::AddressError, text: &str) -> transport::AddressError {
    use transport::AddressError as E;
    match &mut error {
        E::NoHost { address }
        | E::Host { address, .. }
        | E::NoBrackets { address }
        | E::NoPort { address }
        | E::Port { address, .. }
        | E::Rest { address, .. }
        | E::NoPath { address }
        | E::UnixHost { address }
        | E::ZeroByte { address } => text.clone_into(address),
        _ => {}
    }
    error
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, place } = self;
        match place {
            Place::Tcp { host, port, path } => {
                // The path that there is anyway is not shown: nobody wrote it, or need have.
                let path = if path == "/" { "" } else { path };
                match host.contains(':') {
                    true => write!(f, "{scheme}://[{host}]:{port}{path}"),
                    false => write!(f, "{scheme}://{host}:{port}{path}"),
                }
            }
            // It prints its own scheme, `unix:`, and that is what ours ends with.
            Place::Unix(address) => write!(f, "nsp+{address}"),
        }
    }
}

impl TryFrom<&str> for Address {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<&String> for Address {
    type Error = AddressError;

    fn try_from(text: &String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<&Self> for Address {
    type Error = AddressError;

    fn try_from(address: &Self) -> Result<Self, AddressError> {
        Ok(address.clone())
    }
}

/// What is wrong with the text of an [`Address`]: whoever wrote it erred.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Nothing says what is spoken there.
    #[error("`{}` has no scheme: write nsp://, nsps://, nsp+unix:, noservice://, ws:// or wss:// in front", .0.escape_debug())]
    NoScheme(String),
    /// A scheme that is not spoken here.
    #[error("unknown scheme `{}`: this speaks nsp, nsps, nsp+unix, noservice, ws and wss", scheme.escape_debug())]
    Scheme {
        /// What stands before `://`.
        scheme: String,
    },
    /// The path of a WebSocket has spaces, or letters that have to be percent-encoded.
    #[error("the path in `{}` has characters that do not belong into a URL", address.escape_debug())]
    Path {
        /// The whole text.
        address: String,
    },
    /// Host, port or path of the socket.
    #[error(transparent)]
    Invalid(transport::AddressError),
}

impl From<std::convert::Infallible> for AddressError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_parses_and_prints_back() {
        for (text, printed) in [
            ("nsp://example.org:1", "nsp://example.org:1"),
            ("NSPS://[::1]:43580/", "nsps://[::1]:43580"),
            ("noservice://127.0.0.1:0", "noservice://127.0.0.1:0"),
            ("nsp+unix:/run/a.sock", "nsp+unix:/run/a.sock"),
            ("nsp+unix:///run/a.sock", "nsp+unix:/run/a.sock"),
            ("nsp+unix:@a", "nsp+unix:@a"),
            ("ws://a", "ws://a:80"),
            ("ws://a:7/", "ws://a:7"),
            ("wss://[::1]", "wss://[::1]:443"),
            ("ws://a/?", "ws://a:80/?"),
            ("ws://[::1]/b/c?d=e#f", "ws://[::1]:80/b/c?d=e"),
            ("wss://a?x", "wss://a:443/?x"),
        ] {
            let address: Address = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(address.to_string(), printed, "{text}");
            assert_eq!(printed.parse::<Address>(), Ok(address), "{printed}");
        }
    }

    #[test]
    fn an_error_names_what_is_wrong_in_the_text_as_it_was_given() {
        for (text, says) in [
            ("localhost:80", "`localhost:80` has no scheme: write nsp://"),
            ("", "`` has no scheme"),
            ("nsp:example.org:1", "`nsp:example.org:1` has no scheme"),
            ("tcp://a:1", "unknown scheme `tcp`: this speaks nsp, nsps,"),
            ("nsp://a", "no port in `nsp://a`"),
            ("nsps://a:b", "`b` in `nsps://a:b` is not a port"),
            ("nsp://:1", "no host in `nsp://:1`"),
            ("nsp://a:1/x", "`/x` follows the port in `nsp://a:1/x`"),
            ("ws://", "no host in `ws://`"),
            ("ws:///x", "no host in `ws:///x`"),
            ("ws://::1/", "an IPv6 address needs brackets, as in [::1]:8797, in `ws://::1/`"),
            ("ws://a/b c", "the path in `ws://a/b c` has"),
            ("ws://u@a/", "`u@a` in `ws://u@a/` is neither"),
            ("nsp+unix:", "no path in `nsp+unix:`"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.starts_with(says), "{text}: {error}");
        }
    }

    #[test]
    fn loopback_is_told_from_the_text() {
        for text in ["nsp://127.8.0.1:1", "ws://localhost", "nsp://[::ffff:127.0.0.1]:1", "nsp+unix:/a"] {
            assert!(text.parse::<Address>().unwrap().is_loopback(), "{text}");
        }
        for text in ["nsp://0.0.0.0:1", "ws://localhost.example.org", "nsp://[::2]:1"] {
            assert!(!text.parse::<Address>().unwrap().is_loopback(), "{text}");
        }
    }
}
