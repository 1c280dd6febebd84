//! What talks to daemons.
pub(crate) mod context;
pub(crate) mod tokens;
