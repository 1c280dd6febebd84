//! Users, tokens and authorization for NSP daemons.

pub mod psk;
