//! What talks to daemons.

pub(crate) mod call;
pub(crate) mod context;
pub(crate) mod listen;
pub(crate) mod login;
pub(crate) mod reach;
pub(crate) mod services;
pub(crate) mod tokens;
