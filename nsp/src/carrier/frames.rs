use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use nossock::session::{Close, CloseCode, Control, Hello, Outbox};
use nossock::wire::{Decoder, FrameRef, Kind, Next, WireError};
use nossock::{Peer, Seldom};
use tokio::time::Instant;

use super::lent::Sheet;
use super::transport::{Io, Room, Transport};
use super::{Carrier, CarrierEnd, CarrierKind, Farewell, Lent, Limits};
use crate::machine::{Incoming, Outgoing, Texts};
use crate::proto::frame::{self, Received, SEALED};
use crate::proto::{DecodeError, EncodeError, Leg, Method, Packet, Side, packed};

/// Packets as nossock frames.
///
/// Beside the packets there are the control frames of nossock, as its own sockets speak them: who dials says hello first, who accepts
/// only answers, and a peer that never does gets nothing but plain frames. A frame that is no packet is skipped and counted, one
/// over the limit as well.
#[derive(Debug)]
pub(super) struct Frames<T> {
    transport: Transport<T>,
    decoder: Decoder,
    /// What is said in a hello.
    hello: Hello,
    said_hello: bool,
    /// What the peer said, if it ever did.
    heard_hello: Option<Hello>,
    heard: Instant,
    pinged: Option<Instant>,
    /// A control frame was queued that nobody else will flush.
    control: bool,
    /// Pings that were answered since everything had left.
    pongs: u32,
    skipped: u64,
    /// Bytes of the frame that is lent.
    lent: usize,
    end: Option<CarrierEnd>,
    said_farewell: bool,
}

/// Most pings that are answered while not everything leaves. Nobody above hears of them, so nobody else stops reading because of their answers. One
/// read holds fewer, so that who takes what he asks for is never near it.
const MOST_PONGS: u32 = 4096;

impl<T> Frames<T> {
    pub(super) fn new(transport: Transport<T>, side: Side, says_hello: bool) -> Self {
        let limits = nossock_limits(&transport.limits);
        let mut frames = Self {
            transport,
            decoder: Decoder::new(&limits),
            hello: Hello::new(&limits),
            said_hello: false,
            heard_hello: None,
            heard: Instant::now(),
            pinged: None,
            control: false,
            pongs: 0,
            skipped: 0,
            lent: 0,
            end: None,
            said_farewell: false,
        };
        if side == Side::Client && says_hello {
            frames.say_hello();
        }
        frames
    }

    fn say_hello(&mut self) {
        self.said_hello = true;
        let hello = self.hello.clone();
        self.control(&Control::Hello(hello));
    }

    fn control(&mut self, control: &Control<'_>) {
        control.write(self.transport.output().small());
        self.control = true;
    }

    /// Handles what nossock sessions tell each other.
    fn receive_control(&mut self, body: &[u8]) {
        match Control::parse(body) {
            Some(Control::Hello(hello)) => {
                if !self.said_hello {
                    self.say_hello();
                }
                self.heard_hello = Some(hello);
                self.heard = Instant::now();
            }
            Some(Control::Ping(number)) => {
                self.pongs += 1;
                if self.pongs > MOST_PONGS {
                    self.end =
                        Some(CarrierEnd::Protocol(format!("more than {MOST_PONGS} pings without reading")));
                    return;
                }
                self.control(&Control::Pong(number));
            }
            Some(Control::Close(Close { code: CloseCode::Normal, message })) if message.is_empty() => {
                self.end = Some(CarrierEnd::Peer);
            }
            Some(Control::Close(Close { code, message })) => {
                let said = if message.is_empty() { code.to_string() } else { format!("{code}: {message}") };
                self.end = Some(CarrierEnd::PeerSaid(said));
            }
            // A pong has told that the peer lives; there are no requests to cancel; what is not known is of a later version.
            _ => {}
        }
    }

