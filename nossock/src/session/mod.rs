//! Frames and intents to a conversation; pure, and time is an argument.
//!
//! A [`Session`] is what two sides know of each other beyond single frames: which requests wait for an answer
//! and until when, what has been queued and not yet written, whether the peer knows our control frames, and how
//! the conversation ends. It opens no socket and reads no clock; a driver feeds it and carries out what it says.
//!
//! ```text
//!            ┌────── close, end of input ─────┐
//!            │                                ▼
//!  ┌──────┐  │   ┌──────────┐  idle   ┌──────────┐ written ┌──────────┐  end of  ┌────────┐
//!  │ Open ├──┴──►│ Draining ├────────►│ Flushing ├────────►│ Lingering├─ input ─►│ Closed │
//!  └──┬───┘      └────┬─────┘         └────┬─────┘         └────┬─────┘          └────────┘
//!     └───────────────┴── fault, grace over ┴────────────────────┴───────────────────►▲
//!
//!  Open       everything
//!  Draining   running handlers end and may still send; nothing new begins
//!  Flushing   what is queued leaves; sending is refused
//!  Lingering  our end of the stream is shut; the peer's last bytes are read so that ours are not torn up
//! ```

mod close;
mod control;
mod outbox;
mod pending;
mod reject;
mod request_name;
mod state;

pub use close::{CloseCode, CloseReason, TimedOut};
pub use control::{Close, Control, Hello, MAX_CONTROL, PROTOCOL_VERSION};
pub use outbox::Outbox;
pub use pending::{Answer, Due, IdText, Pending, Reply, RequestId};
pub(crate) use pending::{Taken, after, earlier};
pub(crate) use reject::{Outcome, Short};
pub use reject::{Reject, RejectCode};
pub use request_name::RequestName;
pub(crate) use state::Payload;
pub use state::{Phase, Session, Stats};
