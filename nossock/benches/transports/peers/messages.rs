//! What the peers have in common that are a `Stream` and a `Sink` of messages, used as their users would: one task a
//! connection, messages put into the sink's buffer, which is flushed when nothing more is there to read.
//!
//! They have neither names nor requests, so these are what a user adds to get what the others have: a JSON message is an
//! enum with an id where there is an answer; the client has a task for its connection, a channel of requests to it, and
//! a map of those who wait, so that any task can ask and await its own answer.
//!
//! Whoever asks from one task only, and has a server that answers in order, needs none of this: a queue of what was asked
//! will do. That is measured as well, under names that end in `-in-order`: the same messages, whose ids are of no use then.

use std::collections::{HashMap, VecDeque};
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
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::measure::{Burst, stride};
use crate::messages::{Answer, Ask, Note, Received, Tally, invalid, weigh_blob};
use crate::net::{self, Door, Listener};

use super::{Arrivals, Caller, Link, Peer, calls_from_tasks};

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
    Ask { id: u64, ask: Ask },
    Note(Note),
    Tally,
    Join,
    Fan,
}

#[derive(Debug, Deserialize, Serialize)]
enum Response {
    Answer { id: u64, answer: Answer },
    Tally(Tally),
    Joined,
    Reached(u64),
    Sent(Note),
}

/// What the connections of a server have in common.
struct Common<C: Channel> {
    fans: Mutex<Vec<SplitSink<C::Io, C::Message>>>,
    received: Received,
}

/// The peer made of such a library.
#[derive(Debug)]
pub(crate) struct Over<C, const IN_ORDER: bool = false>(PhantomData<C>);

impl<C: Channel, const IN_ORDER: bool> Peer for Over<C, IN_ORDER> {
    type Link = Line<C, IN_ORDER>;

    async fn serve(listener: Listener) -> io::Result<()> {
        let common = Arc::new(Common::<C> { fans: Mutex::default(), received: Received::default() });
        listener
            .serve_each(move |stream| {
                let common = Arc::clone(&common);
                async move { connection::<C>(C::accept(stream).await?, &common).await }
            })
            .await
    }

    async fn connect(door: &Door) -> io::Result<Self::Link> {
        Ok(Line { io: Some(C::connect(door.open().await?).await?) })
    }
}

async fn connection<C: Channel>(mut io: C::Io, common: &Common<C>) -> io::Result<()> {
    while let Some(incoming) = next::<C>(&mut io).await? {
        let request = match C::open(&incoming) {
            None => continue,
            Some(Opened::Blob(body)) => {
                common.received.add(weigh_blob(body)?);
                continue;
            }
            Some(Opened::Json(json)) => serde_json::from_slice(json)?,
        };
        let response = match request {
            Request::Ask { id, ask } => Response::Answer { id, answer: ask.answer() },
            Request::Note(note) => {
                common.received.add(note.weight());
                continue;
            }
            Request::Tally => Response::Tally(common.received.take()),
            // Rare paths: their state must not be part of an idle connection's future.
            Request::Join => return Box::pin(join::<C>(io, common)).await,
            Request::Fan => Response::Reached(Box::pin(send_to_all::<C>(common)).await?),
        };
        io.feed(C::json(&response)?).await.map_err(io::Error::other)?;
    }
    Ok(())
}

async fn join<C: Channel>(io: C::Io, common: &Common<C>) -> io::Result<()> {
    let (mut sink, mut stream) = io.split();
    {
        let mut fans = common.fans.lock().await;
        sink.send(C::json(&Response::Joined)?).await.map_err(io::Error::other)?;
        fans.push(sink);
    }
    while stream.next().await.transpose().map_err(io::Error::other)?.is_some() {}
    Ok(())
}

