//! What the peers have in common that are a `Stream` and a `Sink` of messages, used as their users would: one task a
//! connection, messages put into the sink's buffer, which is flushed when nothing more is there to read.
//!
//! They have no names; a JSON message is an enum. Replies come in order, so that they need no ids either.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream::{SplitSink, StreamExt};
use futures_util::{Sink, SinkExt, Stream};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::measure::{Burst, stride};
use crate::messages::{Answer, Ask, Note, Tally, invalid, weigh_blob};
use crate::net::{self, Door, Listener};

use super::{Arrivals, Link, Peer};

/// A library that turns a byte stream into messages.
pub(crate) trait Channel: Send + Sync + 'static {
    /// A message.
    type Message: Clone + Send + Sync + 'static;
    type Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send;
    type Io: Stream<Item = Result<Self::Incoming, Self::Error>>
        + Sink<Self::Message, Error = Self::Error>
        + Unpin
        + Send
        + 'static;
    /// A message as it arrives.
    type Incoming: Send;

    /// The server's side.
    fn accept(stream: net::Stream) -> impl Future<Output = io::Result<Self::Io>> + Send;

    /// The client's side.
    fn connect(stream: net::Stream) -> impl Future<Output = io::Result<Self::Io>> + Send;

    /// A message of JSON.
    fn json<T: Serialize>(value: &T) -> io::Result<Self::Message>;

    /// A message of bytes.
    fn blob(bytes: Bytes) -> Self::Message;

    /// What a message holds; nothing if it is the library's own.
    fn open(incoming: &Self::Incoming) -> Option<Opened<'_>>;
}

/// What is in a message.
#[derive(Debug)]
pub(crate) enum Opened<'a> {
    Json(&'a [u8]),
    Blob(&'a [u8]),
}

#[derive(Debug, Deserialize, Serialize)]
enum Request {
    Ask(Ask),
    Note(Note),
    Tally,
    Join,
    Fan,
}

#[derive(Debug, Deserialize, Serialize)]
enum Response {
    Answer(Answer),
    Tally(Tally),
    Joined,
    Reached(u64),
    Sent(Note),
}

type Fans<C> = Mutex<Vec<SplitSink<<C as Channel>::Io, <C as Channel>::Message>>>;

/// The peer made of such a library.
#[derive(Debug)]
pub(crate) struct Over<C>(PhantomData<C>);

impl<C: Channel> Peer for Over<C> {
    type Link = Line<C>;

    async fn serve(listener: Listener) -> io::Result<()> {
        let fans = Arc::new(Fans::<C>::default());
        listener
            .serve_each(move |stream| {
                let fans = Arc::clone(&fans);
                async move { connection::<C>(C::accept(stream).await?, &fans).await }
            })
            .await
    }

    async fn connect(door: &Door) -> io::Result<Self::Link> {
        Ok(Line { io: C::connect(door.open().await?).await? })
    }
}

async fn connection<C: Channel>(mut io: C::Io, fans: &Fans<C>) -> io::Result<()> {
    let mut tally = Tally::default();
    while let Some(incoming) = next::<C>(&mut io).await? {
        let request = match C::open(&incoming) {
            None => continue,
            Some(Opened::Blob(body)) => {
                tally.add(weigh_blob(body)?);
                continue;
            }
            Some(Opened::Json(json)) => serde_json::from_slice(json)?,
        };
        let response = match request {
            Request::Ask(ask) => Response::Answer(ask.answer()),
            Request::Note(note) => {
                tally.add(note.weight());
                continue;
            }
            Request::Tally => Response::Tally(std::mem::take(&mut tally)),
            // Rare paths: their state must not be part of an idle connection's future.
            Request::Join => return Box::pin(join::<C>(io, fans)).await,
            Request::Fan => Response::Reached(Box::pin(send_to_all::<C>(fans)).await?),
        };
        io.feed(C::json(&response)?).await.map_err(io::Error::other)?;
    }
    Ok(())
}

async fn join<C: Channel>(io: C::Io, fans: &Fans<C>) -> io::Result<()> {
    let (mut sink, mut stream) = io.split();
    {
        let mut fans = fans.lock().await;
        sink.send(C::json(&Response::Joined)?).await.map_err(io::Error::other)?;
        fans.push(sink);
    }
    while stream.next().await.transpose().map_err(io::Error::other)?.is_some() {}
    Ok(())
}

async fn send_to_all<C: Channel>(fans: &Fans<C>) -> io::Result<u64> {
    let message = C::json(&Response::Sent(Note::number(0)))?;
    let mut fans = fans.lock().await;
    for fan in fans.iter_mut() {
        fan.send(message.clone()).await.map_err(io::Error::other)?;
    }
    Ok(fans.len() as u64)
}

/// The next message; while there is none, what was put into the sink leaves.
async fn next<C: Channel>(io: &mut C::Io) -> io::Result<Option<C::Incoming>> {
    let poll = |cx: &mut Context<'_>| -> Poll<Option<Result<C::Incoming, C::Error>>> {
        if let Poll::Ready(item) = Pin::new(&mut *io).poll_next(cx) {
            return Poll::Ready(item);
        }
        match Pin::new(&mut *io).poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    };
    poll_fn(poll).await.transpose().map_err(io::Error::other)
}