    /// Takes the next message out of what has been read.
    fn decode(&mut self) -> Result<Option<Incoming>, CarrierEnd> {
        loop {
            let head = match self.decoder.next(&mut self.transport.input).map_err(misread)? {
                Next::Frame(head) => head,
                Next::TooLarge { name, size, .. } => {
                    static TOO_LARGE: Seldom = Seldom::new();
                    if let Some(times) = TOO_LARGE.times(Instant::now().into_std()) {
                        tracing::warn!(%name, size, times, "frame over the limit skipped");
                    }
                    self.skipped += 1;
                    continue;
                }
                _ => return Ok(None),
            };
            self.transport.message_is_whole();
            let kind = match head.kind() {
                Kind::Json => frame::Kind::Json,
                Kind::Raw => frame::Kind::Bytes,
                _ => {
                    let whole = self.transport.input.split_to(head.frame_len());
                    if let Ok(control) = FrameRef::new(&whole, &head) {
                        self.receive_control(control.body);
                    }
                    if let Some(end) = &self.end {
                        return Err(end.clone());
                    }
                    continue;
                }
            };
            let mut body = self.transport.input.split_to(head.frame_len()).freeze();
            let name = body.get(2..head.body_at() - 4).unwrap_or_default();
            let (letters, length) = (name.try_into(), name.len());
            body.advance(head.body_at());
            let received = match letters {
                Ok(letters) => Received::from_letters(letters, kind, body),
                Err(_) => Err(DecodeError::UnknownName { length }),
            };
            match received {
                Ok(received) => return Ok(Some(received.into())),
                Err(error) => {
                    tracing::debug!(peer = %self.transport.peer, %error, "frame skipped");
                    self.skipped += 1;
                }
            }
        }
    }

    /// When to do something about silence, if the peer knows pings.
    fn ping_due(&self) -> Option<Instant> {
        self.heard_hello.as_ref()?;
        Some(match self.pinged {
            Some(pinged) => pinged + self.transport.limits.ping_wait,
            None => self.heard + self.transport.limits.ping_after,
        })
    }

    /// Does what is due about silence.
    fn ping(&mut self) -> Result<(), CarrierEnd> {
        let due = self.ping_due().is_some_and(|due| due <= Instant::now());
        match self.pinged {
            _ if !due => Ok(()),
            Some(_) => {
                let after = self.transport.limits.ping_wait;
                Err(CarrierEnd::TimedOut { what: "the answer to a ping", after })
            }
            None => {
                self.pinged = Some(Instant::now());
                self.control(&Control::Ping(0)); // that something comes is what counts
                Ok(())
            }
        }
    }
}

#[cfg(test)]
impl<T> Frames<T> {
    pub(super) const fn transport(&mut self) -> &mut Transport<T> {
        &mut self.transport
    }
}

impl<T: Io> Frames<T> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, CarrierEnd>> {
        loop {
            if let Some(incoming) = self.decode()? {
                return Poll::Ready(Ok(incoming));
            }
            ready!(self.poll_more(cx))?;
        }
    }

    /// Reads more.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierEnd>> {
        loop {
            if self.control && self.transport.poll_flush(cx)?.is_ready() {
                self.control = false;
                self.pongs = 0;
            }
            let input = &self.transport.input;
            let room = Room { wanted: self.decoder.room(input), most: self.decoder.most(input) };
            match self.transport.poll_read(cx, room)? {
                Poll::Ready(0) => {
                    let cut = self.decoder.in_frame(&self.transport.input);
                    return Poll::Ready(Err(if cut { CarrierEnd::Truncated } else { CarrierEnd::Peer }));
                }
                Poll::Ready(_) => {
                    self.pinged = None;
                    if self.heard_hello.is_some() {
                        self.heard = Instant::now();
                    }
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => {
                    let input = &self.transport.input;
                    let unfinished = self.decoder.in_frame(input).then(|| self.decoder.outstanding(input));
                    let due = self.ping_due();
                    ready!(self.transport.poll_wait(cx, unfinished, due))?;
                    self.ping()?;
                }
            }
        }
    }
}

impl<T: Io> Carrier for Frames<T> {
    fn kind(&self) -> CarrierKind {
        CarrierKind::Frames
    }

    fn peer(&self) -> &Peer {
        &self.transport.peer
    }

