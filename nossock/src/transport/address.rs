//! The text that says where a peer is: `tcp://`, `tls://` and `unix:` addresses.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Where a peer is, and how it is reached.
///
/// | text | is |
/// |---|---|
/// | `tcp://example.org:8797` | TCP |
/// | `example.org:8797` | TCP as well |
/// | `tls://[::1]:8797` | TLS over TCP; never anything else if that fails |
/// | `unix:/run/app.sock`, `unix:///run/app.sock` | a Unix socket |
/// | `unix:app.sock` | a Unix socket, relative to the working directory |
/// | `unix:@app` | a Unix socket in Linux' abstract namespace |
///
/// The port is never guessed, and IPv6 addresses stand in brackets. Port 0 is for listening: the system picks one.
///
/// ```
/// use nossock::transport::Address;
///
/// let address: Address = "tls://[::1]:8797".parse()?;
/// assert_eq!(address, Address::Tls { host: "::1".into(), port: 8797 });
/// assert_eq!(address.to_string(), "tls://[::1]:8797");
/// assert_eq!("localhost:80".parse::<Address>()?.to_string(), "tcp://localhost:80");
/// # Ok::<(), nossock::transport::AddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// TCP in the clear.
    Tcp {
        /// A name or an IP address, the latter without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// TLS over TCP. It parses without the feature `tls`; connecting then says that the feature is off.
    Tls {
        /// A name or an IP address, the latter without brackets; also the name that the certificate must carry.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(UnixAddress),
}

/// Where a Unix socket is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnixAddress {
    /// In the file system.
    Path(PathBuf),
    /// In Linux' abstract namespace, which has no files and no permissions: anyone on the machine may connect.
    Abstract(String),
}

impl Address {
    /// The scheme: `tcp`, `tls` or `unix`.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        match self {
            Self::Tcp { .. } => "tcp",
            Self::Tls { .. } => "tls",
            Self::Unix(_) => "unix",
        }
    }

    /// The same address with another port, which is how port 0 becomes the one that the system picked.
    ///
    /// A Unix socket has no port and stays as it is.
    #[must_use]
    pub fn with_port(self, port: u16) -> Self {
        match self {
            Self::Tcp { host, .. } => Self::Tcp { host, port },
            Self::Tls { host, .. } => Self::Tls { host, port },
            unix @ Self::Unix(_) => unix,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.split_once(':') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("unix") => unix(text, rest),
            Some((scheme, rest)) if rest.starts_with("//") => {
                let rest = rest.get(2..).unwrap_or_default();
                match scheme.to_ascii_lowercase().as_str() {
                    "tcp" => host_and_port(text, rest).map(|(host, port)| Self::Tcp { host, port }),
                    "tls" => host_and_port(text, rest).map(|(host, port)| Self::Tls { host, port }),
                    _ => Err(AddressError::Scheme { scheme: scheme.to_owned() }),
                }
            }
            _ => host_and_port(text, text).map(|(host, port)| Self::Tcp { host, port }),
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

/// A socket address is TCP, as `host:port` without a scheme is.
impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        // The scope of a link-local address belongs to it: without, it names nobody.
        let host = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
            _ => address.ip().to_string(),
        };
        Self::Tcp { host, port: address.port() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(out, "tcp://{}", HostPort(host, *port)),
            Self::Tls { host, port } => write!(out, "tls://{}", HostPort(host, *port)),
            Self::Unix(address) => address.fmt(out),
        }
    }
}

impl fmt::Display for UnixAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A path that begins with `@` would read as an abstract name.
            Self::Path(path) if path.to_string_lossy().starts_with('@') => {
                write!(out, "unix:./{}", path.display())
            }
            // A path that begins with two slashes would read as a URL's host.
            Self::Path(path) if path.to_string_lossy().starts_with("//") => {
                write!(out, "unix://{}", path.display())
            }
            Self::Path(path) => write!(out, "unix:{}", path.display()),
            Self::Abstract(name) => write!(out, "unix:@{name}"),
        }
    }
}

/// Writes a host and a port as people read them, an IPv6 address in brackets.
pub(super) struct HostPort<'a>(pub(super) &'a str, pub(super) u16);

impl fmt::Display for HostPort<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') { write!(out, "[{host}]:{port}") } else { write!(out, "{host}:{port}") }
    }
}

