//! Named messages over one socket.
