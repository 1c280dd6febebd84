//! Blobs that are weighed at the other end, which answers how much they have; and nossock's requests as the ones to compare with.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nossock::wire::Body;
use tokio::task::JoinSet;

use super::ours::{self, Ours};
use super::{Arrivals, Caller, Link, Peer};
use crate::measure::Burst;
use crate::messages::{Answer, Ask, weigh_blob};
use crate::net::{Door, Listener};

/// Blobs that are under way at once: one is written while another is read.
const UNDER_WAY: usize = 4;

/// Has the same blob weighed again and again; gives how often.
pub(super) async fn weigh_in_tasks<C, F>(
    caller: C,
    body: Vec<u8>,
    burst: &Burst,
    weigh: impl Fn(C, Bytes) -> F,
) -> io::Result<u64>
where
    C: Clone,
    F: Future<Output = io::Result<i64>> + Send + 'static,
{
    let weight = weigh_blob(&body)?;
    let body = Bytes::from(body);
    let mut calls = JoinSet::new();
    let mut begun = 0;
    loop {
        let more = burst.more(begun);
        if (!more || calls.len() >= UNDER_WAY)
            && let Some(answer) = calls.join_next().await
            && answer?? != weight
        {
            return Err(io::Error::other("a blob arrived altered"));
        }
        if more {
            begun += 1;
            calls.spawn(weigh(caller.clone(), body.clone()));
        } else if calls.is_empty() {
            return Ok(begun);
        }
    }
}

/// nossock, whose blobs are requests with a raw body: the same work as a call of a blob function.
pub(crate) enum Asked {}

/// The client's end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Line(ours::Line);

impl Peer for Asked {
    type Link = Line;

    async fn serve(listener: Listener) -> io::Result<()> {
        Ours::serve(listener).await
    }

    async fn connect(door: &Door) -> io::Result<Line> {
        Ours::connect(door).await.map(Line)
    }
}

impl Caller for Line {
    async fn ask(&self, ask: Ask) -> io::Result<Answer> {
        self.0.ask(ask).await
    }
}

/// As long as a slow machine may take for what is under way.
const TIME: Duration = Duration::from_secs(5);

impl Link for Line {
    async fn calls(&mut self, depth: usize, burst: &Arc<Burst>) -> io::Result<u64> {
        self.0.calls(depth, burst).await
    }

    async fn blobs(&mut self, body: Vec<u8>, burst: &Burst) -> io::Result<u64> {
        weigh_in_tasks(self.0.socket.clone(), body, burst, async |socket, body| {
            let asked = socket.request_raw(TIME, "weigh", Body::Raw(body)).await.map_err(io::Error::other)?;
            asked.parse().map_err(io::Error::other)
        })
        .await
    }

    async fn join(&mut self) -> io::Result<()> {
        self.0.join().await
    }

    async fn fan(&mut self) -> io::Result<u64> {
        self.0.fan().await
    }

    async fn deliveries(self, arrivals: Arc<Arrivals>) -> io::Result<()> {
        self.0.deliveries(arrivals).await
    }
}
