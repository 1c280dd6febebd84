//! Packets and the messages in them, without knowing where they come from.
//!
//! ```text
//!  bytes of a carrier     chunk | frame | (a WebSocket message is a packet already)
//!        ⇅
//!  packet                 method, leg, payload        packed: JSON and blob in one body
//!        ⇅                                            text: the envelope of NSP 0.4
//!  typed message          sp | gt | au | cs | ca      one file a method
//! ```
//!
//! Nothing in here knows a socket, a runtime or a clock, and nothing copies what a peer sent: a blob of a megabyte, and the JSON
//! in `d`, stay where the carrier has read them. `d` is not even parsed; who wants a type asks the [`RawJson`] for it.
//!
//! Reading is strict about lengths and lenient about JSON: an unknown key is skipped, never an error. Writing keeps the original's order of keys.
//!
//! ```
//! use bytes::BytesMut;
//! use nsp::proto::{Data, EntityId, Methods, Packet, RawJson, RequestId, chunk, cs};
//!
//! let call = cs::Request::Call {
//!     entity: EntityId::new("_cc01wlaqg").unwrap(),
//!     function: "Hello".into(),
//!     id: RequestId::numbered(1),
//!     data: Data::Json(RawJson::of(&["I am client."])?),
//! };
//! let mut out = BytesMut::new();
//! chunk::encode(&call.encode(), &Methods::default(), &mut out)?;
//! assert_eq!(
//!     out,
//!     &br#"0000000000000095CSrq0000000000000075{"m":"SF","d":{"i":"_cc01wlaqg","n":"Hello","t":"_1","d":["I am client."]}}"#[..]
//! );
//!
//! let message = chunk::Chunks::new(1024).next(&mut out)?.unwrap();
//! let packet = Packet::decode(message, &Methods::default())?;
//! assert_eq!(cs::Request::decode(&packet)?, call);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod au;
pub mod ca;
pub mod chunk;
pub mod cs;
pub mod frame;
pub mod gt;
pub mod packed;
pub mod sp;
pub mod text;

mod error;
mod fields;
pub(crate) mod json;
mod length;
mod method;
mod packet;
mod scan;
mod value;

pub use error::{DecodeError, EncodeError, JsonFault, JsonFaultKind, LengthError, Letters, Part};
pub use json::RawJson;
pub use method::{Asker, CustomMethod, Form, Leg, Method, Methods, Rule, Side};
pub use packet::{Packet, Payload};
pub(crate) use value::Digits;
pub use value::{Data, EntityId, Failure, RequestId, Status};

/// What a daemon sends on a binary carrier once a minute, in clear even on an encrypted connection. It is never answered.
pub const HEARTBEAT: &[u8] = b"HB";
