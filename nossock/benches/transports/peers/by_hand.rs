//! The references: nossock's frames by hand on tokio, as fast as one person could make them.
//!
//! - [`frame`]: the wire format.
//! - [`pump`]: a connection: one task that reads, decodes, answers and writes, with the buffers of its thread.
//! - [`service`]: what a server does with the frames.
//! - [`link`]: what a client does, without a future a call.
//!
//! `raw` and `rawj` are a [`Style`] each; `mux` is `rawj`'s server and a client of its own.

pub(crate) mod frame;
pub(crate) mod link;
pub(crate) mod pump;
pub(crate) mod service;

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::net::{Door, Listener};

use super::Peer;
use link::Direct;
use service::Common;

/// What bodies are to a reference: opaque bytes, or JSON that is written and read.
pub(crate) trait Style: Send + Sync + Unpin + 'static {
    /// Whether the same note can be sent again and again.
    const NOTES_ALIKE: bool;

    /// Writes the body of request `n`.
    fn ask(n: u64, out: &mut Vec<u8>) -> io::Result<()>;

    /// Reads the body of a request and writes the answer to it.
    fn answer(body: &[u8], out: &mut Vec<u8>) -> io::Result<()>;

    /// Reads the body of the reply to request `n`.
    fn check(n: u64, body: &[u8]) -> io::Result<()>;

    /// Writes the body of note `n`, and returns its weight.
    fn note(n: u64, out: &mut Vec<u8>) -> io::Result<i64>;

    /// Reads the body of a note, and returns its weight.
    fn weigh(body: &[u8]) -> io::Result<i64>;
}

/// A reference peer.
#[derive(Debug)]
pub(crate) struct ByHand<S>(PhantomData<S>);

impl<S: Style> Peer for ByHand<S> {
    type Link = Direct<S>;

    async fn serve(listener: Listener) -> io::Result<()> {
        let common = Arc::new(Common::default());
        listener.serve_each(move |stream| service::connection::<S>(stream, Arc::clone(&common))).await
    }

    async fn connect(door: &Door) -> io::Result<Self::Link> {
        Ok(Direct::new(door.open().await?))
    }
}
