//! What SP makes of a connection: the key, and the messages under it.
//!
//! ```text
//!   client                                             daemon
//!     │  any packet, in clear ──────────────────────────▶ │
//!     │ ◀──────────── SPrq: public key P as PEM text      │   ServerKey
//!     │                                                   │
//!     │  K = base64(SHA-256(P ‖ text(r)))[..32]           │   Seed, SessionKey
//!     │  SPrs: RSA-OAEP-SHA1_P({"r":r,"a":K}) ──────────▶ │   accept: computes K from r, compares with a
//!     │                                                   │
//!     │  ◀──── IV ‖ AES-256-CBC_K(64 salt ‖ packet) ────▶ │   Cipher
//! ```
//!
//! What it is worth depends on the client. The original draws `r` from 99,999 numbers, so whoever listens has the key in a second. Ours sends 256
//! random bits as text, which the original daemon takes as well: then nobody who only listens can read along. Against somebody in the middle helps only
//! that the client remembers the daemon's key ([`PublicKey::fingerprint`]), and against changes on the way nothing does: CBC has no
//! authentication code. Where TLS is to be had, use TLS.
//!
//! Everything in here is computation. Randomness comes through [`Random`], or from `aws-lc-rs` where RSA needs it.

mod agreement;
mod cipher;
mod key;
mod random;
mod rsa;
mod seed;

pub use agreement::{Agreed, Refused, WeakSeeds, accept, answer};
pub use cipher::{Cipher, Unreadable};
pub use key::SessionKey;
pub use random::{Random, SystemRandom};
pub use rsa::{Fingerprint, KeyError, PublicKey, ServerKey};
pub use seed::{Seed, Strength};
