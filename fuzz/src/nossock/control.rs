//! The body of a control frame: what is understood is written as something that is understood the same.

use bytes::BytesMut;
use nossock::session::{Control, MAX_CONTROL};
use nossock::wire::{Decoder, Kind, Next};

pub fn run(data: &[u8]) {
    let Some(control) = Control::parse(data) else { return };
    let mut frame = Vec::new();
    control.write(&mut frame);
    let body = frame.get(6..).unwrap();
    assert_eq!(Control::parse(body), Some(control), "{}", String::from_utf8_lossy(body));
    let mut buf = BytesMut::from(&frame[..]);
    match Decoder::new(&nossock::Limits::default()).next(&mut buf) {
        Ok(Next::Frame(head)) => assert_eq!((head.kind(), head.frame_len()), (Kind::Control, frame.len())),
        Err(_) => assert!(body.len() > MAX_CONTROL as usize),
        Ok(other) => panic!("{other:?}"),
    }
}
