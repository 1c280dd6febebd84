//! Users, tokens and authorization for NSP daemons.

pub mod extract;
pub mod policy;
pub mod psk;
