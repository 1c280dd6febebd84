//! The seeds of the fuzz targets, run on whatever toolchain there is; and where they come from.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[path = "../../nossock/tests/common/seeds.rs"]
mod seeds;
#[path = "../../fuzz/src/nsp/mod.rs"]
mod targets;
#[path = "../src/testing.rs"]
mod testing;

use nsp::proto::{Methods, Packet, text};
use proptest::prelude::*;

use seeds::Seeds;

#[test]
fn every_seed_passes_its_target() {
    seeds::pass(&targets::TARGETS);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Steps that nobody chose, for the machines and their models: a short form of what the fuzzer does.
    #[test]
    fn machines_keep_to_their_models_whatever_happens(steps in proptest::collection::vec(any_step(), 0..120)) {
        let steps = steps.concat();
        targets::daemon::run(&steps);
        targets::client::run(&steps);
    }

    #[test]
    fn every_target_takes_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for (_, run) in targets::TARGETS {
            run(&bytes);
        }
    }
}

/// Four bytes: most of the steps read as many, and those that make sense come more often.
fn any_step() -> impl Strategy<Value = Vec<u8>> {
    let few = || 0_u8..12;
    prop_oneof![
        6 => (0_u8..3, 0_u8..9, few(), few()).prop_map(|(on, what, entity, size)| vec![on, what, entity, size]),
        6 => (144_u8..147, few(), few()).prop_map(|(on, which, how)| vec![on, which, how]),
        1 => (201_u8..213, few(), few()).prop_map(|(on, what, which)| vec![on, what, which]),
        2 => (213_u8..225, few(), few(), few()).prop_map(|(on, what, which, group)| vec![on, what, which, group]),
        1 => (225_u8..240, any::<u8>()).prop_map(|(on, seconds)| vec![on, seconds]),
        2 => proptest::collection::vec(any::<u8>(), 4),
    ]
}

/// A target that took everything for right would pass any seed: so it is shown something wrong.
#[test]
fn target_fails_when_its_claim_does_not_hold() {
    targets::chunks::check(1020, 3, b"0000000000000002HB");
    // A reader with another limit sees another stream.
    let caught = std::panic::catch_unwind(|| targets::chunks::check_with(1020, 1, 3, b"0000000000000002HB"));
    assert!(caught.is_err());
}

#[test]
fn recordings_are_among_the_seeds() {
    seeds::are_kept(made());
}

/// Longest text in a step of the machines, in bytes.
const STEP: usize = 255;

