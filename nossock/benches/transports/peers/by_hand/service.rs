//! What a server does with the frames.

use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use tokio::net::tcp::OwnedWriteHalf;

use crate::messages::{Note, Received, invalid, weigh_blob};
use crate::net::Stream;

use super::Style;
use super::frame::{self, Frame, JSON, RAW};
use super::pump::{Handler, Pump};

/// What the connections of a server have in common.
#[derive(Debug, Default)]
pub(crate) struct Common {
    /// Those who want what is sent to all.
    fans: Mutex<Vec<OwnedWriteHalf>>,
    received: Received,
}

impl Common {
    /// Sends one frame to all, and returns how many they are.
    ///
    /// Writes to each socket in turn and keeps no queue: the frame is sent again only when all have it, so that there is
    /// always room for its ninety bytes.
    fn send(&self) -> io::Result<usize> {
        let mut out = Vec::new();
        frame::put(&mut out, JSON, b"note", |out| Ok(serde_json::to_writer(out, &Note::number(0))?))?;
        let all = self.fans.lock().expect("nobody panics while sending");
        for fan in all.iter() {
            if fan.try_write(&out)? < out.len() {
                return Err(io::Error::other("a fan has not read the last message"));
            }
        }
        Ok(all.len())
    }
}

/// Serves one connection.
///
/// # Errors
/// What the connection fails with, or what a frame is wrong in.
pub(crate) fn connection<S: Style>(
    stream: Stream,
    common: Arc<Common>,
) -> impl Future<Output = io::Result<()>> + Send {
    let mut pump = Pump::new(stream, Service::<S> { joins: None, common, style: PhantomData });
    async move {
        pump.run().await?;
        match pump.handler.joins.take() {
            None => Ok(()),
            // A rare path: its state must not be part of an idle connection's future.
            Some(id) => Box::pin(join(pump, id)).await,
        }
    }
}

/// Puts the sending half of a connection among the fans, and waits until the client has gone.
async fn join<S: Style>(pump: Pump<Service<S>>, id: Box<[u8]>) -> io::Result<()> {
    let Stream::Plain(tcp) = pump.stream else {
        return Err(invalid("only plain connections are sent what is sent to all"));
    };
    let (read, write) = tcp.into_split();
    let mut out = Vec::new();
    frame::put_reply(&mut out, b"resp:join:", &id, |out| {
        out.extend_from_slice(b"true");
        Ok(())
    })?;
    {
        let mut fans = pump.handler.common.fans.lock().expect("nobody panics while sending");
        if write.try_write(&out)? < out.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        fans.push(write);
    }
    read.readable().await
}

#[derive(Debug)]
struct Service<S> {
    /// The id of the request to join.
    joins: Option<Box<[u8]>>,
    common: Arc<Common>,
    style: PhantomData<S>,
}

impl<S: Style> Handler for Service<S> {
    fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        frame::each(input, |frame| self.frame(frame, out))
    }

    fn finished(&self) -> bool {
        self.joins.is_some()
    }
}

impl<S: Style> Service<S> {
    #[inline]
    fn frame(&mut self, frame: Frame<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        if let Some(id) = frame.name.strip_prefix(b"req:add:") {
            return frame::put_reply(out, b"resp:add:", id, |out| S::answer(frame.body, out));
        }
        if frame.name == b"note" {
            self.common.received.add(S::weigh(frame.body)?);
            return Ok(());
        }
        if frame.name == b"blob" && frame.kind == RAW {
            self.common.received.add(weigh_blob(frame.body)?);
            return Ok(());
        }
        self.seldom(frame, out)
    }

    #[cold]
    fn seldom(&mut self, frame: Frame<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        if let Some(id) = frame.name.strip_prefix(b"req:tally:") {
            let tally = self.common.received.take();
            return frame::put_reply(out, b"resp:tally:", id, |out| Ok(serde_json::to_writer(out, &tally)?));
        }
        if let Some(id) = frame.name.strip_prefix(b"req:fan:") {
            let reached = self.common.send()?;
            return frame::put_reply(out, b"resp:fan:", id, |out| Ok(serde_json::to_writer(out, &reached)?));
        }
        if let Some(id) = frame.name.strip_prefix(b"req:join:") {
            self.joins = Some(id.into());
            return Ok(());
        }
        Err(invalid(&format!("no handler for {}", String::from_utf8_lossy(frame.name))))
    }
}
