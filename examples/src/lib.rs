//! Examples, to be read in order: `cargo run -p examples --bin 01_echo`, and so on. Each begins with what it shows.
//!
//! | | shows |
//! |---|---|
//! | `01_echo` | messages: a name and a body, handled in order |
//! | `02_request_reply` | questions and answers, and what goes wrong with them |
//! | `03_raw_buffers` | bytes as they are, and files in pieces |
//! | `04_client_certificates` | TLS on both sides |
//! | `05_chat` | rooms, several clients, shared state |
//! | `06_graceful_shutdown` | stopping without loss |
//!
//! The page of the workspace follows; its example is run as a test.
#![doc = ""]
#![doc = include_str!("../../README.md")]
