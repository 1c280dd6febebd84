//! What a service author holds: a [`Daemon`] with its [services](Service), and their [entities](Entity).
//!
//! ```no_run
//! use nsp::daemon::{Daemon, Emitter, Entity, Fail, Json, Service};
//!
//! # async fn run(shutdown: impl Future<Output = ()>) -> Result<(), Box<dyn std::error::Error>> {
//! let chat = Service::new("Chat")
//!     .on_connect(async |entity: Entity| -> Result<(), Fail> {
//!         entity.join("everybody")?;
//!         Ok(())
//!     })
//!     .function("Say", async |chat: Emitter, Json(text): Json<String>| -> Result<usize, Fail> {
//!         Ok(chat.to_groups(["everybody"]).emit("message", &text).await?.sent)
//!     });
//!
//! let drained = Daemon::builder().service(chat).listen("nsp://127.0.0.1:43580").serve_until(shutdown).await?;
//! println!("{} connections ended in peace, {} were cut", drained.drained, drained.aborted);
//! # Ok(()) }
//! ```
//!
//! **What holds for every service.** Nobody reaches an entity but the connection that created it. Functions run side by side; data of one
//! entity is handled in order. Whatever is asked is answered: a function that fails, panics, is dropped or takes too long, an entity or a service that
//! is not there, all of it has an answer with a code, and no answer has a path or a stack in it. A client that does not read waits alone, and so
//! does one that sends too much.
//!
//! **Who may do what** is the [`Authority`](crate::authority::Authority)'s to say. It is asked when an entity comes, calls, or sends; who claims an owner is
//! asked to prove it when it would not get in otherwise. A service may call another one [as itself](Emitter::connect_local). Where it is up to the owner of a thing, the service [tells](Service::owner_of) whose it is. A [secure function](Service::secure_function) demands a superuser, whatever the policy.
//!
//! ```text
//!  Daemon ── Service ── Function, Hook ── FromCall: Json, Blob, Entity, …        service, handler, extract
//!    │          └────── Emitter, Audience ── Overflow, Reached                   emit, outbox
//!    │  listens, seats, drains                                                   builder, seats
//!    └── one driver a connection ── machine::Daemon ── Carrier                   driver, connection
//! ```
//!
//! Nearly all calls go a short way: one in clear, over nossock frames and in the form in which programs write it is read where it arrived, run
//! there, and answered there, if its function does not wait. What comes of a call does not depend on its way.

mod builder;
mod call;
mod connection;
mod custom;
mod discovery;
mod driver;
mod emit;
mod entity;
mod extract;
mod fail;
mod guard;
mod handler;
mod here;
mod limits;
mod listen;
pub mod manifest;
mod outbox;
mod owner;
mod proof;
mod seats;
mod service;
mod shared;
#[cfg(test)]
mod tests;
mod view;

pub use builder::{BindError, Daemon, DaemonBuilder, Drained};
#[doc(hidden)] // in the signatures of traits that are implemented here
pub use call::Arriving;
pub use call::{Call, CallKind, in_this_call};
pub use connection::{EndReason, WeakUse};
pub use custom::CustomCall;
pub use discovery::DISCOVERY;
pub use emit::{Audience, EmitError, Emitter, Reached};
pub use entity::{ClaimedOwner, Entity, JoinError, User};
pub use extract::{Blob, Caller, FromCall, Json, Meta, State};
pub use fail::{Fail, code};
pub use handler::{Function, Hook, IntoGift, IntoOutcome};
#[doc(hidden)] // as `Arriving`
pub use here::Here;
pub use limits::Limits;
pub use listen::Listen;
pub use manifest::{FunctionManifest, Manifest};
pub use outbox::Overflow;
pub use owner::{IntoOwner, OwnerOf};
pub use proof::{Passed, ProveError};
pub use service::Service;
pub use shared::{Closed, Stats};
pub use view::{ConnectionView, DaemonHandle, EntityView};

pub use crate::machine::check::Demand;
pub use crate::proto::Data;
