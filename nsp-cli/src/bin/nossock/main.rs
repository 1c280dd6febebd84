//! netcat for named frames.

fn main() {}