async fn send_to_all<C: Channel>(common: &Common<C>) -> io::Result<u64> {
    let message = C::json(&Response::Sent(Note::number(0)))?;
    let mut fans = common.fans.lock().await;
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
pub(crate) struct Line<C: Channel, const IN_ORDER: bool> {
    /// Away while a task has it.
    io: Option<C::Io>,
}

async fn response<C: Channel>(io: &mut C::Io) -> io::Result<Response> {
    loop {
        let incoming = next::<C>(io).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match C::open(&incoming) {
            None => {}
            Some(Opened::Json(json)) => return Ok(serde_json::from_slice(json)?),
            Some(Opened::Blob(_)) => return Err(invalid("a response that is not JSON")),
        }
    }
}

/// A request on its way to the task of a connection.
type Asked = (Ask, oneshot::Sender<Answer>);

/// How many requests may wait for that task.
const WAITING: usize = 256;

/// Asks through the task of a connection.
#[derive(Clone, Debug)]
struct Asker(mpsc::Sender<Asked>);

impl Caller for Asker {
    async fn ask(&self, ask: Ask) -> io::Result<Answer> {
        let (reply, answer) = oneshot::channel();
        self.0.send((ask, reply)).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        answer.await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The task of a connection: sends what is asked, and gives answers to those who wait; until nobody can ask any more.
async fn carry<C: Channel>(mut io: C::Io, mut requests: mpsc::Receiver<Asked>) -> io::Result<C::Io> {
    let mut waiting = HashMap::new();
    let mut last = 0_u64;
    loop {
        tokio::select! {
            biased; // all requests first, and then one flush
            asked = requests.recv() => {
                let Some((ask, reply)) = asked else { return Ok(io) };
                last += 1;
                waiting.insert(last, reply);
                io.feed(C::json(&Request::Ask { id: last, ask })?).await.map_err(io::Error::other)?;
            }
            came = response::<C>(&mut io) => match came? {
                Response::Answer { id, answer } => {
                    let reply = waiting.remove(&id).ok_or_else(|| invalid("an answer nobody waits for"))?;
                    let _ = reply.send(answer); // the asker may have gone
                }
                other => return Err(unexpected(&other)),
            }
        }
    }
}

impl<C: Channel, const IN_ORDER: bool> Line<C, IN_ORDER> {
    fn io(&mut self) -> io::Result<&mut C::Io> {
        self.io.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    async fn feed(&mut self, message: C::Message) -> io::Result<()> {
        self.io()?.feed(message).await.map_err(io::Error::other)
    }

    async fn response(&mut self) -> io::Result<Response> {
        response::<C>(self.io()?).await
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

impl<C: Channel, const IN_ORDER: bool> Line<C, IN_ORDER> {
    async fn calls_from_tasks(&mut self, depth: usize, burst: &Arc<Burst>) -> io::Result<u64> {
        let io = self.io.take().ok_or(io::ErrorKind::NotConnected)?;
        let (ask, requests) = mpsc::channel(WAITING);
        let task = tokio::spawn(carry::<C>(io, requests));
        let answered = calls_from_tasks(&Asker(ask), depth, burst).await;
        self.io = Some(task.await??);
        answered
    }

    async fn calls_in_order(&mut self, depth: usize, burst: &Arc<Burst>) -> io::Result<u64> {
        let stride = stride(depth);
        let mut since = VecDeque::new();
        let (mut asked, mut answered) = (0_u64, 0_u64);
        loop {
            let more = if asked.is_multiple_of(stride) { burst.more(asked) } else { !burst.is_over() };
            if more && asked - answered < depth as u64 {
                if asked.is_multiple_of(stride) {
                    since.push_back(Instant::now());
                }
                self.feed(C::json(&Request::Ask { id: asked, ask: Ask::number(asked) })?).await?;
                asked += 1;
                continue;
            }
            if answered == asked {
                return Ok(answered);
            }
            match self.response().await? {
                Response::Answer { answer, .. } => Ask::number(answered).check(answer)?,
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
}

impl<C: Channel, const IN_ORDER: bool> Link for Line<C, IN_ORDER> {
    async fn calls(&mut self, depth: usize, burst: &Arc<Burst>) -> io::Result<u64> {
        if IN_ORDER {
            self.calls_in_order(depth, burst).await
        } else {
            self.calls_from_tasks(depth, burst).await
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
