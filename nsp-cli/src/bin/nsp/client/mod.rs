//! What talks to daemons.

pub(crate) mod admin;
pub(crate) mod bench;
pub(crate) mod call;
pub(crate) mod context;
pub(crate) mod doctor;
pub(crate) mod listen;
pub(crate) mod login;
pub(crate) mod ping;
pub(crate) mod reach;
pub(crate) mod services;
pub(crate) mod token;
pub(crate) mod tokens;
pub(crate) mod top;
pub(crate) mod trust;
pub(crate) mod user;