/// The client's end of a connection.
#[derive(Debug)]
pub(crate) struct Line<C: Channel> {
    io: C::Io,
}

impl<C: Channel> Line<C> {
    async fn feed(&mut self, message: C::Message) -> io::Result<()> {
        self.io.feed(message).await.map_err(io::Error::other)
    }

    async fn response(&mut self) -> io::Result<Response> {
        loop {
            let incoming = next::<C>(&mut self.io).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            match C::open(&incoming) {
                None => {}
                Some(Opened::Json(json)) => return Ok(serde_json::from_slice(json)?),
                Some(Opened::Blob(_)) => return Err(invalid("a response that is not JSON")),
            }
        }
    }

    async fn request(&mut self, request: &Request) -> io::Result<Response> {
        self.feed(C::json(request)?).await?;
        self.response().await
    }

    async fn check(&mut self, sent: Tally) -> io::Result<u64> {
        match self.request(&Request::Tally).await? {
            Response::Tally(received) => sent.check(received),
            other => Err(unexpected(&other)),
        }
    }
}

impl<C: Channel> Link for Line<C> {
    async fn calls(&mut self, depth: usize, burst: &Arc<Burst>) -> io::Result<u64> {
        let stride = stride(depth);
        let mut since = VecDeque::new();
        let (mut asked, mut answered) = (0_u64, 0_u64);
        loop {
            let more = if asked.is_multiple_of(stride) { burst.more(asked) } else { !burst.is_over() };
            if more && asked - answered < depth as u64 {
                if asked.is_multiple_of(stride) {
                    since.push_back(Instant::now());
                }
                self.feed(C::json(&Request::Ask(Ask::number(asked)))?).await?;
                asked += 1;
                continue;
            }
            if answered == asked {
                return Ok(answered);
            }
            match self.response().await? {
                Response::Answer(answer) => Ask::number(answered).check(answer)?,
                other => return Err(unexpected(&other)),
            }
            if answered.is_multiple_of(stride)
                && let Some(since) = since.pop_front()
            {
                burst.record(since);
            }
            answered += 1;
        }
    }

    async fn notes(&mut self, burst: &Burst) -> io::Result<u64> {
        let mut sent = Tally::default();
        while !sent.count.is_multiple_of(64) || burst.more(sent.count) {
            let note = Note::number(sent.count);
            self.feed(C::json(&Request::Note(note))?).await?;
            sent.add(note.weight());
        }
        self.check(sent).await
    }

    async fn blobs(&mut self, body: Vec<u8>, burst: &Burst) -> io::Result<u64> {
        let weight = weigh_blob(&body)?;
        let body = Bytes::from(body);
        let mut sent = Tally::default();
        while burst.more(sent.count) {
            self.feed(C::blob(body.clone())).await?;
            sent.add(weight);
        }
        self.check(sent).await
    }

    async fn join(&mut self) -> io::Result<()> {
        match self.request(&Request::Join).await? {
            Response::Joined => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn fan(&mut self) -> io::Result<u64> {
        match self.request(&Request::Fan).await? {
            Response::Reached(reached) => Ok(reached),
            other => Err(unexpected(&other)),
        }
    }

    async fn deliveries(mut self, arrivals: Arc<Arrivals>) -> io::Result<()> {
        loop {
            match self.response().await? {
                Response::Sent(_) => arrivals.one(),
                other => return Err(unexpected(&other)),
            }
        }
    }
}

fn unexpected(response: &Response) -> io::Error {
    invalid(&format!("an unexpected response: {response:?}"))
}
