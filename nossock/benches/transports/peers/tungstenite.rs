//! `tungstenite`: tokio-tungstenite as it is by default. JSON in text messages, raw bodies in binary ones; the client
//! masks, as WebSocket demands.

use std::io;

use bytes::Bytes;
use serde::Serialize;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::net::Stream;

use super::messages::{Channel, Opened, Over};

/// The peer.
pub(crate) type Tungstenite = Over<WebSocket>;

/// The same with one task that asks, and a queue in place of the map.
pub(crate) type TungsteniteInOrder = Over<WebSocket, true>;

/// WebSocket messages.
#[derive(Debug)]
pub(crate) struct WebSocket;

impl Channel for WebSocket {
    type Message = Message;
    type Error = Error;
    type Io = WebSocketStream<Stream>;
    type Incoming = Message;

    async fn accept(stream: Stream) -> io::Result<Self::Io> {
        Box::pin(accept_async(stream)).await.map_err(io::Error::other)
    }

    async fn connect(stream: Stream) -> io::Result<Self::Io> {
        let opened = Box::pin(client_async("ws://localhost/", stream)).await;
        opened.map(|(socket, _)| socket).map_err(io::Error::other)
    }

    fn json<T: Serialize>(value: &T) -> io::Result<Message> {
        Ok(Message::text(serde_json::to_string(value)?))
    }

    fn blob(bytes: Bytes) -> Message {
        Message::Binary(bytes)
    }

    fn open(incoming: &Message) -> Option<Opened<'_>> {
        match incoming {
            Message::Text(text) => Some(Opened::Json(text.as_bytes())),
            Message::Binary(bytes) => Some(Opened::Blob(bytes)),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => None,
        }
    }
}
