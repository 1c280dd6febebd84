//! From HTTP to WebSocket: the head of one request and of one answer (RFC 6455, section 4).

use nossock::wire::Lookalike;

use super::CarrierEnd;

/// Why a connection did not become a WebSocket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The peer speaks something else.
    #[error("the peer does not speak HTTP{0}")]
    NotHttp(Lookalike),
    /// The peer's HTTP is not an upgrade to WebSocket.
    #[error("the peer's HTTP is no upgrade to WebSocket: {0}")]
    NotAnUpgrade(String),
    /// The web page that connects is not among those that may.
    #[error("the web page `{}` may not connect", .0.escape_debug())]
    Origin(String),
    /// The daemon, or something in front of it, answered without upgrading.
    #[error("HTTP status {0} instead of a WebSocket")]
    Status(u16),
    /// The peer's head does not end.
    #[error("the peer sent a head of HTTP that is longer than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The caller's own `Origin` or path cannot stand in a head.
    #[error("`{}` cannot stand in a head of HTTP", .0.escape_debug())]
    Unfit(String),
    /// The connection ended or failed meanwhile.
    #[error("the upgrade to WebSocket was cut off: {0}")]
    CutOff(#[from] CarrierEnd),
}

impl HttpError {
    /// Whether trying again would give the same: one side's address or settings are wrong.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        match self {
            Self::NotHttp(_) | Self::NotAnUpgrade(_) | Self::Origin(_) | Self::Unfit(_) => true,
            // Those of the 5xx are of a proxy whose daemon is not there.
            Self::Status(status) => *status < 500,
            Self::TooLarge { .. } | Self::CutOff(_) => false,
        }
    }
}

#[cfg(feature = "websocket")]
pub(super) use self::upgrading::{answer, ask};

#[cfg(feature = "websocket")]
mod upgrading {
    use std::future::poll_fn;
    use std::time::Duration;

    use bytes::Buf as _;
    use tokio_tungstenite::tungstenite::handshake::client::{Response, generate_key};
    use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
    use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
    use tokio_tungstenite::tungstenite::handshake::server::{Request, create_response, write_response};
    use tokio_tungstenite::tungstenite::http::HeaderMap;

    use super::{HttpError, Lookalike};
    use crate::carrier::transport::{Io, Room, Transport};
    use crate::carrier::{Address, CarrierEnd};

    /// The longest head that is read, in bytes: what browsers send with a jar of cookies, and what a connection may have before
    /// its login.
    const LONGEST: usize = 16 * 1024;

    /// How long a refused peer is given to read why.
    const LINGER: Duration = Duration::from_secs(1);

    /// Upgrades from the side that dialled.
    pub(in crate::carrier) async fn ask<T>(
        transport: &mut Transport<T>,
        address: &Address,
        origin: Option<&str>,
    ) -> Result<(), HttpError>
    where
        T: Io,
    {
        let (path, host) = (address.path().unwrap_or("/"), address.host().unwrap_or_default());
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let port = address.port().unwrap_or_default();
        let key = generate_key();
        let origin = match origin {
            Some(origin) if origin.bytes().all(|byte| byte.is_ascii_graphic()) => {
                format!("Origin: {origin}\r\n")
            }
            Some(origin) => return Err(HttpError::Unfit(origin.to_owned())),
            None => String::new(),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{origin}\r\n"
        );
        transport.output().small().extend_from_slice(request.as_bytes());
        poll_fn(|cx| transport.poll_flush(cx)).await?;
        let response: Response = head(transport, |first| first == b'H').await?;
        if response.status().as_u16() != 101 {
            return Err(HttpError::Status(response.status().as_u16()));
        }
        let headers = response.headers();
        let complaint = if !has_word(headers, "upgrade", "websocket") {
            "no `Upgrade: websocket`"
        } else if !has_word(headers, "connection", "upgrade") {
            "no `Connection: Upgrade`"
        } else if headers
            .get("sec-websocket-accept")
            .is_none_or(|accept| *accept != derive_accept_key(key.as_bytes()))
        {
            "`Sec-WebSocket-Accept` does not answer our key"
        } else if headers.contains_key("sec-websocket-extensions") {
            "an extension that nobody asked for"
        } else if headers.contains_key("sec-websocket-protocol") {
            "a subprotocol that nobody asked for"
        } else {
            return Ok(());
        };
        Err(HttpError::NotAnUpgrade(complaint.to_owned()))
    }

