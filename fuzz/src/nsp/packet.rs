//! A binary message to a packet, to what it says, and back through both binary forms.

use bytes::{Bytes, BytesMut};
use nsp::proto::frame::{self, PacketFrame, Received};
use nsp::proto::{Methods, Packet};

use super::typed;

pub fn run(data: &[u8]) {
    let methods = Methods::default();
    let message = Bytes::copy_from_slice(data);
    frames(&message);
    let packet = match Packet::decode(message.clone(), &methods) {
        Ok(packet) => packet,
        Err(error) => {
            let says = error.to_string();
            assert!(!says.is_empty() && !says.contains(char::is_control), "{says:?}");
            return;
        }
    };
    // Parts of the message itself: nothing was allocated for what a length said.
    let range = message.as_ptr_range();
    for part in [Some(&packet.payload.json), packet.payload.blob.as_ref()].into_iter().flatten() {
        assert!(part.is_empty() || range.contains(&part.as_ptr()));
    }
    let mut written = BytesMut::new();
    packet.encode(&methods, &mut written).unwrap();
    assert_eq!(written.len(), packet.encoded_length(&methods).unwrap());
    assert_eq!(Packet::decode(written.freeze(), &methods).unwrap(), packet);

    let framed = PacketFrame::from(&packet);
    let body: Vec<u8> = framed.head.iter().chain(framed.blob.iter().flatten()).copied().collect();
    match Received::from_frame(framed.name(), framed.kind, body.into()).unwrap() {
        Received::Packet(mut back) => {
            // A frame of kind `j` has to be JSON, so nothing at all becomes `null`.
            if packet.payload.is_empty() && back.payload.json == "null" {
                back.payload.json = Bytes::new();
            }
            assert_eq!(back, packet);
        }
        other => panic!("{other:?}"),
    }
    typed::check(&packet);
}

/// The same bytes as the body of a frame, of either kind.
fn frames(body: &Bytes) {
    for name in ["CSrq", "CSrs", "CArq", "NSPS", "XXrq"] {
        for kind in [frame::Kind::Json, frame::Kind::Bytes] {
            if let Ok(Received::Packet(packet)) = Received::from_frame(name, kind, body.clone()) {
                typed::check(&packet);
            }
        }
    }
}