    fn is_confidential(&self) -> bool {
        self.transport.is_confidential
    }

    fn limit_message(&mut self, bytes: usize) {
        self.decoder.set_max_body(u32::try_from(bytes).unwrap_or(u32::MAX));
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

    #[inline]
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Part of a message is for `poll_receive` to complete.
        if self.end.is_some() || self.decoder.in_frame(&self.transport.input) {
            return Poll::Ready(());
        }
        // With nothing there it has nothing to find, but forgets what it knew of a message that was lent.
        let next = self.decoder.next(&mut self.transport.input);
        debug_assert!(matches!(next, Ok(Next::Incomplete)), "{next:?}");
        if let Err(end) = ready!(self.poll_more(cx)) {
            self.end = Some(end);
        }
        Poll::Ready(())
    }

    #[inline]
    fn lend(&mut self) -> Option<Lent<'_>> {
        if self.end.is_some() {
            return None;
        }
        let limit = self.largest_send();
        let (input, output) = self.transport.halves();
        let (leg, json, _) = usual(&self.decoder, input)?;
        self.lent = HEAD + json.len();
        Some(Lent { leg, json, sheet: Sheet::new(output, limit) })
    }

    #[inline]
    fn taken(&mut self) {
        self.transport.input.advance(std::mem::take(&mut self.lent));
        self.transport.message_is_whole();
    }

    fn lend_each(&mut self, take: &mut dyn FnMut(Leg, &[u8]) -> bool) {
        if self.end.is_some() {
            return;
        }
        let mut rest: &[u8] = &self.transport.input;
        while let Some((leg, json, behind)) = usual(&self.decoder, rest)
            && take(leg, json)
        {
            rest = behind;
        }
        self.lent = self.transport.input.len() - rest.len();
        if self.lent > 0 {
            self.taken();
        }
    }

    fn hold(&mut self) {
        self.transport.hold();
    }

    fn start_send(&mut self, message: Outgoing) -> Result<(), EncodeError> {
        let limit = self.largest_send();
        match message {
            Outgoing::Packet(packet) => write_packet(packet, limit, || self.transport.output()),
            Outgoing::Sealed(message) => {
                let length = fits(message.len(), limit)?;
                let out = self.transport.output();
                write_head(out.small(), b'b', *SEALED.as_bytes().first_chunk().unwrap_or(b"NSPS"), length);
                append(out, message);
                Ok(())
            }
            Outgoing::Text(_) => Err(EncodeError::NoText),
            // nossock has pings of its own.
            Outgoing::Heartbeat => Ok(()),
        }
    }

    fn start_json(&mut self, method: Method, leg: Leg, json: &[u8]) -> Result<(), EncodeError> {
        let length = fits(json.len(), self.largest_send())?;
        let ([m0, m1], [l0, l1]) = (method.letters(), leg.letters());
        let out = self.transport.output().small();
        write_head(out, b'j', [m0, m1, l0, l1], length);
        out.extend_from_slice(json);
        Ok(())
    }

    fn start_each(&mut self, method: Method, leg: Leg, texts: &[u8]) -> Result<(), EncodeError> {
        let limit = self.largest_send();
        let ([m0, m1], [l0, l1]) = (method.letters(), leg.letters());
        let out = self.transport.output().small();
        let mut result = Ok(());
        for json in Texts(texts) {
            match fits(json.len(), limit) {
                Ok(length) => {
                    write_head(out, b'j', [m0, m1, l0, l1], length);
                    out.extend_from_slice(json);
                }
                Err(error) => result = Err(error),
            }
        }
        result
    }

    fn queued(&self) -> usize {
        self.transport.queued()
    }

    fn largest_send(&self) -> usize {
        let ours = self.transport.limits.message.min(u32::MAX as usize);
        self.heard_hello.as_ref().map_or(ours, |hello| ours.min(hello.max_body as usize))
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierEnd>> {
        ready!(self.transport.poll_flush(cx))?;
        self.control = false;
        self.pongs = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, reason: &Farewell) -> Poll<()> {
        let peer_left = matches!(self.end, Some(CarrierEnd::Peer | CarrierEnd::PeerSaid(_)));
        if !std::mem::replace(&mut self.said_farewell, true) && self.heard_hello.is_some() && !peer_left {
            let (code, message) = match reason {
                Farewell::Normal => (CloseCode::Normal, String::new()),
                Farewell::GoingAway => (CloseCode::GoingAway, String::new()),
                Farewell::Refused(why) => (CloseCode::Refused, why.clone()),
            };
            self.control(&Control::Close(Close { code, message }));
        }
        self.transport.poll_close(cx)
    }
}

