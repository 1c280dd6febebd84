//! What the original does on bad input, line by line, and what ours does: over every carrier, in clear and under SP.
//!
//! | input | the original | here |
//! |---|---|---|
//! | [`nonsense`]: unknown method, bad JSON, short, unknown leg, wrong direction, `HB`; CS without lengths, with bad ones, unknown operation, no `d`; answers to AU that nobody asked for | ignored | ignored, and counted |
//! | the same as the first message, before SP | the connection is closed after SP if serving it throws | ignored |
//! | messages for [`unknown`] entities | ignored | answered with `no_entity` |
//! | what cannot be decrypted, or comes in clear, after SP | ignored | ignored, and counted |
//! | a wrong answer to SP | closed | closed |
//! | a header in pieces | deaf | understood |
//! | [`broken`] framing: letters for a length, a sign, too much; another kind of frame | deaf, or the daemon hangs | closed with a reason |
//! | GT without a password | the daemon crashes | a wrong password |
//!
//! Meanwhile another connection is served after each line, and nobody reads a path or a stack.

use std::sync::{Arc, LazyLock};

use nsp::carrier::CarrierEnd;
use nsp::daemon::{
    Blob, Daemon, DaemonHandle, Data, Demand, EndReason, Entity, Fail, Json, Limits, Listen, Service,
};
use nsp::secure::ServerKey;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::book::Book;
use crate::raw::{Raw, Way, frame, packed, web};

struct Served {
    /// With whether SP is demanded there.
    addresses: Vec<(String, bool)>,
    handle: DaemonHandle,
    serving: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn key() -> Arc<ServerKey> {
    static KEY: LazyLock<Arc<ServerKey>> = LazyLock::new(|| Arc::new(ServerKey::generate().unwrap()));
    Arc::clone(&KEY)
}

/// Every carrier, in clear and with SP.
async fn served() -> Served {
    let service = Service::new("Echo")
        .function("echo", async |Json(value): Json<Value>| value)
        .function("throws", async || -> Result<(), Fail> { panic!("at /srv/echo.rs") })
        .function("secret", async |entity: Entity| -> Result<&'static str, Fail> {
            entity.prove(Demand::Token).await?;
            Ok("told")
        })
        .blob_function("blob", async |Blob(blob): Blob| Data::Blob(blob));
    let limits = Limits {
        connections_per_address: 1000,
        fresh_per_address: 1000,
        accept_burst: 10_000,
        ..Limits::default()
    };
    let mut builder = Daemon::builder()
        .service(service)
        .limits(limits)
        .shared_authority(Book::of(&[("ann", 1), ("eve", 1)]));
    let mut sp = Vec::new();
    for is_secured in [false, true] {
        for address in ["nsp://127.0.0.1:0", "noservice://127.0.0.1:0", "ws://127.0.0.1:0"] {
            let listen = Listen::on(address);
            builder = builder.listen(if is_secured { listen.sp(key()) } else { listen });
            sp.push(is_secured);
        }
    }
    let daemon = builder.bind().await.unwrap();
    let addresses = daemon.addresses().iter().map(ToString::to_string).zip(sp).collect();
    Served { addresses, handle: daemon.handle(), serving: tokio::spawn(daemon.serve()) }
}

/// A connection that is as secured as its address demands.
async fn dial(address: &str, is_secured: bool) -> Raw {
    let mut raw = Raw::to(address).await;
    if is_secured {
        raw.secure(b"GTrs").await;
    }
    raw
}