fn made() -> [(&'static str, Seeds); 7] {
    let [mut chunks, mut client, mut daemon, mut packets, mut secure, mut texts] =
        std::array::from_fn(|_| Seeds::new());
    for flow in testing::flows() {
        let short = flow.name.replace(['.', '-'], "_");
        let mut streams = [vec![255, 7], vec![255, 7]];
        let (mut to_daemon, mut to_client) = (vec![], vec![0, 0]);
        for (n, message) in flow.messages.iter().enumerate() {
            let name = format!("{short}_{n}");
            if let Some(wire) = message.wire.as_ref().filter(|_| flow.carrier == "tcp") {
                streams[usize::from(message.from_client)].extend_from_slice(wire);
                if flow.secure && n < 6 {
                    secure.insert(format!("{name}_open"), [&[3], &wire[16.min(wire.len())..]].concat());
                }
            }
            let Some(plain) = &message.plain else { continue };
            if let Ok(packet) = Packet::decode(plain.clone(), &Methods::default()) {
                if packet.method == nsp::proto::Method::Sp && short.starts_with("session") {
                    secure.insert(format!("{name}_sp"), sp(&packet));
                }
                for (number, dialect) in [text::Dialect::V0_4_0, text::Dialect::V0_4_1, text::Dialect::V0_4_2]
                    .into_iter()
                    .enumerate()
                {
                    // One of each kind is enough: the packets have their own seeds.
                    if n % 3 == number
                        && short.contains("plain_tcp")
                        && let Ok(message) = text::encode(&packet, dialect)
                    {
                        let number = u8::try_from(number).unwrap();
                        texts.insert(name.clone(), [&[number], &message[..]].concat());
                    }
                }
            }
            if plain.len() <= STEP {
                let length = u8::try_from(plain.len()).unwrap();
                if message.from_client {
                    let on = u8::from(message.connection.as_deref() == Some("B"));
                    to_daemon.extend([120 + on, length]);
                    to_daemon.extend_from_slice(plain);
                    to_daemon.extend([144 + on, 0, 1]); // and somebody serves it
                } else {
                    to_client.extend([180, length]);
                    to_client.extend_from_slice(plain);
                }
            }
            if !flow.secure {
                packets.insert(name, plain.to_vec());
            }
        }
        let [down, up] = streams;
        if flow.carrier == "tcp" {
            chunks.insert(format!("{short}_up"), up);
            chunks.insert(format!("{short}_down"), down);
        }
        if !flow.secure {
            daemon.insert(short.clone(), to_daemon);
            client.insert(short, to_client);
        }
    }
    daemon.extend(talks(&DAEMON_TALKS));
    client.extend(talks(&CLIENT_TALKS));
    secure.extend(claims());
    let filters = FILTERS.iter().enumerate().map(|(n, text)| (n.to_string(), text.as_bytes().to_vec()));
    [
        ("nsp_chunks", chunks),
        ("nsp_client", client),
        ("nsp_daemon", daemon),
        ("nsp_filter", filters.collect()),
        ("nsp_packet", packets),
        ("nsp_secure", secure),
        ("nsp_text", texts),
    ]
}

const FILTERS: [&str; 8] = [
    "",
    "service=Chat,owner=ann",
    "id=_a,mode=normal,spawndomain=127.0.0.1,connectiontype=TCP/IP",
    "ownerdomain=null",
    "service",
    "service=a,,owner=b",
    "colour=red",
    "owner=a=b",
];

type Talk = (&'static str, &'static [u8]);

fn talks(talks: &[Talk]) -> Seeds {
    talks.iter().map(|(name, steps)| ((*name).to_owned(), steps.to_vec())).collect()
}

/// Steps as `fuzz/src/nsp/daemon.rs` reads them: 0 to 119 a packet (what, entity, size) on connection `what % 3`,
/// 144 to 200 a service's answer (which, how), 201 push, 213 group, 225 time, 240 question, 249 the end.
const DAEMON_TALKS: [Talk; 6] = [
    ("opened_and_called", &[0, 0, 0, 0, 144, 0, 1, 0, 1, 0, 0, 144, 0, 1, 0, 4, 0, 1, 144, 0, 1]),
    ("refused", &[0, 0, 0, 0, 144, 0, 0, 0, 0, 0, 0, 144, 0, 1, 0, 1, 0, 0, 144, 0, 0]),
    ("of_another", &[0, 0, 0, 0, 144, 0, 1, 1, 1, 0, 0, 1, 4, 0, 1, 1, 7, 0, 0, 0, 1, 0, 0]),
    (
        "closed_while_called",
        &[0, 0, 0, 0, 144, 0, 1, 0, 1, 0, 0, 144, 0, 1, 0, 4, 0, 1, 0, 7, 0, 0, 144, 0, 1],
    ),
    ("expired", &[0, 0, 0, 0, 225, 250, 144, 0, 1, 0, 8, 0, 0, 225, 20, 225, 250]),
    (
        "groups",
        &[
            0, 0, 0, 0, 144, 0, 1, 1, 0, 0, 0, 145, 0, 1, 213, 0, 0, 0, 213, 0, 1, 0, 213, 1, 0, 0, 213, 2,
            1, 0, 249,
        ],
    ),
];

/// Steps as `fuzz/src/nsp/client.rs` reads them: 0 opens, 30 calls (what, which), 80 answers (which, how), 150 pushes (what, which), 190 asks
/// for a token, 210 time, 225 gives up, 235 answers a question, 245 closes.
const CLIENT_TALKS: [Talk; 6] = [
    ("opened_and_called", &[0, 80, 0, 1, 80, 0, 1, 30, 0, 0, 80, 0, 1]),
    ("sent", &[0, 80, 0, 1, 80, 0, 1, 30, 2, 0, 30, 2, 0, 225, 0, 80, 0, 1, 80, 0, 1]),
    ("crossed", &[0, 0, 80, 0, 1, 80, 0, 5, 80, 0, 1, 80, 0, 1, 30, 0, 0, 30, 1, 1, 80, 0, 7, 80, 0, 14]),
    ("tokens", &[190, 50, 190, 50, 150, 6, 0, 210, 3, 150, 6, 0]),
    (
        "questions",
        &[
            150, 3, 1, 150, 4, 2, 235, 0, 150, 3, 1, 150, 3, 5, 150, 4, 6, 150, 4, 7, 210, 255, 210, 255,
            210, 255,
        ],
    ),
    ("closed", &[0, 80, 0, 1, 80, 0, 1, 30, 0, 0, 245, 0, 80, 0, 1, 150, 2, 1]),
];

/// An SP packet as a step of `fuzz/src/nsp/secure.rs`.
fn sp(packet: &Packet) -> Vec<u8> {
    use nsp::proto::{Leg, sp};
    match packet.leg {
        Leg::Request => [&[0], sp::Request::decode(packet).unwrap().public_key.as_bytes()].concat(),
        Leg::Answer => [&[1], sp::Answer::decode(packet).unwrap().sealed.as_bytes()].concat(),
    }
}

fn claims() -> Seeds {
    let claims: [(&str, u8, &[u8]); 5] = [
        ("claim_int", 2, br#"{"r":12345,"a":"0123456789abcdef0123456789abcdef"}"#),
        ("claim_null", 2, br#"{"a":"","r":null}"#),
        ("claim_none", 2, b"{}"),
        ("plain", 4, b"CSrq0000000000000002{}"),
        ("fingerprint", 5, b"SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"),
    ];
    claims.map(|(name, what, bytes)| (name.to_owned(), [&[what], bytes].concat())).into()
}
