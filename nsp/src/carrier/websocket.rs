use std::fmt;
use std::io::{self, Read, Write};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use nossock::Peer;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, FrameHeader};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::frames::append;
use super::transport::{Io, Room, Transport};
use super::{Carrier, CarrierEnd, CarrierKind, Farewell};
use crate::machine::{Incoming, Outgoing};
use crate::proto::{EncodeError, HEARTBEAT, Methods, Side};

/// Room that the codec of a daemon keeps for each connection, idle or not, in bytes: what of the 6 KiB for a connection at rest nothing else needs.
/// It is filled from the thread's buffer, so that it does not make reading slower; with half of it, large messages take a fifth more of the processor.
const DAEMON_ROOM: usize = 960;

/// The same for a client, which keeps answers until they are taken: from 1 KiB on, the room that takes the place of theirs is as large again.
const CLIENT_ROOM: usize = 1024;

/// The longest reason of a close frame, in bytes.
const LONGEST_REASON: usize = 123;

/// Packets as WebSocket messages: binary ones are sent, text is taken as well.
///
/// Nothing is compressed: a secret beside something that an attacker chooses would show by its length. Pings are answered, and
/// sent after a while of silence.
pub(super) struct WebSocket<T> {
    transport: Transport<T>,
    context: WebSocketContext,
    side: Side,
    methods: Methods,
    heard: Instant,
    pinged: Option<Instant>,
    /// Bytes have come since the last whole message.
    in_message: bool,
    end: Option<CarrierEnd>,
    said_farewell: bool,
}

impl<T> WebSocket<T> {
    pub(super) fn new(transport: Transport<T>, side: Side, methods: Methods) -> Self {
        let (role, room) = match side {
            Side::Client => (Role::Client, CLIENT_ROOM),
            Side::Daemon => (Role::Server, DAEMON_ROOM),
        };
        let message = transport.limits.message;
        let config = WebSocketConfig::default()
            .read_buffer_size(room)
            // What it writes goes into the transport's queue at once: there, bytes are counted and time is limited.
            .write_buffer_size(0)
            .max_write_buffer_size(message.saturating_add(1024))
            .max_message_size(Some(message))
            .max_frame_size(Some(message));
        Self {
            transport,
            context: WebSocketContext::new(role, Some(config)),
            side,
            methods,
            heard: Instant::now(),
            pinged: None,
            in_message: false,
            end: None,
            said_farewell: false,
        }
    }

    fn fits(&self, size: usize) -> Result<(), EncodeError> {
        let limit = self.transport.limits.message;
        if size <= limit { Ok(()) } else { Err(EncodeError::TooLarge { size, limit }) }
    }

    /// Queues the head of a message whose bytes follow as they are: only a daemon may do so, clients have to mask.
    fn write_head(&mut self, kind: Data, length: usize) {
        let head = FrameHeader { opcode: OpCode::Data(kind), ..FrameHeader::default() };
        // Writing to memory does not fail.
        let _ = head.format(length as u64, self.transport.output().small());
    }

    fn ping_due(&self) -> Instant {
        match self.pinged {
            Some(pinged) => pinged + self.transport.limits.ping_wait,
            None => self.heard + self.transport.limits.ping_after,
        }
    }
}

impl<T: Io> WebSocket<T> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, CarrierEnd>> {
        loop {
            let mut link = Link { transport: &mut self.transport, cx, fed: false, failure: None };
            let read = self.context.read(&mut link);
            let Link { fed, failure, .. } = link;
            if fed {
                self.in_message = true;
                self.pinged = None;
                self.heard = Instant::now();
            }
            let blocked = matches!(&read, Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock);
            match read {
                Ok(message) => {
                    self.in_message = false;
                    self.transport.message_is_whole();
                    if let Some(incoming) = self.received(message, cx)? {
                        return Poll::Ready(Ok(incoming));
                    }
                }
                Err(_) if blocked => {
                    let unfinished = self.in_message.then_some(0);
                    let due = Some(self.ping_due());
                    ready!(self.transport.poll_wait(cx, unfinished, due))?;
                    self.ping(cx)?;
                }
                Err(error) => return Poll::Ready(Err(failure.unwrap_or_else(|| misread(error)))),
            }
        }
    }

    fn received(&mut self, message: Message, cx: &mut Context<'_>) -> Result<Option<Incoming>, CarrierEnd> {
        match message {
            Message::Binary(bytes) => Ok(Some(Incoming::Message(bytes))),
            Message::Text(text) => Ok(Some(Incoming::Message(text.into()))),
            Message::Ping(_) => {
                // The codec has made the pong; it is ours to let it out.
                self.with_codec(cx, |codec, link| codec.flush(link));
                let _ = self.transport.poll_flush(cx)?;
                Ok(None)
            }
            Message::Close(said) => {
                self.with_codec(cx, |codec, link| codec.flush(link));
                Err(match said {
                    Some(CloseFrame { code, reason }) if code != CloseCode::Normal || !reason.is_empty() => {
                        let code = u16::from(code);
                        let space = if reason.is_empty() { "" } else { ": " };
                        CarrierEnd::PeerSaid(format!("{code}{space}{reason}"))
                    }
                    _ => CarrierEnd::Peer,
                })
            }
            _ => Ok(None),
        }
    }

    /// Lets the codec write into the queue. It can only fail when the end is near already, and then reading tells.
    fn with_codec(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut WebSocketContext, &mut Link<'_, '_, T>) -> Result<(), Error>,
    ) {
        let mut link = Link { transport: &mut self.transport, cx, fed: false, failure: None };
        if let Err(error) = act(&mut self.context, &mut link) {
            tracing::trace!(%error, "the codec of WebSocket has nothing to say any more");
        }
    }

    /// Does what is due about silence.
    fn ping(&mut self, cx: &mut Context<'_>) -> Result<(), CarrierEnd> {
        if self.ping_due() > Instant::now() {
            return Ok(());
        }
        if self.pinged.is_some() {
            let after = self.transport.limits.ping_wait;
            return Err(CarrierEnd::TimedOut { what: "the answer to a ping", after });
        }
        self.pinged = Some(Instant::now());
        self.with_codec(cx, |codec, link| codec.write(link, Message::Ping(Bytes::new())));
        let _ = self.transport.poll_flush(cx)?;
        Ok(())
    }

    fn send(&mut self, kind: Data, message: Bytes) -> Result<(), EncodeError> {
        self.fits(message.len())?;
        match self.side {
            Side::Daemon => {
                self.write_head(kind, message.len());
                append(self.transport.output(), message);
            }
            Side::Client => {
                let mut cx = Context::from_waker(std::task::Waker::noop());
                let message = match (kind, Utf8Bytes::try_from(message.clone())) {
                    (Data::Text, Ok(text)) => Message::Text(text),
                    _ => Message::Binary(message),
                };
                self.with_codec(&mut cx, |codec, link| codec.write(link, message));
            }
        }
        Ok(())
    }
}

