//! What a client does: it knows the order of replies, and needs no future a call.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt;

use crate::measure::{Burst, stride};
use crate::messages::{Tally, invalid, weigh_blob};
use crate::net::Stream;
use crate::peers::{Arrivals, Link};

use super::Style;
use super::frame::{self, Frame, JSON, RAW};
use super::pump::{Handler, Pump};

/// Bytes of notes in one `send`.
const BATCH: usize = 64 * 1024;

/// Bytes of raw bodies in one vectored write, if one body is not more.
const TOGETHER: usize = 256 * 1024;

/// The client's end of a reference connection.
#[derive(Debug)]
pub(crate) struct Direct<S> {
    /// Away while a pump has it.
    stream: Option<Stream>,
    style: PhantomData<S>,
}

impl<S: Style> Direct<S> {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream: Some(stream), style: PhantomData }
    }

    fn stream(&mut self) -> io::Result<&mut Stream> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    async fn run<H: Handler + Send>(&mut self, handler: H, first: Vec<u8>) -> io::Result<H> {
        let stream = self.stream.take().ok_or(io::ErrorKind::NotConnected)?;
        let mut pump = Pump::new(stream, handler).begin_with(first);
        pump.run().await?;
        self.stream = Some(pump.stream);
        Ok(pump.handler)
    }

    /// One request without a body.
    async fn request<T: DeserializeOwned>(&mut self, prefix: &[u8]) -> io::Result<T> {
        let mut first = Vec::new();
        frame::put_numbered(&mut first, prefix, 1, |out| {
            out.extend_from_slice(b"null");
            Ok(())
        })?;
        let single = self.run(Single { value: None }, first).await?;
        Ok(serde_json::from_slice(&single.value.ok_or(io::ErrorKind::UnexpectedEof)?)?)
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream()?.write_all(bytes).await
    }
}

impl<S: Style> Link for Direct<S> {
    async fn calls(&mut self, depth: usize, burst: &Arc<Burst>) -> io::Result<u64> {
        let mut pipeline = Pipeline::<S> {
            asked: 0,
            answered: 0,
            stride: stride(depth),
            since: VecDeque::new(),
            ending: false,
            burst: Arc::clone(burst),
            style: PhantomData,
        };
        let mut first = Vec::new();
        for _ in 0..depth {
            pipeline.ask(Instant::now(), &mut first)?;
        }
        let pipeline = self.run(pipeline, first).await?;
        if pipeline.finished() { Ok(pipeline.answered) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    async fn notes(&mut self, burst: &Burst) -> io::Result<u64> {
        let mut sent = Tally::default();
        let mut batch = Vec::with_capacity(BATCH + 128);
        let mut batched = Tally::default();
        while burst.more(sent.count) {
            if !S::NOTES_ALIKE || batch.is_empty() {
                batch.clear();
                batched = Tally::default();
                while batch.len() < BATCH {
                    let n = sent.count + batched.count;
                    batched.add(frame::put(&mut batch, JSON, b"note", |out| S::note(n, out))?);
                }
            }
            self.write_all(&batch).await?;
            sent.count += batched.count;
            sent.weight = sent.weight.wrapping_add(batched.weight);
        }
        self.stream()?.flush().await?;
        sent.check(self.request(b"req:tally:").await?)
    }

    async fn blobs(&mut self, body: Vec<u8>, burst: &Burst) -> io::Result<u64> {
        let weight = weigh_blob(&body)?;
        let mut header = vec![RAW, 4];
        header.extend_from_slice(b"blob");
        header.extend_from_slice(&(body.len() as u32).to_be_bytes());
        let mut sent = Tally::default();
        let stream = self.stream()?;
        let together = (TOGETHER / body.len()).max(1);
        while burst.more(sent.count) {
            let mut slices = [[io::IoSlice::new(&header), io::IoSlice::new(&body)]].repeat(together);
            let mut left = slices.as_flattened_mut();
            while !left.is_empty() {
                let wrote = stream.write_vectored(left).await?;
                io::IoSlice::advance_slices(&mut left, wrote);
            }
            (0..together).for_each(|_| sent.add(weight));
        }
        stream.flush().await?;
        sent.check(self.request(b"req:tally:").await?)
    }

    async fn join(&mut self) -> io::Result<()> {
        self.request::<bool>(b"req:join:").await.map(drop)
    }

    async fn fan(&mut self) -> io::Result<u64> {
        self.request(b"req:fan:").await
    }

    async fn deliveries(mut self, arrivals: Arc<Arrivals>) -> io::Result<()> {
        self.run(Deliveries::<S> { arrivals, style: PhantomData }, Vec::new()).await.map(drop)
    }
}

/// Requests in flight; a reply makes place for another.
#[derive(Debug)]
struct Pipeline<S> {
    asked: u64,
    answered: u64,
    stride: u64,
    /// When those requests were sent that are timed.
    since: VecDeque<Instant>,
    ending: bool,
    burst: Arc<Burst>,
    style: PhantomData<S>,
}

impl<S: Style> Pipeline<S> {
    fn ask(&mut self, now: Instant, out: &mut Vec<u8>) -> io::Result<()> {
        let n = self.asked;
        frame::put_numbered(out, b"req:add:", n, |out| S::ask(n, out))?;
        if n.is_multiple_of(self.stride) {
            self.since.push_back(now);
        }
        self.asked += 1;
        Ok(())
    }
}

impl<S: Style> Handler for Pipeline<S> {
    fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let now = Instant::now();
        self.ending = self.ending || !self.burst.more(self.asked);
        frame::each(input, |Frame { name, body, .. }| {
            let n = self.answered;
            if name.strip_prefix(b"resp:add:").and_then(frame::number) != Some(n) {
                return Err(invalid(&format!("reply {n} is named {}", String::from_utf8_lossy(name))));
            }
            S::check(n, frame::value(body)?)?;
            if n.is_multiple_of(self.stride)
                && let Some(since) = self.since.pop_front()
            {
                self.burst.record(since);
            }
            self.answered += 1;
            if self.ending { Ok(()) } else { self.ask(now, out) }
        })
    }

    fn finished(&self) -> bool {
        self.answered == self.asked
    }
}

/// The value of one reply.
#[derive(Debug)]
struct Single {
    value: Option<Vec<u8>>,
}

impl Handler for Single {
    fn take(&mut self, input: &[u8], _: &mut Vec<u8>) -> io::Result<usize> {
        frame::each(input, |frame| {
            self.value = Some(frame::value(frame.body)?.to_vec());
            Ok(())
        })
    }

    fn finished(&self) -> bool {
        self.value.is_some()
    }
}

/// Counts what is sent to all.
#[derive(Debug)]
struct Deliveries<S> {
    arrivals: Arc<Arrivals>,
    style: PhantomData<S>,
}

impl<S: Style> Handler for Deliveries<S> {
    fn take(&mut self, input: &[u8], _: &mut Vec<u8>) -> io::Result<usize> {
        frame::each(input, |frame| {
            S::weigh(frame.body)?;
            self.arrivals.one();
            Ok(())
        })
    }
}
