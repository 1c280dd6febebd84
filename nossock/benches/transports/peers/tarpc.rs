//! `tarpc`: its macro, its channels and its tasks as its README shows them, over its serde transport with JSON.

use std::io;
use std::sync::Arc;

use futures_util::StreamExt;
use tarpc::context;
use tarpc::serde_transport::Transport;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Json;

use crate::measure::Burst;
use crate::messages::{Answer, Ask};
use crate::net::{Door, Listener};

use super::{Caller, Link, Part, Peer, calls_from_tasks};

/// The peer.
#[derive(Debug)]
pub(crate) struct Tarpc;

impl Peer for Tarpc {
    const PART: Part = Part::Calls;

    type Link = Rpc;

    async fn serve(listener: Listener) -> io::Result<()> {
        listener
            .serve_each(async |stream| {
                let requests = BaseChannel::with_defaults(Transport::from((stream, Json::default())))
                    .execute(Adding.serve());
                requests
                    .for_each(async |request| {
                        tokio::spawn(request);
                    })
                    .await;
                Ok(())
            })
            .await
    }

    async fn connect(door: &Door) -> io::Result<Self::Link> {
        let transport = Transport::from((door.open().await?, Json::default()));
        Ok(Rpc(AdderClient::new(tarpc::client::Config::default(), transport).spawn()))
    }
}

#[tarpc::service]
trait Adder {
    async fn add(ask: Ask) -> Answer;
}

#[derive(Clone, Debug)]
struct Adding;

impl Adder for Adding {
    async fn add(self, _: context::Context, ask: Ask) -> Answer {
        ask.answer()
    }
}

/// The client's end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Rpc(AdderClient);

impl Link for Rpc {
    async fn calls(&mut self, depth: usize, burst: &Arc<Burst>) -> io::Result<u64> {
        calls_from_tasks(self, depth, burst).await
    }
}

impl Caller for Rpc {
    async fn ask(&self, ask: Ask) -> io::Result<Answer> {
        self.0.add(context::current(), ask).await.map_err(io::Error::other)
    }
}
