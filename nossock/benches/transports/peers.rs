//! The peers: everything that can carry the rows' messages.
//!
//! To add one, write a file here with a type that is a [`Peer`], and name it in [`peers!`] below.

mod by_hand;
mod codec;
mod messages;
mod mux;
mod ours;
mod raw;
mod rawj;
mod tarpc;
mod tungstenite;

pub(crate) use crate::peer::{Arrivals, Caller, Link, Part, Peer, calls_from_tasks, peers};

peers! {
    "raw": raw::Raw,
    "rawj": rawj::Rawj,
    "mux": mux::Mux,
    "nossock": ours::Ours,
    "codec": codec::Codec,
    "codec-in-order": codec::CodecInOrder,
    "tungstenite": tungstenite::Tungstenite,
    "tungstenite-in-order": tungstenite::TungsteniteInOrder,
    "tarpc": tarpc::Tarpc,
}