    /// Upgrades from the side that was dialled, if the page that asks is among `origins` or it is no page.
    pub(in crate::carrier) async fn answer<T>(
        transport: &mut Transport<T>,
        origins: &[String],
    ) -> Result<(), HttpError>
    where
        T: Io,
    {
        match judge(transport, origins).await {
            Ok(response) => {
                transport.output().small().extend_from_slice(&response);
                Ok(poll_fn(|cx| transport.poll_flush(cx)).await?)
            }
            Err(error) => {
                refuse(transport, &error).await;
                Err(error)
            }
        }
    }

    async fn judge<T>(transport: &mut Transport<T>, origins: &[String]) -> Result<Vec<u8>, HttpError>
    where
        T: Io,
    {
        let request: Request = head(transport, |first| first.is_ascii_uppercase()).await?;
        let response =
            create_response(&request).map_err(|error| HttpError::NotAnUpgrade(error.to_string()))?;
        // Several would be for somebody in front of us to read one of them.
        for origin in request.headers().get_all("origin") {
            let origin = String::from_utf8_lossy(origin.as_bytes());
            if !origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(&origin)) {
                return Err(HttpError::Origin(origin.into_owned()));
            }
        }
        let mut head = Vec::with_capacity(256);
        write_response(&mut head, &response).map_err(|error| HttpError::NotAnUpgrade(error.to_string()))?;
        Ok(head)
    }

    /// Tells a peer that speaks HTTP why it does not come in.
    async fn refuse<T: Io>(transport: &mut Transport<T>, error: &HttpError) {
        let (status, more) = match error {
            // Not for somebody who does not speak HTTP to read, but to recognise it.
            HttpError::NotHttp(_) => ("400 Bad Request", ""),
            HttpError::Origin(_) => ("403 Forbidden", ""),
            HttpError::NotAnUpgrade(_) => {
                ("426 Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
            }
            HttpError::TooLarge { .. } => ("431 Request Header Fields Too Large", ""),
            _ => return,
        };
        let text = format!("This is a WebSocket of the NoService protocol: {error}.\n");
        let answer = format!(
            "HTTP/1.1 {status}\r\n{more}Connection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        transport.output().small().extend_from_slice(answer.as_bytes());
        // Whether the peer reads it is its own affair.
        let _ = tokio::time::timeout(LINGER, poll_fn(|cx| transport.poll_close(cx))).await;
    }

    /// Reads a head; what follows it stays in the transport.
    async fn head<T, H>(transport: &mut Transport<T>, may_begin: impl Fn(u8) -> bool) -> Result<H, HttpError>
    where
        T: Io,
        H: TryParse,
    {
        loop {
            let room = Room { wanted: 4 * 1024, most: None };
            if poll_fn(|cx| transport.poll_read(cx, room)).await? == 0 {
                return Err(CarrierEnd::Truncated.into());
            }
            let input = &mut transport.input;
            if input.first().is_some_and(|&first| !may_begin(first)) {
                return Err(HttpError::NotHttp(Lookalike::of(input)));
            }
            match H::try_parse(input) {
                Ok(Some((length, head))) => {
                    input.advance(length);
                    return Ok(head);
                }
                Ok(None) if input.len() >= LONGEST => return Err(HttpError::TooLarge { limit: LONGEST }),
                Ok(None) => {}
                Err(error) => return Err(HttpError::NotAnUpgrade(error.to_string())),
            }
        }
    }

    /// Whether a header lists a word.
    fn has_word(headers: &HeaderMap, name: &str, word: &str) -> bool {
        let words = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        words.flat_map(|value| value.split(',')).any(|found| found.trim().eq_ignore_ascii_case(word))
    }
}