impl<T: Io> Carrier for WebSocket<T> {
    fn kind(&self) -> CarrierKind {
        CarrierKind::WebSocket
    }

    fn peer(&self) -> &Peer {
        &self.transport.peer
    }

    fn is_confidential(&self) -> bool {
        self.transport.is_confidential
    }

    fn limit_message(&mut self, bytes: usize) {
        self.context.set_config(|config| {
            config.max_message_size = Some(bytes);
            config.max_frame_size = Some(bytes);
        });
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, CarrierEnd>> {
        if let Some(end) = &self.end {
            return Poll::Ready(Err(end.clone()));
        }
        let next = ready!(self.poll_next(cx));
        if let Err(end) = &next {
            self.end = Some(end.clone());
        }
        Poll::Ready(next)
    }

    fn hold(&mut self) {
        self.transport.hold();
    }

    fn start_send(&mut self, message: Outgoing) -> Result<(), EncodeError> {
        match message {
            Outgoing::Packet(packet) => {
                let length = packet.encoded_length(&self.methods)?;
                if self.side == Side::Client {
                    let mut out = BytesMut::with_capacity(length);
                    packet.encode(&self.methods, &mut out)?;
                    return self.send(Data::Binary, out.freeze());
                }
                self.fits(length)?;
                self.write_head(Data::Binary, length);
                let out = self.transport.output();
                if let Some(blob) = packet.encode_head(&self.methods, out.small())? {
                    append(out, blob.clone());
                }
                Ok(())
            }
            Outgoing::Sealed(message) => self.send(Data::Binary, message),
            // A browser gives a page text only as what was sent as text.
            Outgoing::Text(message) => self.send(Data::Text, message),
            Outgoing::Heartbeat => self.send(Data::Binary, Bytes::from_static(HEARTBEAT)),
        }
    }

    fn queued(&self) -> usize {
        self.transport.queued()
    }

    fn largest_send(&self) -> usize {
        self.transport.limits.message
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierEnd>> {
        self.transport.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, reason: &Farewell) -> Poll<()> {
        if !std::mem::replace(&mut self.said_farewell, true) {
            let code = match (&self.end, reason) {
                (Some(CarrierEnd::TooLarge { .. }), _) => CloseCode::Size,
                (Some(CarrierEnd::Protocol(_)), _) => CloseCode::Protocol,
                (_, Farewell::Normal) => CloseCode::Normal,
                (_, Farewell::GoingAway) => CloseCode::Away,
                (_, Farewell::Refused(_)) => CloseCode::Policy,
            };
            let reason = match reason {
                Farewell::Refused(why) => shortened(why),
                _ => "",
            };
            let frame = CloseFrame { code, reason: reason.into() };
            self.with_codec(cx, |codec, link| codec.close(link, Some(frame)));
        }
        self.transport.poll_close(cx)
    }
}

/// The transport as the codec wants it: reads that may block, and writes that never do, for they only queue.
struct Link<'a, 'b, T> {
    transport: &'a mut Transport<T>,
    cx: &'a mut Context<'b>,
    fed: bool,
    failure: Option<CarrierEnd>,
}

impl<T: Io> Read for Link<'_, '_, T> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.transport.input.is_empty() {
            let step = Room { wanted: self.transport.limits.read_step, most: None };
            match self.transport.poll_read(self.cx, step) {
                Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
                Poll::Ready(Ok(0)) => return Ok(0),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(end)) => {
                    self.failure = Some(end);
                    return Err(io::ErrorKind::Other.into());
                }
            }
        }
        self.fed = true;
        let length = room.len().min(self.transport.input.len());
        if let Some(room) = room.get_mut(..length) {
            self.transport.input.copy_to_slice(room);
        }
        Ok(length)
    }
}

impl<T> Write for Link<'_, '_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.transport.output().small().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As much of a reason as a close frame has room for.
fn shortened(why: &str) -> &str {
    let end = (0..=why.len().min(LONGEST_REASON)).rfind(|&end| why.is_char_boundary(end));
    why.get(..end.unwrap_or(0)).unwrap_or_default()
}

fn misread(error: Error) -> CarrierEnd {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => CarrierEnd::Peer,
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            CarrierEnd::TooLarge { size: size as u64, limit: max_size }
        }
        Error::Io(error) => error.into(),
        other => CarrierEnd::Protocol(format!("the peer breaks the rules of WebSocket: {other}")),
    }
}

impl<T> fmt::Debug for WebSocket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("transport", &self.transport).finish_non_exhaustive()
    }
}
