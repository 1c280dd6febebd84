#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod client;
mod codec;
mod connect;
mod introduction;
mod limits;
pub mod manual;
mod router;
mod seldom;
mod server;
pub mod session;
mod socket;
pub mod transport;
pub mod wire;

pub use client::{Client, ClientError, ClientState, DownReason, Reconnect};
pub use codec::{CodecError, FrameCodec};
pub use connect::{ConnectError, Connector, connect};
pub use introduction::{Exchange, Introduction, IntroductionError, PeerIdentity};
pub use limits::{Config, Limits, ServerLimits};
pub use router::{HandlerError, Router};
#[doc(hidden)] // for the crates above, which are told of strangers as well
pub use seldom::Seldom;
pub use server::{BindError, Drained, Server, ServerBuilder};
pub use session::{CloseReason, Reject};
#[doc(hidden)] // as they do
pub use socket::slot;
pub use socket::{
    AnswerError, EncodedMessage, FromMessage, Incoming, IntoAnswer, IntoOutcome, Json, Message,
    MessageHandler, Messages, Peer, Permit, Raw, RecvError, Refused, RequestError, RequestHandler, Responder,
    SendError, Side, Socket, State, TrySendError, Unsent, Value,
};
