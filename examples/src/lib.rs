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
//! | `07_custom_protocol` | a protocol of one's own, closed with a pre-shared key |
//! | `08_nsp_daemon` | a service with functions, blobs, events and groups, on every carrier |
//! | `09_nsp_client` | a client of it |
//! | `10_events_and_blobs` | who hears what, and talking to a service without a socket |
//! | `11_users_and_tokens` | passwords, tokens, and functions that demand a proof |
//! | `12_authorized_service` | roles and what they grant, in a policy |
//! | `node/13_client.js` | a client in Node with the npm package, of the daemon in `08` |
//! | `python/14_service.py` | a service as a script, for `nsp daemon` |
//!
//! The page of the workspace follows; its example is run as a test.
#![doc = ""]
#![doc = include_str!("../../README.md")]
