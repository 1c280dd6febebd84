//! Named messages over one socket.

pub mod transport;
