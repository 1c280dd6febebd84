//! The seeds of the fuzz targets, run on whatever toolchain there is; and where they come from.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "common/recorded.rs"]
mod recorded;
#[path = "common/seeds.rs"]
mod seeds;
#[path = "../../fuzz/src/nossock/mod.rs"]
mod targets;

use seeds::Seeds;

#[test]
fn every_seed_passes_its_target() {
    seeds::pass(&targets::TARGETS);
}

/// A target that took everything for right would pass any seed: so it is shown something wrong.
#[test]
fn target_fails_when_its_claim_does_not_hold() {
    let limits = nossock::Limits { max_body: 5, max_skip: 5, read_step: 64, ..nossock::Limits::default() };
    targets::decoder::check(&limits, b"j\x01x\0\0\0\x05hello", 3);
    let wrong = nossock::Limits { max_body: u32::MAX, max_skip: u32::MAX, ..limits };
    let large = [&b"j\x01x\0\x10\0\0"[..], &[b' '; 0x10_0000]].concat();
    targets::decoder::check(&wrong, &large, 70_000);
    let caught = std::panic::catch_unwind(|| {
        // Two callers whose requests are answered by a peer that mixes them up.
        let mixed = [
            targets::session::Step::Ask { side: 0, millis: 50, stamped: true },
            targets::session::Step::Write { side: 0, bytes: 255 },
            targets::session::Step::Lie { side: 1 },
            targets::session::Step::Write { side: 1, bytes: 255 },
        ];
        targets::session::check(&mixed);
    });
    let message = caught.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("ids never cross"), "{message}");
}

#[test]
fn recordings_are_among_the_seeds() {
    seeds::are_kept(made());
}

/// The seeds that are made of recordings and of what is written here.
fn made() -> [(&'static str, Seeds); 5] {
    let npm = recorded::npm();
    let mut decoder = Seeds::new();
    let mut names = Seeds::new();
    for direction in npm.directions() {
        let about = file_name(&direction.about);
        // max_body, max_skip and the size of the pieces stand before the stream
        for (how, head) in [("whole", [255, 255, 255]), ("bytes", [255, 255, 1]), ("small", [4, 1, 7])] {
            decoder.insert(format!("{about}-{how}"), [&head[..], &direction.bytes].concat());
        }
        for said in &direction.said {
            if said.name.contains(':') {
                names.insert(file_name(&said.name), said.name.clone().into_bytes());
            }
        }
    }
    for fault in &npm.faults {
        decoder.insert(file_name(&fault.about), [&[255, 255, 255], &fault.bytes()[..]].concat());
    }
    let foreign = [
        ("http", &b"GET / HTTP/1.1\r\n\r\n"[..]),
        ("tls", b"\x16\x03\x01\x02\x00\x01"),
        ("noservice", b"0000000000000004GTrq"),
        ("control", b"c\0\0\0\0\x0a{\"ping\":7}"),
        ("named-control", b"c\x01x\0\0\0\0"),
        ("large-control", b"c\0\0\0\x10\x01"),
        ("no-text", b"j\x02\xff\xfe\0\0\0\x011"),
    ];
    decoder.extend(foreign.map(|(name, bytes)| (name.to_owned(), [&[255, 255, 2], bytes].concat())));
    [
        ("decoder", decoder),
        ("request_name", names),
        ("control", texts(&CONTROLS)),
        ("address", texts(&ADDRESSES)),
        ("session", sessions()),
    ]
}

const CONTROLS: [&str; 9] = [
    r#"{"hello":{"version":1,"max_body":1048576,"max_in_flight":256}}"#,
    r#"{"hello":{"version":1,"max_body":5,"max_in_flight":2,"later":true}}"#,
    r#"{"ping":7}"#,
    r#"{"pong":18446744073709551615}"#,
    r#"{"cancel":"1a"}"#,
    r#"{"cancel":"\u0041\n"}"#,
    r#"{"close":{"code":"going_away","message":"restart"}}"#,
    r#"{"close":{"code":"coffee"}}"#,
    r#"{"credit":3}"#,
];

const ADDRESSES: [&str; 10] = [
    "tcp://example.org:8797",
    "tls://[::1]:80/",
    "TCP://127.0.0.1:0",
    "[fe80::1%eth0]:80",
    "unix:/run/app.sock",
    "unix:///run/app.sock",
    "unix:@app",
    "unix:./@a",
    "localhost:80",
    "http://a:1",
];

fn texts(all: &[&str]) -> Seeds {
    all.iter().enumerate().map(|(n, text)| (n.to_string(), text.as_bytes().to_vec())).collect()
}

/// Steps of three bytes, as `fuzz/src/nossock/session.rs` reads them: what and which side, then two arguments.
fn sessions() -> Seeds {
    const fn side(what: u8, side: u8) -> u8 {
        what << 1 | side
    }
    let (ask, reply, invent, cancel, poll) = (side(0, 0), side(31, 1), side(56, 1), side(60, 0), side(70, 0));
    let (here, there) = ([side(86, 0), 255, 0], [side(86, 1), 255, 0]);
    let (hello, wait, close, flush, cut) =
        (side(110, 0), side(115, 0), side(123, 0), side(125, 0), side(127, 0));
    let talks: [(&str, &[[u8; 3]]); 8] = [
        ("answered", &[[ask, 50, 0], here, [reply, 0, 0], there, [poll, 0, 0]]),
        ("rejected", &[[ask, 50, 1], here, [reply, 0, 2], there, [poll, 0, 0]]),
        ("twice", &[[ask, 50, 0], here, [reply, 0, 1], [reply, 0, 1], there, [poll, 0, 0], [poll, 0, 0]]),
        ("late", &[[ask, 5, 0], [poll, 0, 0], here, [wait, 9, 0], [reply, 0, 0], there, [poll, 0, 0]]),
        ("invented", &[[ask, 5, 0], [invent, 1, 0], [invent, 2, 0], there, [poll, 0, 0]]),
        (
            "cancelled",
            &[
                [hello, 0, 0],
                [ask, 50, 0],
                here,
                [cancel, 0, 0],
                [reply, 0, 0],
                there,
                [ask, 50, 0],
                [poll, 1, 0],
            ],
        ),
        ("closed", &[[ask, 50, 0], [poll, 0, 0], here, [close, 0, 0], [flush, 0, 0], [poll, 0, 0]]),
        ("cut", &[[ask, 50, 0], [ask, 60, 1], [poll, 1, 0], here, [cut, 0, 0], [poll, 0, 0]]),
    ];
    talks.map(|(name, steps)| (name.to_owned(), steps.concat())).into()
}

/// Letters and digits of a text, and of a long one its beginning.
fn file_name(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' });
    plain.take(60).collect()
}