/// What is ignored, each for another reason.
fn nonsense() -> Vec<(&'static str, Vec<u8>)> {
    let plain = |text: &str| text.as_bytes().to_vec();
    vec![
        ("unknown method", plain("XXrq{}")),
        ("method in small letters", plain("csrq{}")),
        ("unknown leg", plain("CSxx{}")),
        ("short", plain("GT")),
        ("empty", Vec::new()),
        ("heartbeat", plain("HB")),
        ("bytes that are no letters", vec![0, 1, 2, 255, 254]),
        ("GT: bad JSON", plain("GTrq{\"u\":")),
        ("GT: an array", plain("GTrq[]")),
        ("GT: bad UTF-8", b"GTrq{\"u\":\"\xff\xfe\"}".to_vec()),
        ("wrong direction: GT", plain(r#"GTrs{"t":"x","u":"ann","s":"OK"}"#)),
        ("wrong direction: AU", plain(r#"AUrq{"m":"TF","i":"_x"}"#)),
        ("wrong direction: SP", plain(r#"SPrq{"p":"x"}"#)),
        ("wrong direction: CS", plain(r#"CSrs0000000000000017{"m":"VE","d":{}}"#)),
        ("wrong direction: CA", plain(r#"CArq0000000000000017{"m":"CS","d":{}}"#)),
        ("CS without a length", plain(r#"CSrq{"m":"VE","d":{"i":"_x"}}"#)),
        ("CS with letters for a length", plain(r#"CSrqabcdefghijklmnop{"m":"VE","d":{"i":"_x"}}"#)),
        ("CS with a negative length", plain(r#"CSrq-000000000000001{"m":"VE","d":{"i":"_x"}}"#)),
        ("CS with a length beyond its end", plain(r#"CSrq0000000000000900{"m":"VE","d":{"i":"_x"}}"#)),
        ("CS with a length beyond all", plain(r#"CSrq9999999999999999{"m":"VE","d":{"i":"_x"}}"#)),
        ("CS that is empty", plain("CSrq")),
        ("CS with bad JSON", plain("CSrq0000000000000008not json")),
        ("CS with an unknown operation", packed(&json!({"m":"XX","d":{"i":"_x"}}))),
        ("CS without operation", packed(&json!({"d":{"i":"_x"}}))),
        ("CS without d", packed(&json!({"m":"SF"}))),
        ("CS with d of another type", packed(&json!({"m":"SF","d":7}))),
        ("CS with an entity that is a number", packed(&json!({"m":"VE","d":{"i":7}}))),
        ("CE without a service", packed(&json!({"m":"CE","d":{"t":"x"}}))),
        ("AU answer to no question", plain(r#"AUrs{"m":"TK","d":{"t":"nobody","v":"token of ann"}}"#)),
        ("AU answer without d", plain(r#"AUrs{"m":"TK"}"#)),
        ("AU answer of another type", plain(r#"AUrs{"m":"TK","d":{"t":["x"],"v":{}}}"#)),
        ("CA answer to nothing", plain(r#"CArs{"m":"XX","d":{}}"#)),
        ("CA answer without d", plain(r#"CArs{"m":"EV"}"#)),
    ]
}

/// Messages for an entity that is not there, each with the operation of its answer, if it has one.
fn unknown(entity: &str) -> Vec<(Vec<u8>, Option<&'static str>)> {
    let blob = json!({"m":"BS","d":{"i":entity,"n":"blob","t":"b","d":null,"m":{}}});
    let mut blob = packed(&blob);
    blob.extend(b"0000000000000003abc");
    vec![
        (packed(&json!({"m":"VE","d":{"i":entity}})), Some("VE")),
        (packed(&json!({"m":"SS","d":{"i":entity,"d":1}})), Some("SS")),
        (packed(&json!({"m":"SF","d":{"i":entity,"n":"echo","t":"x","d":1}})), Some("SF")),
        (blob, Some("BS")),
        (packed(&json!({"m":"CS","d":{"i":entity}})), None),
    ]
}

/// What is no framing of the carrier.
fn broken(way: Way) -> Vec<(&'static str, Vec<u8>)> {
    let then = |begin: &[u8]| [begin, &[b'0'; 100]].concat();
    match way {
        Way::Frames => vec![
            ("another kind", frame(b'x', b"GTrq", b"{}")),
            ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
            ("TLS", then(&[0x16, 3, 1, 2, 0, 1])),
            ("a chunk", b"0000000000000004GTrs".to_vec()),
            ("a body without end", [b"j\x04GTrq".as_slice(), &[0xff; 4], &[b' '; 64]].concat()),
        ],
        Way::Chunks => vec![
            ("negative", then(b"-000000000000001")),
            ("negative, and more", then(b"-00000000000000400000000000000004GTrs")),
            ("letters", then(b"hello, I am http")),
            ("a sign", then(b"+000000000000004")),
            ("spaces", then(b"               4")),
            ("hexadecimal", then(b"0x00000000000004")),
            ("too much", then(b"9999999999999999")),
            ("more than may come before an entity", then(b"0000000000016385")),
            ("a frame", frame(b'j', b"GTrq", br#"{"u":"ann"}"#)),
        ],
        Way::Web => vec![
            ("no mask", vec![0x82, 4, b'G', b'T', b'r', b's']),
            ("reserved bits", web(0xf2, b"GTrs")),
            ("an unknown kind", web(0x83, b"GTrs")),
            ("a continuation of nothing", web(0x80, b"GTrs")),
            ("a large control frame", web(0x89, &[0; 200])),
            ("text that is no UTF-8", web(0x81, &[0xff, 0xfe])),
            ("too much", [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat()),
            (
                "more than may come before an entity",
                [&[0x82, 0xff][..], &16_385_u64.to_be_bytes(), &[0; 4]].concat(),
            ),
        ],
    }
}

/// No path of ours, no stack.
fn assert_tells_nothing(heard: &str) {
    for inside in ["/srv", ".rs", "src/", "/work", "/home", "\\n    at ", "panicked", "RUST_BACKTRACE"] {
        assert!(!heard.contains(inside), "{inside}: {heard}");
    }
}

#[tokio::test]
async fn nonsense_is_passed_over_on_every_carrier() {
    let served = served().await;
    let mut here = Vec::new();
    for (address, is_secured) in &served.addresses {
        let mut good = dial(address, *is_secured).await;
        let bystander = good.open("Echo", "").await;
        let mut raw = dial(address, *is_secured).await;
        let entity = raw.open("Echo", "").await;
        for (row, message) in nonsense() {
            let before = served.handle.stats().ignored;
            raw.say(&message).await;
            assert!(raw.echoes(&entity).await, "{address} {is_secured} {row}");
            assert_eq!(served.handle.stats().ignored, before + 1, "{address} {row}");
            assert!(good.echoes(&bystander).await, "{address} {row}: the other one");
        }
        assert_tells_nothing(&raw.heard);
        here.push((good, raw));
    }
    assert!(served.handle.closed().is_empty());
}

#[tokio::test]
async fn nonsense_as_the_first_message_is_passed_over() {
    let served = served().await;
    for (address, is_secured) in &served.addresses {
        for (row, message) in nonsense() {
            let mut raw = Raw::to(address).await;
            if *is_secured && raw.way == Way::Frames && (message.len() < 4 || !is_name(&message)) {
                // It is no packet, so it does not wake SP either.
                raw.say(&message).await;
                raw.secure(b"GTrs").await;
            } else if *is_secured {
                raw.secure(&message).await;
            } else {
                raw.say(&message).await;
            }
            let entity = raw.open("Echo", "").await;
            assert!(raw.echoes(&entity).await, "{address} {row}");
        }
    }
}

fn is_name(message: &[u8]) -> bool {
    matches!(&message[..4], b"GTrq" | b"GTrs" | b"AUrq" | b"AUrs" | b"SPrq" | b"CArs")
}

#[tokio::test]
async fn unknown_entities_are_answered_on_every_carrier() {
    let served = served().await;
    for (address, is_secured) in &served.addresses {
        let mut raw = dial(address, *is_secured).await;
        let entity = raw.open("Echo", "").await;
        for (message, answered) in unknown("_nobody") {
            raw.say(&message).await;
            if let Some(operation) = answered {
                let answer = raw.hear_operation("CSrs", operation).await;
                assert_eq!(
                    (&answer["i"], &answer["e"]["code"]),
                    (&json!("_nobody"), &json!("no_entity")),
                    "{answer}"
                );
            }
            assert!(raw.echoes(&entity).await, "{address} {answered:?}");
        }
        // A service that is not there, a function that is not there, one that throws, and a password that is not there.
        raw.say(&packed(&json!({"m":"CE","d":{"t":"x","s":"Nope"}}))).await;
        let refused = raw.hear_operation("CSrs", "CE").await;
        assert_eq!((&refused["t"], &refused["i"]), (&json!("x"), &Value::Null), "{refused}");
        for (function, code) in [("nope", "no_function"), ("throws", "internal")] {
            let answer = raw.call(&entity, function, &json!(1)).await;
            assert_eq!(answer["e"]["code"], code, "{answer}");
        }
        for ask in [r#"GTrq{"u":"ann"}"#, r#"GTrq{"u":"ann","p":5}"#] {
            raw.say(ask.as_bytes()).await;
            assert_eq!(raw.hear().await.unwrap(), br#"GTrs{"u":"ann","s":"Fail"}"#);
        }
        assert_tells_nothing(&raw.heard);
    }
}

#[tokio::test]
async fn what_does_not_fit_the_key_is_passed_over() {
    let served = served().await;
    for (address, _) in served.addresses.iter().filter(|(_, is_secured)| *is_secured) {
        let mut raw = dial(address, true).await;
        let entity = raw.open("Echo", "").await;
        for garbage in [&[7; 96][..], &[7; 50], &[7; 16], &[7; 1024], b"GTrs"] {
            let before = served.handle.stats().ignored;
            raw.say_sealed(garbage).await;
            assert!(raw.echoes(&entity).await, "{address} {}", garbage.len());
            assert_eq!(served.handle.stats().ignored, before + 1);
        }
        let before = served.handle.stats().ignored;
        raw.say_in_clear(&packed(&json!({"m":"CS","d":{"i":entity}}))).await;
        raw.say_in_clear(br#"GTrq{"u":"ann","p":"password of ann"}"#).await;
        assert!(raw.echoes(&entity).await, "{address}");
        assert_eq!(served.handle.stats().ignored, before + 2);
    }
}

#[tokio::test]
async fn wrong_answers_to_sp_close_and_what_is_none_waits() {
    let served = served().await;
    for (address, _) in served.addresses.iter().filter(|(_, is_secured)| *is_secured) {
        let mut good = dial(address, true).await;
        let bystander = good.open("Echo", "").await;
        for wrong in ["\"AAAA\"", "\"not base64!\"", "\"\"", &format!("\"{}\"", "A".repeat(344))] {
            let mut raw = Raw::to(address).await;
            raw.say(b"GTrs").await;
            assert!(raw.hear().await.unwrap().starts_with(b"SPrq"));
            raw.say(format!("SPrs{wrong}").as_bytes()).await;
            assert!(raw.is_closed().await, "{address} {wrong}");
            assert_tells_nothing(&raw.heard);
            assert!(good.echoes(&bystander).await);
        }
        for none in ["SPrsAAAA", "SPrs{}", "SPrs", r#"SPrq{"p":"x"}"#] {
            let mut raw = Raw::to(address).await;
            raw.say(b"GTrs").await;
            raw.say(none.as_bytes()).await;
            raw.answer_sp().await;
            let entity = raw.open("Echo", "").await;
            assert!(raw.echoes(&entity).await, "{address} {none}");
        }
    }
}

#[tokio::test]
async fn broken_framing_ends_its_connection_with_a_reason_and_no_other() {
    let served = served().await;
    let (mut ends, mut here) = (0, Vec::new());
    for (address, is_secured) in &served.addresses {
        let mut good = dial(address, *is_secured).await;
        let bystander = good.open("Echo", "").await;
        for (row, bytes) in broken(good.way) {
            // As the first thing, and after SP.
            for begins in [false, true] {
                let mut raw =
                    if begins && *is_secured { dial(address, true).await } else { Raw::to(address).await };
                raw.write(&bytes).await;
                assert!(raw.is_closed().await, "{address} {row}");
                assert_tells_nothing(&raw.heard);
                ends += 1;
            }
            assert!(good.echoes(&bystander).await, "{address} {row}: the other one");
        }
        here.push(good);
    }
    // Each was ended by us, for what it did.
    let closed = served.handle.closed();
    assert!(!closed.is_empty() && ends > 60, "{ends}");
    let by_us = |end: &EndReason| {
        matches!(end, EndReason::Carrier(CarrierEnd::Protocol(_) | CarrierEnd::TooLarge { .. }))
    };
    assert!(closed.iter().all(|closed| by_us(&closed.reason)), "{closed:?}");
}

#[tokio::test]
async fn too_much_nonsense_is_the_end_on_every_carrier() {
    let served = served().await;
    for (address, is_secured) in &served.addresses {
        for message in [b"XXrq{}".as_slice(), b"GTrq{", b""] {
            let mut raw = dial(address, *is_secured).await;
            raw.open("Echo", "").await;
            for _ in 0..102 {
                raw.say(message).await;
            }
            assert!(raw.is_closed().await);
            assert_tells_nothing(&raw.heard);
        }
    }
    for closed in served.handle.closed() {
        assert!(closed.reason.to_string().starts_with("101 messages made no sense"), "{closed:?}");
    }
}

#[tokio::test]
async fn messages_in_pieces_are_understood_on_every_carrier() {
    let served = served().await;
    for (address, _) in served.addresses.iter().filter(|(_, is_secured)| !is_secured) {
        let mut raw = Raw::to(address).await;
        let ask = br#"GTrq{"u":"ann","p":"password of ann"}"#;
        let bytes = match raw.way {
            Way::Frames => frame(b'j', &ask[..4], &ask[4..]),
            Way::Chunks => [format!("{:016}", ask.len()).as_bytes(), ask].concat(),
            Way::Web => web(0x82, ask),
        };
        for byte in bytes {
            raw.write(&[byte]).await;
            tokio::task::yield_now().await;
        }
        let answer = String::from_utf8(raw.hear().await.unwrap()).unwrap();
        assert!(answer.contains(r#""s":"OK""#), "{address} {answer}");
    }
}

#[tokio::test]
async fn nobody_uses_closes_or_answers_for_the_entity_of_another_on_any_carrier() {
    let served = served().await;
    for (address, is_secured) in &served.addresses {
        let mut ann = dial(address, *is_secured).await;
        let mut eve = dial(address, *is_secured).await;
        let hers = ann.open("Echo", "ann").await;
        let eves = eve.open("Echo", "eve").await;
        for (message, answered) in unknown(&hers) {
            eve.say(&message).await;
            if let Some(operation) = answered {
                let answer = eve.hear_operation("CSrs", operation).await;
                assert_eq!(answer["e"]["code"], "no_entity", "{address} {answer}");
            }
            assert!(eve.echoes(&eves).await, "{address} {answered:?}");
            assert!(ann.echoes(&hers).await, "{address} {answered:?}: it is as it was");
        }
        // Ann is asked for her token, and Eve answers: with hers, and even with the right one.
        let t = ann.begin(&hers, "secret", &json!(null)).await;
        let question = ann.hear_operation("AUrq", "TK").await;
        for token in ["token of eve", "token of ann"] {
            let before = served.handle.stats().ignored;
            eve.say(format!(r#"AUrs{{"m":"TK","d":{{"t":{},"v":"{token}"}}}}"#, question["t"]).as_bytes())
                .await;
            assert!(eve.echoes(&eves).await);
            assert_eq!(served.handle.stats().ignored, before + 1, "{address}");
        }
        ann.say(format!(r#"AUrs{{"m":"TK","d":{{"t":{},"v":"token of ann"}}}}"#, question["t"]).as_bytes())
            .await;
        let answer = ann.hear_operation("CSrs", "SF").await;
        assert_eq!((&answer["t"], &answer["d"]), (&json!(t), &json!("told")), "{address}");
        // What Ann has proved is of no use to Eve.
        let answer = eve.call(&hers, "secret", &json!(null)).await;
        assert_eq!(answer["e"]["code"], "no_entity");
        // Nor does she stay when Ann goes, nor Ann's entity when she comes back.
        drop(ann);
        let mut ann = dial(address, *is_secured).await;
        ann.open("Echo", "ann").await;
        let answer = ann.call(&hers, "echo", &json!(1)).await;
        assert_eq!(answer["e"]["code"], "no_entity", "{address}");
    }
}
