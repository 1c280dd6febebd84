//! Users, tokens and authorization for NSP daemons.

pub mod policy;
pub mod psk;
