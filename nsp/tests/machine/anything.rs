//! Whatever a peer sends, and in whatever order: no panic, no growth beyond the limits.

use std::time::Instant;

use bytes::Bytes;
use nsp::machine::{Incoming, Outgoing};
use nsp::proto::{Leg, Method, Packet, Payload};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::pair::{Pair, seconds};

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![
        1 => Just(Method::Sp),
        1 => Just(Method::Gt),
        1 => Just(Method::Au),
        4 => Just(Method::Cs),
        2 => Just(Method::Ca),
    ]
}

fn body() -> impl Strategy<Value = String> {
    prop_oneof![
        r#"\{"m":"(CE|VE|SS|SF|BS|CS)","d":\{"i":"ENTITY","t":"_[1-9]","n":"f","s":"Chat","d":1\}\}"#,
        r#"\{"m":"(AS|EV|BE|CS)","d":\{"i":"ENTITY","n":"e","d":\{\}\}\}"#,
        r#"\{"m":"(TK|PW|TF|SI)","i":"ENTITY","d":\{"t":"_[1-9]","u":"a","v":"b"\}\}"#,
        r#"\{"m":"(CE|VE|SS|SF|BS)","d":\{"i":"(ENTITY|_x)","t":"_[1-9]","s":"(OK|Fail)","e":\{\}\}\}"#,
        r#"\{"u":"a","p":"b","t":"c","s":"(OK|Fail)"\}"#,
        "[ -~]{0,20}",
    ]
}

fn packet() -> impl Strategy<Value = (Method, bool, String, Option<Vec<u8>>)> {
    (method(), any::<bool>(), body(), proptest::option::of(vec(any::<u8>(), 0..8)))
}

proptest! {
    #[test]
    fn both_sides_survive_anything(
        packets in vec((any::<bool>(), packet(), 0_u64..40), 0..60),
    ) {
        let mut pair = Pair::clear();
        let (_, entity) = pair.open();
        for (to_client, (method, request, body, blob), wait) in packets {
            let leg = if request { Leg::Request } else { Leg::Answer };
            let json = Bytes::from(body.replace("ENTITY", entity.as_str()));
            let payload = Payload { json, blob: blob.map(Bytes::from) };
            let incoming = Incoming::Packet(Packet::new(method, leg, payload));
            if to_client {
                pair.client.receive(incoming, pair.now).ok();
            } else {
                pair.daemon.receive(incoming, pair.now).ok();
            }
            pair.now += seconds(wait);
            pair.client.handle_timeout(pair.now).ok();
            pair.daemon.handle_timeout(pair.now).ok();
            // For one message in, there are never more than a few out.
            prop_assert!(drain(|| pair.client.poll_outgoing()) <= 20);
            prop_assert!(drain(|| pair.daemon.poll_outgoing()) <= 20);
            pair.client_events();
            pair.daemon_events();
        }
        // Whatever there is to wait for lies in the future.
        let later = |at: Option<Instant>| at.is_none_or(|at| at > pair.now);
        prop_assert!(later(pair.client.poll_timeout()) && later(pair.daemon.poll_timeout()));
    }
}

fn drain(mut next: impl FnMut() -> Option<Outgoing>) -> usize {
    std::iter::from_fn(&mut next).count()
}
