//! A packet as the message it is, and back.

use nsp::proto::{DecodeError, Leg, Method, Packet, au, ca, cs, gt, sp};

/// Reads a packet as what its letters say; gives it written anew.
pub fn rewritten(packet: &Packet) -> Option<Result<Packet, DecodeError>> {
    Some(match (packet.method, packet.leg) {
        (Method::Sp, Leg::Request) => sp::Request::decode(packet).map(|message| message.encode()),
        (Method::Sp, Leg::Answer) => sp::Answer::decode(packet).map(|message| message.encode()),
        (Method::Gt, Leg::Request) => gt::Request::decode(packet).map(|message| message.encode()),
        (Method::Gt, Leg::Answer) => gt::Answer::decode(packet).map(|message| message.encode()),
        (Method::Au, Leg::Request) => au::Request::decode(packet).map(|message| message.encode()),
        (Method::Au, Leg::Answer) => au::Answer::decode(packet).map(|message| message.encode()),
        (Method::Cs, Leg::Request) => cs::Request::decode(packet).map(|message| message.encode()),
        (Method::Cs, Leg::Answer) => cs::Answer::decode(packet).map(|message| message.encode()),
        (Method::Ca, Leg::Request) => ca::Request::decode(packet).map(|message| message.encode()),
        (Method::Ca, Leg::Answer) => ca::Answer::decode(packet).map(|message| message.encode()),
        _ => return None,
    })
}

/// What is understood is written as something that is understood the same: a second time changes nothing.
pub fn check(packet: &Packet) {
    match rewritten(packet) {
        None => {}
        Some(Ok(once)) => {
            assert_eq!((once.method, once.leg), (packet.method, packet.leg));
            let twice = rewritten(&once).unwrap().unwrap_or_else(|error| panic!("{error}: {once:?}"));
            assert!(same(&once, &twice), "{}\n{}", show(&once), show(&twice));
        }
        Some(Err(error)) => {
            let says = error.to_string();
            assert!(!says.is_empty() && !says.contains(char::is_control), "{says:?}");
        }
    }
}

fn same(one: &Packet, other: &Packet) -> bool {
    one == other
}

fn show(packet: &Packet) -> String {
    let blob = packet.payload.blob.as_deref().map(|blob| blob.escape_ascii().to_string());
    format!("{}{} {} {blob:?}", packet.method, packet.leg, packet.payload.json.escape_ascii())
}