/// What is wrong with the text of an [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Nothing was given.
    #[error("the address is empty: write tcp://host:port, tls://host:port or unix:/path")]
    Empty,
    /// A scheme that is not spoken here.
    #[error("unknown scheme `{}`: this speaks tcp, tls and unix", scheme.escape_debug())]
    Scheme {
        /// What stands before `://`.
        scheme: String,
    },
    /// No host before the port.
    #[error("no host in `{}`: to listen everywhere, write 0.0.0.0 or [::]", address.escape_debug())]
    NoHost {
        /// The whole text.
        address: String,
    },
    /// A host that cannot be one.
    #[error("`{}` in `{}` is neither a host name nor an IP address", host.escape_debug(), address.escape_debug())]
    Host {
        /// What stands where the host should.
        host: String,
        /// The whole text.
        address: String,
    },
    /// An IPv6 address without brackets, so that its last group and the port cannot be told apart.
    #[error("an IPv6 address needs brackets, as in [::1]:8797, in `{}`", address.escape_debug())]
    NoBrackets {
        /// The whole text.
        address: String,
    },
    /// No port after the host.
    #[error("no port in `{}`", address.escape_debug())]
    NoPort {
        /// The whole text.
        address: String,
    },
    /// A port that is not a number from 0 to 65535.
    #[error("`{}` in `{}` is not a port: a port is a number from 0 to 65535", port.escape_debug(), address.escape_debug())]
    Port {
        /// What stands where the port should.
        port: String,
        /// The whole text.
        address: String,
    },
    /// Something follows the port.
    #[error("`{}` follows the port in `{}`, and an address ends there", rest.escape_debug(), address.escape_debug())]
    Rest {
        /// What follows.
        rest: String,
        /// The whole text.
        address: String,
    },
    /// No path after `unix:`.
    #[error("no path in `{}`", address.escape_debug())]
    NoPath {
        /// The whole text.
        address: String,
    },
    /// `unix://` with something that is not an absolute path, where a URL has its host.
    #[error("`{}` names a host: write unix:/path, or unix:path for a relative one", address.escape_debug())]
    UnixHost {
        /// The whole text.
        address: String,
    },
    /// A path with a zero byte, which no file system takes.
    #[error("a zero byte in the path of `{}`", address.escape_debug())]
    ZeroByte {
        /// The whole text.
        address: String,
    },
}

/// Reads what follows `unix:`; `text` is the whole address, for the error.
fn unix(text: &str, rest: &str) -> Result<Address, AddressError> {
    let address = || text.to_owned();
    let path = match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err(AddressError::UnixHost { address: address() }),
        None => rest,
    };
    if path.contains('\0') {
        return Err(AddressError::ZeroByte { address: address() });
    }
    match path.strip_prefix('@') {
        Some("") => Err(AddressError::NoPath { address: address() }),
        Some(name) => Ok(Address::Unix(UnixAddress::Abstract(name.to_owned()))),
        None if path.is_empty() => Err(AddressError::NoPath { address: address() }),
        None => Ok(Address::Unix(UnixAddress::Path(PathBuf::from(path)))),
    }
}

/// Takes `host:port` or `[address]:port` apart; `text` is the whole address, for the error.
fn host_and_port(text: &str, rest: &str) -> Result<(String, u16), AddressError> {
    let address = || text.to_owned();
    if rest.is_empty() {
        return Err(if text.is_empty() {
            AddressError::Empty
        } else {
            AddressError::NoHost { address: address() }
        });
    }
    let (host, after) = if let Some(bracketed) = rest.strip_prefix('[') {
        let Some((host, after)) = bracketed.split_once(']') else {
            return Err(AddressError::NoBrackets { address: address() });
        };
        if !is_ipv6(host) {
            return Err(AddressError::Host { host: host.to_owned(), address: address() });
        }
        (host, after.strip_prefix(':'))
    } else {
        match rest.split_once(':') {
            Some((_, after)) if after.contains(':') && is_ipv6_like(rest) => {
                return Err(AddressError::NoBrackets { address: address() });
            }
            Some((host, after)) => (host, Some(after)),
            None => (rest, None),
        }
    };
    if host.is_empty() {
        return Err(AddressError::NoHost { address: address() });
    }
    if !host.starts_with(|first: char| first.is_alphanumeric() || first == ':' || first == '_')
        || host.contains(|c: char| c.is_whitespace() || c.is_control() || "/@?#\\[]".contains(c))
    {
        return Err(AddressError::Host { host: host.to_owned(), address: address() });
    }
    let after = after.filter(|after| !after.is_empty() && *after != "/");
    let Some(after) = after else {
        return Err(AddressError::NoPort { address: address() });
    };
    // One slash at the end is what a URL printer adds; more than that asks for something that is not here.
    let digits = after.strip_suffix('/').unwrap_or(after);
    let end = digits.find(['/', '?', '#']).unwrap_or(digits.len());
    let (port, path) = digits.split_at(end);
    if !path.is_empty() {
        return Err(AddressError::Rest { rest: path.to_owned(), address: address() });
    }
    // `parse` would take `+80`.
    match port.parse() {
        Ok(number) if port.bytes().all(|b| b.is_ascii_digit()) => Ok((host.to_owned(), number)),
        _ => Err(AddressError::Port { port: port.to_owned(), address: address() }),
    }
}

/// Whether the text is an IPv6 address, with or without a scope (`fe80::1%eth0`).
fn is_ipv6(text: &str) -> bool {
    let (ip, scope) = text.split_once('%').map_or((text, None), |(ip, scope)| (ip, Some(scope)));
    ip.parse::<Ipv6Addr>().is_ok() && scope != Some("")
}

