#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod codec;
mod limits;
mod router;
pub mod session;
mod socket;
pub mod wire;

pub use codec::{CodecError, FrameCodec};
pub use limits::{Config, Limits, ServerLimits};
pub use router::{HandlerError, Router};
pub use session::{CloseReason, Reject};
pub use socket::{
    AnswerError, EncodedMessage, FromMessage, Incoming, IntoAnswer, IntoOutcome, Json, Message,
    MessageHandler, Messages, Peer, Permit, Raw, RecvError, Refused, RequestError, RequestHandler, Responder,
    SendError, Side, Socket, State, TrySendError, Unsent, Value,
};