/// What our limits are in the words of nossock.
fn nossock_limits(limits: &Limits) -> nossock::Limits {
    nossock::Limits {
        max_body: u32::try_from(limits.message).unwrap_or(u32::MAX),
        max_skip: limits.skip,
        read_step: limits.read_step,
        ..nossock::Limits::default()
    }
}

fn misread(error: WireError) -> CarrierEnd {
    match error {
        WireError::BodyTooLarge { size, limit, .. } => {
            CarrierEnd::TooLarge { size: size.into(), limit: limit as usize }
        }
        other => CarrierEnd::Protocol(other.to_string()),
    }
}

/// The packet of CS, JSON alone, that begins what was read, if it is there as a whole; and what is behind it.
///
/// Without taking apart what begins any frame: nearly all are like this.
#[inline(always)]
fn usual<'a>(decoder: &Decoder, input: &'a [u8]) -> Option<(Leg, &'a [u8], &'a [u8])> {
    let [b'j', 4, b'C', b'S', b'r', leg @ (b'q' | b's'), l0, l1, l2, l3, rest @ ..] = input else {
        return None;
    };
    let length = u32::from_be_bytes([*l0, *l1, *l2, *l3]);
    let (json, behind) = rest.split_at_checked(length as usize).filter(|_| decoder.takes(length))?;
    Some((if *leg == b'q' { Leg::Request } else { Leg::Answer }, json, behind))
}

/// Bytes before the body of a packet's frame.
pub(super) const HEAD: usize = 10;

fn fits(size: usize, limit: usize) -> Result<u32, EncodeError> {
    match u32::try_from(size) {
        Ok(length) if size <= limit => Ok(length),
        _ => Err(EncodeError::TooLarge { size, limit }),
    }
}

fn write_packet<'a>(
    packet: Packet,
    limit: usize,
    out: impl FnOnce() -> &'a mut Outbox,
) -> Result<(), EncodeError> {
    let [m0, m1] = packet.method.letters();
    let [l0, l1] = packet.leg.letters();
    let (name, payload) = ([m0, m1, l0, l1], packet.payload);
    let Some(blob) = &payload.blob else {
        // A packet may say nothing, a JSON frame may not: the npm package would fail to read it.
        let json = if payload.json.is_empty() { Bytes::from_static(b"null") } else { payload.json };
        let length = fits(json.len(), limit)?;
        let out = out();
        write_head(out.small(), b'j', name, length);
        append(out, json);
        return Ok(());
    };
    let length = fits(packed::head_length(&payload) + blob.len(), limit)?;
    let out = out();
    write_head(out.small(), b'b', name, length);
    packed::write_head(&payload, out.small());
    if let Some(blob) = payload.blob {
        append(out, blob);
    }
    Ok(())
}

/// Writes the head of a frame; names of packets have four letters.
fn write_head(out: &mut Vec<u8>, kind: u8, name: [u8; 4], length: u32) {
    let [n0, n1, n2, n3] = name;
    let [l0, l1, l2, l3] = length.to_be_bytes();
    out.extend_from_slice(&[kind, 4, n0, n1, n2, n3, l0, l1, l2, l3]);
}

/// Appends bytes, without copying them if they are many.
pub(super) fn append(out: &mut Outbox, bytes: Bytes) {
    if bytes.len() >= Outbox::LARGE {
        out.push(bytes);
    } else {
        out.small().extend_from_slice(&bytes);
    }
}