/// Whether the text is an IPv6 address that somebody forgot to put in brackets.
fn is_ipv6_like(text: &str) -> bool {
    let ip = text.split('%').next().unwrap_or(text);
    ip.parse::<IpAddr>().is_ok() || ip.chars().all(|c| c.is_ascii_hexdigit() || c == ':' || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port }
    }

    fn path(path: &str) -> Address {
        Address::Unix(UnixAddress::Path(path.into()))
    }

    #[test]
    fn every_form_parses_and_prints_back() {
        for (text, address, printed) in [
            ("tcp://example.org:8797", tcp("example.org", 8797), "tcp://example.org:8797"),
            ("TCP://127.0.0.1:0/", tcp("127.0.0.1", 0), "tcp://127.0.0.1:0"),
            ("example.org:65535", tcp("example.org", 65535), "tcp://example.org:65535"),
            ("[::1]:80", tcp("::1", 80), "tcp://[::1]:80"),
            ("tcp://[fe80::1%eth0]:80", tcp("fe80::1%eth0", 80), "tcp://[fe80::1%eth0]:80"),
            (
                "tls://büro.example:1",
                Address::Tls { host: "büro.example".into(), port: 1 },
                "tls://büro.example:1",
            ),
            ("unix:/run/a.sock", path("/run/a.sock"), "unix:/run/a.sock"),
            ("unix:///run/a.sock", path("/run/a.sock"), "unix:/run/a.sock"),
            ("unix:a b.sock", path("a b.sock"), "unix:a b.sock"),
            ("unix:./@a", path("./@a"), "unix:./@a"),
            ("unix:a://b", path("a://b"), "unix:a://b"),
            ("unix:////a", path("//a"), "unix:////a"),
            ("unix:@a", Address::Unix(UnixAddress::Abstract("a".into())), "unix:@a"),
        ] {
            assert_eq!(text.parse::<Address>().as_ref(), Ok(&address), "{text}");
            assert_eq!(address.to_string(), printed, "{text}");
            assert_eq!(printed.parse::<Address>(), Ok(address), "{printed}");
        }
    }

    #[test]
    fn an_error_names_what_is_wrong() {
        for (text, says) in [
            ("", "the address is empty: write tcp://host:port, tls://host:port or unix:/path"),
            ("http://a:1", "unknown scheme `http`: this speaks tcp, tls and unix"),
            ("tcp://example.org", "no port in `tcp://example.org`"),
            ("localhost", "no port in `localhost`"),
            ("localhost:", "no port in `localhost:`"),
            ("tcp://a/", "`a/` in `tcp://a/` is neither a host name nor an IP address"),
            (":80", "no host in `:80`: to listen everywhere, write 0.0.0.0 or [::]"),
            ("tls://", "no host in `tls://`: to listen everywhere, write 0.0.0.0 or [::]"),
            ("::1:80", "an IPv6 address needs brackets, as in [::1]:8797, in `::1:80`"),
            ("tcp://[::1", "an IPv6 address needs brackets, as in [::1]:8797, in `tcp://[::1`"),
            ("[::1]", "no port in `[::1]`"),
            ("[localhost]:80", "`localhost` in `[localhost]:80` is neither a host name nor an IP address"),
            ("user@host:80", "`user@host` in `user@host:80` is neither a host name nor an IP address"),
            ("-v:80", "`-v` in `-v:80` is neither a host name nor an IP address"),
            ("a:65536", "`65536` in `a:65536` is not a port: a port is a number from 0 to 65535"),
            ("a:+80", "`+80` in `a:+80` is not a port: a port is a number from 0 to 65535"),
            ("x:80:90", "`80:90` in `x:80:90` is not a port: a port is a number from 0 to 65535"),
            ("a:80/x", "`/x` follows the port in `a:80/x`, and an address ends there"),
            ("unix:", "no path in `unix:`"),
            ("unix:@", "no path in `unix:@`"),
            (
                "unix://run/a",
                "`unix://run/a` names a host: write unix:/path, or unix:path for a relative one",
            ),
            ("unix:/a\0b", "a zero byte in the path of `unix:/a\\0b`"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(error.to_string(), says, "{text}");
        }
    }

    #[test]
    fn a_socket_address_is_tcp() {
        let v6: SocketAddr = "[::1]:80".parse().unwrap();
        assert_eq!(Address::from(v6), tcp("::1", 80));
        let scoped: SocketAddr = "[fe80::1%3]:80".parse().unwrap();
        assert_eq!(Address::from(scoped), tcp("fe80::1%3", 80));
        assert_eq!(Address::from(v6).with_port(81), tcp("::1", 81));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_what_parses_prints_back(text in "\\PC{0,40}|(tcp://|tls://|unix:)?[\\[\\]:/.@a-f0-9]{0,20}") {
            if let Ok(address) = text.parse::<Address>() {
                proptest::prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
            }
        }
    }
}
