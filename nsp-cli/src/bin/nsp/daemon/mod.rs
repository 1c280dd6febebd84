//! `nsp daemon`
mod config;
